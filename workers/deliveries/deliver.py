"""Tells one subscription of everything that it was not told yet, then waits a while for more. Read this file first.

    journal ──after its position──► filter ──► POST ──2xx──► position moves on
                                      │           └─failure─► erpmirror_undelivered ──when due──► POST
                                      └─ waits behind an earlier change of its object ─┘

A session holds the subscription's lease, so that no second worker delivers to it. The changes of one object go out in
their order, one after the other; those of different objects side by side, each in a thread, up to `concurrency`. What
came of them is written together every few milliseconds: the attempts, the new position, what has to wait. A session
that is killed in between sends those again, under the same ids: at least once.

While the endpoint fails, one change at a time is tried; after some failures in a row the whole subscription waits, so a
dead endpoint costs one attempt at a time. After its last change a session lingers, listening to the journal: the next
change then needs no wake-up.
"""

from __future__ import annotations

import math
import queue
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import sqlalchemy as sa
import structlog

from models import failpoints
from models.bookkeeping import journal, journal_entries, subscriptions, undelivered
from models.bookkeeping.journal_entries import Following
from models.bookkeeping.journal_news import JournalNews
from models.bookkeeping.subscriptions import LeaseLostError, PausedBy, State
from models.db import faults
from models.db.database import Database
from models.db.faults import Fault
from models.failpoints import Point
from models.mirror import queries
from workers.deliveries import filters, message, network, outcomes
from workers.deliveries.endpoint import Answer, Endpoint
from workers.deliveries.outcomes import MARGIN, Outcomes
from workers.deliveries.progress import Item, Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.bookkeeping.journal_entries import Entry
    from models.bookkeeping.subscriptions import Subscriber
    from models.db.database import Tx
    from models.settings.load import Settings
    from models.settings.subscriptions import Subscription
    from workers.deliveries.network import Resolver

log = structlog.get_logger()

BUDGET = timedelta(minutes=5)
"""How long a session lasts before it ends and wakes a worker again: brokers take a message back after half an hour."""

LINGER = timedelta(seconds=30)
"""How long a session waits after its last change."""

MOST_SESSIONS = 20
"""The most sessions of one worker, each with a connection to the database and `concurrency` threads."""

_CROWDED_BUDGET = timedelta(seconds=10)
"""How long a session lasts where there are more subscriptions than sessions, so that they take turns."""

_WINDOW = 500
_WINDOW_BYTES = 16_000_000
"""The most changes in memory, as far as their size is like that of the last ones that were read."""

_FIRST_WINDOW = 10

_LOOK = 1.0
"""Seconds after which the tables are looked at even without news."""

_NEWS_LOOK = 0.02
"""Seconds between two looks for news while answers are awaited."""

_AFTER_BREAK = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Result:
    """What a session did. `has_more`: it ended before everything was done that can be done now.

    `paused`: it has paused the subscription, for this reason, which a person should know.
    """

    delivered: int = 0
    failed: int = 0
    has_more: bool = False
    paused: str | None = None


def deliver(
    database: Database,
    settings: Settings,
    name: str,
    *,
    stopping: Callable[[], bool] = bool,
    budget: timedelta = BUDGET,
    linger: timedelta = LINGER,
    resolver: Resolver = network.resolve,
) -> Result:
    """Deliver to one subscription, unless another worker does. `stopping`: the process is about to end.

    A session that breaks off has not written what it sent, so the subscription waits a minute: a table that stays
    locked, or a crash of ours, must not send the same without end.
    """
    options = settings.subscriptions.get(name)
    if options is None:
        return Result()  # a process with other settings may have sent the wake-up
    with database.begin() as tx:
        claimed = subscriptions.claim(tx, name, lasts=options.timeout + MARGIN)
        now = tx.now
    if claimed is None:
        return Result()
    try:
        with _Session(database, settings, options, claimed, now=now, stopping=stopping, resolver=resolver) as session:
            session.run(budget=budget, linger=linger)
    except LeaseLostError:
        log.warning("another worker delivers now", subscription=name)
        return Result()
    except Exception as error:  # raised again: it is only postponed here
        with suppress(sa.exc.DBAPIError, LeaseLostError):  # the lease runs out by itself
            fault = faults.of(error) if isinstance(error, sa.exc.DBAPIError) else None
            if isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated:  # the server was restarted, say
                outcomes.release(database, claimed, wait=timedelta())
            else:
                crash = None if fault in {Fault.AWAY, Fault.LOCKED} else "erpmirror failed; its log says how"
                outcomes.release(database, claimed, wait=_AFTER_BREAK, reason=crash)
        raise
    return session.result


def patience(settings: Settings) -> tuple[timedelta, timedelta]:
    """How long a session lasts and lingers: not at all where others may wait for its thread."""
    if len(settings.subscriptions) > MOST_SESSIONS:
        return _CROWDED_BUDGET, timedelta()
    return BUDGET, LINGER


class _Session:
    """One claim of a subscription. All but `_send` runs in one thread."""

    def __init__(
        self,
        database: Database,
        settings: Settings,
        options: Subscription,
        claimed: Subscriber,
        *,
        now: datetime,
        stopping: Callable[[], bool],
        resolver: Resolver,
    ) -> None:
        self.outcomes = Outcomes(database, options, claimed, now)
        self._database = database
        self._settings = settings
        self._options = options
        self._stopping = stopping
        self._endpoint = Endpoint(options, resolver=resolver)
        self._filter = filters.of(options)
        self._following = Following(options.name, self._filter.conditions())
        # Apart from the pool: a session holds this connection, and many sessions share the pool.
        self._news_database = Database(database.url)
        self._news = JournalNews(self._news_database)
        self._signers = message.signers(options.secrets)
        self._places: dict[tuple[str, str], message.Place] = {}
        self._progress = Progress(claimed.position)
        self._answers: queue.SimpleQueue[tuple[Item, Answer]] = queue.SimpleQueue()
        self._has_more = False
        self._window = _FIRST_WINDOW
        self._has_news = True
        self._looked_at = -math.inf

    @property
    def result(self) -> Result:
        return Result(self.outcomes.delivered, self.outcomes.failed, self._has_more, self.outcomes.paused)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._senders.shutdown(wait=True)
        self._endpoint.close()
        self._news.close()
        self._news_database.close()

    @cached_property
    def _senders(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._options.concurrency, thread_name_prefix=f"deliver-{self._options.name}")

    # The loop

    def run(self, *, budget: timedelta, linger: timedelta) -> None:
        """Deliver until there is nothing to do for `linger`, the endpoint is down, or somebody ends it."""
        ends_at = time.monotonic() + budget.total_seconds()
        active_at = time.monotonic()
        self._news.wait(0)  # begins to listen: all reads are on that connection
        while True:
            is_over = self._stopping() or time.monotonic() > ends_at
            if not is_over:
                self._read_if_due()
                self._start()
            if self._progress.unsettled:
                active_at = time.monotonic()
            if self.outcomes.are_due:
                self.outcomes.write(self._progress.position)
            is_idle = time.monotonic() - active_at > linger.total_seconds()
            if not self._progress.under_way and (is_over or self.outcomes.must_end or (is_idle and self._is_done())):
                break
            if is_over or not (self.outcomes.has_freed and self._has_room):
                self._has_news |= self._wait()
        self._end(is_over=is_over)

    def _is_done(self) -> bool:
        """Whether nothing is left to read, once what is known was written."""
        if self.outcomes.are_unwritten:
            self.outcomes.write(self._progress.position)
        return not self._has_news and not self.outcomes.has_freed

    def _read_if_due(self) -> None:
        is_late = time.monotonic() - self._looked_at >= _LOOK
        if (self._has_news or is_late or self.outcomes.has_freed) and self._has_room:
            self._looked_at = time.monotonic()
            self._has_news = self._read(is_late=is_late)

    @property
    def _has_room(self) -> bool:
        """Whether more may be read."""
        return self._progress.unsettled <= self._window // 2 and not self.outcomes.must_end

    def _wait(self) -> bool:
        """Wait for an answer or for news, at most until the next look. Returns whether there is news."""
        if not self._progress.under_way:
            left = max(self._looked_at + _LOOK - time.monotonic(), 0.001)
            return self._news.wait(min(left, self.outcomes.seconds_left or left))
        try:
            answered = self._answers.get(timeout=min(self.outcomes.seconds_left or _NEWS_LOOK, _NEWS_LOOK))
            while True:
                self.outcomes.settle(*answered, self._progress)
                answered = self._answers.get_nowait()
        except queue.Empty:
            return self._news.wait(0)

    def _end(self, *, is_over: bool) -> None:
        """Give up the lease. What was committed meanwhile is due again."""
        must_end = self.outcomes.must_end
        # Rows for what is left let the position pass what was delivered beyond it, so that nothing is sent twice.
        self.outcomes.hold(self._progress.give_up())
        self.outcomes.write(self._progress.position, release=True)
        if not must_end:
            with self._database.read() as tx:
                _, newest, _ = journal.bounds(tx)
            self._has_more = is_over or newest > self.outcomes.position

    # What is to be delivered

    def _read(self, *, is_late: bool) -> bool:
        """Read what is due, as much as there is room for; returns whether there may be more.

        The table of what waits is looked at where it may hold something, and now and then (`is_late`) in any case:
        `redeliver` adds to it.
        """
        room = self._window - self._progress.unsettled
        if room <= 0 or self.outcomes.must_end:
            return False
        if self.outcomes.concern_queue:
            self.outcomes.write(self._progress.position)  # the table says what waits, and for which objects
        self.outcomes.has_freed = False
        with self._news.read() as tx:
            queued = self._queued(tx, room) if is_late or self.outcomes.may_have_waiting else []
            found, seen, oldest, state = self._following.read(self._news, after=self._progress.seen, limit=room)
            held = self._held(tx, found)
        if state != State.ACTIVE:
            self.outcomes.has_ended = True
            return False
        if self._progress.seen < (oldest or seen + 1) - 1:
            gap = f"those from {self._progress.seen + 1} to {(oldest or seen + 1) - 1}"
            self.outcomes.pause(PausedBy.TRIMMED, _trimmed(gap))
            return False
        self._progress.add(queued)
        items = [Item(entry) for entry in found]
        behind = [item for item in items if item.entry.of in held]
        self._progress.add(item for item in items if item.entry.of not in held)
        self.outcomes.hold(behind)
        self._progress.seen = seen
        if found or queued:
            sizes = [each.entry.size for each in (*items, *queued)]
            self._window = max(1, min(_WINDOW, _WINDOW_BYTES * len(sizes) // max(sum(sizes), 1)))
        return len(found) == room

    def _queued(self, tx: Tx, room: int) -> list[Item]:
        """Those of the table that are due."""
        name = self._options.name
        due = undelivered.due(tx, name, now=self.outcomes.now(), limit=room, without=self._progress.queued)
        self.outcomes.may_have_waiting = bool(due) or undelivered.next_due_at(tx, name) is not None
        entries = journal_entries.by_id(tx, [each.change for each in due])
        lost = [each.change for each in due if each.change not in entries]
        if lost:
            self.outcomes.drop(lost)
            self.outcomes.pause(PausedBy.TRIMMED, _trimmed(f"{len(lost)} that waited, the first is {lost[0]}"))
        unwanted = [entry.id for entry in entries.values() if not self._filter.matches(entry)]
        self.outcomes.drop(unwanted)  # the settings do not ask for them any more
        return [
            Item(entries[each.change], queued=True, attempts=each.attempts, failing_since=each.failing_since)
            for each in due
            if each.change in entries and each.change not in unwanted
        ]

    def _held(self, tx: Tx, found: Sequence[Entry]) -> set[Any]:
        """The objects of which an earlier change waits in the table."""
        if not self.outcomes.may_have_waiting or not found:
            return set()
        return undelivered.objects_among(tx, self._options.name, list({entry.of for entry in found}))

    # Attempts

    def _start(self) -> None:
        """Hand over what is ready. While the endpoint fails, one change at a time, the least tried first.

        Else a few changes that it refuses would keep the others from showing that it works.
        """
        most = 1 if self.outcomes.failures else self._options.concurrency
        while self._progress.under_way < most and not self.outcomes.must_end:
            item = self._progress.start(untried_first=bool(self.outcomes.failures))
            if item is None:
                return
            self._senders.submit(self._send, item, self._place(item.entry))

    def _send(self, item: Item, where: message.Place) -> None:
        """In a thread of its own: post the change and report what came of it."""
        try:
            composed = message.compose(item.entry, self._options, where)
            headers = message.headers(composed, self._signers, datetime.now(UTC))
            failpoints.hit(Point.DELIVERY_COMPOSED)
            answer = self._endpoint.post(headers, composed.body)
            failpoints.hit(Point.DELIVERY_ANSWERED)
        except Exception as error:  # a sender's thread has nobody above it
            log.exception("delivery failed", subscription=self._options.name, change=item.entry.id)
            answer = Answer(f"erpmirror failed: {type(error).__name__}", 0.0)
        self._answers.put((item, answer))

    def _place(self, entry: Entry) -> message.Place:
        known = (entry.connection, entry.resource)
        if known not in self._places:
            with self._database.read() as tx:
                system, table = queries.place_of(tx, *known)
            configured = self._settings.connections.get(entry.connection)
            if configured is not None:
                system = configured.system
            self._places[known] = message.place(system or "unknown", entry.resource, table)
        return self._places[known]


def _trimmed(what: str) -> str:
    return (
        f"changes were trimmed from the journal before they were delivered, {what}: keep_changes is shorter than the "
        "outage was; `erpmirror subscriptions resume` goes on with the oldest that is kept"
    )
