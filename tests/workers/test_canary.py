"""The canary: a worker that takes no messages is noticed, one that works is not accused, and none piles up."""

from __future__ import annotations

import signal
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from kombu.exceptions import OperationalError

from models import tables
from models.database import Database
from tests import processes
from tests.processes import installed, signal_group, until
from workers import app, bell, broker, canary, configuration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery import Celery

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """A database's clock that the test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Aviary:
    """Senders on a broker of files, and the worker's side of it."""

    def __init__(self, database: Database, celery: Celery) -> None:
        self.database, self.celery = database, celery
        self.sender = self.another()

    def another(self) -> canary.Sender:
        """As a second beat, or the same after a restart, has one."""
        return canary.Sender(bell.Bell(self.celery, self.database), self.database)

    def waiting(self) -> dict[str, int]:
        waker = bell.Bell(self.celery, self.database)
        return {queue: waker.queued(queue) for queue in bell.QUEUES}

    def purge(self) -> None:
        with self.celery.connection_for_write() as connection:
            for queue in bell.QUEUES:
                connection.default_channel.queue_purge(queue)

    def answer(self) -> None:
        """A worker takes what waits."""
        self.purge()
        for queue in bell.QUEUES:
            canary.answer(self.database, queue, worker="sync@host")

    def says(self) -> dict[str, str]:
        return {sign.queue: sign.says for sign in canary.signs(self.database)}

    def wrong(self) -> dict[str, str]:
        return {sign.queue: sign.wrong for sign in canary.signs(self.database) if sign.wrong is not None}


@contextmanager
def aviary(database: Database, folder: Path, clock: Clock) -> Iterator[Aviary]:
    file = folder / configuration.FILE
    file.write_text(f'[broker]\nurl = "{processes.FILES}"\n')
    loaded = configuration.load(file)
    broker.prepare(loaded)
    timed = Database(database.url, clock=clock)
    celery = app.create_app(loaded, timed)
    yield Aviary(timed, celery)
    celery.close()
    timed.close()


@pytest.fixture
def birds(database: Database, tmp_path: Path, clock: Clock) -> Iterator[Aviary]:
    """On each kind of database."""
    with aviary(database, tmp_path, clock) as made:
        yield made


@pytest.fixture
def quick(sqlite: Database, tmp_path: Path, clock: Clock) -> Iterator[Aviary]:
    """For what does not differ between databases."""
    with aviary(sqlite, tmp_path, clock) as made:
        yield made


def test_one_goes_out_on_each_queue_and_none_follows_while_it_is_under_way(birds: Aviary, clock: Clock) -> None:
    for _ in range(5):
        birds.sender.send_due()
        clock.pass_(seconds=5)
    assert {"sync": 1, "full_sync": 1} == birds.waiting()


def test_an_answer_is_followed_by_the_next_one_after_a_quarter_of_a_minute(birds: Aviary, clock: Clock) -> None:
    birds.sender.send_due()
    clock.pass_(seconds=1)
    birds.answer()
    clock.pass_(seconds=13)
    birds.sender.send_due()
    assert {"sync": 0, "full_sync": 0} == birds.waiting()
    clock.pass_(seconds=1)
    birds.sender.send_due()
    assert {"sync": 1, "full_sync": 1} == birds.waiting()


def test_a_lost_one_is_repeated(birds: Aviary, clock: Clock) -> None:
    birds.sender.send_due()
    birds.purge()
    clock.pass_(seconds=10)
    birds.sender.send_due()
    assert {"sync": 0, "full_sync": 0} == birds.waiting()
    clock.pass_(seconds=5)
    birds.sender.send_due()
    assert {"sync": 1, "full_sync": 1} == birds.waiting()


def test_one_that_was_lost_again_and_again_is_still_missed_since_the_first(quick: Aviary, clock: Clock) -> None:
    for _ in range(20):
        quick.sender.send_due()
        quick.purge()
        clock.pass_(seconds=15)
    assert "sync: no worker has answered for 5 min; is `erpmirror worker` running?" == quick.wrong()["sync"]


def test_a_week_without_workers_leaves_one_on_each_queue(quick: Aviary, clock: Clock) -> None:
    for _ in range(7 * 24):
        quick.sender.send_due()
        quick.another().send_due()
        clock.pass_(hours=1)
    assert {"sync": 1, "full_sync": 1} == quick.waiting()


def test_two_beats_send_one(birds: Aviary) -> None:
    for sender in (birds.sender, birds.another()):
        sender.send_due()
    assert {"sync": 1, "full_sync": 1} == birds.waiting()


def test_one_that_workers_passed_over_is_repeated_though_the_queue_is_busy(quick: Aviary, clock: Clock) -> None:
    doorbell = bell.Bell(quick.celery, quick.database)
    quick.sender.send_due()
    quick.purge()
    doorbell.ring("queued")
    clock.pass_(seconds=20)
    quick.sender.send_due()
    assert 1 == quick.waiting()["sync"], "nobody answers: it may wait in the queue"
    clock.pass_(seconds=20)
    doorbell.answer("other", bell.SYNC)
    quick.sender.send_due()
    assert 2 == quick.waiting()["sync"]


def test_an_answer_that_comes_twice_is_one(birds: Aviary) -> None:
    birds.sender.send_due()
    birds.answer()
    birds.answer()
    assert {} == birds.wrong()


def test_the_last_answer_is_told(birds: Aviary, clock: Clock) -> None:
    birds.sender.send_due()
    birds.answer()
    clock.pass_(seconds=4)
    told = {"sync": "sync: a worker answered 4 s ago", "full_sync": "full_sync: a worker answered 4 s ago"}
    assert (told, {}) == (birds.says(), birds.wrong())


def test_a_ring_that_was_answered_is_an_answer(quick: Aviary, clock: Clock) -> None:
    quick.sender.send_due()
    clock.pass_(minutes=4)
    bell.Bell(quick.celery, quick.database).answer("shop", bell.SYNC)
    assert ["full_sync"] == list(quick.wrong())


def test_whom_nobody_asks_is_not_accused(quick: Aviary, clock: Clock) -> None:
    assert {
        "sync": "sync: not known yet; is `erpmirror beat` running?",
        "full_sync": "full_sync: not known yet; is `erpmirror beat` running?",
    } == quick.wrong()
    quick.sender.send_due()
    quick.answer()
    clock.pass_(minutes=10)
    asked = "a worker answered 10 min ago, no canary was sent since; is `erpmirror beat` running?"
    assert f"sync: {asked}" == quick.wrong()["sync"]


def test_a_worker_that_was_never_there_is_missed_after_a_while(quick: Aviary, clock: Clock) -> None:
    quick.sender.send_due()
    assert ({}, "sync: no worker has answered yet") == (quick.wrong(), quick.says()["sync"])
    clock.pass_(minutes=4)
    assert "sync: no worker has answered for 4 min; is `erpmirror worker` running?" == quick.wrong()["sync"]


def lease(birds: Aviary, *, subject: str | None) -> None:
    with birds.database.begin() as connection:
        until_ = birds.database.now(connection) + timedelta(hours=2)
        held = {"turn": 1, "account": "a", "subject": subject, "until": until_}
        connection.execute(sa.insert(tables.leases).values(held))


def test_a_worker_that_reads_for_hours_is_not_accused_but_one_of_the_other_queue_is(
    birds: Aviary, clock: Clock
) -> None:
    birds.sender.send_due()
    birds.answer()
    clock.pass_(seconds=20)
    birds.sender.send_due()
    lease(birds, subject=None)
    clock.pass_(hours=1)
    assert ["sync"] == list(birds.wrong())
    long = "full_sync: a worker answered 60 min ago; a full sync is under way, other work waits for its end"
    assert long == birds.says()["full_sync"]
    clock.pass_(hours=2)
    assert ["sync", "full_sync"] == list(birds.wrong()), "the lease ran out: who held it is gone"


def test_a_lease_of_one_object_is_no_long_reading(quick: Aviary, clock: Clock) -> None:
    quick.sender.send_due()
    lease(quick, subject="items 1")
    clock.pass_(hours=1)
    assert ["sync", "full_sync"] == list(quick.wrong())


def test_a_broker_that_takes_nothing_is_said_and_the_next_goes_out_when_it_is_back(
    birds: Aviary, clock: Clock, tmp_path: Path
) -> None:
    birds.sender.send_due()
    birds.answer()
    clock.pass_(minutes=1)
    messages = tmp_path / "var" / "broker" / "messages"
    messages.rmdir()
    for _ in range(2):
        with pytest.raises(OperationalError):
            birds.sender.send_due()
        clock.pass_(minutes=1)
    assert {
        "sync": "sync: the broker took no message; a worker answered 3 min ago",
        "full_sync": "full_sync: the broker took no message; a worker answered 3 min ago",
    } == birds.wrong()
    messages.mkdir()
    birds.sender.send_due()
    assert {"sync": 1, "full_sync": 1} == birds.waiting()


def deaf(birds: Aviary) -> dict[str, str]:
    return canary.deaf(bell.Bell(birds.celery, birds.database), birds.database, after=timedelta(minutes=5))


def test_who_takes_nothing_while_messages_wait_is_deaf_and_told_once(birds: Aviary, clock: Clock) -> None:
    birds.sender.send_due()
    clock.pass_(minutes=5)
    assert {} == deaf(birds)
    clock.pass_(minutes=1)
    both = {"sync": "has taken no message for 6 min", "full_sync": "has taken no message for 6 min"}
    assert [both, {}] == [deaf(birds), deaf(birds)]
    clock.pass_(minutes=6)
    assert both == deaf(birds)


def test_who_reads_is_not_deaf_nor_is_anybody_whose_queue_is_empty(quick: Aviary, clock: Clock) -> None:
    quick.sender.send_due()
    lease(quick, subject=None)
    clock.pass_(hours=1)
    assert ["sync"] == list(deaf(quick))
    quick.purge()
    clock.pass_(hours=2)
    assert {} == deaf(quick)


def test_a_worker_that_stopped_consuming_is_noticed_though_its_process_lives(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    later = Database(database.url, clock=lambda: datetime.now(UTC) + timedelta(minutes=4))

    def served() -> bool:
        return all(sign.answered_at is not None for sign in canary.signs(database))

    def missed() -> list[str]:
        return [sign.queue for sign in canary.signs(later) if "no worker has answered" in (sign.wrong or "")]

    with installed(database, tmp_path, broker=processes.FILES, systems={}) as (installation, _):
        looks, *_ = (installation.start(*verb) for verb in (processes.SYNC, processes.FULL_SYNC, ("beat",)))
        until(served, seconds=60, what=installation.logs)
        assert {f"sync@{app.socket.gethostname()}.{looks.pid}"} == {
            sign.worker.partition(",")[0] for sign in canary.signs(database) if sign.queue == "sync" and sign.worker
        }
        signal_group(looks, signal.SIGSTOP)
        until(lambda: ["sync"] == missed(), seconds=60, what=installation.logs)
        signal_group(looks, signal.SIGCONT)
        until(lambda: not missed(), seconds=60, what=installation.logs)
    later.close()
    database.close()
