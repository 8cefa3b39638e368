"""The bookkeeping tables: one letterbox, one dirty set, one journal. Resource tables live in `models.mirror.schema_evolution`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.types import TypeDecorator

from models.exact import ExactJSON

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

KeyText = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
"""Text that is compared byte by byte on every database, so that all writers take their rows in one order."""


class Instant(TypeDecorator[datetime]):
    """An aware datetime, kept as UTC. On SQLite fixed-width text, so that text order is time order."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True
    _format = "%Y-%m-%d %H:%M:%S.%f+00:00"

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        """`timestamptz` on PostgreSQL, text on SQLite."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.Text())
        return dialect.type_descriptor(sa.DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        """Refuse a naive datetime: whose clock would it be?"""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"an instant needs a zone: {value!r}"
            raise ValueError(msg)
        value = value.astimezone(UTC)
        return value.strftime(self._format) if dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """Give UTC back."""
        if value is None:
            return None
        if dialect.name == "sqlite":
            return datetime.fromisoformat(value)
        return value.astimezone(UTC)  # type: ignore[no-any-return]


metadata = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

webhooks = sa.Table(
    "erpmirror_webhooks",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("connection", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # new | folded | ignored
    sa.Column("resource", sa.Text),
    sa.Column("key", KeyText),
    sa.Column("packet", sa.Text, nullable=False),
    sa.Column("reason", sa.Text),  # why it was ignored
    sa.Column("accepted_id", KeyText),  # the id it was accepted under, so that storing it again changes nothing
    sa.Index(
        "ix_erpmirror_webhooks_new",
        "connection",
        "id",
        sqlite_where=sa.text("state = 'new'"),
        postgresql_where=sa.text("state = 'new'"),
    ),
    sa.Index("ix_erpmirror_webhooks_at", "at"),
    sa.Index("uq_erpmirror_webhooks_accepted_id", "accepted_id", unique=True),
    sqlite_autoincrement=True,
)

inbox = sa.Table(
    "erpmirror_inbox",
    metadata,
    sa.Column("connection", KeyText, primary_key=True),
    sa.Column("resource", KeyText, primary_key=True),
    sa.Column("key", KeyText, primary_key=True),
    sa.Column("wanted", sa.BigInteger, nullable=False),
    sa.Column("lane", sa.SmallInteger, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),  # the first one
    sa.Column("state", sa.Text, nullable=False),  # due | parked | held
    sa.Column("due_at", Instant, nullable=False),
    sa.Column("first_at", Instant, nullable=False),  # since when this row has been waiting
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("approved", sa.Boolean, nullable=False),  # a person agreed to this deletion
    sa.Column("listed", sa.Text),  # the token that the listing showed; goes into the row's _listed
    sa.Column("summary", ExactJSON),  # the listing's line, after redaction, in case the vendor withholds the detail
    sa.Column("reason", sa.Text),  # why it waits, in the vendor's own words where there are any
    sa.Column("material", ExactJSON),  # an unreadable row, as sent
    sa.Column("tried_at", Instant),  # when it was last asked for
    sa.Column(
        "lone_failures", sa.Integer, nullable=False, server_default="0"
    ),  # failures in a row while others were answered
    sa.Index("ix_erpmirror_inbox_due", "connection", "state", "lane", "due_at"),
)

POLLED = sa.text("state = 'open' AND polls AND cursor IS NOT NULL")
FULLY_SYNCED = sa.text("state = 'open'")
"""Which streams are looked at by ticks, and which are read in full."""

streams = sa.Table(
    "erpmirror_streams",
    metadata,
    sa.Column("connection", KeyText, primary_key=True),
    sa.Column("resource", KeyText, primary_key=True),
    sa.Column("system", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),  # open | parked
    sa.Column("polls", sa.Boolean, nullable=False),  # it knows "since": looked at by ticks between full readings
    sa.Column("cursor", sa.Text),  # the connector's own text; None before the first complete reading
    sa.Column("due_at", Instant, nullable=False),  # the next tick
    sa.Column("poll_cursor", sa.Text),  # the position of a tick of several pages
    sa.Column("poll_at", Instant),  # when that position was reached: pages shift, an old one is worth nothing
    sa.Column("full_due_at", Instant, nullable=False),  # the next full reading
    sa.Column("full_run", sa.BigInteger),  # the full reading that is under way
    sa.Column("asked_for", sa.Boolean, nullable=False),  # a person wants everything fetched again, equal or not
    sa.Column("full_cursor", sa.Text),  # its position, apart from the cursor
    sa.Column("full_revision", sa.BigInteger),  # its first turn: rows written since are not missing
    sa.Column("full_started_at", Instant),
    sa.Column("last_read_at", Instant),
    sa.Column("settling_as_of", Instant),  # complete as of this, once what was mentioned until settling_at is fetched
    sa.Column("settling_at", Instant),
    sa.Column("complete_as_of", Instant),
    sa.Column("bound", sa.Integer, nullable=False),  # seconds
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_error", sa.Text),
    sa.Column("last_error_at", Instant),
    sa.Column("warning", sa.Text),
    sa.Column("shape", ExactJSON),  # the vendor's metadata as declared fields
    sa.Column("shape_at", Instant),
    sa.Column("asked", sa.BigInteger),  # when a person asked for a look, in turns: an older run is not enough
    sa.Column("deletions_after", Instant),  # deletions before this were approved and no longer count
    sa.Column("tried_at", Instant),  # when it was last asked for
    sa.Column("selection", sa.Text),  # which of the vendor's objects are asked for; another one is read from the start
    sa.Index("ix_erpmirror_streams_due", "due_at", sqlite_where=POLLED, postgresql_where=POLLED),
    sa.Index("ix_erpmirror_streams_full_due", "full_due_at", sqlite_where=FULLY_SYNCED, postgresql_where=FULLY_SYNCED),
)

gates = sa.Table(
    "erpmirror_gates",
    metadata,
    sa.Column("account", KeyText, primary_key=True),
    sa.Column("next_start_at", Instant),  # pace
    sa.Column("closed_until", Instant),
    sa.Column("closed_reason", sa.Text),
    sa.Column("failures", sa.Integer, nullable=False),  # in a row
    sa.Column("session", sa.LargeBinary),  # the vendor's session, encrypted
    sa.Column("session_until", Instant),
    sa.Column("login_revision", sa.BigInteger),  # who is logging in just now: a second login may kill the first
    sa.Column("login_until", Instant),
    sa.Column("answered_at", Instant),  # when the vendor last answered one of the account's requests
)

leases = sa.Table(
    "erpmirror_leases",
    metadata,
    sa.Column("revision", sa.BigInteger, primary_key=True),
    sa.Column("account", KeyText, nullable=False),
    sa.Column("subject", sa.Text),  # resource and key of a point read; None for a listing, which holds the gate alone
    sa.Column("until", Instant, nullable=False),
    sa.Index("ix_erpmirror_leases_account", "account"),
)

seen_keys = sa.Table(
    "erpmirror_seen_keys",
    metadata,
    sa.Column("connection", KeyText, primary_key=True),
    sa.Column("resource", KeyText, primary_key=True),
    sa.Column("key", KeyText, primary_key=True),
)

documents = sa.Table(
    "erpmirror_documents",
    metadata,
    sa.Column("connection", KeyText, primary_key=True),
    sa.Column("kind", KeyText, primary_key=True),  # the resource that it becomes a row of
    sa.Column("sha256", KeyText, primary_key=True),  # of the content, in lower-case hex; that row's key
    sa.Column("name", sa.Text, nullable=False),  # the file's, as first handed in
    sa.Column("order", sa.Text),  # at the vendor, if the person named one
    sa.Column("size", sa.Integer, nullable=False),  # bytes
    sa.Column("state", sa.Text, nullable=False),  # waiting | sending | interpreted | parked
    sa.Column("received_at", Instant, nullable=False),
    sa.Column("sent_at", Instant),  # committed before the request: what may have arrived is never sent again by itself
    sa.Column("answered_at", Instant),
    sa.Column("content", sa.LargeBinary, nullable=False),  # last: SQLite walks over it to whatever stands behind
)
"""Files that people handed in. Why one is parked stands in the inbox."""

changes = sa.Table(
    "erpmirror_changes",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=False),
    sa.Column("at", Instant, nullable=False),
    sa.Column("connection", sa.Text, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("key", KeyText, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("before", ExactJSON),
    sa.Column("after", ExactJSON),
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

feed = sa.Table(
    "erpmirror_feed",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last", sa.BigInteger, nullable=False),  # the id of the newest entry, also after trimming
    sa.Column("name", sa.Text, nullable=False),
)

counter = sa.Table(
    "erpmirror_counter",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last", sa.BigInteger, nullable=False),
)
"""SQLite's counter of turns; PostgreSQL draws from the sequence below without queueing behind a row."""

revisions = sa.Sequence("erpmirror_revisions", metadata=metadata)

runs = sa.Table(
    "erpmirror_runs",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("connection", sa.Text, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("finished_at", Instant),
    sa.Column("pages", sa.Integer, nullable=False),
    sa.Column("objects", sa.BigInteger, nullable=False),
    sa.Index("ix_erpmirror_runs_connection_resource", "connection", "resource", "id"),
    sqlite_autoincrement=True,
)
"""Full readings, for progress and history."""

columns = sa.Table(
    "erpmirror_columns",
    metadata,
    sa.Column("table_name", KeyText, primary_key=True),
    sa.Column("column_name", KeyText, primary_key=True),
    sa.Column("path", sa.Text, nullable=False),  # dotted, as the vendor spells it, relative to the part
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("overflow", sa.Boolean, nullable=False),  # a <field>__text sibling
    sa.Column("declared", sa.Boolean, nullable=False),
    sa.Column("added_at", Instant, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),  # drawn from the counter: tells a cached shape that it is old
    sa.Column("note", sa.Text),  # what its values mean, as the vendor documents them
    sa.Index("ix_erpmirror_columns_version", "table_name", "version"),
)
"""Which column of which resource table holds which field."""

parts = sa.Table(
    "erpmirror_parts",
    metadata,
    sa.Column("table_name", KeyText, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),  # the object's table; an object's own table names itself
    sa.Column("path", sa.Text, nullable=False),  # "" for the object itself
)
"""Which resource tables exist, and which object they belong to."""

schema_changes = sa.Table(
    "erpmirror_schema_changes",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("connection", sa.Text, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("table_name", sa.Text, nullable=False),
    sa.Column("column_name", sa.Text),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),  # table | column | overflow | capped
    sqlite_autoincrement=True,
)

wakeups = sa.Table(
    "erpmirror_wakeups",
    metadata,
    sa.Column("connection", KeyText, primary_key=True),
    sa.Column("queue", KeyText, primary_key=True),  # look | read: which queue the bell hangs in
    sa.Column("woken_at", Instant),
    sa.Column("answered_at", Instant),
)

canaries = sa.Table(
    "erpmirror_canaries",
    metadata,
    sa.Column("queue", KeyText, primary_key=True),
    sa.Column("sent_at", Instant),
    sa.Column("answered_at", Instant),
    sa.Column("worker", sa.Text),  # who answered last
)
"""Whether each queue's messages reach a worker: shown by one that went through it, not by a ping."""
