"""Documents that are handed in, logins that are taken in turns, and what a resource's rows are a selection of."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Add them."""
    op.create_table(
        "documents",
        sa.Column("connection", KEY, primary_key=True),
        sa.Column("kind", KEY, primary_key=True),
        sa.Column("sha256", KEY, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("order", sa.Text),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("sent_at", INSTANT),
        sa.Column("answered_at", INSTANT),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.add_column("inbox", sa.Column("summary", JSON))
    op.add_column("streams", sa.Column("selection", sa.Text))
    op.add_column("gates", sa.Column("login_revision", sa.BigInteger))
    op.add_column("gates", sa.Column("login_until", INSTANT))
    op.add_column("columns", sa.Column("note", sa.Text))
