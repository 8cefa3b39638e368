"""The bookkeeping tables of the first version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

# This step's own spelling of the types of `models.db.tables`, so that a change there leaves what was released alone.
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create them all."""
    _letterbox()
    _standing()
    _gates()
    _journal()
    _mirror()
    if op.get_context().dialect.name == "postgresql":
        op.execute(sa.schema.CreateSequence(sa.Sequence("revisions")))


def _letterbox() -> None:
    """What waits, and what was rung for it."""
    op.create_table(
        "webhooks",
        sa.Column("id", ID, primary_key=True),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("connection", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("resource", sa.Text),
        sa.Column("key", KEY),
        sa.Column("packet", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Index(
            "ix_notices_new",
            "connection",
            "id",
            sqlite_where=sa.text("state = 'new'"),
            postgresql_where=sa.text("state = 'new'"),
        ),
        sa.Index("ix_notices_at", "at"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "inbox",
        sa.Column("connection", KEY, primary_key=True),
        sa.Column("resource", KEY, primary_key=True),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("wanted", sa.BigInteger, nullable=False),
        sa.Column("lane", sa.SmallInteger, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("first_at", INSTANT, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("approved", sa.Boolean, nullable=False),
        sa.Column("listed", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("material", JSON),
        sa.Index("ix_inbox_due", "connection", "state", "lane", "due_at"),
    )
    op.create_table(
        "wakeups",
        sa.Column("connection", KEY, primary_key=True),
        sa.Column("waker", KEY, primary_key=True),
        sa.Column("woken_at", INSTANT),
        sa.Column("answered_at", INSTANT),
    )


def _standing() -> None:
    """How far each resource was read."""
    op.create_table(
        "streams",
        sa.Column("connection", KEY, primary_key=True),
        sa.Column("resource", KEY, primary_key=True),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("polls", sa.Boolean, nullable=False),
        sa.Column("cursor", sa.Text),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("poll_cursor", sa.Text),
        sa.Column("poll_at", INSTANT),
        sa.Column("full_due_at", INSTANT, nullable=False),
        sa.Column("full_run", sa.BigInteger),
        sa.Column("asked_for", sa.Boolean, nullable=False),
        sa.Column("full_cursor", sa.Text),
        sa.Column("full_revision", sa.BigInteger),
        sa.Column("full_started_at", INSTANT),
        sa.Column("last_look_at", INSTANT),
        sa.Column("settling_as_of", INSTANT),
        sa.Column("settling_at", INSTANT),
        sa.Column("complete_as_of", INSTANT),
        sa.Column("bound", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.Column("last_error_at", INSTANT),
        sa.Column("warning", sa.Text),
        sa.Column("shape", JSON),
        sa.Column("shape_at", INSTANT),
        sa.Column("asked", sa.BigInteger),
        sa.Column("deletions_after", INSTANT),
    )
    op.create_table(
        "sightings",
        sa.Column("connection", KEY, primary_key=True),
        sa.Column("resource", KEY, primary_key=True),
        sa.Column("key", KEY, primary_key=True),
    )
    op.create_table(
        "runs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("connection", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT),
        sa.Column("pages", sa.Integer, nullable=False),
        sa.Column("objects", sa.BigInteger, nullable=False),
        sa.Index("ix_runs_connection_resource", "connection", "resource", "id"),
        sqlite_autoincrement=True,
    )


def _gates() -> None:
    """Who may ask a vendor."""
    op.create_table(
        "gates",
        sa.Column("account", KEY, primary_key=True),
        sa.Column("next_start_at", INSTANT),
        sa.Column("shut_until", INSTANT),
        sa.Column("shut_reason", sa.Text),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("session", sa.LargeBinary),
        sa.Column("session_until", INSTANT),
    )
    op.create_table(
        "leases",
        sa.Column("revision", sa.BigInteger, primary_key=True),
        sa.Column("account", KEY, nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("until", INSTANT, nullable=False),
        sa.Index("ix_leases_account", "account"),
    )


def _journal() -> None:
    """What changed, and the counter of turns."""
    op.create_table(
        "changes",
        sa.Column("id", ID, primary_key=True, autoincrement=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("connection", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("key", KEY, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("before", JSON),
        sa.Column("after", JSON),
        sa.Index("ix_changes_connection", "connection", "id"),
        sa.Index(
            "ix_changes_deletions",
            "connection",
            "resource",
            "at",
            sqlite_where=sa.text("kind = 'deleted'"),
            postgresql_where=sa.text("kind = 'deleted'"),
        ),
    )
    op.create_table(
        "feed",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
    )
    op.create_table(
        "counter",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
    )


def _mirror() -> None:
    """Which resource tables and columns there are."""
    op.create_table(
        "columns",
        sa.Column("table_name", KEY, primary_key=True),
        sa.Column("column_name", KEY, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("overflow", sa.Boolean, nullable=False),
        sa.Column("declared", sa.Boolean, nullable=False),
        sa.Column("added_at", INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Index("ix_columns_version", "table_name", "version"),
    )
    op.create_table(
        "parts",
        sa.Column("table_name", KEY, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
    )
    op.create_table(
        "schema_changes",
        sa.Column("id", ID, primary_key=True),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("connection", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("column_name", sa.Text),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
