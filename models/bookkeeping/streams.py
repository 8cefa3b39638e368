"""Where each resource of each connection stands: its cursor, when it is looked at next, as of when it is complete."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.db import bulk
from models.db.tables import Instant, inbox, runs, seen_keys, streams
from models.exact import storable_text
from models.values import Cause, backoff

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.db.database import Tx
    from models.values import Shape


_POSITION_AGE = timedelta(minutes=10)
"""A tick that stopped between two pages longer ago starts again: pages shift while data changes."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A row of `streams`. See `models.db.tables` for what each column means."""

    connection: str
    resource: str
    state: str
    cursor: str | None
    due_at: datetime
    poll_cursor: str | None
    poll_at: datetime | None
    full_due_at: datetime
    full_run: int | None
    asked_for: bool
    full_cursor: str | None
    full_revision: int | None
    failures: int
    polls: bool
    shape: Shape | None
    shape_at: datetime | None
    tried_at: datetime | None

    def is_due(self, now: datetime, *, full: bool) -> bool:
        """Whether a full reading is due, or else a tick. A tick needs a cursor, which the first full reading leaves."""
        if self.state != "open" or not backoff_over(self.failures, self.tried_at, now):
            return False
        return self.full_due_at <= now if full else self.polls and self.cursor is not None and self.due_at <= now

    def position(self, now: datetime, *, full: bool) -> str | None:
        """Where the next request goes on: inside a run that is under way, else at the cursor (None: from the start)."""
        if full:
            return self.full_cursor if self.full_run is not None else None
        fresh = self.poll_at is not None and self.poll_at > now - _POSITION_AGE
        return self.poll_cursor if fresh else self.cursor


def backoff_over(failures: int, tried_at: datetime | None, now: datetime) -> bool:
    """Whether it may be tried again: whoever asked last may not have lived to say when."""
    return not failures or tried_at is None or tried_at + backoff(failures - 1) <= now


@dataclass(frozen=True, slots=True)
class Plan:
    """What the configuration says of a resource."""

    resource: str
    bound: timedelta
    polls: bool
    selection: str = ""


_FIELDS = [streams.c[name] for name in Stream.__slots__]


def sync(tx: Tx, *, connection: str, system: str, plans: Sequence[Plan]) -> None:
    """Make the rows fit the configuration. What left it is not asked; what came back starts afresh."""
    now = tx.now
    mine = streams.c.connection == connection
    columns = (*_FIELDS, streams.c.bound, streams.c.selection)
    known = {row.resource: row for row in tx.execute(sa.select(*columns).where(mine))}
    unread = dict.fromkeys(("cursor", "full_run", "full_cursor", "poll_cursor", "poll_at"))
    fresh = {**unread, "state": "open", "due_at": now, "full_due_at": now}
    # Of what is asked for now nothing is known to be complete, whatever was so of what was asked for before.
    incomplete = dict.fromkeys(("settling_as_of", "settling_at", "complete_as_of"))
    for plan in sorted(plans, key=lambda plan: plan.resource.encode()):
        row = known.get(plan.resource)
        values = {"system": system, "bound": int(plan.bound.total_seconds()), "polls": plan.polls}
        values |= {"selection": plan.selection}
        if row is None:
            identity = {"connection": connection, "resource": plan.resource}
            values |= fresh | identity | {"failures": 0, "asked_for": False}
            tx.execute(tx.insert(streams).values(**values).on_conflict_do_nothing())
        elif (row.selection or "") != plan.selection:
            update(tx, connection, plan.resource, **fresh, **incomplete, **values, failures=0)
        elif row.state == "retired":
            update(tx, connection, plan.resource, **fresh, **values, failures=0)
        elif (row.bound, row.polls) != (values["bound"], plan.polls):
            # A shorter schedule applies at once; a longer one from the next look on.
            soon = min(row.full_due_at, now + plan.bound)
            update(tx, connection, plan.resource, **values, full_due_at=soon)
    configured = {plan.resource for plan in plans}
    gone = [resource for resource, row in known.items() if resource not in configured and row.state != "retired"]
    for resource in gone:
        update(tx, connection, resource, state="retired")


def retire(tx: Tx, *, configured: Iterable[str]) -> None:
    """Connections that are no longer configured are not asked."""
    tx.execute(
        sa.update(streams)
        .where(streams.c.connection.not_in(list(configured)), streams.c.state != "retired")
        .values(state="retired")
    )


def get(tx: Tx, connection: str, resource: str) -> Stream | None:
    """One row."""
    found = tx.execute(sa.select(*_FIELDS).where(_is(connection, resource))).one_or_none()
    return None if found is None else Stream(*found)


def open_streams(tx: Tx, *, connection: str) -> list[Stream]:
    """The rows that may be looked at, the longest overdue first."""
    statement = (
        sa.select(*_FIELDS)
        .where(streams.c.connection == connection, streams.c.state == "open")
        .order_by(streams.c.due_at, streams.c.resource)
    )
    return [Stream(*row) for row in tx.execute(statement)]


def update(tx: Tx, connection: str, resource: str, **values: Any) -> None:
    """Write columns of one row."""
    tx.execute(sa.update(streams).where(_is(connection, resource)).values(**values))


def poll_now(tx: Tx, *, connection: str, resource: str | None = None) -> int:
    """Look at once, also at what is parked; returns how many resources that concerns."""
    now = tx.now
    full_due_at = sa.case((streams.c.polls, streams.c.full_due_at), else_=sa.literal(now, Instant))
    values = {"due_at": now, "full_due_at": full_due_at, "asked": tx.draw()}
    return _make_due(tx, connection, resource, values)


def backfill_now(tx: Tx, *, connection: str, resource: str | None = None) -> int:
    """Read everything again, at once. One that a person asked for and that is under way goes on where it stopped.

    A reading of the schedule's begins anew: it passed over keys that looked unchanged.
    """
    goes_on = sa.and_(streams.c.asked_for, streams.c.full_run.is_not(None))
    values = {
        "full_due_at": tx.now,
        "asked_for": True,
        "asked": sa.case((goes_on, streams.c.asked), else_=tx.draw()),
        "full_run": sa.case((goes_on, streams.c.full_run), else_=None),
        "full_cursor": sa.case((goes_on, streams.c.full_cursor), else_=None),
    }
    return _make_due(tx, connection, resource, values)


def reopen(tx: Tx, *, connection: str, resource: str | None = None) -> int:
    """Try parked resources again; returns how many."""
    condition = sa.and_(streams.c.connection == connection, streams.c.state == "parked")
    if resource is not None:
        condition = sa.and_(condition, streams.c.resource == resource)
    return tx.execute(sa.update(streams).where(condition).values(state="open", failures=0)).rowcount


def _make_due(tx: Tx, connection: str, resource: str | None, values: dict[str, Any]) -> int:
    condition = sa.and_(streams.c.connection == connection, streams.c.state != "retired")
    if resource is not None:
        condition = sa.and_(condition, streams.c.resource == resource)
    return tx.execute(sa.update(streams).where(condition).values(state="open", failures=0, **values)).rowcount


def begin_full_sync(tx: Tx, stream: Stream, *, revision: int, cause: Cause, now: datetime) -> int:
    """Start a full reading; returns its run. It is tried from here on, as `begin` has it."""
    forget_sightings(tx, stream.connection, stream.resource)
    inserted = tx.execute(
        sa.insert(runs)
        .values(connection=stream.connection, resource=stream.resource, cause=cause, started_at=now, pages=0, objects=0)
        .returning(runs.c.id)
    ).scalar_one()
    values = {"full_run": inserted, "full_cursor": None, "full_revision": revision, "full_started_at": now}
    update(tx, stream.connection, stream.resource, **values, **_attempt(stream, now))
    return int(inserted)


def record_attempt(tx: Tx, stream: Stream, *, now: datetime) -> None:
    """Somebody asks. It counts as a failure until an answer is written: one that no worker survives counts, too."""
    update(tx, stream.connection, stream.resource, **_attempt(stream, now))


def _attempt(stream: Stream, now: datetime) -> dict[str, Any]:
    return {"tried_at": now, "failures": stream.failures + 1}


def advance_full_sync(
    tx: Tx,
    stream: Stream,
    *,
    run: int,
    cursor: str | None,
    pages: int,
    objects: int,
    next_tried_at: datetime | None = None,
) -> None:
    """Count what a piece of a full reading brought; `cursor` moves its position at the end of a page.

    `next_tried_at`: the next page is tried from then on, as `begin` has it.
    """
    tx.execute(
        sa.update(runs).where(runs.c.id == run).values(pages=runs.c.pages + pages, objects=runs.c.objects + objects)
    )
    if cursor is not None:
        begun = {"failures": 0} if next_tried_at is None else {"failures": 1, "tried_at": next_tried_at}
        _change_run(tx, stream, run, full_cursor=cursor, **begun)


def finish_full_sync(
    tx: Tx,
    stream: Stream,
    *,
    run: int,
    cursor: str,
    next_at: datetime,
    now: datetime,
    objects: int = 0,
    poll_at: datetime | None = None,
    moves_cursor: bool = True,
    complete: bool = True,
    warning: str | None = None,
) -> None:
    """The last page is written, which brought so many `objects`.

    The cursor is set unless a tick moved it meanwhile: ticks that never end begin anew.
    Without `moves_cursor` that is so only after a first reading: the next tick still has to tell what changed.

    `complete`: it named whatever exists, so the resource is complete once all that is settled. A look that was asked
    for since the reading's first turn is still due, and so is a reading that a person started anew meanwhile.
    `tick_at`: when to ask what changed since, after a first reading, which has just told.
    """
    newer = streams.c.asked > streams.c.full_revision
    polled = sa.and_(streams.c.cursor.is_not(None), streams.c.last_read_at >= streams.c.full_started_at)
    if not moves_cursor:
        polled = streams.c.cursor.is_not(None)
    counted = {"pages": runs.c.pages + 1, "objects": runs.c.objects + objects}
    tx.execute(sa.update(runs).where(runs.c.id == run).values(finished_at=now, **counted))
    forget_sightings(tx, stream.connection, stream.resource)
    settling = {"settling_as_of": streams.c.full_started_at, "settling_at": now} if complete else {}
    _change_run(
        tx,
        stream,
        run,
        full_run=None,
        full_cursor=None,
        full_revision=None,
        full_due_at=sa.case((newer, streams.c.full_due_at), else_=sa.literal(next_at, Instant)),
        asked_for=sa.and_(newer, streams.c.asked_for),
        cursor=sa.case((polled, streams.c.cursor), else_=cursor),
        due_at=sa.case(
            (sa.or_(newer, streams.c.cursor.is_not(None)), streams.c.due_at),
            else_=sa.literal(poll_at or now, Instant),
        ),
        poll_cursor=None,
        poll_at=None,
        warning=warning,
        **settling,
        **_healthy(now),
    )


def finish_scan(
    tx: Tx,
    stream: Stream,
    *,
    began_at: datetime,
    next_at: datetime,
    now: datetime,
    warning: str | None,
) -> None:
    """A look into a watched folder is over; it leaves no run. Complete as of its beginning, once all that is settled.

    A settling under way goes on: where something always waits, one that each look began anew would never end.
    """
    settling = streams.c.settling_at.is_not(None)
    _end_scan(
        tx,
        stream,
        next_at=next_at,
        settling_as_of=sa.case((settling, streams.c.settling_as_of), else_=sa.literal(began_at, Instant)),
        settling_at=sa.case((settling, streams.c.settling_at), else_=sa.literal(now, Instant)),
        warning=warning,
        **_healthy(now),
    )


def fail_scan(tx: Tx, stream: Stream, *, next_at: datetime, now: datetime, error: str) -> None:
    """A watched folder could not be looked at."""
    _end_scan(tx, stream, next_at=next_at, last_error=error, last_error_at=now)


def _end_scan(tx: Tx, stream: Stream, *, next_at: datetime, **values: Any) -> None:
    """A look that was asked for meanwhile is still due; a resource that was parked meanwhile keeps the reason why."""
    asked = streams.c.full_due_at != sa.literal(stream.full_due_at, Instant)
    values |= {"full_due_at": sa.case((asked, streams.c.full_due_at), else_=sa.literal(next_at, Instant))}
    here = _is(stream.connection, stream.resource)
    still_open = streams.c.state == "open"  # a look waits for no gate, so others work meanwhile
    tx.execute(sa.update(streams).where(here, still_open).values(asked_for=False, **values))


def trim_runs(tx: Tx, *, before: datetime, limit: int) -> int:
    """Forget the history of readings that ended before then, or began and were given up; how many."""
    under_way = sa.exists().where(streams.c.full_run == runs.c.id)
    given_up = sa.and_(runs.c.finished_at.is_(None), runs.c.started_at < before, ~under_way)
    old = sa.select(runs.c.id).where(sa.or_(runs.c.finished_at < before, given_up)).limit(limit)
    return tx.execute(sa.delete(runs).where(runs.c.id.in_(old))).rowcount


def trim_sightings(tx: Tx, *, before: datetime, limit: int) -> int:
    """Forget what readings saw that nobody will end: of resources that are not configured any more. How many.

    Not at once: a worker with older settings may still be reading.
    """
    needed = sa.exists().where(
        streams.c.connection == seen_keys.c.connection,
        streams.c.resource == seen_keys.c.resource,
        sa.or_(streams.c.state != "retired", streams.c.full_started_at >= before),
    )
    key = sa.tuple_(seen_keys.c.connection, seen_keys.c.resource, seen_keys.c.key)
    old = sa.select(seen_keys.c.connection, seen_keys.c.resource, seen_keys.c.key).where(~needed).limit(limit)
    return tx.execute(sa.delete(seen_keys).where(key.in_(old))).rowcount


def advance_poll(tx: Tx, stream: Stream, *, cursor: str, now: datetime) -> None:
    """A page of a tick is written and more follow."""
    update(tx, stream.connection, stream.resource, poll_cursor=cursor, poll_at=now, failures=0)


def finish_poll(
    tx: Tx, stream: Stream, *, cursor: str, next_at: datetime, now: datetime, warning: str | None = None
) -> None:
    """The last page of what changed since is written: now, and only now, the cursor moves.

    A look that was asked for meanwhile is still due.
    """
    due_at = sa.case(
        (streams.c.due_at == sa.literal(stream.due_at, Instant), sa.literal(next_at, Instant)), else_=streams.c.due_at
    )
    values = {"cursor": cursor, "due_at": due_at, "poll_cursor": None, "poll_at": None}
    if warning is not None:
        values["warning"] = warning
    update(tx, stream.connection, stream.resource, **values, **_healthy(now))


def park(tx: Tx, connection: str, resource: str, *, reason: str, now: datetime) -> None:
    """Set the resource aside for a person, once, with the vendor's own words."""
    update(tx, connection, resource, state="parked", last_error=reason, last_error_at=now)


def _change_run(tx: Tx, stream: Stream, run: int, **values: Any) -> None:
    """Write columns of the row, unless a person had its reading begin anew meanwhile."""
    here = _is(stream.connection, stream.resource)
    tx.execute(sa.update(streams).where(here, streams.c.full_run == run).values(**values))


def _healthy(now: datetime) -> dict[str, Any]:
    return {"last_read_at": now, "failures": 0, "last_error": None, "last_error_at": None}


def record_seen(tx: Tx, *, connection: str, resource: str, keys: Sequence[str]) -> None:
    """Remember that the full reading under way named these keys."""
    distinct = sorted({storable_text(key) for key in keys}, key=str.encode)
    same = {"connection": connection, "resource": resource}
    for start in range(0, len(distinct), bulk.MOST):
        bulk.insert_unless_there(tx, seen_keys, same, seen_keys.c.key, distinct[start : start + bulk.MOST])


def forget_sightings(tx: Tx, connection: str, resource: str) -> None:
    """Before the first page and after the last."""
    tx.execute(sa.delete(seen_keys).where(seen_keys.c.connection == connection, seen_keys.c.resource == resource))


def mark_complete(tx: Tx, *, connection: str) -> None:
    """Complete as of a full reading's start, once everything that waited when it ended has been fetched."""
    settled = {"complete_as_of": streams.c.settling_as_of, "settling_as_of": None, "settling_at": None}
    tx.execute(sa.update(streams).where(*is_settled(connection)).values(settled))


def is_settled(connection: Any) -> tuple[sa.ColumnElement[bool], ...]:
    """The conditions: a full sync of this connection has ended, and nothing that waited then still does."""
    waiting = sa.exists().where(
        inbox.c.connection == streams.c.connection,
        inbox.c.resource == streams.c.resource,
        inbox.c.first_at <= streams.c.settling_at,
    )
    return streams.c.connection == connection, streams.c.settling_at.is_not(None), ~waiting


def forget(tx: Tx, *, connection: str, resource: str) -> None:
    """Remove a row and what its readings left."""
    tx.execute(sa.delete(streams).where(_is(connection, resource)))
    forget_sightings(tx, connection, resource)


def _is(connection: str, resource: str) -> sa.ColumnElement[bool]:
    return sa.and_(streams.c.connection == connection, streams.c.resource == resource)
