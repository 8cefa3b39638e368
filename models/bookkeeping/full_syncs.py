"""Full syncs of a resource: their runs (progress and history) and their position, kept apart from the cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import seen_keys
from models.bookkeeping.streams import attempt_values, is_stream, success_values, update
from models.db.tables import runs, streams
from models.db.types import Instant

if TYPE_CHECKING:
    from datetime import datetime

    from models.bookkeeping.streams import Stream
    from models.db.database import Tx
    from models.values import Cause


def begin(tx: Tx, stream: Stream, *, revision: int, cause: Cause, now: datetime) -> int:
    """Start a full sync; returns its run. Records an attempt, as `streams.record_attempt` does."""
    seen_keys.forget(tx, stream.connection, stream.resource)
    run = tx.execute(
        sa.insert(runs)
        .values(connection=stream.connection, resource=stream.resource, cause=cause, started_at=now, pages=0, objects=0)
        .returning(runs.c.id)
    ).scalar_one()
    values = {"full_run": run, "full_cursor": None, "full_revision": revision, "full_started_at": now}
    update(tx, stream.connection, stream.resource, **values, **attempt_values(stream, now))
    return int(run)


def advance(
    tx: Tx,
    stream: Stream,
    *,
    run: int,
    cursor: str | None,
    pages: int,
    objects: int,
    next_tried_at: datetime | None = None,
) -> None:
    """Count what a chunk of a full sync brought; `cursor` moves its position at the end of a page.

    `next_tried_at`: the next page is requested at once, so its attempt is recorded here.
    """
    tx.execute(
        sa.update(runs).where(runs.c.id == run).values(pages=runs.c.pages + pages, objects=runs.c.objects + objects)
    )
    if cursor is not None:
        attempt = {"failures": 0} if next_tried_at is None else {"failures": 1, "tried_at": next_tried_at}
        _update_run(tx, stream, run, full_cursor=cursor, **attempt)


def finish(
    tx: Tx,
    stream: Stream,
    *,
    run: int,
    cursor: str,
    next_at: datetime,
    now: datetime,
    objects: int = 0,
    first_poll_at: datetime | None = None,
    moves_cursor: bool = True,
    complete: bool = True,
    warning: str | None = None,
) -> None:
    """End a full sync, because its last page, of `objects` objects, is written. `next_at`: when the next one is due.

    The cursor is set unless a poll moved it meanwhile: polls that never reach their last page restart from here.
    Without `moves_cursor` only a first full sync sets it: later ones skip objects that seem unchanged, so the next poll
    still has to list what changed. `first_poll_at`: when to poll first, after a first full sync.

    `complete`: it listed everything that exists, so the resource is complete once all keys that wait now are fetched.
    What a person requested since the full sync's first revision stays due, also a full sync that was started anew.
    """
    row = streams.c
    requested_since = row.requested_revision > row.full_revision
    has_cursor = row.cursor.is_not(None)
    polled = sa.and_(has_cursor, row.last_read_at >= row.full_started_at) if moves_cursor else has_cursor
    counts = {"pages": runs.c.pages + 1, "objects": runs.c.objects + objects}
    tx.execute(sa.update(runs).where(runs.c.id == run).values(finished_at=now, **counts))
    seen_keys.forget(tx, stream.connection, stream.resource)
    completeness = {"next_complete_as_of": row.full_started_at, "next_complete_cutoff_at": now} if complete else {}
    keeps_due_at = sa.or_(requested_since, has_cursor)
    _update_run(
        tx,
        stream,
        run,
        full_run=None,
        full_cursor=None,
        full_revision=None,
        full_due_at=sa.case((requested_since, row.full_due_at), else_=sa.literal(next_at, Instant)),
        full_requested=sa.and_(requested_since, row.full_requested),
        cursor=sa.case((polled, row.cursor), else_=cursor),
        due_at=sa.case((keeps_due_at, row.due_at), else_=sa.literal(first_poll_at or now, Instant)),
        poll_cursor=None,
        poll_cursor_at=None,
        warning=warning,
        **completeness,
        **success_values(now),
    )


def objects(tx: Tx, *, run: int) -> int:
    """How many objects and keys the full sync has brought so far."""
    return int(tx.execute(sa.select(runs.c.objects).where(runs.c.id == run)).scalar_one_or_none() or 0)


def last_pages(tx: Tx, *, connection: str, resource: str) -> int:
    """How many replies the last full sync that ended took; 0 if none is known."""
    mine = (runs.c.connection == connection, runs.c.resource == resource, runs.c.finished_at.is_not(None))
    statement = sa.select(runs.c.pages).where(*mine).order_by(runs.c.id.desc()).limit(1)
    return int(tx.execute(statement).scalar_one_or_none() or 0)


def trim(tx: Tx, *, before: datetime, limit: int) -> int:
    """Remove at most `limit` runs that ended before then, or began before then and were given up; returns how many."""
    under_way = sa.exists().where(streams.c.full_run == runs.c.id)
    given_up = sa.and_(runs.c.finished_at.is_(None), runs.c.started_at < before, ~under_way)
    old = sa.select(runs.c.id).where(sa.or_(runs.c.finished_at < before, given_up)).limit(limit)
    return tx.execute(sa.delete(runs).where(runs.c.id.in_(old))).rowcount


def _update_run(tx: Tx, stream: Stream, run: int, **values: Any) -> None:
    """Write columns of the stream's row, unless a person had its full sync start anew meanwhile."""
    here = is_stream(stream.connection, stream.resource)
    tx.execute(sa.update(streams).where(here, streams.c.full_run == run).values(**values))
