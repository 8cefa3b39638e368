"""Whether each queue's messages reach a worker. A canary proves it: a message through the queue, not a ping.

The scheduler sends one to each queue every 15 seconds; the worker that takes it only records that. While one is
outstanding, no other is sent unless it was lost, so a week without workers leaves one message in each queue.
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
    from collections.abc import Sequence

    from models.db.database import Database
    from workers.queue.wakeup import QueueName, Waker

INTERVAL = timedelta(seconds=15)
"""The time between two canaries of a queue."""

SILENT_AFTER = timedelta(minutes=3)
"""A canary that waits longer is a problem: even with a slow vendor a short task is over by then."""

STALLED_AFTER = timedelta(minutes=3)
"""A worker is restarted if a canary waits this much longer than the longest task may take."""

TASK = "erpmirror.canary"


@dataclass(frozen=True, slots=True)
class QueueHealth:
    """Whether workers serve a queue, as of `now`.

    `waiting_since`: when the outstanding canary was sent; None if there is none. `answered_at`: when a worker last took
    a canary or a wake-up from this queue. `known`: a canary was sent. `refused`: the broker did not take the last
    one. `busy`: a listing is in progress somewhere, and this is the queue of full syncs: its workers may take no
    message for long.
    """

    queue: str
    now: datetime
    waiting_since: datetime | None = None
    answered_at: datetime | None = None
    worker: str | None = None
    known: bool = True
    refused: bool = False
    busy: bool = False

    @property
    def silent_for(self) -> timedelta:
        """How long a canary has waited while no message was taken from the queue."""
        if self.waiting_since is None:
            return timedelta()
        return self.now - max(self.waiting_since, self.answered_at or self.waiting_since)

    @property
    def problem(self) -> str | None:
        """The problem and what to check, as one line; None if no problem is known."""
        if not self.known:
            return f"{self.queue}: not known yet; is `erpmirror beat` running?"
        if self.refused:
            return f"{self.queue}: the broker took no message; {self._last}"
        if self.waiting_since is None and self.now - (self.answered_at or self.now) > SILENT_AFTER:
            return f"{self.queue}: {self._last}, no canary was sent since; is `erpmirror beat` running?"
        if self.silent_for > SILENT_AFTER and not self.busy:
            return f"{self.queue}: no worker has answered for {spell(self.silent_for)}; is `erpmirror worker` running?"
        return None

    @property
    def summary(self) -> str:
        """One line for a person."""
        if self.problem is not None:
            return self.problem
        if self.silent_for > SILENT_AFTER:
            return f"{self.queue}: {self._last}; a full sync is under way, other work waits for its end"
        return f"{self.queue}: {self._last}"

    @property
    def _last(self) -> str:
        if self.answered_at is None:
            return "no worker has answered yet"
        return f"a worker answered {spell(self.now - self.answered_at)} ago"


def queue_health(database: Database, queues: Sequence[QueueName] = wakeup.QUEUES) -> list[QueueHealth]:
    """The health of each of the queues (`wakeup.queues_of`)."""
    with database.read() as tx:
        now = database.now(tx)
        listing_lease = sa.exists().where(leases.c.subject.is_(None), leases.c.until > now)
        is_listing = bool(tx.execute(sa.select(listing_lease)).scalar_one())
        rows = {row.queue: row for row in tx.execute(sa.select(canaries))}
        acknowledged = {queue: _acknowledged_at(tx, queue) for queue in queues}
    found = []
    for queue in queues:
        row, busy = rows.get(queue), is_listing and queue == wakeup.FULL_SYNC
        if row is None:
            found.append(QueueHealth(queue, now, answered_at=acknowledged[queue], known=False))
            continue
        answered_at = max(filter(None, (row.answered_at, acknowledged[queue])), default=None)
        waiting_since = None if _answered(row) else row.sent_at
        refused = row.sent_at is None
        found.append(QueueHealth(queue, now, waiting_since, answered_at, row.worker, refused=refused, busy=busy))
    return found


def record_answer(database: Database, queue: str, *, worker: str) -> None:
    """Record that a worker took a canary from the queue."""
    with database.begin() as tx:
        _upsert(tx, database, queue, answered_at=database.now(tx), worker=worker)


def stalled(
    waker: Waker, database: Database, *, after: timedelta, queues: Sequence[QueueName] = wakeup.QUEUES
) -> dict[str, str]:
    """The queues whose worker must be restarted, and why: messages wait, and none was taken for longer than `after`.

    A queue is reported once; its restarted worker then has as long to answer.
    """
    found = {}
    for queue, health in zip(queues, queue_health(database, queues), strict=True):
        if health.silent_for > after and not health.busy and waker.depth(queue):
            found[health.queue] = f"has taken no message for {spell(health.silent_for)}"
            with database.begin() as tx:
                now = database.now(tx)
                tx.execute(sa.update(canaries).where(canaries.c.queue == health.queue).values(sent_at=now))
    return found


class Prober:
    """Sends the canaries. Two probers are harmless: a canary is claimed in the database before it is sent."""

    def __init__(self, waker: Waker, database: Database, queues: Sequence[QueueName] = wakeup.QUEUES) -> None:
        self._waker = waker
        self._database = database
        self._queues = queues
        self._sent: dict[QueueName, datetime] = {}

    def send_due(self) -> None:
        """Send the canaries that are due. Raises kombu's `OperationalError` when the broker is down."""
        try:
            for queue in self._queues:
                if self._claim(queue) or self._is_lost(queue):
                    self._waker.send(TASK, [queue], queue=queue)
        except Exception:  # raised again: an unsent canary must not count as outstanding
            with self._database.begin() as tx:
                tx.execute(sa.update(canaries).values(sent_at=None))
            raise

    def _claim(self, queue: QueueName) -> bool:
        """Whether a new canary is due, and this prober is the one to send it."""
        with self._database.begin() as tx:
            now = self._database.now(tx)
            row = _row(tx, queue)
            if row is not None and row.sent_at is not None and not (_answered(row) and row.sent_at <= now - INTERVAL):
                return False
            previous = None if row is None else row.sent_at
            claimed = _upsert(
                tx,
                self._database,
                queue,
                sent_at=now,
                where=canaries.c.sent_at.is_not_distinct_from(previous),
            )
        if claimed:
            self._sent[queue] = now
        return claimed

    def _is_lost(self, queue: QueueName) -> bool:
        """Whether the outstanding canary is old and was lost: the queue is empty, or later wake-ups overtook it."""
        with self._database.read() as tx:
            now = self._database.now(tx)
            row = _row(tx, queue)
            acknowledged_at = _acknowledged_at(tx, queue)
        if row is None or row.sent_at is None or _answered(row):
            return False
        if max(row.sent_at, self._sent.get(queue, row.sent_at)) > now - INTERVAL:
            return False
        self._sent[queue] = now
        overtaken = acknowledged_at is not None and acknowledged_at > now - INTERVAL
        return overtaken or not self._waker.depth(queue)


def _row(tx: sa.Connection, queue: QueueName) -> sa.Row[tuple[object, ...]] | None:
    return tx.execute(sa.select(canaries).where(canaries.c.queue == queue)).first()


def _acknowledged_at(tx: sa.Connection, queue: QueueName) -> datetime | None:
    """When a worker last acknowledged a wake-up of this queue."""
    c = wakeups.c
    latest = sa.select(c.answered_at).where(c.queue == queue, c.answered_at.is_not(None)).order_by(c.answered_at.desc())
    return tx.execute(latest.limit(1)).scalar()


def _answered(row: sa.Row[tuple[object, ...]]) -> bool:
    return row.sent_at is not None and row.answered_at is not None and row.answered_at >= row.sent_at


def _upsert(
    tx: sa.Connection,
    database: Database,
    queue: str,
    *,
    where: sa.ColumnElement[bool] | None = None,
    **values: object,
) -> bool:
    """Insert or update the queue's row; returns False if it exists and does not meet `where`."""
    insert = database.insert(canaries).values(queue=queue, **values)
    upsert = insert.on_conflict_do_update(index_elements=[canaries.c.queue], set_=values, where=where)
    return tx.execute(upsert.returning(canaries.c.queue)).first() is not None
