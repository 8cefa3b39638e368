"""Whether each queue's messages reach a worker: proved by a canary, a message through the queue, not by a ping.

The scheduler sends one on each queue every 15 seconds; the worker that takes it only records that. While one is
outstanding none follows, unless it was lost: a week without workers leaves one on each queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.db.tables import canaries, leases, wakeups
from models.durations import spell
from workers.queue import wakeup

if TYPE_CHECKING:
    from models.db.database import Database
    from workers.queue.wakeup import Waker, Which

EVERY = timedelta(seconds=15)
"""How often one is sent."""

SILENT = timedelta(minutes=3)
"""A canary that waited so long means trouble: a short task is over by then, even at a slow vendor."""

STALLED_AFTER = timedelta(minutes=3)
"""A canary that waited so long beyond the longest task means a stalled worker, which is restarted."""

TASK = "erpmirror.canary"


@dataclass(frozen=True, slots=True)
class QueueHealth:
    """How a queue is served, as of `now`.

    `asked_at`: since when a canary is outstanding; None if none is. `refused`: the broker did not take it.
    `answered_at`: when a worker last took a message from this queue, canary or wake-up. `busy`: a full sync is under
    way, and this is its queue, whose worker may be occupied for long.
    """

    queue: str
    now: datetime
    asked_at: datetime | None = None
    answered_at: datetime | None = None
    worker: str | None = None
    known: bool = True
    refused: bool = False
    busy: bool = False

    @property
    def silent_for(self) -> timedelta:
        """How long a canary has been waiting while no message was taken from the queue."""
        if self.asked_at is None:
            return timedelta()
        return self.now - max(self.asked_at, self.answered_at or self.asked_at)

    @property
    def wrong(self) -> str | None:
        """What is wrong and what to check; None if nothing is, as far as is known."""
        if not self.known:
            return f"{self.queue}: not known yet; is `erpmirror beat` running?"
        if self.refused:
            return f"{self.queue}: the broker took no message; {self._last}"
        if self.asked_at is None and self.now - (self.answered_at or self.now) > SILENT:
            return f"{self.queue}: {self._last}, no canary was sent since; is `erpmirror beat` running?"
        if self.silent_for > SILENT and not self.busy:
            return f"{self.queue}: no worker has answered for {spell(self.silent_for)}; is `erpmirror worker` running?"
        return None

    @property
    def summary(self) -> str:
        """One line for a person."""
        if self.wrong is not None:
            return self.wrong
        if self.silent_for > SILENT:
            return f"{self.queue}: {self._last}; a full sync is under way, other work waits for its end"
        return f"{self.queue}: {self._last}"

    @property
    def _last(self) -> str:
        if self.answered_at is None:
            return "no worker has answered yet"
        return f"a worker answered {spell(self.now - self.answered_at)} ago"


def queue_health(database: Database) -> list[QueueHealth]:
    """How each queue is served, in the order of `bell.QUEUES`."""
    with database.read() as tx:
        now = database.now(tx)
        listing = sa.exists().where(leases.c.subject.is_(None), leases.c.until > now)
        listed = bool(tx.execute(sa.select(listing)).scalar_one())
        sent = {row.queue: row for row in tx.execute(sa.select(canaries))}
        woken = {queue: _acknowledged_at(tx, queue) for queue in wakeup.QUEUES}
    found = []
    for queue in wakeup.QUEUES:
        row, busy = sent.get(queue), listed and queue == wakeup.FULL_SYNC
        if row is None:
            found.append(QueueHealth(queue, now, answered_at=woken[queue], known=False))
            continue
        answered_at = max(filter(None, (row.answered_at, woken[queue])), default=None)
        asked_at = None if _answered(row) else row.sent_at
        refused = row.sent_at is None
        found.append(QueueHealth(queue, now, asked_at, answered_at, row.worker, refused=refused, busy=busy))
    return found


def answer(database: Database, queue: str, *, worker: str) -> None:
    """Record that a worker took a canary from the queue."""
    with database.begin() as tx:
        _keep(tx, database, queue, answered_at=database.now(tx), worker=worker)


def stalled(waker: Waker, database: Database, *, after: timedelta) -> dict[str, str]:
    """The queues whose worker must be restarted, and why: messages wait, and none was taken for so long.

    Each is reported once: a restarted worker gets as long to answer.
    """
    found = {}
    for queue, sign in zip(wakeup.QUEUES, queue_health(database), strict=True):
        if sign.silent_for > after and not sign.busy and waker.depth(queue):
            found[sign.queue] = f"has taken no message for {spell(sign.silent_for)}"
            with database.begin() as tx:
                now = database.now(tx)
                tx.execute(sa.update(canaries).where(canaries.c.queue == sign.queue).values(sent_at=now))
    return found


class Prober:
    """Sends the canaries. Two senders are harmless: a canary is claimed in the database before it is sent."""

    def __init__(self, waker: Waker, database: Database) -> None:
        self._waker = waker
        self._database = database
        self._sent: dict[Which, datetime] = {}

    def send_due(self) -> None:
        """Send what is due. Raises kombu's `OperationalError` when the broker is away; then none is outstanding."""
        try:
            for queue in wakeup.QUEUES:
                if self._claimed(queue) or self._lost(queue):
                    self._waker.send(TASK, [queue], queue=queue)
        except Exception:  # raised again: a canary that was not sent must not count as outstanding
            with self._database.begin() as tx:
                tx.execute(sa.update(canaries).values(sent_at=None))
            raise

    def _claimed(self, queue: Which) -> bool:
        """Whether a new one is due, and this sender may send it."""
        with self._database.begin() as tx:
            now = self._database.now(tx)
            row = _row(tx, queue)
            if row is not None and row.sent_at is not None and not (_answered(row) and row.sent_at <= now - EVERY):
                return False
            seen = None if row is None else row.sent_at
            claimed = _keep(
                tx,
                self._database,
                queue,
                sent_at=now,
                where=canaries.c.sent_at.is_not_distinct_from(seen),
            )
        if claimed:
            self._sent[queue] = now
        return claimed

    def _lost(self, queue: Which) -> bool:
        """Whether the outstanding one is old, and gone from the queue or overtaken by wake-ups that were sent later."""
        with self._database.read() as tx:
            now = self._database.now(tx)
            row = _row(tx, queue)
            woken = _acknowledged_at(tx, queue)
        if row is None or row.sent_at is None or _answered(row):
            return False
        if max(row.sent_at, self._sent.get(queue, row.sent_at)) > now - EVERY:
            return False
        self._sent[queue] = now
        overtaken = woken is not None and woken > now - EVERY
        return overtaken or not self._waker.depth(queue)


def _row(tx: sa.Connection, queue: Which) -> sa.Row[tuple[object, ...]] | None:
    return tx.execute(sa.select(canaries).where(canaries.c.queue == queue)).first()


def _acknowledged_at(tx: sa.Connection, queue: Which) -> datetime | None:
    """When a worker last acknowledged a wake-up of this queue."""
    c = wakeups.c
    latest = sa.select(c.answered_at).where(c.queue == queue, c.answered_at.is_not(None)).order_by(c.answered_at.desc())
    return tx.execute(latest.limit(1)).scalar()


def _answered(row: sa.Row[tuple[object, ...]]) -> bool:
    return row.sent_at is not None and row.answered_at is not None and row.answered_at >= row.sent_at


def _keep(
    tx: sa.Connection,
    database: Database,
    queue: str,
    *,
    where: sa.ColumnElement[bool] | None = None,
    **values: object,
) -> bool:
    """Write into the queue's row, new or old; whether the old one met `where`."""
    insert = database.insert(canaries).values(queue=queue, **values)
    kept = insert.on_conflict_do_update(index_elements=[canaries.c.queue], set_=values, where=where)
    return tx.execute(kept.returning(canaries.c.queue)).first() is not None
