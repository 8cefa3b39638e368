"""The canary: a worker that takes no messages is reported, one that works is not, and canaries do not pile up."""

from __future__ import annotations

import signal
import socket
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from kombu.exceptions import OperationalError

from models.db import tables
from models.db.database import Database
from tests import processes
from tests.processes import installed, signal_group, until
from workers import configuration
from workers.queue import app, broker, canary, wakeup

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


class Canaries:
    """A prober on the filesystem broker, and the worker's side of it."""

    def __init__(self, database: Database, celery: Celery) -> None:
        self.database, self.celery = database, celery
        self.prober = self.another()

    def another(self) -> canary.Prober:
        """The prober of a second beat, or of the same beat after a restart."""
        return canary.Prober(wakeup.Waker(self.celery, self.database), self.database)

    def waiting(self) -> dict[str, int]:
        waker = wakeup.Waker(self.celery, self.database)
        return {queue: waker.depth(queue) for queue in wakeup.QUEUES}

    def purge(self) -> None:
        with self.celery.connection_for_write() as link:
            for queue in wakeup.QUEUES:
                link.default_channel.queue_purge(queue)

    def answer(self) -> None:
        """A worker takes the messages that wait."""
        self.purge()
        for queue in wakeup.QUEUES:
            canary.record_answer(self.database, queue, worker="sync@host")

    def summaries(self) -> dict[str, str]:
        return {health.queue: health.summary for health in canary.queue_health(self.database)}

    def problems(self) -> dict[str, str]:
        return {
            health.queue: health.problem for health in canary.queue_health(self.database) if health.problem is not None
        }


@contextmanager
def canaries(database: Database, folder: Path, clock: Clock) -> Iterator[Canaries]:
    file = folder / configuration.FILE
    file.write_text(f'[broker]\nurl = "{processes.FILES}"\n')
    loaded = configuration.load(file)
    broker.prepare(loaded)
    timed = Database(database.url, clock=clock)
    celery = app.create_app(loaded, timed)
    yield Canaries(timed, celery)
    celery.close()
    timed.close()


@pytest.fixture
def sent(database: Database, tmp_path: Path, clock: Clock) -> Iterator[Canaries]:
    """On each kind of database."""
    with canaries(database, tmp_path, clock) as made:
        yield made


@pytest.fixture
def quick(sqlite: Database, tmp_path: Path, clock: Clock) -> Iterator[Canaries]:
    """On SQLite only, for rules that do not depend on the database."""
    with canaries(sqlite, tmp_path, clock) as made:
        yield made


def test_one_is_sent_to_each_queue_and_none_follows_while_it_is_outstanding(sent: Canaries, clock: Clock) -> None:
    for _ in range(5):
        sent.prober.send_due()
        clock.pass_(seconds=5)
    assert {"sync": 1, "full_sync": 1} == sent.waiting()


def test_an_answer_is_followed_by_the_next_canary_after_15_seconds(sent: Canaries, clock: Clock) -> None:
    sent.prober.send_due()
    clock.pass_(seconds=1)
    sent.answer()
    clock.pass_(seconds=13)
    sent.prober.send_due()
    assert {"sync": 0, "full_sync": 0} == sent.waiting()
    clock.pass_(seconds=1)
    sent.prober.send_due()
    assert {"sync": 1, "full_sync": 1} == sent.waiting()


def test_a_lost_one_is_repeated(sent: Canaries, clock: Clock) -> None:
    sent.prober.send_due()
    sent.purge()
    clock.pass_(seconds=10)
    sent.prober.send_due()
    assert {"sync": 0, "full_sync": 0} == sent.waiting()
    clock.pass_(seconds=5)
    sent.prober.send_due()
    assert {"sync": 1, "full_sync": 1} == sent.waiting()


def test_one_that_is_lost_again_and_again_counts_since_the_first(quick: Canaries, clock: Clock) -> None:
    for _ in range(20):
        quick.prober.send_due()
        quick.purge()
        clock.pass_(seconds=15)
    assert "sync: no worker has answered for 5 min; is `erpmirror worker` running?" == quick.problems()["sync"]


def test_a_week_without_workers_leaves_one_in_each_queue(quick: Canaries, clock: Clock) -> None:
    for _ in range(7 * 24):
        quick.prober.send_due()
        quick.another().send_due()
        clock.pass_(hours=1)
    assert {"sync": 1, "full_sync": 1} == quick.waiting()


def test_two_beats_send_one(sent: Canaries) -> None:
    for prober in (sent.prober, sent.another()):
        prober.send_due()
    assert {"sync": 1, "full_sync": 1} == sent.waiting()


def test_one_that_wake_ups_overtook_is_repeated_though_the_queue_is_not_empty(quick: Canaries, clock: Clock) -> None:
    waker = wakeup.Waker(quick.celery, quick.database)
    quick.prober.send_due()
    quick.purge()
    waker.wake("queued")
    clock.pass_(seconds=20)
    quick.prober.send_due()
    assert 1 == quick.waiting()["sync"], "no worker answers: it may wait in the queue"
    clock.pass_(seconds=20)
    waker.acknowledge("other", wakeup.SYNC)
    quick.prober.send_due()
    assert 2 == quick.waiting()["sync"]


def test_an_answer_that_comes_twice_is_one(sent: Canaries) -> None:
    sent.prober.send_due()
    sent.answer()
    sent.answer()
    assert {} == sent.problems()


def test_the_last_answer_is_shown(sent: Canaries, clock: Clock) -> None:
    sent.prober.send_due()
    sent.answer()
    clock.pass_(seconds=4)
    expected = {"sync": "sync: a worker answered 4 s ago", "full_sync": "full_sync: a worker answered 4 s ago"}
    assert (expected, {}) == (sent.summaries(), sent.problems())


def test_an_acknowledged_wake_up_is_an_answer(quick: Canaries, clock: Clock) -> None:
    quick.prober.send_due()
    clock.pass_(minutes=4)
    wakeup.Waker(quick.celery, quick.database).acknowledge("shop", wakeup.SYNC)
    assert ["full_sync"] == list(quick.problems())


def test_without_a_scheduler_no_worker_is_blamed(quick: Canaries, clock: Clock) -> None:
    assert {
        "sync": "sync: not known yet; is `erpmirror beat` running?",
        "full_sync": "full_sync: not known yet; is `erpmirror beat` running?",
    } == quick.problems()
    quick.prober.send_due()
    quick.answer()
    clock.pass_(minutes=10)
    expected = "a worker answered 10 min ago, no canary was sent since; is `erpmirror beat` running?"
    assert f"sync: {expected}" == quick.problems()["sync"]


def test_a_worker_that_never_started_is_reported_after_a_while(quick: Canaries, clock: Clock) -> None:
    quick.prober.send_due()
    assert ({}, "sync: no worker has answered yet") == (quick.problems(), quick.summaries()["sync"])
    clock.pass_(minutes=4)
    assert "sync: no worker has answered for 4 min; is `erpmirror worker` running?" == quick.problems()["sync"]


def lease(sent: Canaries, *, subject: str | None) -> None:
    with sent.database.begin() as tx:
        until_ = sent.database.now(tx) + timedelta(hours=2)
        held = {"revision": 1, "account": "a", "subject": subject, "until": until_}
        tx.execute(sa.insert(tables.leases).values(held))


def test_a_full_sync_of_hours_is_no_problem_but_the_other_queue_still_counts(sent: Canaries, clock: Clock) -> None:
    sent.prober.send_due()
    sent.answer()
    clock.pass_(seconds=20)
    sent.prober.send_due()
    lease(sent, subject=None)
    clock.pass_(hours=1)
    assert ["sync"] == list(sent.problems())
    long = "full_sync: a worker answered 60 min ago; a full sync is under way, other work waits for its end"
    assert long == sent.summaries()["full_sync"]
    clock.pass_(hours=2)
    assert ["sync", "full_sync"] == list(sent.problems()), "the lease ran out: its worker has died"


def test_a_lease_of_one_object_is_no_full_sync(quick: Canaries, clock: Clock) -> None:
    quick.prober.send_due()
    lease(quick, subject="items 1")
    clock.pass_(hours=1)
    assert ["sync", "full_sync"] == list(quick.problems())


def test_a_broker_that_takes_nothing_is_reported_and_the_next_is_sent_when_it_is_back(
    sent: Canaries, clock: Clock, tmp_path: Path
) -> None:
    sent.prober.send_due()
    sent.answer()
    clock.pass_(minutes=1)
    messages = tmp_path / "var" / "broker" / "messages"
    messages.rmdir()
    for _ in range(2):
        with pytest.raises(OperationalError):
            sent.prober.send_due()
        clock.pass_(minutes=1)
    assert {
        "sync": "sync: the broker took no message; a worker answered 3 min ago",
        "full_sync": "full_sync: the broker took no message; a worker answered 3 min ago",
    } == sent.problems()
    messages.mkdir()
    sent.prober.send_due()
    assert {"sync": 1, "full_sync": 1} == sent.waiting()


def stalled(sent: Canaries) -> dict[str, str]:
    return canary.stalled(wakeup.Waker(sent.celery, sent.database), sent.database, after=timedelta(minutes=5))


def test_a_worker_that_takes_nothing_while_messages_wait_is_reported_once(sent: Canaries, clock: Clock) -> None:
    sent.prober.send_due()
    clock.pass_(minutes=5)
    assert {} == stalled(sent)
    clock.pass_(minutes=1)
    both = {"sync": "has taken no message for 6 min", "full_sync": "has taken no message for 6 min"}
    assert [both, {}] == [stalled(sent), stalled(sent)]
    clock.pass_(minutes=6)
    assert both == stalled(sent)


def test_a_full_sync_is_no_stall_nor_is_an_empty_queue(quick: Canaries, clock: Clock) -> None:
    quick.prober.send_due()
    lease(quick, subject=None)
    clock.pass_(hours=1)
    assert ["sync"] == list(stalled(quick))
    quick.purge()
    clock.pass_(hours=2)
    assert {} == stalled(quick)


def test_a_worker_that_stopped_consuming_is_reported_though_its_process_lives(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    later = Database(database.url, clock=lambda: datetime.now(UTC) + timedelta(minutes=4))

    def served() -> bool:
        return all(health.answered_at is not None for health in canary.queue_health(database))

    def missing() -> list[str]:
        return [
            health.queue for health in canary.queue_health(later) if "no worker has answered" in (health.problem or "")
        ]

    with installed(database, tmp_path, broker=processes.FILES, systems={}) as (installation, _):
        worker, *_ = (installation.start(*verb) for verb in (processes.SYNC, processes.FULL_SYNC, ("beat",)))
        until(served, seconds=60, what=installation.logs)
        assert {f"sync@{socket.gethostname()}.{worker.pid}"} == {
            health.worker.partition(",")[0]
            for health in canary.queue_health(database)
            if health.queue == "sync" and health.worker
        }
        signal_group(worker, signal.SIGSTOP)
        until(lambda: ["sync"] == missing(), seconds=60, what=installation.logs)
        signal_group(worker, signal.SIGCONT)
        until(lambda: not missing(), seconds=60, what=installation.logs)
    later.close()
    database.close()
