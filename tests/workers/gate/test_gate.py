"""The gate: one request at a time for an account, from any worker, and nothing written under a lease that ran out."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.db import tables
from models.db.database import Database
from models.settings.connections import Connection
from workers.errors import BusyError
from workers.gate import gate, timing
from workers.gate.gate import Gate
from workers.gate.sessions import SessionStore

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Account(Connection):
    """A connection with a login."""

    system: str = "directo"
    url: str = "https://vendor.example"
    key: str = "k"

    def login(self) -> tuple[str, ...]:
        return (self.key,)


class Clock:
    """A database's clock that the test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, **duration: float) -> None:
        self.now += timedelta(**duration)


class SteppedTimer:
    """A process's timer in step with the database's clock: sleeping moves both."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def monotonic(self) -> float:
        return (self._clock.now - START).total_seconds()

    def sleep(self, seconds: float, /) -> None:
        self._clock.pass_by(seconds=seconds, microseconds=1)  # what is less than that would not pass at all


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(database: Database, clock: Clock) -> Database:
    """The database under a clock of the test's own."""
    database._clock = clock
    return database


def release(at: Gate, database: Database, lease: gate.Lease) -> None:
    with database.begin() as tx:
        at.release(tx, lease)


def test_a_listing_holds_the_gate_alone(timed: Database) -> None:
    first = Gate(timed, Account(name="a", concurrency=4))
    lease = first.acquire()
    with pytest.raises(gate.GateClosed):
        first.acquire("items\n1")
    release(first, timed, lease)
    assert first.acquire("items\n1").revision > lease.revision


def test_point_reads_share_the_gate_up_to_concurrency_but_never_one_key(timed: Database) -> None:
    shared = Gate(timed, Account(name="a", concurrency=2))
    shared.acquire("items\n1")
    with pytest.raises(gate.GateClosed):
        shared.acquire("items\n1")
    shared.acquire("items\n2")
    with pytest.raises(gate.GateClosed):
        shared.acquire("items\n3")


def test_a_listing_waits_for_point_reads(timed: Database) -> None:
    shared = Gate(timed, Account(name="a", concurrency=2))
    shared.acquire("items\n1")
    with pytest.raises(gate.GateClosed):
        shared.acquire()


def test_connections_of_one_account_share_its_gate_and_the_strictest_limits_win(timed: Database, clock: Clock) -> None:
    quick = Account(name="a", requests_per_minute=6000)
    slow = Account(name="b", requests_per_minute=6)
    first, second = Gate(timed, quick, same_account=[slow]), Gate(timed, slow, same_account=[quick])
    assert first.account == second.account
    release(first, timed, first.acquire())
    with pytest.raises(gate.GateClosed) as closed:
        second.acquire()
    assert closed.value.until >= START + timedelta(seconds=10)
    clock.pass_by(seconds=11)
    second.acquire()


def test_other_logins_and_other_addresses_have_other_gates(timed: Database) -> None:
    accounts = [
        Account(name="a"),
        Account(name="a", key="other"),
        Account(name="a", url="https://other.example"),
    ]
    assert len({gate.account_of(each) for each in accounts}) == len(accounts)
    for each in accounts:
        Gate(timed, each).acquire()


def test_the_account_name_does_not_reveal_the_login() -> None:
    assert "k-very-secret" not in gate.account_of(Account(name="a", key="k-very-secret"))


def test_the_rate_limit_is_counted_from_the_actual_send(timed: Database, clock: Clock) -> None:
    limited = Gate(timed, Account(name="a", requests_per_minute=6))
    lease = limited.acquire()
    lease.sent_at += timedelta(seconds=7)  # the process was paused between taking its lease and its request
    clock.pass_by(seconds=9)
    release(limited, timed, lease)
    clock.pass_by(seconds=3)
    with pytest.raises(gate.GateClosed) as closed:
        limited.acquire()
    assert timedelta(seconds=61) / 6 == closed.value.until - lease.sent_at  # a sixth of a minute, and a little


@pytest.mark.parametrize("commit", ["release", "renew"])
def test_a_result_is_discarded_when_its_lease_ran_out(timed: Database, clock: Clock, commit: str) -> None:
    lost = Gate(timed, Account(name="a"))
    lease = lost.acquire()
    clock.pass_by(seconds=46)  # timeout 30 s and 15 s of grace are over
    successor = lost.acquire()
    assert successor.revision > lease.revision
    with pytest.raises(gate.LeaseLost), timed.begin() as tx:
        getattr(lost, commit)(tx, lease)
    release(lost, timed, successor)


def test_a_lease_that_ran_out_is_lost_even_if_no_other_was_taken(timed: Database, clock: Clock) -> None:
    lost = Gate(timed, Account(name="a"))
    lease = lost.acquire()
    clock.pass_by(seconds=46)
    with pytest.raises(gate.LeaseLost):
        release(lost, timed, lease)


def test_a_lease_ends_at_most_15_seconds_after_the_timeout(timed: Database) -> None:
    Gate(timed, Account(name="a", timeout="40s")).acquire()
    with timed.read() as tx:
        assert tx.execute(sa.select(tables.leases.c.until)).scalar_one() == START + timedelta(seconds=55)


def test_arriving_bytes_renew_the_lease_of_a_long_stream(timed: Database, clock: Clock) -> None:
    long = Gate(timed, Account(name="a"))
    lease = long.acquire()
    for _ in range(5):
        clock.pass_by(seconds=40)
        lease.renewed_at -= 40  # as the process's own clock would show
        long.heartbeat(lease)
    release(long, timed, lease)


def test_each_further_request_renews_the_lease_for_its_whole_timeout(timed: Database, clock: Clock) -> None:
    long = Gate(timed, Account(name="a"), timer=SteppedTimer(clock))
    lease = long.acquire()
    for _ in range(4):
        long.before_request(lease)
        clock.pass_by(seconds=29)  # answered within the timeout of 30 s; two are longer than the lease of 45 s
        with pytest.raises(gate.GateClosed):
            long.acquire()
    release(long, timed, lease)


def test_a_request_under_a_lease_that_ran_out_is_not_sent(timed: Database, clock: Clock) -> None:
    slow = Gate(timed, Account(name="a"), timer=SteppedTimer(clock))
    lease = slow.acquire()
    slow.before_request(lease)
    clock.pass_by(seconds=46)
    successor = slow.acquire()
    with pytest.raises(gate.LeaseLost):
        slow.before_request(lease)
    release(slow, timed, successor)


def test_a_first_request_that_comes_late_is_not_sent_if_another_has_the_lease(timed: Database, clock: Clock) -> None:
    stopped = Gate(timed, Account(name="a"), timer=SteppedTimer(clock))
    lease = stopped.acquire()
    clock.pass_by(seconds=46)
    successor = stopped.acquire()
    with pytest.raises(gate.LeaseLost):
        stopped.before_request(lease)
    release(stopped, timed, successor)


def test_a_login_of_several_requests_keeps_its_lock(timed: Database, clock: Clock) -> None:
    long = Gate(timed, Account(name="a"), timer=SteppedTimer(clock))
    other = Gate(timed, Account(name="a"))
    lease = long.acquire()
    with long.sessions.login_lock():
        for _ in range(3):
            long.before_request(lease)
            clock.pass_by(seconds=29)
        assert other.sessions._try_lock_login() is None
    assert other.sessions._try_lock_login() is not None


@pytest.mark.parametrize("limit", [1, 6, 20])
@pytest.mark.parametrize("requests", [1, 2, 4])
def test_no_minute_has_more_requests_than_allowed_however_many_each_lease_makes(
    timed: Database, clock: Clock, limit: int, requests: int
) -> None:
    options = Account(name="a", requests_per_minute=limit, concurrency=2)
    gates = [Gate(timed, options, timer=SteppedTimer(clock)) for _ in range(2)]
    sent: list[datetime] = []
    for number in range(2 * limit // requests + 3):
        at = gates[number % 2]
        lease = _acquired_in_time(at, clock, f"items\n{number}")
        for _ in range(requests):
            at.before_request(lease)
            sent.append(clock.now)
        release(at, timed, lease)
    minute = timedelta(minutes=1)
    assert max(sum(first <= each < first + minute for each in sent) for first in sent) <= limit


def _acquired_in_time(at: Gate, clock: Clock, subject: str) -> gate.Lease:
    while True:
        try:
            return at.acquire(subject)
        except gate.GateClosed as closed:
            clock.now = closed.until


def test_a_start_that_a_clock_ahead_reserved_is_not_waited_for(timed: Database, clock: Clock) -> None:
    limited = Gate(timed, Account(name="a", requests_per_minute=6), timer=SteppedTimer(clock))
    lease = limited.acquire()
    limited.before_request(lease)
    with timed.begin() as tx:
        tx.execute(sa.update(tables.gates).values(next_start_at=clock.now + timedelta(hours=3)))
    limited.before_request(lease)
    assert clock.now < START + timedelta(minutes=1)


def test_a_first_request_costs_no_statement_of_its_own(timed: Database) -> None:
    limited = Gate(timed, Account(name="a", requests_per_minute=6))
    lease = limited.acquire()
    statements: list[str] = []
    sa.event.listen(timed.engine, "before_cursor_execute", lambda *arguments: statements.append(arguments[2]))
    limited.before_request(lease)
    assert [] == statements


def test_a_closed_gate_gives_no_lease_until_its_time(timed: Database, clock: Clock) -> None:
    busy = Gate(timed, Account(name="a"))
    lease = busy.acquire()
    with timed.begin() as tx:
        until = busy.release_and_back_off(tx, lease, reason="busy", after=timedelta(seconds=30), counts=False)
    with pytest.raises(gate.GateClosed) as closed:
        busy.acquire()
    assert (START + timedelta(seconds=30), until) == (until, closed.value.until)
    clock.pass_by(seconds=30)
    busy.acquire()


def test_without_retry_after_the_gate_stays_closed_twice_as_long_each_time_up_to_five_minutes(
    timed: Database, clock: Clock
) -> None:
    failing = Gate(timed, Account(name="a"))
    waits = []
    for _ in range(11):
        lease = failing.acquire()
        with timed.begin() as tx:
            until = failing.release_and_back_off(tx, lease, reason="away", after=None, counts=True)
        waits.append((until - clock.now).total_seconds())
        clock.now = until
    assert [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] == waits
    release(failing, timed, failing.acquire())
    lease = failing.acquire()
    with timed.begin() as tx:
        until = failing.release_and_back_off(tx, lease, reason="away", after=None, counts=True)
    assert clock.now + timedelta(seconds=1) == until


def test_a_block_that_raises_gives_its_lease_back(timed: Database) -> None:
    broken = Gate(timed, Account(name="a"))
    with pytest.raises(ZeroDivisionError), gate.acquired(broken):
        raise ZeroDivisionError
    broken.acquire()


def test_revisions_come_from_the_one_counter_and_only_rise(timed: Database) -> None:
    with timed.begin() as tx:
        drawn = timed.draw(tx)
    fresh = Gate(timed, Account(name="never seen before"))
    assert fresh.acquire().revision > drawn


@pytest.fixture
def session(timed: Database) -> Callable[[str], SessionStore]:
    def of(key: str) -> SessionStore:
        opened = Gate(timed, Account(name="a", key=key))
        release(opened, timed, opened.acquire())
        return opened.sessions

    return of


def test_a_session_is_shared_encrypted_and_forgotten_when_it_expires(
    timed: Database, clock: Clock, session: Callable[[str], SessionStore]
) -> None:
    session("k").put(b"token-in-clear", START + timedelta(minutes=30))
    assert session("k").get() == b"token-in-clear"
    with timed.read() as tx:
        assert b"token-in-clear" not in tx.execute(sa.select(tables.gates.c.session)).scalar_one()
    clock.pass_by(minutes=31)
    assert session("k").get() is None


def test_a_session_that_another_key_encrypted_is_none(timed: Database, session: Callable[[str], SessionStore]) -> None:
    mine = session("k")
    mine.put(b"token", START + timedelta(minutes=30))
    assert (
        SessionStore(timed, gate.account_of(Account(name="a")), b"another secret", lock_duration=timing.GRACE).get()
        is None
    )
    mine.drop()
    assert mine.get() is None


def test_one_worker_at_a_time_logs_in_and_the_next_finds_its_session(
    timed: Database, session: Callable[[str], SessionStore]
) -> None:
    logins: list[str] = []

    def log_in(name: str) -> None:
        store = Gate(timed, Account(name=name)).sessions
        with store.login_lock():
            if store.get() is None:
                logins.append(name)
                time.sleep(0.2)
                store.put(name.encode(), START + timedelta(minutes=30))

    store = session("k")
    threads = [threading.Thread(target=log_in, args=(f"w{number}",)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 == len(logins)
    assert logins[0].encode() == store.get()


def test_a_login_that_takes_long_lets_other_workers_try_later(
    timed: Database, session: Callable[[str], SessionStore]
) -> None:
    store = session("k")
    with store.login_lock(), pytest.raises(BusyError, match="logging in") as busy, store.login_lock():
        pass
    assert not busy.value.closes_gate
    with store.login_lock():
        assert timed is not None


def test_the_login_lock_of_a_worker_that_died_is_taken_over(
    timed: Database, clock: Clock, session: Callable[[str], SessionStore]
) -> None:
    store = session("k")
    died, later = store.login_lock(), store.login_lock()
    died.__enter__()
    clock.pass_by(minutes=5)
    with later:
        died.__exit__(None, None, None)  # a paused worker resumes: it must not free the lock of another
        with pytest.raises(BusyError), store.login_lock():
            pass
    with timed.read() as tx:
        assert tx.execute(sa.select(tables.gates.c.login_revision)).scalar_one() is None
