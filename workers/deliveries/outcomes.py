"""What came of a session's attempts: how the endpoint does, what has to wait, and the transaction that writes it."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import structlog

from models import failpoints
from models.bookkeeping import deliveries, subscriptions, undelivered
from models.bookkeeping.deliveries import DELIVERED, FAILED, Attempt
from models.bookkeeping.subscriptions import PausedBy, State
from models.db.outgoing_tables import subscriptions as table
from models.db.types import Instant
from models.durations import spell
from models.failpoints import Point
from workers.deliveries import retries
from workers.deliveries.endpoint import GONE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from models.bookkeeping.subscriptions import Subscriber
    from models.bookkeeping.undelivered import Waiting
    from models.db.database import Database
    from models.settings.subscriptions import Subscription
    from workers.deliveries.endpoint import Answer
    from workers.deliveries.progress import Item, Progress

log = structlog.get_logger()

MARGIN = timedelta(seconds=15)
"""How much longer than a request a lease lasts."""

_WRITE_AFTER = 0.05
"""Seconds after which outcomes are written while others are still under way."""

_WRITE_MANY = 200
"""Outcomes that are written at once without waiting."""


def release(database: Database, claimed: Subscriber, *, wait: timedelta, reason: str | None = None) -> None:
    """Give up the lease of a session that has broken off, without its outcomes. Raises `LeaseLostError`."""
    assert claimed.lease is not None  # noqa: S101 - it was claimed
    with database.begin() as tx:
        earliest = sa.literal(tx.now + wait, Instant)
        due_at = sa.case((table.c.due_at > earliest, table.c.due_at), else_=earliest)  # an endpoint may be backing off
        values = {"lease": None, "leased_until": None, "due_at": due_at}
        said = {} if reason is None else {"reason": reason}
        subscriptions.write(tx, claimed.name, claimed.lease, values | said)


class Outcomes:
    """The outcomes that are not written yet, and what they say about the endpoint.

    `failures`: in a row; `due_at`: until then the subscription waits. `has_ended`: a person has paused or removed it.
    `may_have_waiting`: its rows in `erpmirror_undelivered` have to be looked at; `has_freed`: some of them may be due
    since the last write. `paused`: why the subscription was paused.
    """

    def __init__(self, database: Database, options: Subscription, claimed: Subscriber, now: datetime) -> None:
        assert claimed.lease is not None  # noqa: S101 - it was just claimed
        self._database = database
        self._options = options
        self._lease = claimed.lease
        self._began_at = now
        self._clock = (now, time.monotonic())
        self.delivered = self.failed = 0
        self.failures = claimed.failures
        self.due_at: datetime | None = None
        self.has_ended = False
        self.may_have_waiting = True
        self.has_freed = False
        self.position = claimed.position
        self._failing_since = claimed.failing_since
        self._reason = claimed.reason if claimed.failures else None  # not that of a crash of ours, which is over
        self._delivered_at: datetime | None = None
        self._counted_at = -math.inf
        self._has_recovered = False
        self._pause: tuple[PausedBy, str] | None = None
        self.paused: str | None = None
        self._attempts: list[Attempt] = []
        self._waiting: list[Waiting] = []  # read from the journal
        self._postponed: list[Waiting] = []
        self._done: list[int] = []
        self._written_at = time.monotonic()

    def now(self) -> datetime:
        """The database's clock, without asking it."""
        read, at = self._clock
        return read + timedelta(seconds=time.monotonic() - at)

    @property
    def must_end(self) -> bool:
        """Whether nothing more may be sent now."""
        return self._pause is not None or self.due_at is not None or self.has_ended

    @property
    def concern_queue(self) -> bool:
        """Whether `erpmirror_undelivered` is to change with the next write."""
        return bool(self._waiting or self._postponed or self._done)

    @property
    def are_due(self) -> bool:
        """Whether they have to be written, or the lease renewed."""
        waited = time.monotonic() - self._written_at
        is_late = waited > (_WRITE_AFTER if self._attempts else self._options.timeout.total_seconds() / 2)
        return is_late or len(self._attempts) >= _WRITE_MANY

    @property
    def are_unwritten(self) -> bool:
        """Whether there are any."""
        return bool(self._attempts or self.concern_queue or self._pause)

    @property
    def seconds_left(self) -> float | None:
        """Until they are due; None without any."""
        return max(self._written_at + _WRITE_AFTER - time.monotonic(), 0.001) if self._attempts else None

    # What has happened

    def pause(self, by: PausedBy, reason: str) -> None:
        """The subscription is to be paused with the next write."""
        self._pause = self._pause or (by, reason)

    def drop(self, ids: Iterable[int]) -> None:
        """These need no row any more."""
        self._done += ids

    def hold(self, items: Iterable[Item]) -> None:
        """These wait behind an earlier change of their object, and for nothing else."""
        self._waiting += [item.waiting(self._began_at) for item in items if not item.queued]
        self.may_have_waiting |= bool(self._waiting)

    def settle(self, item: Item, answer: Answer, progress: Progress) -> None:
        """Note what came of an attempt."""
        now = self.now()
        item.attempts += 1
        self._attempts.append(
            Attempt(
                item.entry.id,
                item.attempts,
                DELIVERED if answer.error is None else FAILED,
                now,
                answer.seconds,
                answer.status,
                answer.error,
                answer.text,
            )
        )
        if answer.error is None:
            self._settle_delivered(item, now)
            progress.delivered(item)
        else:
            self._settle_failed(item, answer, now)
            self.hold(progress.failed(item))

    def _settle_delivered(self, item: Item, now: datetime) -> None:
        self.delivered += 1
        self._has_recovered |= self.failures >= retries.TRIALS
        self.failures, self._failing_since, self._reason, self._delivered_at = 0, None, None, now
        if item.queued:
            self._done.append(item.entry.id)

    def _settle_failed(self, item: Item, answer: Answer, now: datetime) -> None:
        self.failed += 1
        if item.started_at > self._counted_at:  # those that were under way together count once
            self.failures, self._counted_at = self.failures + 1, time.monotonic()
        self._reason = answer.error
        self._failing_since = self._failing_since or now
        item.failing_since = item.failing_since or now
        row = item.waiting(now + retries.after(item.attempts, answer.retry_after), answer.error)
        (self._postponed if item.queued else self._waiting).append(row)
        wait = retries.of_endpoint(self.failures, answer.retry_after)
        if wait is not None:
            self.due_at = max(self.due_at or now, now + wait)
        failing = now - min(item.failing_since, self._failing_since)
        if answer.status == GONE:
            self.pause(PausedBy.GONE, "the endpoint answered 410: it wants no more")
        elif failing >= self._options.give_up_after:
            self.pause(PausedBy.GAVE_UP, f"change {item.entry.id} has failed for {spell(failing)}: {answer.error}")

    # Writing

    def write(self, position: int, *, release: bool = False) -> None:
        """Write them, and how far the subscription was told, in one transaction. Raises `LeaseLostError`.

        Not durable: a crash of the server loses the last of it, and those changes are delivered again. `release`: the
        lease ends with it.
        """
        name = self._options.name
        with self._database.begin(durable=False) as tx:
            self._clock = (tx.now, time.monotonic())
            until = None if release else tx.now + self._options.timeout + MARGIN
            values = self._values() | {"position": position, "leased_until": until}
            # The first statement proves that the lease is still ours.
            state = subscriptions.write(tx, name, self._lease, values | ({"lease": None} if release else {}))
            deliveries.record(tx, name, self._attempts)
            undelivered.put(tx, name, self._waiting)
            undelivered.postpone(tx, name, self._postponed)
            undelivered.remove(tx, name, self._done)
            if self._has_recovered:
                undelivered.retry_now(tx, name)
            is_pausing = self._pause is not None and state is State.ACTIVE
            if self._pause is not None and is_pausing:
                by, self._reason = self._pause
                subscriptions.pause(tx, name, by=by, reason=self._reason)
            failpoints.hit(Point.DELIVERIES_RECORDED)
        failpoints.hit(Point.DELIVERIES_COMMITTED)
        if self._pause is not None and is_pausing:
            self.paused = self._pause[1]
            log.error("subscription paused", subscription=name, by=self._pause[0].value, reason=self.paused)
        self.has_ended |= state is not State.ACTIVE
        self.has_freed |= bool(self._done) or self._has_recovered
        self._attempts, self._waiting, self._postponed, self._done = [], [], [], []
        self._has_recovered = False
        self._written_at, self.position = time.monotonic(), position

    def _values(self) -> dict[str, Any]:
        c = table.c
        values: dict[str, Any] = {
            "failures": self.failures,
            "failing_since": self._failing_since,
            "reason": sa.case((c.state == State.ACTIVE, self._reason), else_=c.reason),  # a person may have paused it
            "delivered": c.delivered + sum(each.outcome == DELIVERED for each in self._attempts),
            "failed": c.failed + sum(each.outcome == FAILED for each in self._attempts),
        }
        if self.due_at is not None:
            values["due_at"] = self.due_at
        if self._delivered_at is not None:
            values["delivered_at"] = self._delivered_at
        return values
