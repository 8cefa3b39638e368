"""Sessions end when they have to, whatever happens during one, and nothing is passed over."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.bookkeeping import journal, subscriptions, undelivered
from models.bookkeeping.subscriptions import Filter, PausedBy
from models.db import outgoing_tables
from tests.processes import until
from tests.workers.deliveries.harness import NAME, OK, Listening, Posted, Reply, telling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.deliveries.harness import Told


@pytest.fixture
def listening() -> Listening:
    return Listening()


@pytest.fixture
def told(sqlite: Database, tmp_path: Path, listening: Listening) -> Iterator[Told]:
    with telling(sqlite, tmp_path, listening) as found:
        yield found


def send_all_again(told: Told) -> None:
    with told.database.begin() as tx:
        undelivered.send_again(tx, NAME, [], position=told.row.position, limit=1000)


@pytest.mark.timeout(60)
def test_more_that_is_sent_again_than_fits_into_memory_comes_through(told: Told, listening: Listening) -> None:
    told.change(*map(str, range(600)))
    told.deliver()
    send_all_again(told)
    told.deliver()
    assert (1200, {}) == (len(listening.posted), told.waiting)


@pytest.mark.timeout(60)
def test_a_pause_while_changes_that_waited_are_under_way_ends_the_session(told: Told, listening: Listening) -> None:
    other_came = threading.Event()

    def reply(posted: Posted) -> Reply:
        if posted.data["key"] == "a":
            with told.database.begin() as tx:
                subscriptions.pause(tx, NAME, by=PausedBy.PERSON, reason="by hand")
            other_came.wait(20)
        other_came.set()
        return OK

    told.change("a", "b")
    told.deliver()
    send_all_again(told)
    listening.reply = reply
    told.deliver(linger=timedelta(minutes=5))
    assert {} == told.waiting


@pytest.mark.timeout(60)
def test_a_session_whose_time_is_over_starts_nothing_more(told: Told, listening: Listening) -> None:
    told.change(*map(str, range(300)))
    result = told.deliver(budget=timedelta())
    assert result.has_more
    assert len(listening.posted) < 300


def test_a_session_that_ends_keeps_all_that_it_has_done(told: Told, listening: Listening) -> None:
    """One object is slow, so that the others' later changes are delivered long before."""

    def reply(posted: Posted) -> Reply:
        if posted.data["key"] == "slow":
            time.sleep(0.1)
        return OK

    listening.reply = reply
    told.change(*(str(number) if number % 10 else "slow" for number in range(100)))
    sessions = 0
    while told.deliver(budget=timedelta(seconds=0.3)).has_more or told.waiting:
        sessions += 1
    assert sessions > 1
    assert [*range(1, 101)] == sorted(listening.changes)
    assert (100, 100) == (told.row.position, told.row.delivered)
    listening.require_order()


def test_a_change_that_failed_beside_a_slow_one_keeps_its_attempts(told: Told, listening: Listening) -> None:
    """Its row stands while the position does not: a session that is killed leaves it so."""
    failed = threading.Event()

    def reply(posted: Posted) -> Reply:
        if posted.data["key"] == "bad":
            failed.set()
            return 500, b"", {}
        failed.wait(20)
        until(lambda: told.waiting, seconds=30, what="the failure is written")
        with told.database.begin() as tx:  # as if another worker had taken over from a killed one
            subscriptions.write(tx, NAME, told.row.lease or 0, {"lease": None, "leased_until": None})
        return OK

    listening.reply = reply
    told.change("slow", "bad")
    told.deliver()
    assert ({2: 1}, 0) == (told.waiting, told.row.position)
    listening.reply = lambda _: OK
    told.deliver()
    assert ({2: 1}, 2) == (told.waiting, told.row.position)
    assert 1 == listening.changes.count(2)
    told.later(timedelta(seconds=6))
    told.deliver()
    assert [1, 2] == [each.attempt for each in told.attempts if each.change == 2]


def test_what_waits_is_counted_once(told: Told, listening: Listening) -> None:
    listening.reply = lambda posted: (500, b"", {}) if posted.data["key"] == "bad" else OK
    told.change("bad", "bad", "good")
    told.deliver()
    told.change("new")
    with told.database.begin() as tx:  # as a worker that is killed leaves it
        tx.execute(sa.update(outgoing_tables.subscriptions).values(position=0))
    with told.database.read() as tx:
        assert 4 == subscriptions.backlog(tx, told.row, Filter(), at_most=100).count


def test_changes_that_are_trimmed_while_a_session_runs_pause_it(told: Told, listening: Listening) -> None:
    def reply(_: Posted) -> Reply:
        with told.database.begin() as tx:
            journal.trim(tx, told.clock.now + timedelta(days=1), limit=10_000)
        return OK

    listening.reply = reply
    told.change(*map(str, range(600)))
    told.deliver()
    assert PausedBy.TRIMMED is told.row.paused_by
    assert len(listening.posted) < 600


def test_objects_that_are_refused_do_not_stop_the_others(told: Told, listening: Listening) -> None:
    listening.reply = lambda posted: (422, b"", {}) if posted.data["key"].startswith("bad") else OK
    told.change(*(f"bad{number}" for number in range(13)))
    for number in range(4):
        told.change(f"good{number}")
        told.deliver()
        told.clock.now = max(told.clock.now, told.row.due_at) + timedelta(seconds=1)
    assert {"good0", "good1", "good2"} <= {posted.data["key"] for posted in listening.posted}


def test_nothing_is_sent_after_a_pause(told: Told, listening: Listening) -> None:
    told.change("a")
    over = threading.Event()
    options = {"linger": timedelta(minutes=5), "stopping": over.is_set}
    session = threading.Thread(target=told.deliver, kwargs=options)
    session.start()
    until(lambda: listening.posted, seconds=30, what="the first change is delivered")
    with told.database.begin() as tx:
        assert subscriptions.pause(tx, NAME, by=PausedBy.PERSON, reason="by hand")
    told.change(*map(str, range(300)))
    session.join(30)
    over.set()
    assert not session.is_alive()
    assert ["a"] == [posted.data["key"] for posted in listening.posted]


@pytest.mark.parametrize("value", ["0", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_retry_after_that_asks_for_nothing_leaves_the_ladder(told: Told, listening: Listening, value: str) -> None:
    listening.reply = lambda _: (503, b"", {"Retry-After": value})
    told.change("a")
    for _ in range(20):
        told.deliver()
        told.later(timedelta(seconds=1))
    assert 2 == len(listening.posted)


def test_a_short_retry_after_is_tried_no_sooner_than_the_ladders_first_pause(told: Told, listening: Listening) -> None:
    listening.reply = lambda _: (429, b"", {"Retry-After": "1"})
    told.change("a")
    for _ in range(4):
        told.deliver()
        told.later(timedelta(seconds=4.5))
        told.deliver()
        told.later(timedelta(seconds=1))
    assert [1] * 4 == listening.changes


@pytest.mark.parametrize(
    "value",
    [
        "Mon, 01 Jan 99999999999 00:00:00 GMT",
        "Mon, 01 Jan 2024 00:00:00 +999999999999999999999",
        "1 Jan 1 1 1 1",
        "Mon, 01 Jan 0001 00:00:00 +2359",
        "Mon, 31 Dec 9999 23:59:59 -2359",
    ],
)
def test_a_retry_after_that_is_no_date_does_not_undo_a_success(told: Told, listening: Listening, value: str) -> None:
    listening.reply = lambda _: (200, b"", {"Retry-After": value})
    told.change("a")
    assert 1 == told.deliver().delivered
