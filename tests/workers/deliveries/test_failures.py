"""An endpoint that fails: retries by the ladder, order kept, one attempt at a time, pauses that a person ends."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.bookkeeping import subscriptions
from models.bookkeeping.subscriptions import PausedBy, State
from models.db import migration, outgoing_tables, tables
from models.db.database import Database
from tests import processes
from tests.workers.deliveries.harness import NAME, OK, Listening, Posted, Reply, settings, telling
from workers.deliveries import deliver, plans, retries, standing
from workers.deliveries.standing import Standing, Verdict
from workers.queue import retention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.workers.deliveries.harness import Told


def failing(status: int = 500, text: bytes = b"", headers: dict[str, str] | None = None) -> Callable[[Posted], Reply]:
    return lambda _: (status, text, headers or {})


@pytest.fixture
def listening() -> Listening:
    return Listening(reply=failing())


@pytest.fixture
def told(database: Database, tmp_path: Path, listening: Listening) -> Iterator[Told]:
    with telling(database, tmp_path, listening) as found:
        yield found


@pytest.fixture
def told_here(sqlite: Database, tmp_path: Path, listening: Listening) -> Iterator[Told]:
    """On SQLite only, for what does not differ between databases."""
    with telling(sqlite, tmp_path, listening) as found:
        yield found


def test_a_failed_delivery_is_tried_again_by_the_ladder(told: Told, listening: Listening) -> None:
    told.change("1")
    for number, pause in enumerate([*retries.LADDER, retries.LADDER[-1]], start=1):
        told.deliver()
        assert {1: number} == told.waiting
        told.later(pause - timedelta(seconds=1))
        told.deliver()
        assert {1: number} == told.waiting  # not due yet
        told.later(timedelta(seconds=2))
    listening.reply = lambda _: OK
    told.deliver()
    assert ({}, 1) == (told.waiting, told.row.delivered)
    assert [*range(1, 9)] == [each.attempt for each in told.attempts]
    assert 1 == len({each.id for each in listening.posted})


def test_every_attempt_is_recorded_with_status_words_and_the_beginning_of_the_answer(
    told: Told, listening: Listening
) -> None:
    listening.reply = failing(503, b"\x00\x1b[31m" + b"busy " * 1000)
    told.change("1")
    told.deliver()
    attempt = told.attempts[0]
    assert ("failed", 503, "status 503") == (attempt.outcome, attempt.status, attempt.error)
    assert attempt.answer is not None
    assert attempt.answer.startswith("\\u0000\x1b[31mbusy")
    assert len(attempt.answer) < 1100


def test_later_changes_of_a_failing_object_wait_for_it_and_others_do_not(told: Told, listening: Listening) -> None:
    listening.reply = lambda posted: (500, b"", {}) if posted.data["key"] == "bad" else OK
    told.change("bad", "good")
    told.change("bad", "good")
    told.deliver()
    assert {1: 1, 3: 0} == told.waiting
    assert 4 == told.row.position
    told.change("bad")
    told.deliver()
    assert {1: 1, 3: 0, 5: 0} == told.waiting
    listening.reply = lambda _: OK
    told.later(timedelta(minutes=1))
    told.deliver()
    assert {} == told.waiting
    listening.require_order()
    assert {1: 2, 2: 1, 3: 1, 4: 1, 5: 1} == dict(Counter(listening.changes))


def test_a_dead_endpoint_costs_one_attempt_at_a_time(told: Told, listening: Listening) -> None:
    at_once, most, lock = 0, 0, threading.Lock()

    def reply(_: Posted) -> Reply:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        with lock:
            at_once -= 1
        return 500, b"", {}

    listening.reply = reply
    told.set(failures=1)
    told.change(*map(str, range(100)))
    told.deliver()
    assert 1 == most
    assert retries.TRIALS - 1 == len(listening.posted)
    assert 100 - len(listening.posted) == 100 - told.row.position  # the others stay in the journal
    for pause in retries.LADDER[:3]:
        told.deliver()
        before = len(listening.posted)
        told.later(pause + timedelta(seconds=1))
        told.deliver()
        assert before + 1 == len(listening.posted)


def test_once_the_endpoint_answers_again_everything_that_waits_is_delivered(told: Told, listening: Listening) -> None:
    told.change(*map(str, range(50)))
    told.deliver()
    told.later(timedelta(seconds=6))
    told.deliver()
    listening.reply = lambda _: OK
    told.later(timedelta(minutes=6))
    told.deliver(linger=timedelta(seconds=2))
    assert {} == told.waiting
    assert 50 == told.row.delivered
    assert {*range(1, 51)} == {*listening.changes}


@pytest.mark.parametrize("status", [301, 302, 307, 400, 401, 404, 409, 418, 429, 500, 502, 599])
def test_every_status_but_a_success_is_a_failure(told_here: Told, listening: Listening, status: int) -> None:
    listening.reply = failing(status, headers={"Location": "http://169.254.169.254/latest/meta-data"})
    told_here.change("1")
    told_here.deliver()
    assert {1: 1} == told_here.waiting
    assert 1 == len(listening.posted)


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_every_success_is_one(told_here: Told, listening: Listening, status: int) -> None:
    listening.reply = lambda _: (status, b"", {})
    told_here.change("1")
    assert 1 == told_here.deliver().delivered


@pytest.mark.parametrize("value", ["120", "{date}"])
def test_retry_after_is_honoured(told_here: Told, listening: Listening, value: str) -> None:
    wanted = format_datetime(datetime.now(UTC) + timedelta(seconds=120), usegmt=True)
    listening.reply = failing(503, headers={"Retry-After": value.format(date=wanted)})
    told_here.change("1", "2")
    told_here.deliver()
    listening.reply = lambda _: OK
    told_here.later(timedelta(seconds=100))
    told_here.change("3")
    assert 0 == told_here.deliver().delivered
    told_here.later(timedelta(seconds=21))
    told_here.deliver(linger=timedelta(seconds=2))
    assert 3 == told_here.row.delivered


@pytest.mark.parametrize("value", ["soon", "-5", "1e3", "", "Wed, 99 Foo"])
def test_a_retry_after_that_says_nothing_leaves_the_ladder(told_here: Told, listening: Listening, value: str) -> None:
    listening.reply = failing(503, headers={"Retry-After": value})
    told_here.change("1")
    told_here.deliver()
    listening.reply = lambda _: OK
    told_here.later(timedelta(seconds=6))
    assert 1 == told_here.deliver().delivered


def test_a_retry_after_of_years_is_cut_to_a_day(told_here: Told, listening: Listening) -> None:
    listening.reply = failing(503, headers={"Retry-After": "999999999"})
    told_here.change("1")
    told_here.deliver()
    listening.reply = lambda _: OK
    told_here.later(timedelta(days=1, seconds=1))
    assert 1 == told_here.deliver().delivered


def test_410_pauses_at_once_and_a_person_resumes(told: Told, listening: Listening) -> None:
    listening.reply = failing(410)
    told.change("1", "2")
    told.deliver()
    assert (State.PAUSED, PausedBy.GONE) == (told.row.state, told.row.paused_by)
    posted = len(listening.posted)
    told.later(timedelta(days=1))
    told.deliver()
    assert posted == len(listening.posted)
    listening.reply = lambda _: OK
    with told.database.begin() as tx:
        subscriptions.resume(tx, NAME)
    told.deliver(linger=timedelta(seconds=2))
    assert (State.ACTIVE, 2, {}) == (told.row.state, told.row.delivered, told.waiting)


def test_a_delivery_that_fails_for_days_pauses_the_subscription(told: Told) -> None:
    told.change("1")
    for _ in range(30):
        told.deliver()
        told.later(timedelta(hours=10, seconds=1))
        if told.row.state is State.PAUSED:
            break
    assert (State.PAUSED, PausedBy.GAVE_UP) == (told.row.state, told.row.paused_by)
    assert told.row.paused_at is not None
    assert told.row.paused_at - told.attempts[0].at >= timedelta(days=5)
    assert "change 1 has failed for 5 d: status 500" == told.row.reason


def test_one_bad_change_among_good_ones_pauses_in_the_end_and_can_be_skipped(told: Told, listening: Listening) -> None:
    listening.reply = lambda posted: (500, b"", {}) if posted.data["key"] == "bad" else OK
    told.change("bad")
    for number in range(40):
        told.change(f"good{number}")
        told.deliver()
        told.later(timedelta(hours=5))
        if told.row.state is State.PAUSED:
            break
    assert PausedBy.GAVE_UP is told.row.paused_by
    with told.database.begin() as tx:
        subscriptions.resume(tx, NAME, skip=[1])
    told.change("bad")
    listening.reply = lambda _: OK
    told.deliver()
    assert ({}, State.ACTIVE) == (told.waiting, told.row.state)
    assert 1 == len([each for each in listening.posted if each.data["key"] == "bad" and each.data["id"] > 1])


def test_what_is_skipped_while_it_is_tried_does_not_come_back(told: Told, listening: Listening) -> None:
    told.change("bad")
    told.deliver()

    def skip_meanwhile(_: Posted) -> Reply:
        with told.database.begin() as tx:
            assert subscriptions.resume(tx, NAME, skip=[1])
        return 500, b"", {}

    listening.reply = skip_meanwhile
    told.later(retries.LADDER[0] + timedelta(seconds=1))
    told.deliver()
    assert ({}, [1, 1]) == (told.waiting, listening.changes)


def test_what_waits_behind_a_failing_change_wakes_nobody(told: Told, listening: Listening) -> None:
    listening.reply = lambda posted: (500, b"", {}) if posted.data["key"] == "bad" else OK
    told.change("bad", "bad", "good")
    told.deliver()
    assert {1: 1, 2: 0} == told.waiting
    assert [] == _due(told)
    told.later(retries.LADDER[0] + timedelta(seconds=1))
    assert [NAME] == _due(told)


def test_the_next_try_is_that_of_whichever_is_due_first(told: Told) -> None:
    told.change("old")
    told.deliver()
    told.later(retries.LADDER[0] + timedelta(seconds=1))
    told.change("new")
    told.deliver()
    assert {1: 2, 2: 1} == told.waiting
    next_try = _standing(told).next_try
    assert next_try is not None
    assert timedelta(seconds=5) <= next_try - told.clock.now < timedelta(minutes=1)


def _due(told: Told) -> list[str]:
    with told.database.read() as tx:
        return subscriptions.due(tx, now=tx.now)


def test_a_new_address_is_tried_at_once_and_ends_a_pause_of_the_old_one(
    sqlite: Database, tmp_path: Path, listening: Listening
) -> None:
    listening.reply = failing(410)
    with telling(sqlite, tmp_path, listening) as told:
        told.change("1")
        told.deliver()
        assert State.PAUSED is told.row.state
        listening.reply = lambda _: OK
        url = told.settings.subscriptions[NAME].url.replace("/hooks", "/new")
        told.settings = settings(tmp_path, url, sqlite)
        plans.sync(sqlite, told.settings)
        assert 1 == told.deliver().delivered


def test_a_new_address_does_not_end_a_pause_of_a_persons(
    sqlite: Database, tmp_path: Path, listening: Listening
) -> None:
    with telling(sqlite, tmp_path, listening) as told:
        with sqlite.begin() as tx:
            subscriptions.pause(tx, NAME, by=PausedBy.PERSON, reason="by hand")
        url = told.settings.subscriptions[NAME].url.replace("/hooks", "/new")
        plans.sync(sqlite, settings(tmp_path, url, sqlite))
        assert State.PAUSED is told.row.state


def _trim(told: Told, upto: int) -> None:
    with told.database.begin() as tx:
        tx.execute(sa.delete(tables.changes).where(tables.changes.c.id <= upto))


def test_changes_that_were_trimmed_before_their_delivery_pause_it_and_a_person_goes_on(
    told: Told, listening: Listening
) -> None:
    listening.reply = lambda _: OK
    told.change("1", "2", "3")
    _trim(told, 2)
    told.deliver()
    assert (PausedBy.TRIMMED, []) == (told.row.paused_by, listening.posted)
    assert "those from 1 to 2" in str(told.row.reason)
    with told.database.begin() as tx:
        subscriptions.resume(tx, NAME)
    told.deliver()
    assert [3] == listening.changes


def test_a_waiting_change_that_was_trimmed_pauses_it_too(told: Told, listening: Listening) -> None:
    told.change("1", "2")
    told.deliver()
    _trim(told, 1)
    listening.reply = lambda _: OK
    told.later(timedelta(minutes=1))
    told.deliver()
    assert PausedBy.TRIMMED is told.row.paused_by
    with told.database.begin() as tx:
        subscriptions.resume(tx, NAME)
    told.deliver()
    assert (State.ACTIVE, {}, 2) == (told.row.state, told.waiting, listening.changes[-1])


def test_a_crash_of_ours_waits_a_minute_and_loses_nothing(told: Told, listening: Listening) -> None:
    told.change("1")
    with told.database.begin() as tx:
        tx.execute(sa.text("ALTER TABLE erpmirror_undelivered RENAME TO elsewhere"))
    with pytest.raises(sa.exc.SQLAlchemyError):
        told.deliver()
    with told.database.begin() as tx:
        tx.execute(sa.text("ALTER TABLE elsewhere RENAME TO erpmirror_undelivered"))
    assert "erpmirror failed; its log says how" == told.row.reason
    assert (Verdict.FAILING, told.row.due_at) == (_standing(told).verdict, _standing(told).next_try)
    listening.reply = lambda _: OK
    told.deliver()
    assert 0 == told.row.delivered
    told.later(timedelta(minutes=2))
    assert 1 == told.deliver().delivered
    assert Verdict.UP_TO_DATE is _standing(told).verdict


def test_a_crash_that_is_over_is_not_shown_any_more(told: Told) -> None:
    with told.database.begin() as tx:
        tx.execute(sa.update(outgoing_tables.subscriptions).values(reason="erpmirror failed; its log says how"))
    assert Verdict.FAILING is _standing(told).verdict
    told.deliver()
    assert (None, Verdict.UP_TO_DATE) == (told.row.reason, _standing(told).verdict)


def _standing(told: Told) -> Standing:
    with told.database.read() as tx:
        found = standing.find(tx, told.settings.subscriptions, NAME)
    assert found is not None
    return found


@pytest.fixture
def told_on_postgresql(tmp_path: Path, listening: Listening) -> Iterator[Told]:
    with processes.own_postgresql() as opened:
        migration.migrate(opened)
        with telling(opened, tmp_path, listening) as found:
            yield found


@pytest.mark.postgresql
def test_a_table_that_another_program_locks_is_no_crash(told_on_postgresql: Told) -> None:
    told = told_on_postgresql
    told.change("1")
    impatient = Database(told.database.url, clock=told.clock, lock_seconds=1)
    with told.database.begin() as other:
        other.execute(sa.text("LOCK TABLE erpmirror_deliveries"))
        with pytest.raises(sa.exc.OperationalError, match="lock"):
            deliver.deliver(impatient, told.settings, NAME, linger=timedelta(0))
    impatient.close()
    assert (None, None, 0) == (told.row.reason, told.row.lease, told.row.delivered)
    assert [] == _due(told)  # nor is what it had sent sent again without end
    told.later(timedelta(minutes=1, seconds=1))
    assert 1 == told.deliver().failed


def test_retention_forgets_old_attempts_and_places_of_removed_subscriptions(told: Told) -> None:
    told.change("1")
    told.deliver()
    with told.database.begin() as tx:
        subscriptions.sync(tx, [])
    told.later(timedelta(days=29))
    retention.prune(told.database, told.settings)
    assert (1, {1: 1}) == (len(told.attempts), told.waiting)
    told.later(timedelta(days=2))
    retention.prune(told.database, told.settings)
    assert ([], {}) == (told.attempts, told.waiting)
    assert 0 == _count(told, outgoing_tables.subscriptions)


def _count(told: Told, table: Any) -> int:
    with told.database.read() as tx:
        return tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
