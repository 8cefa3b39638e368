"""The bookkeeping tables: what waits, where each resource stands, the vendor accounts, the journal.

Those of commands and subscriptions are in `outgoing_tables`.

Their names begin with `erpmirror_`. `models.mirror.schemas` builds the tables of mirrored objects.
A change here needs a migration (`models/migrations/versions`), which a test compares with this file.
"""

from __future__ import annotations

import sqlalchemy as sa

from models.db import outgoing_tables  # noqa: F401 - adds its tables to the metadata
from models.db.shared_metadata import shared
from models.db.types import BigId, ExactJSON, Instant, KeyText

metadata = shared

revisions = sa.Sequence("erpmirror_revisions", metadata=metadata)
"""PostgreSQL's counter of revisions. A sequence, unlike a row, makes no writer wait for another."""

counter = sa.Table(
    "erpmirror_counter",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),  # always 1: the table has a single row
    sa.Column("last", sa.BigInteger, nullable=False),  # the last revision that was drawn
)
"""SQLite's counter of revisions."""


# What waits: webhooks become inbox rows, inbox rows are fetched, documents are sent.

webhooks = sa.Table(
    "erpmirror_webhooks",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),  # never reused, in the order of arrival
    sa.Column("at", Instant, nullable=False),  # when it was received
    sa.Column("connection", sa.Text, nullable=False),  # whose webhook address it was sent to
    sa.Column("state", sa.Text, nullable=False),  # new | folded (into the inbox) | ignored
    sa.Column("resource", sa.Text),  # the object that it names, once it was decoded
    sa.Column("key", KeyText),
    sa.Column("packet", sa.Text, nullable=False),  # the payload, as received
    sa.Column("reason", sa.Text),  # why it was ignored
    sa.Column("accepted_id", KeyText),  # given by the receiver, so that a webhook that is stored twice is one row
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
"""Webhooks as received. The receiver inserts them and does nothing else; a worker folds them into the inbox."""

inbox = sa.Table(
    "erpmirror_inbox",
    metadata,
    sa.Column("connection", KeyText, primary_key=True),
    sa.Column("resource", KeyText, primary_key=True),
    sa.Column("key", KeyText, primary_key=True),
    sa.Column("wanted", sa.BigInteger, nullable=False),  # a revision, new with each enqueue: a fetch that began before
    # it does not finish the row, so nothing that arrives during a fetch is lost
    sa.Column("lane", sa.SmallInteger, nullable=False),  # values.Lane: 0 live, 1 bulk
    sa.Column("cause", sa.Text, nullable=False),  # values.Cause: why it was enqueued first
    sa.Column("state", sa.Text, nullable=False),  # due | parked | held (a deletion waiting for approval)
    sa.Column("due_at", Instant, nullable=False),  # when it may be fetched; later after a failure
    sa.Column("first_enqueued_at", Instant, nullable=False),  # since then the key is pending
    sa.Column("attempts", sa.Integer, nullable=False),  # failed fetches in a row; counted before the request is sent
    sa.Column("approved", sa.Boolean, nullable=False),  # a person approved this deletion
    sa.Column("listed", sa.Text),  # the token that a listing of names showed; becomes the row's `_listed`
    sa.Column("summary", ExactJSON),  # the listing's line, redacted: stored if the vendor withholds the object
    sa.Column("reason", sa.Text),  # why it is parked, held or retried, in the vendor's words where there are any
    sa.Column("unreadable_raw", ExactJSON),  # records of a listing that have no key: their count, and samples of them
    sa.Column("tried_at", Instant),  # when it was last requested
    sa.Column("lone_failures", sa.Integer, nullable=False, server_default="0"),  # failures in a row while other keys
    # of the account were answered
    sa.Column("unbatched", sa.Text),  # why it has to be fetched by itself, although others are fetched in batches
    sa.Index("ix_erpmirror_inbox_due", "connection", "state", "lane", "due_at"),
)
"""The dirty set: one row for each key that needs a fresh look, however often it was enqueued."""

documents = sa.Table(
    "erpmirror_documents",
    metadata,
    sa.Column("connection", KeyText, primary_key=True),
    sa.Column("kind", KeyText, primary_key=True),  # the resource whose row it becomes
    sa.Column("sha256", KeyText, primary_key=True),  # of the content, in lower-case hex; the key of that row
    sa.Column("name", sa.Text, nullable=False),  # the file's name, as first handed in
    sa.Column("order_id", sa.Text),  # the vendor's order that it belongs to, if one was given
    sa.Column("size", sa.Integer, nullable=False),  # bytes
    sa.Column("state", sa.Text, nullable=False),  # waiting | sending | interpreted | parked
    sa.Column("received_at", Instant, nullable=False),  # when it was handed in
    sa.Column("sent_at", Instant),  # committed before the request: what may have arrived is not sent again
    sa.Column("answered_at", Instant),  # when the vendor answered
    sa.Column("content", sa.LargeBinary, nullable=False),  # last: SQLite reads through it to reach later columns
)
"""Files that were handed in for a vendor to interpret. The reason why one is parked is in the inbox."""


# Where each resource stands.

POLLED = sa.text("state = 'open' AND polls AND cursor IS NOT NULL")
"""The condition of streams that are polled; the same text as in the partial index, so that a plan can use that."""

FULLY_SYNCED = sa.text("state <> 'retired'")
"""The condition of streams that have full syncs, likewise. That of a parked one tries whether it is still refused."""

streams = sa.Table(
    "erpmirror_streams",
    metadata,
    sa.Column("connection", KeyText, primary_key=True),
    sa.Column("resource", KeyText, primary_key=True),
    sa.Column("system", sa.Text, nullable=False),  # the ERP: the name of its connector's folder
    sa.Column("state", sa.Text, nullable=False),  # open | parked (refused by the vendor) | retired
    sa.Column("polls", sa.Boolean, nullable=False),  # the vendor can list changes since a cursor, so it is polled
    # Polls.
    sa.Column("cursor", sa.Text),  # the connector's own text; NULL before the first complete full sync
    sa.Column("due_at", Instant, nullable=False),  # when the next poll is due
    sa.Column("poll_cursor", sa.Text),  # how far a poll of several pages has come
    sa.Column("poll_cursor_at", Instant),  # when that was stored: pages shift, so an old position is not resumed
    # Full syncs.
    sa.Column("full_due_at", Instant, nullable=False),  # when the next full sync is due
    sa.Column("full_run", sa.BigInteger),  # the `erpmirror_runs.id` of the one that is running
    sa.Column("full_requested", sa.Boolean, nullable=False),  # by a person: it fetches unchanged keys, too
    sa.Column("full_cursor", sa.Text),  # its position, kept apart from `cursor`
    sa.Column("full_revision", sa.BigInteger),  # its first revision: a row written since then is not missing
    sa.Column("full_started_at", Instant),
    sa.Column("last_read_at", Instant),  # when the last listing ended
    # Completeness.
    sa.Column("complete_as_of", Instant),  # the mirror has every change that the ERP made before this
    sa.Column("next_complete_as_of", Instant),  # becomes `complete_as_of`, once the keys that were enqueued
    sa.Column("next_complete_cutoff_at", Instant),  # until this time have been fetched
    sa.Column("bound", sa.Integer, nullable=False),  # seconds in which the mirror equals a quiet ERP again
    # Failures.
    sa.Column("failures", sa.Integer, nullable=False),  # failed listings in a row
    sa.Column("last_error", sa.Text),  # the last failure's message
    sa.Column("last_error_at", Instant),
    sa.Column("warning", sa.Text),  # what a person should know although the listing worked
    # Refusals.
    sa.Column("retry_at", Instant),  # when a parked resource is tried again by itself
    sa.Column("refused_request", sa.Text),  # what the vendor refused: listing | fetch. A success of its kind reopens
    sa.Column("refused_settings", sa.Text),  # a keyed hash of the settings that were refused: others are tried at once
    # Fields.
    sa.Column("declared_fields", ExactJSON),  # what the vendor's metadata declares, as a values.Shape
    sa.Column("metadata_read_at", Instant),  # when that metadata was read
    # Batches, which fetch many keys at once.
    sa.Column("batch_plan", sa.Text),  # the connector's own text: how it reads them, and how far that is proved
    sa.Column("batch_failures", sa.Integer, nullable=False, server_default="0"),  # in a row; counted before an attempt
    sa.Column("batch_tried_at", Instant),  # when one was last requested
    sa.Column("unbatched", sa.Text),  # why each object is fetched by itself, until the metadata is read again
    # Requests by a person, and the configuration.
    sa.Column("requested_revision", sa.BigInteger),  # drawn when a person requested a sync: one that began earlier
    # does not fulfill the request
    sa.Column("deletions_approved_at", Instant),  # earlier deletions do not count towards max_deletions
    sa.Column("tried_at", Instant),  # when a listing was last requested
    sa.Column("selection", sa.Text),  # which objects the configuration selects; if it changes, a full sync begins
    # What a person did to the tables, or to `omit`.
    sa.Column("redaction", ExactJSON),  # which `omit` rules all that is stored follows; see bookkeeping.omitted
    sa.Column("unfilled", sa.Text),  # empty | lost: tables were made anew, and `rebuild` has not filled them yet
    sa.Index("ix_erpmirror_streams_due", "due_at", sqlite_where=POLLED, postgresql_where=POLLED),
    sa.Index("ix_erpmirror_streams_full_due", "full_due_at", sqlite_where=FULLY_SYNCED, postgresql_where=FULLY_SYNCED),
)
"""One row for each resource of each connection: its cursor, what is due, what failed, how complete it is."""

seen_keys = sa.Table(
    "erpmirror_seen_keys",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("connection", sa.Text, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("keys", ExactJSON, nullable=False),
    sa.Index("ix_erpmirror_seen_keys_connection_resource", "connection", "resource"),
)
"""The keys that the running full sync has listed, those of a chunk in one list: at its end, live rows whose key is in
none are missing. A row for each key would cost more than to compare an unchanged object.
"""

runs = sa.Table(
    "erpmirror_runs",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("connection", sa.Text, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("cause", sa.Text, nullable=False),  # backfill | reconcile
    sa.Column("started_at", Instant, nullable=False),
    sa.Column("finished_at", Instant),  # NULL while it runs
    sa.Column("pages", sa.Integer, nullable=False),  # replies to its listing
    sa.Column("objects", sa.BigInteger, nullable=False),  # objects or keys that they brought
    sa.Index("ix_erpmirror_runs_connection_resource", "connection", "resource", "id"),
    sqlite_autoincrement=True,
)
"""Full syncs, for progress and history."""


# The vendor accounts: who may send a request, and when.

gates = sa.Table(
    "erpmirror_gates",
    metadata,
    sa.Column("account", KeyText, primary_key=True),  # a keyed hash of address and login: connections may share it
    sa.Column("next_start_at", Instant),  # when the next request may start (rate limit)
    sa.Column("closed_until", Instant),  # no request before this: backoff, Retry-After, opening hours
    sa.Column("closed_reason", sa.Text),
    sa.Column("failures", sa.Integer, nullable=False),  # failed requests in a row
    sa.Column("session", sa.LargeBinary),  # the vendor's session, encrypted, shared by all workers
    sa.Column("session_until", Instant),  # when it expires
    sa.Column("login_revision", sa.BigInteger),  # the lease that is logging in: a second login may end the first
    sa.Column("login_until", Instant),  # when that claim expires
    sa.Column("answered_at", Instant),  # when the vendor last answered a request of this account
)
"""One row for each vendor account."""

leases = sa.Table(
    "erpmirror_leases",
    metadata,
    sa.Column("revision", sa.BigInteger, primary_key=True),  # of the request, and of all rows that it writes
    sa.Column("account", KeyText, nullable=False),
    sa.Column("subject", sa.Text),  # resource and key of a point read; NULL for a listing, which needs the gate alone
    sa.Column("until", Instant, nullable=False),  # when it expires, by the database's clock
    sa.Index("ix_erpmirror_leases_account", "account"),
)
"""The rights to make one request, from its start until its result is committed."""


# What changed.

changes = sa.Table(
    "erpmirror_changes",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=False),  # without gaps, in the order of the commits
    sa.Column("at", Instant, nullable=False),  # when the change was written here
    sa.Column("connection", sa.Text, nullable=False),
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("key", KeyText, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),  # created | updated | deleted | restored
    sa.Column("revision", sa.BigInteger, nullable=False),  # of the request that showed the change
    sa.Column("cause", sa.Text, nullable=False),  # values.Cause: why the object was requested
    sa.Column("before", ExactJSON),  # updates only: dotted path -> earlier value, for the fields that differ
    sa.Column("after", ExactJSON),  # the whole object, redacted; NULL when deleted
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
"""The journal: one entry for each observed change, written by the transaction that wrote the row."""

feed = sa.Table(
    "erpmirror_feed",
    metadata,
    sa.Column("one", sa.Integer, primary_key=True, autoincrement=False),  # always 1: the table has a single row
    sa.Column("last", sa.BigInteger, nullable=False),  # the newest entry's id, kept when entries are trimmed
    sa.Column("name", sa.Text, nullable=False),  # of this history of ids: a new one after a backup was restored
)
"""The journal's last id. Locking its row puts the journal's writers in one order, so readers by id miss nothing."""


# The mirror's own tables and columns.

parts = sa.Table(
    "erpmirror_parts",
    metadata,
    sa.Column("table_name", KeyText, primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),  # the table of the object; itself, if this is that table
    sa.Column("path", sa.Text, nullable=False),  # dotted path of the part; "" for the object itself
)
"""Which resource tables exist, and which object each belongs to."""

columns = sa.Table(
    "erpmirror_columns",
    metadata,
    sa.Column("table_name", KeyText, primary_key=True),
    sa.Column("column_name", KeyText, primary_key=True),
    sa.Column("path", sa.Text, nullable=False),  # dotted path of the field in its part, as the vendor spells it
    sa.Column("kind", sa.Text, nullable=False),  # values.Kind: the column's type
    sa.Column("overflow", sa.Boolean, nullable=False),  # it is the `<field>__text` for values that do not fit
    sa.Column("declared", sa.Boolean, nullable=False),  # by the connector or the vendor's metadata
    sa.Column("added_at", Instant, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),  # a revision: a cached schema with a lower maximum is old
    sa.Column("note", sa.Text),  # what its values mean, from the vendor's documentation
    sa.Index("ix_erpmirror_columns_version", "table_name", "version"),
)
"""Which column of which resource table holds which field."""

schema_changes = sa.Table(
    "erpmirror_schema_changes",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("at", Instant, nullable=False),
    sa.Column("connection", sa.Text, nullable=False),  # whose object needed it
    sa.Column("resource", sa.Text, nullable=False),
    sa.Column("table_name", sa.Text, nullable=False),
    sa.Column("column_name", sa.Text),  # NULL where `kind` is about a table
    sa.Column("path", sa.Text, nullable=False),  # of the field or part
    sa.Column("kind", sa.Text, nullable=False),  # table (created) | column | overflow (added) | capped (no room)
    sqlite_autoincrement=True,
)
"""What was added to the mirror's tables, and what could not be."""


# Whether messages reach the workers.

wakeups = sa.Table(
    "erpmirror_wakeups",
    metadata,
    sa.Column("connection", KeyText, primary_key=True),
    sa.Column("queue", KeyText, primary_key=True),  # sync | full_sync
    sa.Column("woken_at", Instant),  # when the last wake-up was sent
    sa.Column("answered_at", Instant),  # when a worker last began with one
)
"""The outstanding wake-ups: while one is fresh and unanswered, no other is sent for its connection."""

canaries = sa.Table(
    "erpmirror_canaries",
    metadata,
    sa.Column("queue", KeyText, primary_key=True),
    sa.Column("sent_at", Instant),  # when the last test message was sent
    sa.Column("answered_at", Instant),  # when a worker last received one
    sa.Column("worker", sa.Text),  # the name of that worker
)
"""Whether each queue's messages reach a worker, shown by a message that went through the queue, not by a ping."""
