"""The bookkeeping tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0006"  # 0001 to 0005 made tables of other names; see `models.db.migration`
down_revision = None

# A copy of `models.db.types`: a change there must not change a released migration.
KEY = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create all tables, and PostgreSQL's sequence of revisions."""
    _work()
    _streams()
    _gates()
    _journal()
    _documents()
    _mirror()
    if op.get_context().dialect.name == "postgresql":
        op.execute(sa.schema.CreateSequence(sa.Sequence("erpmirror_revisions")))


def _work() -> None:
    """Pending work, and whether messages reach the workers."""
    op.create_table(
        "erpmirror_webhooks",
        sa.Column("id", ID, primary_key=True),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("connection", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("resource", sa.Text),
        sa.Column("key", KEY),
        sa.Column("packet", sa.Text, nullable=False),
        sa.Column("reason", sa.Text),
        sa.Column("accepted_id", KEY),
        sa.Index("ix_erpmirror_webhooks_at", "at"),
        sa.Index(
            "ix_erpmirror_webhooks_new",
            "connection",
            "id",
            sqlite_where=sa.text("state = 'new'"),
            postgresql_where=sa.text("state = 'new'"),
        ),
        sa.Index("uq_erpmirror_webhooks_accepted_id", "accepted_id", unique=True),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "erpmirror_inbox",
        sa.Column("connection", KEY, primary_key=True),
        sa.Column("resource", KEY, primary_key=True),
        sa.Column("key", KEY, primary_key=True),
        sa.Column("wanted", sa.BigInteger, nullable=False),
        sa.Column("lane", sa.SmallInteger, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("first_enqueued_at", INSTANT, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("approved", sa.Boolean, nullable=False),
        sa.Column("listed", sa.Text),
        sa.Column("summary", JSON),
        sa.Column("reason", sa.Text),
        sa.Column("unreadable_raw", JSON),
        sa.Column("tried_at", INSTANT),
        sa.Column("lone_failures", sa.Integer, nullable=False, server_default="0"),
        sa.Index("ix_erpmirror_inbox_due", "connection", "state", "lane", "due_at"),
    )
    op.create_table(
        "erpmirror_wakeups",
        sa.Column("connection", KEY, primary_key=True),
        sa.Column("queue", KEY, primary_key=True),
        sa.Column("woken_at", INSTANT),
        sa.Column("answered_at", INSTANT),
    )
    op.create_table(
        "erpmirror_canaries",
        sa.Column("queue", KEY, primary_key=True),
        sa.Column("sent_at", INSTANT),
        sa.Column("answered_at", INSTANT),
        sa.Column("worker", sa.Text),
    )


def _streams() -> None:
    """Each resource's state, its full syncs and the keys that they listed."""
    op.create_table(
        "erpmirror_streams",
        sa.Column("connection", KEY, primary_key=True),
        sa.Column("resource", KEY, primary_key=True),
        sa.Column("system", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("polls", sa.Boolean, nullable=False),
        sa.Column("cursor", sa.Text),
        sa.Column("due_at", INSTANT, nullable=False),
        sa.Column("poll_cursor", sa.Text),
        sa.Column("poll_cursor_at", INSTANT),
        sa.Column("full_due_at", INSTANT, nullable=False),
        sa.Column("full_run", sa.BigInteger),
        sa.Column("full_requested", sa.Boolean, nullable=False),
        sa.Column("full_cursor", sa.Text),
        sa.Column("full_revision", sa.BigInteger),
        sa.Column("full_started_at", INSTANT),
        sa.Column("last_read_at", INSTANT),
        sa.Column("complete_as_of", INSTANT),
        sa.Column("next_complete_as_of", INSTANT),
        sa.Column("next_complete_cutoff_at", INSTANT),
        sa.Column("bound", sa.Integer, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("last_error", sa.Text),
        sa.Column("last_error_at", INSTANT),
        sa.Column("warning", sa.Text),
        sa.Column("declared_fields", JSON),
        sa.Column("metadata_read_at", INSTANT),
        sa.Column("requested_revision", sa.BigInteger),
        sa.Column("deletions_approved_at", INSTANT),
        sa.Column("tried_at", INSTANT),
        sa.Column("selection", sa.Text),
        sa.Index(
            "ix_erpmirror_streams_due",
            "due_at",
            sqlite_where=sa.text("state = 'open' AND polls AND cursor IS NOT NULL"),
            postgresql_where=sa.text("state = 'open' AND polls AND cursor IS NOT NULL"),
        ),
        sa.Index(
            "ix_erpmirror_streams_full_due",
            "full_due_at",
            sqlite_where=sa.text("state = 'open'"),
            postgresql_where=sa.text("state = 'open'"),
        ),
    )
    op.create_table(
        "erpmirror_runs",
        sa.Column("id", ID, primary_key=True),
        sa.Column("connection", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("cause", sa.Text, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT),
        sa.Column("pages", sa.Integer, nullable=False),
        sa.Column("objects", sa.BigInteger, nullable=False),
        sa.Index("ix_erpmirror_runs_connection_resource", "connection", "resource", "id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "erpmirror_seen_keys",
        sa.Column("connection", KEY, primary_key=True),
        sa.Column("resource", KEY, primary_key=True),
        sa.Column("key", KEY, primary_key=True),
    )


def _gates() -> None:
    """The vendor accounts."""
    op.create_table(
        "erpmirror_gates",
        sa.Column("account", KEY, primary_key=True),
        sa.Column("next_start_at", INSTANT),
        sa.Column("closed_until", INSTANT),
        sa.Column("closed_reason", sa.Text),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("session", sa.LargeBinary),
        sa.Column("session_until", INSTANT),
        sa.Column("login_revision", sa.BigInteger),
        sa.Column("login_until", INSTANT),
        sa.Column("answered_at", INSTANT),
    )
    op.create_table(
        "erpmirror_leases",
        sa.Column("revision", sa.BigInteger, primary_key=True),
        sa.Column("account", KEY, nullable=False),
        sa.Column("subject", sa.Text),
        sa.Column("until", INSTANT, nullable=False),
        sa.Index("ix_erpmirror_leases_account", "account"),
    )


def _journal() -> None:
    """The journal, and SQLite's counter of revisions."""
    op.create_table(
        "erpmirror_changes",
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
        sa.Index("ix_erpmirror_changes_connection", "connection", "id"),
        sa.Index(
            "ix_erpmirror_changes_deletions",
            "connection",
            "resource",
            "at",
            sqlite_where=sa.text("kind = 'deleted'"),
            postgresql_where=sa.text("kind = 'deleted'"),
        ),
    )
    op.create_table(
        "erpmirror_feed",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
    )
    op.create_table(
        "erpmirror_counter",
        sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
    )


def _documents() -> None:
    """Files that were handed in."""
    op.create_table(
        "erpmirror_documents",
        sa.Column("connection", KEY, primary_key=True),
        sa.Column("kind", KEY, primary_key=True),
        sa.Column("sha256", KEY, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("order_id", sa.Text),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("received_at", INSTANT, nullable=False),
        sa.Column("sent_at", INSTANT),
        sa.Column("answered_at", INSTANT),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )


def _mirror() -> None:
    """The mirror's tables and columns."""
    op.create_table(
        "erpmirror_columns",
        sa.Column("table_name", KEY, primary_key=True),
        sa.Column("column_name", KEY, primary_key=True),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("overflow", sa.Boolean, nullable=False),
        sa.Column("declared", sa.Boolean, nullable=False),
        sa.Column("added_at", INSTANT, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("note", sa.Text),
        sa.Index("ix_erpmirror_columns_version", "table_name", "version"),
    )
    op.create_table(
        "erpmirror_parts",
        sa.Column("table_name", KEY, primary_key=True),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("path", sa.Text, nullable=False),
    )
    op.create_table(
        "erpmirror_schema_changes",
        sa.Column("id", ID, primary_key=True),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("connection", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("table_name", sa.Text, nullable=False),
        sa.Column("column_name", sa.Text),
        sa.Column("path", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sqlite_autoincrement=True,
    )
