"""The gate under workers that acquire, sleep, oversleep, fail and die in any order, with clocks of their own."""

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
from models.settings.connections import Connection
from tests.stateful.interleaving import Died, InterleavedDatabase, MonotonicClock, Worker, interleaved
from tests.stateful.state_machines import BY_SEEDS, ON_BOTH, STATEFUL_TIMEOUT, Counted, run
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
    system: str = "simulated"
    url: str = "https://vendor.example"

    def login(self) -> tuple[str, ...]:
        return ("k",)


@dataclass
class Holder:
    """The holder of a lease. Its `worker` returns the lease only after it has slept until its start."""

    gate: Gate
    subject: str | None
    revision: int
    until: datetime
    worker: Worker
    watch: MonotonicClock

    @property
    def lease(self) -> Lease:
        assert isinstance(self.worker.result, Lease)
        return self.worker.result


class RolledBackError(Exception):
    """Its worker dies before the commit."""


class Gates(Counted):
    """Two connections of one account. `leases`: those acquired and not released; some of their workers are dead."""

    def __init__(self, database: InterleavedDatabase) -> None:
        super().__init__()
        database.empty()
        self.database, self.clock = database, database.clock
        self.leases: dict[int, Holder] = {}
        self.alive: list[Holder] = []
        self.sent: list[datetime] = []
        self.closed_until = self.clock.now
        self.last_revision = 0

    @initialize(first=st.sampled_from([3, 2, 1]), second=st.sampled_from([3, 2, 1]), pace=paces, other=paces)
    def opens(self, first: int, second: int, pace: int | None, other: int | None) -> None:
        one = Account(name="one", concurrency=first, requests_per_minute=pace, timeout=TIMEOUT)
        two = Account(name="two", concurrency=second, requests_per_minute=other, timeout=TIMEOUT)
        self.connections = [(one, two), (two, one)]
        self.concurrency = min(first, second)
        self.pace = min((each for each in (pace, other) if each), default=None)

    @property
    def held(self) -> list[Holder]:
        """The holders whose lease has not expired by the database's clock."""
        return [holder for holder in self.leases.values() if holder.until > self.clock.now]

    # Acquiring.

    @rule(connection=st.integers(0, 1), subject=subjects, ahead=st.sampled_from([0.0, 1e4, -1e4]), dies=seldom)
    def acquire(self, connection: int, subject: str | None, ahead: float, dies: bool) -> None:  # noqa: FBT001
        mine, other = self.connections[connection]
        watch = MonotonicClock(self.clock, ahead=ahead)
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
            self._has_reason(worker.error, subject, held)
            return
        assert worker.error is None
        self._has_room(subject, held)
        assert self.closed_until <= began
        holder = Holder(at, subject, *self._newest(), worker, watch)
        assert self.last_revision < holder.revision
        self.last_revision = holder.revision
        self.leases[holder.revision] = holder
        self.alive.append(holder)
        if worker.done:
            self._sends(holder)

    @precondition(lambda self: self.alive)
    @rule(connection=st.integers(0, 1), number=st.integers(1, 9))
    def acquire_another_key(self, connection: int, number: int) -> None:
        """Another worker acquires a lease for another key."""
        self.acquire(connection, f"orders\n{number}", ahead=0.0, dies=False)

    def _has_room(self, subject: str | None, held: list[Holder]) -> None:
        assert len(held) < self.concurrency
        if held:
            assert subject is not None, "a listing is alone"
            assert None not in [holder.subject for holder in held], "no request runs beside a listing"
            assert subject not in [holder.subject for holder in held], "one request per key at a time"

    def _has_reason(self, closed: gate.GateClosed, subject: str | None, held: list[Holder]) -> None:
        """A closed gate has a reason and an end."""
        assert closed.until > self.clock.now
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
        return found or holder.until  # another worker has removed the expired lease

    @precondition(lambda self: self._asleep())
    @rule(number=which, late=st.sampled_from([0, 0, 0.5, 2]))
    def wakes(self, number: int, late: float) -> None:
        """The worker sends, or waits for another start because it overslept; never under an expired lease."""
        self.clock.pass_by(late)
        holder = self._asleep()[number % len(self._asleep())]
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
        if holder in self.held:  # a holder past its lease may overlap with others
            self._keeps_pace()
            self.sent.append(self.clock.now)

    def _keeps_pace(self) -> None:
        if self.pace is None or not self.sent:
            return
        if self.concurrency == 1:  # with concurrency, a worker that overslept a little may come closer
            assert MINUTE / self.pace <= self.clock.now - self.sent[-1], "two requests come closer than the pace allows"
        assert len([sent for sent in self.sent if sent > self.clock.now - MINUTE]) < self.pace

    # Using the lease.

    @precondition(lambda self: self._awake())
    @rule(number=which, by_heartbeat=st.booleans(), dies=seldom)
    def renew(self, number: int, by_heartbeat: bool, dies: bool) -> None:  # noqa: FBT001
        """The lease is proven and renewed, at once or by a heartbeat when it is due."""
        holder = self._one(number)
        before = holder.until
        if by_heartbeat:
            due = holder.watch.monotonic() - holder.lease.renewed_at > (TIMEOUT + timing.GRACE).total_seconds() / 3
            if due and self._proves(holder, lambda: holder.gate.heartbeat(holder.lease)):
                holder.until = self.clock.now + TIMEOUT + timing.GRACE
        elif self._proves(holder, lambda: self._write(lambda c: holder.gate.renew(c, holder.lease), dies=dies)):
            holder.until = before if dies else self.clock.now + TIMEOUT + timing.GRACE

    @precondition(lambda self: self._awake())
    @rule(number=which, answered=st.booleans(), dies=seldom)
    def release(self, number: int, answered: bool, dies: bool) -> None:  # noqa: FBT001
        holder = self._one(number)
        self._proves(
            holder, lambda: self._write(lambda c: holder.gate.release(c, holder.lease, answered=answered), dies=dies)
        )
        self._gone(holder, dies=dies)

    @precondition(lambda self: self._awake())
    @rule(number=which, after=st.sampled_from([None, 0, 3, 40]), counts=st.booleans(), dies=seldom)
    def release_and_back_off(self, number: int, after: int | None, counts: bool, dies: bool) -> None:  # noqa: FBT001
        holder = self._one(number)
        closed_until: list[datetime] = []
        wait = None if after is None else timedelta(seconds=after)

        def back_off(tx: Tx) -> None:
            closed_until.append(
                holder.gate.release_and_back_off(tx, holder.lease, reason="429", after=wait, counts=counts)
            )

        if self._proves(holder, lambda: self._write(back_off, dies=dies)) and not dies:
            assert self.clock.now + timedelta(seconds=max(after or 0, 1)) <= closed_until[0]
            assert self.closed_until <= closed_until[0]
            self.closed_until = closed_until[0]
        self._gone(holder, dies=dies)

    @precondition(lambda self: len(self._awake()) > 1)
    @rule(first=st.sampled_from([3, 40]), second=st.sampled_from([None, 0, 3]))
    def two_are_refused(self, first: int, second: int | None) -> None:
        self.release_and_back_off(0, after=first, counts=True, dies=False)
        self.release_and_back_off(0, after=second, counts=True, dies=False)

    @precondition(lambda self: self._asleep())
    @rule(subject=subjects)
    def oversleeps_and_another_comes(self, subject: str | None) -> None:
        self.wakes(0, late=2)
        if self._awake():
            self.release(len(self._awake()) - 1, answered=True, dies=False)
        self.acquire(0, subject, ahead=0.0, dies=False)

    @precondition(lambda self: self._awake())
    @rule(number=which)
    def cancel(self, number: int) -> None:
        """The worker crashes."""
        holder = self._one(number)
        holder.gate.cancel(holder.lease)
        self._gone(holder, dies=False)

    @precondition(lambda self: self.alive)
    @rule(number=which)
    def dies(self, number: int) -> None:
        """Its process is killed; its lease expires."""
        holder = self.alive.pop(number % len(self.alive))
        holder.worker.die()
        assert holder.worker.error is None or isinstance(holder.worker.error, Died)

    @rule(seconds=st.sampled_from([0.25, 1, 2, 10, 29, 44, 45, 46]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_by(seconds)

    @invariant()
    def no_more_leases_than_allowed(self) -> None:
        held = self.held
        assert not held or len(held) <= self.concurrency
        assert None not in [holder.subject for holder in held] or len(held) == 1

    def teardown(self) -> None:
        """All workers die; after the length of a lease the gate is free."""
        while self.alive:
            self.dies(0)
        self.clock.now = max(self.clock.now + TIMEOUT + timing.GRACE + timing.LONGEST_SLEEP, self.closed_until)
        if hasattr(self, "connections"):
            self.acquire(0, None, ahead=0.0, dies=False)
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
                    raise RolledBackError  # noqa: TRY301 - as a death does
        except RolledBackError:
            return

    def _gone(self, holder: Holder, *, dies: bool) -> None:
        self.alive.remove(holder)
        if not dies:
            self.leases.pop(holder.revision)

    def _one(self, number: int) -> Holder:
        return self._awake()[number % len(self._awake())]

    def _awake(self) -> list[Holder]:
        return [holder for holder in self.alive if holder.worker.done]

    def _asleep(self) -> list[Holder]:
        return [holder for holder in self.alive if not holder.worker.done]


@STATEFUL_TIMEOUT
@BY_SEEDS
@ON_BOTH
def test_the_gate_grants_no_more_leases_than_allowed_and_expired_leases_commit_nothing(
    database: Database, seeds: tuple[int, ...]
) -> None:
    timed = interleaved(database)
    run(lambda: Gates(timed), seeds=seeds, examples=60 if timed.is_sqlite else 15, steps=40)
    timed.close()
