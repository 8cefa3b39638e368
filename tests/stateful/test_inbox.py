"""The inbox and its webhooks: enqueues, fetches, deaths and decisions in any order, checked against a dict."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from models.bookkeeping import inbox, parked, webhooks
from models.db import tables
from models.settings.connections import Connection
from models.values import Cause, Lane, ObjectRef
from tests.stateful.interleaving import InterleavedDatabase, MonotonicClock, interleaved
from tests.stateful.state_machines import BY_SEEDS, ON_BOTH, STATEFUL_TIMEOUT, Counted, run
from workers.gate import gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.bookkeeping.inbox import Item
    from models.db.database import Database, Tx

NAME = "shop"
HERE: dict[str, Any] = {"connection": NAME, "resource": "goods"}
WORKERS = 3
RESTS = timedelta(seconds=90)

keys = st.sampled_from(["1", "ä", "A", "a"])
some_keys = st.lists(keys, min_size=1, max_size=4)
seldom = st.sampled_from([False, False, False, True])
workers = st.integers(0, WORKERS - 1)


class Account(Connection):
    system: str = "simulated"
    url: str = "https://vendor.example"

    def login(self) -> tuple[str, ...]:
        return ("k",)


@dataclass(frozen=True)
class Row:
    """What is known of a row that must be there."""

    state: str
    lane: Lane
    due_at: datetime
    approved: bool = False


@dataclass
class Fetch:
    """A worker's fetch. `knows`: the number of the last enqueue before its request."""

    item: Item
    lease: gate.Lease | None = None
    until: datetime | None = None
    knows: int = 0


class RolledBackError(Exception):
    """The transaction is rolled back."""


class Inbox(Counted):
    """`rows`: key -> what must wait. `news`: key -> the number of its latest enqueue that no fetch has followed."""

    def __init__(self, database: InterleavedDatabase) -> None:
        super().__init__()
        database.empty()
        self.database, self.clock = database, database.clock
        watch = MonotonicClock(self.clock, ahead=1e6)
        self.gate = gate.Gate(database, Account(name=NAME, concurrency=WORKERS), timer=watch)
        self.rows: dict[str, Row] = {}
        self.news: dict[str, int] = {}
        self.just_enqueued: set[str] = set()
        self.unfolded: dict[str, str] = {}  # accepted webhook -> key
        self.accepted: list[webhooks.AcceptedWebhook] = []
        self.wanted: dict[str, int] = {}
        self.fetches: dict[int, Fetch] = {}
        self.listing: tuple[int, int] | None = None  # its revision, and the number of the last enqueue before it
        self.count = 0

    # Enqueueing.

    @initialize(names=some_keys)
    def opens(self, names: list[str]) -> None:
        self.enqueue(names, Lane.BULK, known=False, later=False, dies=False)

    @rule(names=some_keys, lane=st.sampled_from(Lane), known=st.booleans(), later=st.booleans(), dies=seldom)
    def enqueue(self, names: list[str], lane: Lane, known: bool, later: bool, dies: bool) -> None:  # noqa: FBT001
        """`known`: leave waiting rows as they are. `later`: due only after a while."""
        after = RESTS if later else timedelta(0)
        arguments: dict[str, Any] = {"lane": lane, "cause": Cause.POLL, "unless_known": known, "after": after}
        arguments |= {"connection": NAME, "refs": [ObjectRef("goods", name) for name in names]}
        if self._write(lambda c: inbox.enqueue(c, **arguments), dies=dies):
            for name in names:
                self._expect_row(name, lane, self.clock.now + after, known=known)

    def _expect_row(self, key: str, lane: Lane, due_at: datetime, *, known: bool = False) -> None:
        row = self.rows.get(key)
        if row is not None and known:
            return  # it waits already, be it parked or held
        self.count += 1
        self.news[key] = self.count
        self.just_enqueued.add(key)
        if row is None:
            self.rows[key] = Row("due", lane, due_at)
        else:
            soon = min(row.due_at, due_at) if row.state == "due" else due_at
            self.rows[key] = replace(row, state="due", lane=min(row.lane, lane), due_at=soon)

    @rule(key=keys, again=st.booleans(), dies=seldom)
    def webhook(self, key: str, again: bool, dies: bool) -> None:  # noqa: FBT001
        """A webhook arrives; the receiver may store it twice."""
        webhook = webhooks.AcceptedWebhook(NAME, "{}", "goods", key)
        accepted = [webhook] * (2 if again else 1)
        if self._write(lambda c: webhooks.append(c, accepted), dies=dies):
            self.accepted.append(webhook)
            self.unfolded[webhook.id] = key

    @precondition(lambda self: self.accepted)
    @rule(which=st.integers(0, 20))
    def store_again(self, which: int) -> None:
        """An earlier webhook is stored once more: from the spool, after a crash."""
        webhook = self.accepted[which % len(self.accepted)]
        assert self._write(lambda c: webhooks.append(c, [webhook]))

    @rule(limit=st.integers(1, 4), dies=seldom)
    def fold(self, limit: int, dies: bool) -> None:  # noqa: FBT001
        if self._write(lambda c: webhooks.fold(c, connection=NAME, limit=limit), dies=dies):
            for webhook in list(self.unfolded)[:limit]:
                self._expect_row(self.unfolded.pop(webhook), Lane.LIVE, self.clock.now)

    # Fetching.

    @precondition(lambda self: self._taken(asking=True))
    @rule(which=workers, lane=st.sampled_from(Lane))
    def enqueue_during_a_fetch(self, which: int, lane: Lane) -> None:
        """A key is enqueued that a worker is fetching."""
        worker = self._taken(asking=True)[which % len(self._taken(asking=True))]
        self.enqueue([self.fetches[worker].item.key], lane, known=False, later=False, dies=False)

    @precondition(lambda self: len(self.fetches) < WORKERS)
    @rule(asks=st.booleans())
    def next(self, asks: bool) -> None:  # noqa: FBT001
        worker = min(set(range(WORKERS)) - self.fetches.keys())
        self.take(worker)
        if asks and worker in self.fetches:
            self.ask(self._taken(asking=False).index(worker), dies=False)

    def take(self, worker: int) -> None:
        """The next row: live before bulk, then the longest waiting."""
        with self.database.read() as tx:
            found = inbox.due(tx, connection=NAME, now=self.clock.now)
        due = [row for row in self.rows.values() if row.state == "due" and row.due_at <= self.clock.now]
        assert bool(due) == bool(found)
        if found:
            best = min((row.lane, row.due_at) for row in due)
            row = self.rows[found[0].key]
            assert best == (found[0].lane, found[0].due_at) == (row.lane, row.due_at)
            assert row.approved == found[0].approved
            self.fetches[worker] = Fetch(found[0])

    @precondition(lambda self: self._taken(asking=False))
    @rule(which=workers, dies=seldom)
    def ask(self, which: int, dies: bool) -> None:  # noqa: FBT001
        worker = self._taken(asking=False)[which % len(self._taken(asking=False))]
        fetch = self.fetches[worker]
        found: list[gate.Lease] = []
        with_it = [each for each in self.fetches.values() if each.until is not None and each.until > self.clock.now]
        try:
            found.append(self.gate.acquire(f"goods\n{fetch.item.key}", on_acquire=self._begin(fetch, dies=dies)))
        except (RolledBackError, gate.GateClosed):
            del self.fetches[worker]
            return
        assert fetch.item.key not in [each.item.key for each in with_it], "two workers fetch one key at once"
        fetch.lease, fetch.knows = found[0], self.count
        self.rows[fetch.item.key] = replace(self.rows[fetch.item.key], due_at=fetch.until or self.clock.now)

    def _begin(self, fetch: Fetch, *, dies: bool) -> gate.OnAcquire:
        def begin(tx: Tx, _revision: int, until: datetime) -> None:
            begun = inbox.claim(tx, fetch.item, now=tx.now, until=until)
            row = self.rows.get(fetch.item.key)
            wanted = self.wanted.get(fetch.item.key) == fetch.item.wanted
            assert begun == (row is not None and row.state == "due" and wanted and row.due_at <= tx.now)
            if dies or not begun:
                raise RolledBackError
            fetch.until = until

        return begin

    @precondition(lambda self: self._taken(asking=True))
    @rule(
        which=workers,
        how=st.sampled_from(["finish", "finish", "finish", "postpone", "park", "hold", "break off"]),
        dies=seldom,
    )
    def end(self, which: int, how: str, dies: bool) -> None:  # noqa: FBT001
        """The answer is here: it is committed, unless the lease is lost or the worker dies first."""
        worker = self._taken(asking=True)[which % len(self._taken(asking=True))]
        fetch = self.fetches.pop(worker)
        try:
            written = self._write(lambda c: self._end(c, fetch, how), dies=dies)
        except gate.LeaseLost:
            assert fetch.until is not None
            assert fetch.until <= self.clock.now
            return
        if written:
            self._ended(fetch, how)

    def _end(self, tx: Tx, fetch: Fetch, how: str) -> None:
        assert fetch.lease is not None
        self.gate.release(tx, fetch.lease)
        match how:
            case "finish":
                inbox.finish(tx, fetch.item)
            case "park":
                inbox.park(tx, fetch.item, reason="refused")
            case "hold":
                inbox.hold(tx, fetch.item, reason="many are gone")
            case _:
                until = self.clock.now + RESTS
                inbox.postpone(tx, fetch.item, until=until, reason="503", counts=how == "postpone")

    def _ended(self, fetch: Fetch, how: str) -> None:
        key = fetch.item.key
        unchanged = key in self.rows and self.wanted[key] == fetch.item.wanted
        if how == "finish" and self.news.get(key, 0) <= fetch.knows:
            self.news.pop(key, None)
        if how == "finish" and unchanged:
            del self.rows[key]
        elif how == "finish" and key in self.rows:
            self.rows[key] = replace(self.rows[key], approved=False)
        elif unchanged:
            state = {"park": "parked", "hold": "held"}.get(how)
            changes: dict[str, Any] = {"state": state} if state else {"due_at": self.clock.now + RESTS}
            self.rows[key] = replace(self.rows[key], **changes)

    @precondition(lambda self: self.fetches)
    @rule(which=workers)
    def dies(self, which: int) -> None:
        """Its process is killed, its lease stays."""
        del self.fetches[sorted(self.fetches)[which % len(self.fetches)]]

    @rule()
    def list_requested(self) -> None:
        """A listing is requested."""
        with self.database.begin() as tx:
            self.listing = self.database.draw(tx), self.count

    @precondition(lambda self: self.listing is not None)
    @rule(names=some_keys, dies=seldom)
    def listed(self, names: list[str], dies: bool) -> None:  # noqa: FBT001
        """Its reply brings these objects, as they were at the request or later."""
        assert self.listing is not None
        revision, knows = self.listing
        answers = {**HERE, "keys": names, "before": revision}
        if self._write(lambda c: inbox.finish_listed(c, **answers), dies=dies):
            for name in set(names):
                if self.news.get(name, 0) <= knows:
                    self.news.pop(name, None)
                if name in self.rows and self.wanted[name] < revision:
                    del self.rows[name]

    # What a person decides, and time.

    @rule(key=st.none() | keys, dies=seldom)
    def retry(self, key: str | None, dies: bool) -> None:  # noqa: FBT001
        if self._write(lambda c: parked.retry(c, key=key, **HERE), dies=dies):
            for name in self._parked_or_held(key):
                row = self.rows[name]
                approved = row.approved or row.state == "held"
                self.rows[name] = replace(row, state="due", due_at=self.clock.now, approved=approved)

    @rule(key=st.none() | keys, dies=seldom)
    def drop(self, key: str | None, dies: bool) -> None:  # noqa: FBT001
        if self._write(lambda c: parked.drop(c, key=key, **HERE), dies=dies):
            for name in self._parked_or_held(key):
                del self.rows[name]
                self.news.pop(name, None)

    @rule(seconds=st.sampled_from([1, 20, 44, 46, 100]))
    def time_passes(self, seconds: int) -> None:
        self.clock.pass_by(seconds)

    # What must hold.

    @invariant()
    def rows_are_as_expected(self) -> None:
        with self.database.read() as tx:
            found = {row.key: row for row in tx.execute(sa.select(tables.inbox))}
            unread = (
                sa.select(tables.webhooks.c.key).where(tables.webhooks.c.state == "new").order_by(tables.webhooks.c.id)
            )
            assert list(self.unfolded.values()) == list(tx.execute(unread).scalars())
        assert self.news.keys() <= found.keys()
        assert all(found[key].wanted > self.wanted.get(key, 0) for key in self.just_enqueued)
        self.just_enqueued.clear()
        stored = {key: Row(row.state, Lane(row.lane), row.due_at, row.approved) for key, row in found.items()}
        assert self.rows == stored
        for key, row in found.items():
            assert self.wanted.get(key, 0) <= row.wanted
            self.wanted[key] = row.wanted

    def teardown(self) -> None:
        """All workers die, and another one does all due work."""
        self.fetches.clear()
        self.fold(limit=1_000, dies=False)
        self.rows_are_as_expected()
        self.clock.pass_by(1_000)
        for _ in range(len(self.rows) + 1):
            self.take(0)
            if self.fetches:
                self.ask(0, dies=False)
                self.end(0, "finish", dies=False)
                self.rows_are_as_expected()
        assert all(row.state != "due" for row in self.rows.values())

    def _write(self, does: Callable[[Tx], Any], *, dies: bool = False) -> bool:
        """Whether it was committed; a worker that dies before leaves nothing."""
        try:
            with self.database.begin() as tx:
                does(tx)
                if dies:
                    raise RolledBackError  # noqa: TRY301 - as a death does
        except RolledBackError:
            return False
        return True

    def _taken(self, *, asking: bool) -> list[int]:
        return sorted(worker for worker, fetch in self.fetches.items() if (fetch.lease is not None) == asking)

    def _parked_or_held(self, key: str | None) -> list[str]:
        return [name for name, row in self.rows.items() if row.state != "due" and key in {None, name}]


@STATEFUL_TIMEOUT
@BY_SEEDS
@ON_BOTH
def test_no_enqueued_key_is_missing_from_the_inbox_in_any_order_of_events(
    database: Database, seeds: tuple[int, ...]
) -> None:
    timed = interleaved(database)
    run(lambda: Inbox(timed), seeds=seeds, examples=60 if timed.is_sqlite else 15, steps=40)
    timed.close()
