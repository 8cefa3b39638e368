"""Subscriptions: programs that are told of changes, what waits for them, and each attempt to deliver."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

# A copy of `models.db.types`: a change there must not change a released migration.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Tables of their own."""
    op.create_table(
        "erpmirror_subscriptions",
        sa.Column("name", KEY),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("since", INSTANT, nullable=False),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("paused_at", INSTANT),
        sa.Column("paused_by", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("failing_since", INSTANT),
        sa.Column("lease", sa.BigInteger),
        sa.Column("leased_until", INSTANT),
        sa.Column("delivered", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("delivered_at", INSTANT),
        sa.Column("removed_at", INSTANT),
        sa.PrimaryKeyConstraint("name", name="pk_erpmirror_subscriptions"),
    )
    op.create_table(
        "erpmirror_undelivered",
        sa.Column("subscription", KEY),
        sa.Column("change", sa.BigInteger, autoincrement=False),
        sa.Column("connection", KEY, nullable=False),
        sa.Column("resource", KEY, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("failing_since", INSTANT),
        sa.Column("reason", sa.Text),
        sa.PrimaryKeyConstraint("subscription", "change", name="pk_erpmirror_undelivered"),
        sa.Index("ix_erpmirror_undelivered_due", "subscription", "due_at", "change"),
        sa.Index("ix_erpmirror_undelivered_object", "subscription", "connection", "resource", "key", "change"),
    )
    op.create_table(
        "erpmirror_deliveries",
        sa.Column("id", ID, autoincrement=True),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("subscription", KEY, nullable=False),
        sa.Column("change", sa.BigInteger, nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("outcome", sa.Text, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("error", sa.Text),
        sa.Column("answer", sa.Text),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_erpmirror_deliveries"),
        sa.Index("ix_erpmirror_deliveries_change", "subscription", "change"),
        sa.Index("ix_erpmirror_deliveries_at", "at"),
        sqlite_autoincrement=True,
    )
