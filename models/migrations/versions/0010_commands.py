"""Commands: writes to a vendor that wait, are sent, and are answered."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0010"
down_revision = "0009"

# A copy of `models.db.types`: a change there must not change a released migration.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
INSTANT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
OPEN = sa.text("state IN ('waiting', 'sending', 'uncertain')")
DOUBTFUL = sa.text("state IN ('sending', 'uncertain')")


def upgrade() -> None:
    """A table of its own."""
    op.create_table(
        "erpmirror_commands",
        sa.Column("id", ID, autoincrement=True),
        sa.Column("connection", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("named", sa.Text),
        sa.Column("resource", sa.Text),
        sa.Column("key", sa.Text),
        sa.Column("idempotency_key", KEY, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("arguments", JSON, nullable=False),
        sa.Column("payload", sa.Text),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("due_at", INSTANT),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("accepted_at", INSTANT, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("before", JSON),
        sa.Column("also_changes", JSON),
        sa.Column("sent_at", INSTANT),
        sa.Column("unchanged_at", INSTANT),
        sa.Column("answered_at", INSTANT),
        sa.Column("answer", JSON),
        sa.Column("result_key", sa.Text),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_erpmirror_commands"),
        sa.UniqueConstraint("connection", "idempotency_key", name="uq_erpmirror_commands_connection_idempotency_key"),
        sa.Index("ix_erpmirror_commands_open", "connection", "due_at", "id", sqlite_where=OPEN, postgresql_where=OPEN),
        sa.Index(
            "ix_erpmirror_commands_doubtful",
            "connection",
            "due_at",
            "id",
            sqlite_where=DOUBTFUL,
            postgresql_where=DOUBTFUL,
        ),
        sa.Index(
            "ix_erpmirror_commands_object",
            "connection",
            "resource",
            "key",
            "id",
            sqlite_where=OPEN,
            postgresql_where=OPEN,
        ),
        sa.Index("ix_erpmirror_commands_accepted_at", "accepted_at"),
        sqlite_autoincrement=True,
    )
