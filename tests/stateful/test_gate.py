"""The gate: workers with clocks of their own ask, sleep, oversleep, fail and die at it in any order."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from models.db import tables
from models.settings.load import Connection
from tests.stateful.running import AT_LENGTH, ON_BOTH, PATIENT, Counted, run
from tests.stateful.staging import Died, Staged, Worker, Wristwatch, staged
from workers.gate import gate, timing
from workers.gate.gate import Gate, Lease

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.db.database import Database, Tx

TIMEOUT = timedelta(seconds=30)
MINUTE = timedelta(minutes=1)

subjects = st.sampled_from([None, "goods\n1", "goods\n2", "orders\n1", "orders\n2", "orders\n3"])
paces = st.sampled_from([None, 6, 30, 60, 120])
seldom = st.sampled_from([False, False, False, True])
which = st.integers(0, 5)


class Account(Connection):
    system: str = "played"
    url: str = "https://vendor.example"

    def login(self) -> tuple[str, ...]:
        return ("k",)


@dataclass
class Holder:
    """Who holds a lease. `worker` is still asleep as long as there is no `slot`."""

    gate: Gate
    subject: str | None
    revision: int
    until: datetime
    worker: Worker
    watch: Wristwatch

    @property
    def lease(self) -> Lease:
        assert isinstance(self.worker.result, Lease)
        return self.worker.result


class RolledBack(Exception):  # noqa: N818 - leaves the transaction
    """Its worker dies before the commit."""


class Gates(Counted):
    """Two connections that share an account. `leases`: whoever entered and has not given back; some of them died."""

    def __init__(self, database: Staged) -> None:
        super().__init__()
        database.empty()
        self.database, self.clock = database, database.clock
        self.leases: dict[int, Holder] = {}
        self.alive: list[Holder] = []
        self.sent: list[datetime] = []
        self.closed_until = self.clock.now
        self.entered = 0

    @initialize(first=st.sampled_from([3, 2, 1]), second=st.sampled_from([3, 2, 1]), pace=paces, other=paces)
    def opens(self, first: int, second: int, pace: int | None, other: int | None) -> None:
        one = Account(name="one", concurrency=first, requests_per_minute=pace, timeout=TIMEOUT)
        two = Account(name="two", concurrency=second, requests_per_minute=other, timeout=TIMEOUT)
        self.connections = [(one, two), (two, one)]
        self.concurrency = min(first, second)
        self.pace = min((each for each in (pace, other) if each), default=None)

    @property
    def held(self) -> list[Holder]:
        """Whose lease is alive by the database's clock."""
        return [holder for holder in self.leases.values() if holder.until > self.clock.now]

    # Asking.

    @rule(connection=st.integers(0, 1), subject=subjects, ahead=st.sampled_from([0.0, 1e4, -1e4]), dies=seldom)
    def enter(self, connection: int, subject: str | None, ahead: float, dies: bool) -> None:  # noqa: FBT001
        mine, other = self.connections[connection]
        watch = Wristwatch(self.clock, ahead=ahead)
        at = Gate(self.database, mine, same_account=[other], timer=watch)
        held, began = self.held, self.clock.now
        worker = Worker(partial(at.acquire, subject))
        worker.step()
        assert "a writing transaction" == worker.at
        if dies and not held:
            worker.die(in_a_transaction=True)
            return
        worker.step()
        if isinstance(worker.error, gate.GateClosed):
            self._is_shut(worker.error, subject, held)
            return
        assert worker.error is None
        self._has_room(subject, held)
        assert self.closed_until <= began
        holder = Holder(at, subject, *self._newest(), worker, watch)
        assert self.entered < holder.revision
        self.entered = holder.revision
        self.leases[holder.revision] = holder
        self.alive.append(holder)
        if worker.done:
            self._sends(holder)

    @precondition(lambda self: self.alive)
    @rule(connection=st.integers(0, 1), number=st.integers(1, 9))
    def enter_too(self, connection: int, number: int) -> None:
        """Somebody else asks for a key of his own."""
        self.enter(connection, f"orders\n{number}", ahead=0.0, dies=False)

    def _has_room(self, subject: str | None, held: list[Holder]) -> None:
        assert len(held) < self.concurrency
        if held:
            assert subject is not None, "a listing is alone"
            assert None not in [holder.subject for holder in held], "nobody comes in beside a listing"
            assert subject not in [holder.subject for holder in held], "a key is asked for once at a time"

    def _is_shut(self, shut: gate.GateClosed, subject: str | None, held: list[Holder]) -> None:
        """There is a reason, and it ends."""
        assert shut.until > self.clock.now
        alone = subject is None or None in [holder.subject for holder in held]
        same = subject in [holder.subject for holder in held]
        full = bool(held) and (alone or same or len(held) >= self.concurrency)
        paced = self.pace is not None and bool(self.sent or held or self.alive)
        assert full or paced or self.closed_until > self.clock.now

    def _newest(self) -> tuple[int, datetime]:
        c = tables.leases.c
        with self.database.read() as tx:
            revision, until = tx.execute(sa.select(c.revision, c.until).order_by(c.revision.desc()).limit(1)).one()
        return revision, until

    def _until(self, holder: Holder) -> datetime:
        c = tables.leases.c
        with self.database.read() as tx:
            found = tx.execute(sa.select(c.until).where(c.revision == holder.revision)).scalar()
        return found or holder.until  # somebody else has cleared away what ran out

    @precondition(lambda self: self._asleep())
    @rule(whom=which, late=st.sampled_from([0, 0, 0.5, 2]))
    def wakes(self, whom: int, late: float) -> None:
        """It sends, or takes another place because it overslept; not under a lease that ran out."""
        self.clock.pass_by(late)
        holder = self._asleep()[whom % len(self._asleep())]
        holder.worker.step()
        while not holder.worker.done and holder.worker.at != "asleep":
            holder.worker.step()
        if isinstance(holder.worker.error, gate.LeaseLost):
            assert holder not in self.held
            self._gone(holder, dies=False)
            return
        assert holder.worker.error is None
        holder.until = self._until(holder)
        if holder.worker.done:
            self._sends(holder)

    def _sends(self, holder: Holder) -> None:
        assert self.clock.now == holder.lease.sent_at
        assert holder.until - holder.lease.sent_at <= TIMEOUT + timing.GRACE
        if holder in self.held:  # who overslept his lease may meet others
            self._keeps_pace()
            self.sent.append(self.clock.now)

    def _keeps_pace(self) -> None:
        if self.pace is None or not self.sent:
            return
        if self.concurrency == 1:  # beside others, who overslept a little may come closer
            assert MINUTE / self.pace <= self.clock.now - self.sent[-1], "two requests come closer than the pace allows"
        assert len([sent for sent in self.sent if sent > self.clock.now - MINUTE]) < self.pace

    # Holding.

    @precondition(lambda self: self._awake())
    @rule(whom=which, arrive=st.booleans(), dies=seldom)
    def keep(self, whom: int, arrive: bool, dies: bool) -> None:  # noqa: FBT001
        """The lease is proven and renewed, now or when it is time for that."""
        holder = self._one(whom)
        before = holder.until
        if arrive:
            due = holder.watch.monotonic() - holder.lease.renewed_at > (TIMEOUT + timing.GRACE).total_seconds() / 3
            if due and self._proves(holder, lambda: holder.gate.heartbeat(holder.lease)):
                holder.until = self.clock.now + TIMEOUT + timing.GRACE
        elif self._proves(holder, lambda: self._write(lambda c: holder.gate.renew(c, holder.lease), dies=dies)):
            holder.until = before if dies else self.clock.now + TIMEOUT + timing.GRACE

    @precondition(lambda self: self._awake())
    @rule(whom=which, answered=st.booleans(), dies=seldom)
    def leave(self, whom: int, answered: bool, dies: bool) -> None:  # noqa: FBT001
        holder = self._one(whom)
        self._proves(
            holder, lambda: self._write(lambda c: holder.gate.release(c, holder.lease, answered=answered), dies=dies)
        )
        self._gone(holder, dies=dies)

    @precondition(lambda self: self._awake())
    @rule(whom=which, after=st.sampled_from([None, 0, 3, 40]), counts=st.booleans(), dies=seldom)
    def leave_shut(self, whom: int, after: int | None, counts: bool, dies: bool) -> None:  # noqa: FBT001
        holder = self._one(whom)
        told: list[datetime] = []
        wait = None if after is None else timedelta(seconds=after)

        def shuts(tx: Tx) -> None:
            told.append(holder.gate.release_and_back_off(tx, holder.lease, reason="429", after=wait, counts=counts))

        if self._proves(holder, lambda: self._write(shuts, dies=dies)) and not dies:
            assert self.clock.now + timedelta(seconds=max(after or 0, 1)) <= told[0]
            assert self.closed_until <= told[0]
            self.closed_until = told[0]
        self._gone(holder, dies=dies)

    @precondition(lambda self: len(self._awake()) > 1)
    @rule(first=st.sampled_from([3, 40]), second=st.sampled_from([None, 0, 3]))
    def two_are_refused(self, first: int, second: int | None) -> None:
        self.leave_shut(0, after=first, counts=True, dies=False)
        self.leave_shut(0, after=second, counts=True, dies=False)

    @precondition(lambda self: self._asleep())
    @rule(subject=subjects)
    def oversleeps_and_another_comes(self, subject: str | None) -> None:
        self.wakes(0, late=2)
        if self._awake():
            self.leave(len(self._awake()) - 1, answered=True, dies=False)
        self.enter(0, subject, ahead=0.0, dies=False)

    @precondition(lambda self: self._awake())
    @rule(whom=which)
    def abandon(self, whom: int) -> None:
        """A crash of ours."""
        holder = self._one(whom)
        holder.gate.cancel(holder.lease)
        self._gone(holder, dies=False)

    @precondition(lambda self: self.alive)
    @rule(whom=which)
    def dies(self, whom: int) -> None:
        """Its process is gone; its lease runs out by itself."""
        holder = self.alive.pop(whom % len(self.alive))
        holder.worker.die()
        assert holder.worker.error is None or isinstance(holder.worker.error, Died)

    @rule(seconds=st.sampled_from([0.25, 1, 2, 10, 29, 44, 45, 46]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_by(seconds)

    @invariant()
    def nobody_is_one_too_many(self) -> None:
        held = self.held
        assert not held or len(held) <= self.concurrency
        assert None not in [holder.subject for holder in held] or len(held) == 1

    def teardown(self) -> None:
        """Everybody dies, and within a lease the gate is free."""
        while self.alive:
            self.dies(0)
        self.clock.now = max(self.clock.now + TIMEOUT + timing.GRACE + timing.MOMENT, self.closed_until)
        if hasattr(self, "connections"):
            self.enter(0, None, ahead=0.0, dies=False)
            assert 1 == len(self.alive)
            self.dies(0)

    def _proves(self, holder: Holder, does: Callable[[], None]) -> bool:
        """Whether the lease was proven: it must be, exactly as long as it is alive."""
        if holder.until > self.clock.now:
            does()
            return True
        with pytest.raises(gate.LeaseLost):
            does()
        return False

    def _write(self, does: Callable[[Tx], object], *, dies: bool) -> None:
        try:
            with self.database.begin() as tx:
                does(tx)
                if dies:
                    raise RolledBack  # noqa: TRY301 - as a death does
        except RolledBack:
            return

    def _gone(self, holder: Holder, *, dies: bool) -> None:
        self.alive.remove(holder)
        if not dies:
            self.leases.pop(holder.revision)

    def _one(self, whom: int) -> Holder:
        return self._awake()[whom % len(self._awake())]

    def _awake(self) -> list[Holder]:
        return [holder for holder in self.alive if holder.worker.done]

    def _asleep(self) -> list[Holder]:
        return [holder for holder in self.alive if not holder.worker.done]


@PATIENT
@AT_LENGTH
@ON_BOTH
def test_the_gate_lets_in_no_more_than_it_may_and_nobody_commits_under_a_lease_that_ran_out(
    database: Database, seeds: tuple[int, ...]
) -> None:
    timed = staged(database)
    run(lambda: Gates(timed), seeds=seeds, examples=60 if timed.is_sqlite else 15, steps=40)
    timed.close()
