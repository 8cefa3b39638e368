"""What makes each notice one: the id it was accepted under. When keys and readings were tried, and who answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Add them."""
    op.add_column("webhooks", sa.Column("webhook", KEY))
    op.create_index("uq_notices_letter", "webhooks", ["webhook"], unique=True)
    op.add_column("inbox", sa.Column("tried_at", INSTANT))
    op.add_column("inbox", sa.Column("alone", sa.Integer, nullable=False, server_default="0"))
    op.add_column("streams", sa.Column("tried_at", INSTANT))
    op.add_column("gates", sa.Column("answered_at", INSTANT))
    op.create_table(
        "canaries",
        sa.Column("queue", KEY, primary_key=True),
        sa.Column("sent_at", INSTANT),
        sa.Column("answered_at", INSTANT),
        sa.Column("worker", sa.Text),
    )
