"""The state of each resource of each connection: its cursor, when it is due next, as of when it is complete."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import inbox, refused_keys, seen_keys
from models.db.tables import inbox as inbox_table
from models.db.tables import streams
from models.db.types import Instant
from models.values import backoff

if TYPE_CHECKING:
    from models.db.database import Tx
    from models.values import Batch, Shape


_POSITION_AGE = timedelta(minutes=10)
"""A poll that stopped between two pages longer ago starts again: pages shift while data changes."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A row of `erpmirror_streams`. `models.db.tables` says what each column means."""

    connection: str
    resource: str
    state: str
    cursor: str | None
    due_at: datetime
    poll_cursor: str | None
    poll_cursor_at: datetime | None
    full_due_at: datetime
    full_run: int | None
    full_requested: bool
    full_cursor: str | None
    full_revision: int | None
    failures: int
    polls: bool
    declared_fields: Shape | None
    metadata_read_at: datetime | None
    tried_at: datetime | None
    refused_request: str | None
    batch_plan: str | None
    batch_failures: int
    batch_tried_at: datetime | None
    unbatched: str | None

    def may_batch(self, now: datetime) -> bool:
        """Whether keys may be fetched in batches: nothing speaks against it, and the last attempt did not just fail."""
        is_open = self.state == "open" and self.unbatched is None
        return is_open and backoff_over(self.batch_failures, self.batch_tried_at, now)

    def is_due(self, now: datetime, *, full: bool) -> bool:
        """Whether a full sync is due, or else a poll. A poll needs a cursor, which the first full sync sets.

        A parked resource is not polled. Its full sync is due when it is tried again.
        """
        if self.state == "retired" or not backoff_over(self.failures, self.tried_at, now):
            return False
        if full:
            return self.full_due_at <= now
        return self.state == "open" and self.polls and self.cursor is not None and self.due_at <= now

    def position(self, now: datetime, *, full: bool) -> str | None:
        """The position of the next request: inside a run that is under way, else the cursor (None: from the start)."""
        if full:
            return self.full_cursor if self.full_run is not None else None
        recent = self.poll_cursor_at is not None and self.poll_cursor_at > now - _POSITION_AGE
        return self.poll_cursor if recent else self.cursor


def backoff_over(failures: int, tried_at: datetime | None, now: datetime) -> bool:
    """Whether the wait after the last attempt is over. No column holds its end: the worker may die in an attempt."""
    return not failures or tried_at is None or tried_at + backoff(failures - 1) <= now


LISTING, FETCH = "listing", "fetch"
"""Values of `refused_request`: which kind of request the vendor refused."""

_FIELDS = [streams.c[name] for name in Stream.__slots__]

EMPTY, LOST = "empty", "lost"
"""Values of `unfilled`: columns or parts were made anew, or the table of the objects themselves."""

NOT_READ = dict.fromkeys(("cursor", "full_run", "full_cursor", "poll_cursor", "poll_cursor_at"))
OPEN = {"state": "open", "failures": 0, **dict.fromkeys(("retry_at", "refused_request", "refused_settings"))}
NOT_COMPLETE = dict.fromkeys(("complete_as_of", "next_complete_as_of", "next_complete_cutoff_at"))
"""The columns of a resource that is read from the start, that is asked again, and of which nothing is complete."""


def get(tx: Tx, connection: str, resource: str) -> Stream | None:
    """The row of one resource; None if there is none."""
    found = tx.execute(sa.select(*_FIELDS).where(is_stream(connection, resource))).one_or_none()
    return None if found is None else Stream(*found)


def names(tx: Tx) -> set[tuple[str, str]]:
    """(connection, resource) of every row, those included that are configured no longer."""
    return {(row[0], row[1]) for row in tx.execute(sa.select(streams.c.connection, streams.c.resource))}


def redaction_of(tx: Tx, *, connection: str, resource: str) -> dict[str, Any] | None:
    """The column `redaction`, for `omitted`."""
    return tx.execute(sa.select(streams.c.redaction).where(is_stream(connection, resource))).scalar_one_or_none()


def open_streams(tx: Tx, *, connection: str) -> list[Stream]:
    """The rows that are neither parked nor retired, the longest overdue first."""
    statement = (
        sa.select(*_FIELDS)
        .where(streams.c.connection == connection, streams.c.state == "open")
        .order_by(streams.c.due_at, streams.c.resource)
    )
    return [Stream(*row) for row in tx.execute(statement)]


def update(tx: Tx, connection: str, resource: str, **values: Any) -> None:
    """Write columns of one resource's row."""
    tx.execute(sa.update(streams).where(is_stream(connection, resource)).values(**values))


def poll_now(tx: Tx, *, connection: str, resource: str | None = None) -> int:
    """Make a poll due at once, or a full sync where a resource has no polls; returns for how many resources.

    Parked resources are reopened.
    """
    now = tx.now
    polled = sa.and_(streams.c.polls, streams.c.state == "open")
    full_due_at = sa.case((polled, streams.c.full_due_at), else_=sa.literal(now, Instant))
    values = {"due_at": now, "full_due_at": full_due_at, "requested_revision": tx.draw()}
    return _make_due(tx, connection, resource, values)


def backfill_now(tx: Tx, *, connection: str, resource: str | None = None) -> int:
    """Make a full sync due at once; returns for how many resources.

    One that a person requested before and that is under way continues where it stopped. A scheduled one starts again,
    because it skips keys that seem unchanged.
    """
    continues = sa.and_(streams.c.full_requested, streams.c.full_run.is_not(None))
    values = {
        "full_due_at": tx.now,
        "full_requested": True,
        "requested_revision": sa.case((continues, streams.c.requested_revision), else_=tx.draw()),
        "full_run": sa.case((continues, streams.c.full_run), else_=None),
        "full_cursor": sa.case((continues, streams.c.full_cursor), else_=None),
    }
    return _make_due(tx, connection, resource, values)


def request_full_sync(tx: Tx, connection: str, resource: str) -> None:
    """Make a full sync due now, unless the resource is parked and so waits for its next attempt."""
    here = sa.and_(is_stream(connection, resource), streams.c.state == "open")
    tx.execute(sa.update(streams).where(here).values(full_due_at=tx.now))


def reopen(tx: Tx, *, connection: str, resource: str | None = None) -> int:
    """Open parked resources and make the keys due that wait for them; returns how many resources."""
    inbox.lock(tx, connection=connection)
    refused_keys.resume(tx, connection=connection, resource=resource)
    condition = sa.and_(streams.c.connection == connection, streams.c.state == "parked")
    if resource is not None:
        condition = sa.and_(condition, streams.c.resource == resource)
    now = sa.literal(tx.now, Instant)
    return tx.execute(sa.update(streams).where(condition).values(**OPEN, full_due_at=now)).rowcount


def reopen_listed(tx: Tx, stream: Stream) -> None:
    """Open the resource if it is parked: the vendor has just answered a listing. Call `inbox.lock` first."""
    if stream.state == "parked":
        update(tx, stream.connection, stream.resource, **OPEN, last_error=None, last_error_at=None)
        refused_keys.resume(tx, connection=stream.connection, resource=stream.resource)


def reopen_fetched(tx: Tx, stream: Stream) -> None:
    """Open the resource if it is parked because a fetch was refused: the vendor has just answered one.

    Where only listings are refused, objects that webhooks name are answered all the time, which proves nothing.
    """
    if stream.state == "parked" and stream.refused_request == FETCH:
        inbox.lock(tx, connection=stream.connection)
        reopen_listed(tx, stream)


def mark_unfilled(tx: Tx, *, connection: str, resource: str, is_lost: bool) -> None:
    """Record that tables were made anew and are to be filled. `is_lost`: the objects are gone, so sync all again."""
    if is_lost:
        update(tx, connection, resource, unfilled=LOST, **NOT_READ, **NOT_COMPLETE)
        backfill_now(tx, connection=connection, resource=resource)
    else:
        condition = sa.and_(is_stream(connection, resource), streams.c.unfilled.is_(None))
        tx.execute(sa.update(streams).where(condition).values(unfilled=EMPTY))


def unfilled(tx: Tx) -> dict[tuple[str, str], str]:
    """(connection, resource) -> `EMPTY` or `LOST`, where tables were made anew and are not filled yet."""
    c = streams.c
    chosen = sa.select(c.connection, c.resource, c.unfilled).where(c.unfilled.is_not(None))
    return {(row[0], row[1]): row[2] for row in tx.execute(chosen.order_by(c.connection, c.resource))}


def _make_due(tx: Tx, connection: str, resource: str | None, values: dict[str, Any]) -> int:
    inbox.lock(tx, connection=connection)
    refused_keys.resume(tx, connection=connection, resource=resource)
    condition = sa.and_(streams.c.connection == connection, streams.c.state != "retired")
    if resource is not None:
        condition = sa.and_(condition, streams.c.resource == resource)
    return tx.execute(sa.update(streams).where(condition).values(**OPEN, **values)).rowcount


def record_attempt(tx: Tx, stream: Stream, *, now: datetime) -> None:
    """Record that a request follows. It counts as failed until its result is written: one may kill the worker."""
    update(tx, stream.connection, stream.resource, **attempt_values(stream, now))


def attempt_values(stream: Stream, now: datetime) -> dict[str, Any]:
    """The columns that record an attempt."""
    return {"tried_at": now, "failures": stream.failures + 1}


def advance_poll(tx: Tx, stream: Stream, *, cursor: str, now: datetime) -> None:
    """Record that a page of a poll is written and more follow."""
    update(tx, stream.connection, stream.resource, poll_cursor=cursor, poll_cursor_at=now, failures=0)


def finish_poll(
    tx: Tx, stream: Stream, *, cursor: str, next_at: datetime, now: datetime, warning: str | None = None
) -> None:
    """Move the cursor, because a poll's last page is written. A poll that was requested meanwhile stays due."""
    due_at = sa.case(
        (streams.c.due_at == sa.literal(stream.due_at, Instant), sa.literal(next_at, Instant)), else_=streams.c.due_at
    )
    values = {"cursor": cursor, "due_at": due_at, "poll_cursor": None, "poll_cursor_at": None}
    if warning is not None:
        values["warning"] = warning
    update(tx, stream.connection, stream.resource, **values, **success_values(now))


@dataclass(frozen=True, slots=True)
class Refusal:
    """The vendor's own words, what it refused (`LISTING` or `FETCH`), and under which settings (a keyed hash)."""

    reason: str
    request: str
    settings: str


def park(tx: Tx, connection: str, resource: str, refusal: Refusal, *, until: datetime, by_full_sync: bool) -> None:
    """Park the resource, which the vendor refuses, until it is tried again: rights are given back without notice.

    `by_full_sync`: a full sync tries it; else the keys that wait for it do.
    """
    due = {"full_due_at": until} if by_full_sync else {}
    update(
        tx,
        connection,
        resource,
        state="parked",
        last_error=refusal.reason,
        last_error_at=tx.now,
        failures=0,
        retry_at=until,
        refused_request=refusal.request,
        refused_settings=refusal.settings,
        **due,
    )


def record_metadata(tx: Tx, connection: str, resource: str, shape: Shape | None) -> None:
    """Store what the vendor's metadata declares. What spoke against batches may have gone with the earlier ones."""
    update(tx, connection, resource, declared_fields=shape, metadata_read_at=tx.now, unbatched=None)


def record_batch_attempt(tx: Tx, stream: Stream) -> None:
    """Record that a batch follows. It counts as failed until its result is written: it may kill the worker."""
    values = {"batch_tried_at": tx.now, "batch_failures": stream.batch_failures + 1}
    update(tx, stream.connection, stream.resource, **values)


def finish_batch(tx: Tx, stream: Stream, batch: Batch) -> None:
    """Record that a batch is written. If earlier ones are distrusted, a full sync is due, and nothing is complete."""
    values: dict[str, Any] = {"batch_plan": batch.plan, "unbatched": batch.refusal, "batch_failures": 0}
    if batch.distrusted:
        values |= NOT_COMPLETE | {"full_due_at": tx.now}
    update(tx, stream.connection, stream.resource, **values)


def success_values(now: datetime) -> dict[str, Any]:
    """The columns that record a success."""
    return {"last_read_at": now, "failures": 0, "last_error": None, "last_error_at": None}


def mark_complete(tx: Tx, *, connection: str) -> None:
    """Set `complete_as_of` to a full sync's start, once every key that waited when it ended has been fetched."""
    completed = {
        "complete_as_of": streams.c.next_complete_as_of,
        "next_complete_as_of": None,
        "next_complete_cutoff_at": None,
    }
    tx.execute(sa.update(streams).where(*is_completable(connection)).values(completed))


def is_completable(connection: Any) -> tuple[sa.ColumnElement[bool], ...]:
    """The conditions: a full sync of this connection has ended, and no key that waited then still does."""
    waiting = sa.exists().where(
        inbox_table.c.connection == streams.c.connection,
        inbox_table.c.resource == streams.c.resource,
        inbox_table.c.first_enqueued_at <= streams.c.next_complete_cutoff_at,
        # Records without a key (`unkeyed`) are told beside it: no row of the mirror is older for them.
        inbox_table.c.unreadable_raw.is_(None),
    )
    return streams.c.connection == connection, streams.c.next_complete_cutoff_at.is_not(None), ~waiting


def forget(tx: Tx, *, connection: str, resource: str) -> None:
    """Remove a row and the keys that its full sync has seen."""
    tx.execute(sa.delete(streams).where(is_stream(connection, resource)))
    seen_keys.forget(tx, connection, resource)


def is_stream(connection: str, resource: str) -> sa.ColumnElement[bool]:
    """The condition: it is this resource's row."""
    return sa.and_(streams.c.connection == connection, streams.c.resource == resource)
