"""Subscriptions: programs that are told of each change of the journal, and how far each was told.

`position` is the place in the journal: every change up to it was delivered, is in `erpmirror_undelivered`, or does not
match the filter. One worker at a time delivers, under a lease; whoever writes proves that the lease is still its own.

    active ◄──► paused (by a person, by the endpoint's 410, after `give_up_after`, or because entries were trimmed)
       ▲          ▲
       └── removed from the settings: its place is kept, so that it goes on there if it comes back
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import journal
from models.bookkeeping.undelivered import has_due
from models.db.outgoing_tables import subscriptions, undelivered
from models.db.tables import changes
from models.db.types import Instant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.db.database import Tx


class State(StrEnum):
    """Whether a subscription is told."""

    ACTIVE = "active"
    PAUSED = "paused"
    REMOVED = "removed"


class PausedBy(StrEnum):
    """Who or what paused it."""

    PERSON = "person"
    GONE = "gone"
    GAVE_UP = "gave_up"
    TRIMMED = "trimmed"


_OF_ENDPOINT = (PausedBy.GONE, PausedBy.GAVE_UP)
"""Pauses that end by themselves when the address in the settings changes."""


class LeaseLostError(Exception):
    """Another worker delivers to this subscription now; what was to be written is discarded."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A configured subscription. `from_start`: where a new one begins. `target`: a hash of its address."""

    name: str
    from_start: bool
    target: str


@dataclass(frozen=True, slots=True)
class Filter:
    """Which changes a subscription is told of; an empty tuple lets all through."""

    connections: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """The same for a statement over the journal."""
        c = changes.c
        pairs = ((c.connection, self.connections), (c.resource, self.resources), (c.kind, self.kinds))
        return [column.in_(values) for column, values in pairs if values]

    def matches(self, change: Any) -> bool:
        """Whether this entry of the journal is one of them."""
        pairs = (
            (change.connection, self.connections),
            (change.resource, self.resources),
            (change.kind, self.kinds),
        )
        return all(not values or value in values for value, values in pairs)


@dataclass(frozen=True, slots=True)
class Subscriber:
    """A row: how far a subscription was told, and how its endpoint does.

    `failures`: failed attempts in a row, whatever was delivered; `due_at`: before it nothing is sent. `failing_since`:
    the first of those failures. `reason`: why it is paused, or why the last attempt failed.
    """

    name: str
    state: State
    position: int
    since: datetime
    target: str
    paused_at: datetime | None
    paused_by: PausedBy | None
    reason: str | None
    failures: int
    due_at: datetime
    failing_since: datetime | None
    lease: int | None
    leased_until: datetime | None
    delivered: int
    failed: int
    delivered_at: datetime | None
    removed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a subscription was not told yet. `count`: at most as many as were counted. `oldest`: of the changes."""

    count: int
    oldest: datetime | None


def sync(tx: Tx, plans: Sequence[Plan]) -> None:
    """Bring the rows in line with the settings.

    A new subscription begins at the journal's end or start. One that comes back goes on where it was. One whose
    address has changed is tried at once, also if the old endpoint had made it pause. One that is no longer configured
    is told of nothing, and keeps its place.
    """
    known = {row.name: row for row in all_rows(tx)}
    for plan in plans:
        row = known.get(plan.name)
        if row is None:
            _insert(tx, plan)
            continue
        if row.target != plan.target:
            _retry_now(tx, plan.name, ends_pause=row.paused_by in _OF_ENDPOINT, target=plan.target)
        if row.state is State.REMOVED:
            state = sa.case((subscriptions.c.paused_by.is_(None), State.ACTIVE.value), else_=State.PAUSED.value)
            _update(tx, plan.name, state=state, removed_at=None)
    configured = [plan.name for plan in plans]
    c = subscriptions.c
    gone = sa.update(subscriptions).where(c.name.not_in(configured), c.state != State.REMOVED)
    tx.execute(gone.values(state=State.REMOVED, removed_at=tx.now, lease=None, leased_until=None))


def _insert(tx: Tx, plan: Plan) -> None:
    oldest, newest, _ = journal.bounds(tx)
    row = {
        "name": plan.name,
        "state": State.ACTIVE,
        "position": oldest - 1 if plan.from_start else newest,
        "since": tx.now,
        "target": plan.target,
        "failures": 0,
        "due_at": tx.now,
        "delivered": 0,
        "failed": 0,
    }
    tx.execute(tx.insert(subscriptions).values(row).on_conflict_do_nothing())  # another process may start, too


def all_rows(tx: Tx) -> list[Subscriber]:
    """Every subscription, by name."""
    return [_subscriber(row) for row in tx.execute(sa.select(subscriptions).order_by(subscriptions.c.name))]


def get(tx: Tx, name: str) -> Subscriber | None:
    """One of them."""
    row = tx.execute(sa.select(subscriptions).where(subscriptions.c.name == name)).one_or_none()
    return None if row is None else _subscriber(row)


def pause(tx: Tx, name: str, *, by: PausedBy, reason: str) -> bool:
    """Tell it of nothing until it is resumed. False if it is not active."""
    values = {"state": State.PAUSED, "paused_at": tx.now, "paused_by": by, "reason": reason}
    return _update(tx, name, subscriptions.c.state == State.ACTIVE, **values)


def resume(tx: Tx, name: str, *, skip: Sequence[int] = ()) -> bool:
    """Have a subscription told again, now, from where it was; also one that is backing off. False if it was removed.

    `skip`: ids of changes that are not tried again. What was trimmed meanwhile is passed over.
    """
    row = get(tx, name)
    if row is None or row.state is State.REMOVED:
        return False
    if row.state is State.PAUSED:  # whoever paused it: retention goes on meanwhile
        oldest, _, _ = journal.bounds(tx)
        _update(tx, name, position=max(row.position, oldest - 1))
    # The subscription's row first, as sessions write: in another order two writers could lock each other out.
    _retry_now(tx, name, ends_pause=True)
    u = undelivered.c
    if skip:
        tx.execute(sa.delete(undelivered).where(u.subscription == name, u.change.in_(skip)))
    return True


def _retry_now(tx: Tx, name: str, *, ends_pause: bool, **values: Any) -> None:
    """Forget the failures, so that whatever waits is tried at once, and has `give_up_after` before it."""
    values |= {"failures": 0, "failing_since": None, "due_at": tx.now}
    if ends_pause:
        values |= {"state": State.ACTIVE, "paused_at": None, "paused_by": None, "reason": None}
    _update(tx, name, **values)
    retried = sa.update(undelivered).where(undelivered.c.subscription == name)
    tx.execute(retried.values(due_at=tx.now, failing_since=None))


def due(tx: Tx, *, now: datetime) -> list[str]:
    """The subscriptions that may be told something now and that no worker serves."""
    c = subscriptions.c
    _, newest, _ = journal.bounds(tx)
    free = sa.or_(c.leased_until.is_(None), c.leased_until < sa.literal(now, Instant))
    has_work = sa.or_(c.position < newest, has_due(c.name, now=now))
    ready = (c.state == State.ACTIVE, c.due_at <= sa.literal(now, Instant), free, has_work)
    return list(tx.execute(sa.select(c.name).where(*ready).order_by(c.name)).scalars())


def claim(tx: Tx, name: str, *, lasts: timedelta) -> Subscriber | None:
    """Take the lease; None while another worker has it, or where nothing may be sent now."""
    c = subscriptions.c
    free = sa.or_(c.leased_until.is_(None), c.leased_until < tx.now)
    ready = (c.name == name, c.state == State.ACTIVE, c.due_at <= tx.now, free)
    values = {"lease": tx.draw(), "leased_until": tx.now + lasts}
    row = tx.execute(sa.update(subscriptions).where(*ready).values(values).returning(subscriptions)).one_or_none()
    return None if row is None else _subscriber(row)


def write(tx: Tx, name: str, lease: int, values: Mapping[str, Any]) -> State:
    """Write under the lease; returns the state, which a person may have changed. Raises `LeaseLostError`."""
    c = subscriptions.c
    mine = sa.update(subscriptions).where(c.name == name, c.lease == lease)
    row = tx.execute(mine.values(dict(values)).returning(c.state)).one_or_none()
    if row is None:
        raise LeaseLostError
    return State(row.state)


def backlog(tx: Tx, row: Subscriber, wanted: Filter, *, at_most: int) -> Backlog:
    """What it was not told yet, counted up to `at_most`."""
    c, u = changes.c, undelivered.c
    ahead = (c.id > row.position, *wanted.conditions())
    counted = sa.select(sa.func.count()).select_from(sa.select(c.id).where(*ahead).limit(at_most).subquery())
    # Those above the position are counted as entries of the journal.
    waiting = sa.select(sa.func.count()).where(u.subscription == row.name, u.change <= row.position)
    first = sa.select(c.at).where(*ahead).order_by(c.id).limit(1)
    stuck = sa.select(c.at).join(undelivered, u.change == c.id).where(u.subscription == row.name)
    oldest = [tx.execute(each).scalar() for each in (first, stuck.order_by(u.change).limit(1))]
    count = tx.execute(counted).scalar_one() + tx.execute(waiting).scalar_one()
    return Backlog(min(count, at_most), min(filter(None, oldest), default=None))


def trim(tx: Tx, *, before: datetime, limit: int) -> int:
    """Forget the places of subscriptions that left the settings before; returns how many rows went."""
    c, u = subscriptions.c, undelivered.c
    old = sa.select(c.name).where(c.state == State.REMOVED, c.removed_at < before)
    chosen = sa.select(u.subscription, u.change).where(u.subscription.in_(old)).limit(limit)
    rows = tx.execute(sa.delete(undelivered).where(sa.tuple_(u.subscription, u.change).in_(chosen))).rowcount
    if rows < limit:
        tx.execute(sa.delete(subscriptions).where(c.name.in_(old)))
    return int(rows)


def _update(tx: Tx, name: str, *where: sa.ColumnElement[bool], **values: Any) -> bool:
    statement = sa.update(subscriptions).where(subscriptions.c.name == name, *where).values(values)
    return tx.execute(statement).rowcount == 1


def _subscriber(row: Any) -> Subscriber:
    values = row._mapping  # noqa: SLF001 - SQLAlchemy's own name of a public attribute
    return Subscriber(
        **{
            **values,
            "state": State(row.state),
            "paused_by": None if row.paused_by is None else PausedBy(row.paused_by),
        }
    )
