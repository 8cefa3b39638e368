"""Changes that a subscription's position has passed: each waits for its retry, or for an earlier one of its object.

The journal itself is the queue of all others, so a change that is delivered at once has no row here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from models.db.outgoing_tables import undelivered
from models.db.tables import changes
from models.db.types import Instant

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from models.db.database import Tx

_BATCH = 500

_OF_TRIES = ("due_at", "attempts", "failing_since", "reason")
"""The columns that change with each try."""


class Object(NamedTuple):
    """An object of the mirror; its changes are delivered in their order."""

    connection: str
    resource: str
    key: str


@dataclass(frozen=True, slots=True)
class Waiting:
    """A change that waits. `failing_since`: when it first failed."""

    change: int
    of: Object
    due_at: datetime
    attempts: int = 0
    failing_since: datetime | None = None
    reason: str | None = None


def put(tx: Tx, subscription: str, waiting: Sequence[Waiting], *, anew: bool = False) -> None:
    """Add rows, in the order of their ids: two writers must not lock each other out.

    One that has a row keeps it, with its attempts and its time: a session that was killed may have written it. `anew`:
    it is replaced.
    """
    waiting = sorted(waiting, key=lambda each: each.change)
    for start in range(0, len(waiting), _BATCH):
        rows = [
            {
                "subscription": subscription,
                "change": each.change,
                **each.of._asdict(),
                **{name: getattr(each, name) for name in _OF_TRIES},
            }
            for each in waiting[start : start + _BATCH]
        ]
        insert = tx.insert(undelivered).values(rows)
        if anew:
            news = {name: insert.excluded[name] for name in _OF_TRIES}
            tx.execute(insert.on_conflict_do_update(index_elements=["subscription", "change"], set_=news))
        else:
            tx.execute(insert.on_conflict_do_nothing())


def postpone(tx: Tx, subscription: str, tried: Sequence[Waiting]) -> None:
    """Write what came of another try. One that was skipped meanwhile has no row any more, and gets none."""
    u = undelivered.c
    for each in tried:
        row = sa.update(undelivered).where(u.subscription == subscription, u.change == each.change)
        news = {name: getattr(each, name) for name in _OF_TRIES}
        tx.execute(row.values(news))


def remove(tx: Tx, subscription: str, ids: Sequence[int]) -> None:
    """They were delivered, or are not wanted any more."""
    u = undelivered.c
    for start in range(0, len(ids), _BATCH):
        batch = ids[start : start + _BATCH]
        tx.execute(sa.delete(undelivered).where(u.subscription == subscription, u.change.in_(batch)))


def due(tx: Tx, subscription: str, *, now: datetime, limit: int, without: Collection[int] = ()) -> list[Waiting]:
    """Those that may be tried, unless an earlier one of their object is not due yet. `without`: under way already."""
    u = undelivered.c
    chosen = _ready(sa.select(undelivered), now=now).where(u.subscription == subscription)
    if without:
        chosen = chosen.where(u.change.not_in(without))
    return [_waiting(row) for row in tx.execute(chosen.order_by(u.change).limit(limit))]


def has_due(subscription: sa.ColumnElement[str], *, now: datetime) -> sa.ColumnElement[bool]:
    """A condition for a statement over subscriptions: something of this one may be tried."""
    found = _ready(sa.select(sa.literal(1)), now=now).where(undelivered.c.subscription == subscription)
    return found.correlate(subscription.table).limit(1).scalar_subquery().is_not(None)


def _ready(chosen: sa.Select[Any], *, now: datetime) -> sa.Select[Any]:
    """Of those rows: the due ones, unless an earlier one of their object is not due yet."""
    u, moment = undelivered.c, sa.literal(now, Instant)
    # Those that are not due are few and are read once: a probe for each row takes seconds where thousands wait.
    of = [u[name] for name in ("subscription", *Object._fields)]
    later = sa.select(*of, sa.func.min(u.change).label("first")).where(u.due_at > moment)
    blocking = later.group_by(*of).subquery()
    held_up = sa.and_(*(blocking.c[each.name] == each for each in of), blocking.c.first < u.change)
    joined = undelivered.outerjoin(blocking, held_up)
    return chosen.select_from(joined).where(u.due_at <= moment, blocking.c.first.is_(None))


def next_due_at(tx: Tx, subscription: str) -> datetime | None:
    """When the next one is due; None if none waits."""
    u = undelivered.c
    earliest = sa.select(sa.func.min(u.due_at, type_=Instant)).where(u.subscription == subscription)
    return tx.execute(earliest).scalar()


def next_retry_at(tx: Tx, subscription: str) -> datetime | None:
    """When the next one of those that failed may be tried; None if none has failed."""
    u = undelivered.c
    earliest = sa.select(sa.func.min(u.due_at, type_=Instant)).where(
        u.subscription == subscription, u.failing_since.is_not(None)
    )
    return tx.execute(earliest).scalar()


def objects_among(tx: Tx, subscription: str, objects: Sequence[Object]) -> set[Object]:
    """Those of the objects of which something waits."""
    u = undelivered.c
    found: set[Object] = set()
    for start in range(0, len(objects), _BATCH):
        batch = objects[start : start + _BATCH]
        chosen = sa.select(u.connection, u.resource, u.key).where(
            u.subscription == subscription, sa.tuple_(u.connection, u.resource, u.key).in_(batch)
        )
        found |= {Object(*row) for row in tx.execute(chosen.distinct())}
    return found


def retry_now(tx: Tx, subscription: str) -> None:
    """The endpoint answers again: whatever waits for a retry is due."""
    u = undelivered.c
    tx.execute(sa.update(undelivered).where(u.subscription == subscription, u.due_at > tx.now).values(due_at=tx.now))


def send_again(
    tx: Tx, subscription: str, where: Sequence[sa.ColumnElement[bool]], *, position: int, after: int = 0, limit: int
) -> tuple[int, int | None]:
    """Have changes up to `position` delivered again, oldest first, at most `limit` of them.

    `where`: conditions over the journal; `after`: only those with a higher id. Returns how many, and the last id, None
    where there are no more.
    """
    c = changes.c
    chosen = sa.select(c.id, c.connection, c.resource, c.key).where(c.id > after, c.id <= position, *where)
    rows = tx.execute(chosen.order_by(c.id).limit(limit)).all()
    again = [Waiting(row.id, Object(row.connection, row.resource, row.key), tx.now) for row in rows]
    put(tx, subscription, again, anew=True)
    return len(rows), rows[-1].id if len(rows) == limit else None


def listed(tx: Tx, subscription: str, *, change: int | None = None, limit: int) -> list[Waiting]:
    """What waits, oldest first; only this change, if it is named."""
    u = undelivered.c
    chosen = sa.select(undelivered).where(u.subscription == subscription)
    if change is not None:
        chosen = chosen.where(u.change == change)
    return [_waiting(row) for row in tx.execute(chosen.order_by(u.change).limit(limit))]


def first_failing(tx: Tx, subscription: str) -> Waiting | None:
    """The oldest change of which an attempt failed."""
    u = undelivered.c
    chosen = sa.select(undelivered).where(u.subscription == subscription, u.failing_since.is_not(None))
    row = tx.execute(chosen.order_by(u.change).limit(1)).one_or_none()
    return None if row is None else _waiting(row)


def _waiting(row: Any) -> Waiting:
    of = Object(row.connection, row.resource, row.key)
    return Waiting(row.change, of, row.due_at, row.attempts, row.failing_since, row.reason)
