"""The inbox and the letterbox: mentions, looks, deaths and decisions in any order, beside a dict of what is wanted."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from models.bookkeeping import inbox, parked, webhooks
from models.db import tables
from models.settings.load import Connection
from models.values import Cause, Lane, ObjectRef
from tests.stateful.running import AT_LENGTH, ON_BOTH, PATIENT, Counted, run
from tests.stateful.staging import Staged, Wristwatch, staged
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
    system: str = "played"
    url: str = "https://vendor.example"

    def login(self) -> tuple[str, ...]:
        return ("k",)


@dataclass(frozen=True)
class Waits:
    """What is known of a row that must be there."""

    state: str
    lane: Lane
    due_at: datetime
    approved: bool = False


@dataclass
class Look:
    """What a worker is at. `knows`: the news of its key that came before it asked."""

    item: Item
    lease: gate.Lease | None = None
    until: datetime | None = None
    knows: int = 0


class Refused(Exception):  # noqa: N818 - leaves the transaction
    """The transaction is rolled back."""


class Inbox(Counted):
    """`rows`: key -> what must wait. `news`: key -> the number of the latest that nobody has looked at since."""

    def __init__(self, database: Staged) -> None:
        super().__init__()
        database.empty()
        self.database, self.clock = database, database.clock
        watch = Wristwatch(self.clock, ahead=1e6)
        self.gate = gate.Gate(database, Account(name=NAME, concurrency=WORKERS), timer=watch)
        self.rows: dict[str, Waits] = {}
        self.news: dict[str, int] = {}
        self.just_told: set[str] = set()
        self.unfolded: dict[str, str] = {}  # letter -> key
        self.accepted: list[webhooks.AcceptedWebhook] = []
        self.wanted: dict[str, int] = {}
        self.looks: dict[int, Look] = {}
        self.listing: tuple[int, int] | None = None  # its turn, and the news before it
        self.count = 0

    # What is told.

    @initialize(names=some_keys)
    def opens(self, names: list[str]) -> None:
        self.ref(names, Lane.BULK, known=False, later=False, dies=False)

    @rule(names=some_keys, lane=st.sampled_from(Lane), known=st.booleans(), later=st.booleans(), dies=seldom)
    def ref(self, names: list[str], lane: Lane, known: bool, later: bool, dies: bool) -> None:  # noqa: FBT001
        """`known`: leave alone what waits already. `later`: not due before a while."""
        after = RESTS if later else timedelta(0)
        told: dict[str, Any] = {"lane": lane, "cause": Cause.POLL, "unless_known": known, "after": after}
        told |= {"connection": NAME, "refs": [ObjectRef("goods", name) for name in names]}
        if self._write(lambda c: inbox.enqueue(c, **told), dies=dies):
            for name in names:
                self._told(name, lane, self.clock.now + after, known=known)

    def _told(self, key: str, lane: Lane, due_at: datetime, *, known: bool = False) -> None:
        row = self.rows.get(key)
        if row is not None and known:
            return  # it waits, parked or held included: that is no news
        self.count += 1
        self.news[key] = self.count
        self.just_told.add(key)
        if row is None:
            self.rows[key] = Waits("due", lane, due_at)
        else:
            soon = min(row.due_at, due_at) if row.state == "due" else due_at
            self.rows[key] = replace(row, state="due", lane=min(row.lane, lane), due_at=soon)

    @rule(key=keys, again=st.booleans(), dies=seldom)
    def webhook(self, key: str, again: bool, dies: bool) -> None:  # noqa: FBT001
        """A letter arrives; the receiver may store it twice."""
        webhook = webhooks.AcceptedWebhook(NAME, "{}", "goods", key)
        accepted = [webhook] * (2 if again else 1)
        if self._write(lambda c: webhooks.append(c, accepted), dies=dies):
            self.accepted.append(webhook)
            self.unfolded[webhook.id] = key

    @precondition(lambda self: self.accepted)
    @rule(which=st.integers(0, 20))
    def notice_again(self, which: int) -> None:
        """A letter of before is stored once more: from the spool, after a death."""
        webhook = self.accepted[which % len(self.accepted)]
        assert self._write(lambda c: webhooks.append(c, [webhook]))

    @rule(limit=st.integers(1, 4), dies=seldom)
    def fold(self, limit: int, dies: bool) -> None:  # noqa: FBT001
        if self._write(lambda c: webhooks.fold(c, connection=NAME, limit=limit), dies=dies):
            for webhook in list(self.unfolded)[:limit]:
                self._told(self.unfolded.pop(webhook), Lane.LIVE, self.clock.now)

    # What is done.

    @precondition(lambda self: self._taken(asking=True))
    @rule(which=workers, lane=st.sampled_from(Lane))
    def mention_meanwhile(self, which: int, lane: Lane) -> None:
        """News of a key that somebody is asking for."""
        worker = self._taken(asking=True)[which % len(self._taken(asking=True))]
        self.ref([self.looks[worker].item.key], lane, known=False, later=False, dies=False)

    @precondition(lambda self: len(self.looks) < WORKERS)
    @rule(asks=st.booleans())
    def next(self, asks: bool) -> None:  # noqa: FBT001
        worker = min(set(range(WORKERS)) - self.looks.keys())
        self.take(worker)
        if asks and worker in self.looks:
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
            self.looks[worker] = Look(found[0])

    @precondition(lambda self: self._taken(asking=False))
    @rule(which=workers, dies=seldom)
    def ask(self, which: int, dies: bool) -> None:  # noqa: FBT001
        worker = self._taken(asking=False)[which % len(self._taken(asking=False))]
        look = self.looks[worker]
        found: list[gate.Lease] = []
        with_it = [each for each in self.looks.values() if each.until is not None and each.until > self.clock.now]
        try:
            found.append(self.gate.acquire(f"goods\n{look.item.key}", on_acquire=self._begin(look, dies=dies)))
        except (Refused, gate.GateClosed):
            del self.looks[worker]
            return
        assert look.item.key not in [each.item.key for each in with_it], "two workers look at once"
        look.lease, look.knows = found[0], self.count
        self.rows[look.item.key] = replace(self.rows[look.item.key], due_at=look.until or self.clock.now)

    def _begin(self, look: Look, *, dies: bool) -> gate.OnAcquire:
        def begin(tx: Tx, _revision: int, until: datetime) -> None:
            begun = inbox.claim(tx, look.item, now=tx.now, until=until)
            row = self.rows.get(look.item.key)
            wanted = self.wanted.get(look.item.key) == look.item.wanted
            assert begun == (row is not None and row.state == "due" and wanted and row.due_at <= tx.now)
            if dies or not begun:
                raise Refused
            look.until = until

        return begin

    @precondition(lambda self: self._taken(asking=True))
    @rule(
        which=workers,
        how=st.sampled_from(["finish", "finish", "finish", "postpone", "park", "hold", "broke off"]),
        dies=seldom,
    )
    def end(self, which: int, how: str, dies: bool) -> None:  # noqa: FBT001
        """The answer is here: it is committed, unless the lease is lost or the worker dies first."""
        worker = self._taken(asking=True)[which % len(self._taken(asking=True))]
        look = self.looks.pop(worker)
        try:
            written = self._write(lambda c: self._end(c, look, how), dies=dies)
        except gate.LeaseLost:
            assert look.until is not None
            assert look.until <= self.clock.now
            return
        if written:
            self._ended(look, how)

    def _end(self, tx: Tx, look: Look, how: str) -> None:
        assert look.lease is not None
        self.gate.release(tx, look.lease)
        match how:
            case "finish":
                inbox.finish(tx, look.item)
            case "park":
                inbox.park(tx, look.item, reason="refused")
            case "hold":
                inbox.hold(tx, look.item, reason="many are gone")
            case _:
                until = self.clock.now + RESTS
                inbox.postpone(tx, look.item, until=until, reason="503", counts=how == "postpone")

    def _ended(self, look: Look, how: str) -> None:
        key = look.item.key
        unchanged = key in self.rows and self.wanted[key] == look.item.wanted
        if how == "finish" and self.news.get(key, 0) <= look.knows:
            self.news.pop(key, None)
        if how == "finish" and unchanged:
            del self.rows[key]
        elif how == "finish" and key in self.rows:
            self.rows[key] = replace(self.rows[key], approved=False)
        elif unchanged:
            aside = {"park": "parked", "hold": "held"}.get(how)
            changes: dict[str, Any] = {"state": aside} if aside else {"due_at": self.clock.now + RESTS}
            self.rows[key] = replace(self.rows[key], **changes)

    @precondition(lambda self: self.looks)
    @rule(which=workers)
    def dies(self, which: int) -> None:
        """Its process is gone, its lease stays."""
        del self.looks[sorted(self.looks)[which % len(self.looks)]]

    @rule()
    def list_requested(self) -> None:
        """A listing is asked for."""
        with self.database.begin() as tx:
            self.listing = self.database.draw(tx), self.count

    @precondition(lambda self: self.listing is not None)
    @rule(names=some_keys, dies=seldom)
    def listed(self, names: list[str], dies: bool) -> None:  # noqa: FBT001
        """Its reply brings these objects, as they were when it was asked for or later."""
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
            for name in self._aside(key):
                row = self.rows[name]
                approved = row.approved or row.state == "held"
                self.rows[name] = replace(row, state="due", due_at=self.clock.now, approved=approved)

    @rule(key=st.none() | keys, dies=seldom)
    def drop(self, key: str | None, dies: bool) -> None:  # noqa: FBT001
        if self._write(lambda c: parked.drop(c, key=key, **HERE), dies=dies):
            for name in self._aside(key):
                del self.rows[name]
                self.news.pop(name, None)

    @rule(seconds=st.sampled_from([1, 20, 44, 46, 100]))
    def time_passes(self, seconds: int) -> None:
        self.clock.pass_by(seconds)

    # What must hold.

    @invariant()
    def what_was_told_waits(self) -> None:
        with self.database.read() as tx:
            found = {row.key: row for row in tx.execute(sa.select(tables.inbox))}
            unread = (
                sa.select(tables.webhooks.c.key).where(tables.webhooks.c.state == "new").order_by(tables.webhooks.c.id)
            )
            assert list(self.unfolded.values()) == list(tx.execute(unread).scalars())
        assert self.news.keys() <= found.keys()
        assert all(found[key].wanted > self.wanted.get(key, 0) for key in self.just_told)
        self.just_told.clear()
        shown = {key: Waits(row.state, Lane(row.lane), row.due_at, row.approved) for key, row in found.items()}
        assert self.rows == shown
        for key, row in found.items():
            assert self.wanted.get(key, 0) <= row.wanted
            self.wanted[key] = row.wanted

    def teardown(self) -> None:
        """Whoever had a row is dead, and somebody else works everything off."""
        self.looks.clear()
        self.fold(limit=1_000, dies=False)
        self.what_was_told_waits()
        self.clock.pass_by(1_000)
        for _ in range(len(self.rows) + 1):
            self.take(0)
            if self.looks:
                self.ask(0, dies=False)
                self.end(0, "finish", dies=False)
                self.what_was_told_waits()
        assert all(row.state != "due" for row in self.rows.values())

    def _write(self, does: Callable[[Tx], Any], *, dies: bool = False) -> bool:
        """Whether it was committed; who dies before that leaves nothing."""
        try:
            with self.database.begin() as tx:
                does(tx)
                if dies:
                    raise Refused  # noqa: TRY301 - as a death does
        except Refused:
            return False
        return True

    def _taken(self, *, asking: bool) -> list[int]:
        return sorted(worker for worker, look in self.looks.items() if (look.lease is not None) == asking)

    def _aside(self, key: str | None) -> list[str]:
        return [name for name, row in self.rows.items() if row.state != "due" and key in {None, name}]


@PATIENT
@AT_LENGTH
@ON_BOTH
def test_nothing_that_was_told_is_missing_from_the_inbox_whatever_happens_in_whatever_order(
    database: Database, seeds: tuple[int, ...]
) -> None:
    timed = staged(database)
    run(lambda: Inbox(timed), seeds=seeds, examples=60 if timed.is_sqlite else 15, steps=40)
    timed.close()
