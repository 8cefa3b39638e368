"""A database's clock that has stepped back, as after a boot before the time service: what was planned meanwhile is due.

Nothing has happened in the future. So a time at which something *did* happen and that lies ahead shows that the clock
was ahead by at least as much, and that due times written then may wait for hours too long. One minute is tolerated.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.db.outgoing_tables import commands, subscriptions, undelivered
from models.db.tables import canaries, gates, inbox, leases, streams, wakeups
from models.db.types import Instant
from models.durations import spell

if TYPE_CHECKING:
    from models.db.database import Tx

_TOLERANCE = timedelta(minutes=1)

_HAPPENED = (
    canaries.c.sent_at,
    canaries.c.answered_at,
    wakeups.c.woken_at,
    wakeups.c.answered_at,
    gates.c.answered_at,
    streams.c.tried_at,
    streams.c.last_read_at,
    streams.c.last_error_at,
    streams.c.full_started_at,
    streams.c.poll_cursor_at,
    streams.c.metadata_read_at,
    streams.c.deletions_approved_at,
)
"""Small tables' times of what has happened. Whatever works writes one of them every few seconds."""

_PLANNED = (gates.c.next_start_at, gates.c.closed_until, gates.c.login_until, streams.c.due_at)
"""Times until which something waits. Too early costs one request, which the vendor may refuse."""


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The clock was ahead `by` at least so much, as what is stored shows."""

    by: timedelta

    @property
    def problem(self) -> str:
        """One line for a person."""
        return (
            f"the database's clock has stepped back by {spell(self.by)}: work that was planned before waits until "
            "`erpmirror beat` makes it due; is it running?"
        )


def find(tx: Tx) -> ClockStep | None:
    """The step that what is stored shows, and that was not mended yet."""
    latest = sa.union_all(*(sa.select(sa.func.max(column).label("at")) for column in _HAPPENED)).subquery()
    newest: datetime | None = tx.execute(sa.select(sa.func.max(latest.c.at, type_=Instant))).scalar()
    if newest is None or newest - tx.now <= _TOLERANCE:
        return None
    return ClockStep(newest - tx.now)


def mend(tx: Tx, *, longest_lease: timedelta) -> ClockStep | None:
    """Make due what was planned by the clock that was ahead; returns the step, None where there was none.

    `longest_lease`: how long a request may be under way; leases end after that.
    """
    step = find(tx)
    if step is None:
        return None
    now = sa.literal(tx.now, Instant)
    _mend_streams(tx, now)
    for column in (*_HAPPENED, *_PLANNED, inbox.c.tried_at, inbox.c.first_enqueued_at, inbox.c.due_at):
        _set(tx, column, now, column > now)
    last = sa.literal(tx.now + longest_lease, Instant)
    _set(tx, leases.c.until, last, leases.c.until > last)
    c = commands.c
    for column in (c.accepted_at, c.sent_at, c.unchanged_at):
        _set(tx, column, now, column > now)
    s, u = subscriptions.c, undelivered.c
    for column in (s.since, s.paused_at, s.due_at, s.failing_since, s.delivered_at, u.due_at, u.failing_since):
        _set(tx, column, now, column > now)
    _set(tx, s.leased_until, last, s.leased_until > last)
    # What is being sent is judged once its request has ended, what waits for a second look in its own time.
    _set(tx, c.due_at, last, c.due_at > last)
    return step


def _mend_streams(tx: Tx, now: sa.ColumnElement[datetime]) -> None:
    """Sync in full what was read while the clock was ahead: its cursor and its completeness may be ahead, too."""
    c = streams.c
    read_ahead = sa.or_(*(column > now for column in _HAPPENED if column.table is streams))
    started_ahead = c.full_started_at > now
    values = {
        "full_due_at": now,
        "full_run": sa.case((started_ahead, None), else_=c.full_run),
        "full_cursor": sa.case((started_ahead, None), else_=c.full_cursor),
        "complete_as_of": sa.case((c.complete_as_of > now, None), else_=c.complete_as_of),
        "next_complete_as_of": sa.case((started_ahead, None), else_=c.next_complete_as_of),
        "next_complete_cutoff_at": sa.case((started_ahead, None), else_=c.next_complete_cutoff_at),
    }
    tx.execute(sa.update(streams).where(read_ahead).values(values))


def _set(tx: Tx, column: sa.Column[Any], value: sa.ColumnElement[datetime], where: sa.ColumnElement[bool]) -> None:
    tx.execute(sa.update(column.table).where(where).values({column.name: value}))
