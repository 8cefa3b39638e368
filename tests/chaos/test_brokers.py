"""The broker down, hung, emptied, killed, started again: intake goes on, nothing is lost, all workers still consume."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.db import tables
from models.failpoints import Point
from tests import processes
from tests.chaos.harness import ChaosHarness, chaos_harness
from tests.chaos.servers import RabbitMQ, Redis
from tests.processes import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from random import Random

    from tests.chaos.results import Results

    Broker = Redis | RabbitMQ

pytestmark = [pytest.mark.chaos, pytest.mark.postgresql, pytest.mark.timeout(900)]

PATIENCE = 90
"""Seconds. Work resumes within a few of the broker's return; this is only a safety net."""

AWAY = 6.0
"""Seconds: longer than any timeout for a broker that does not answer."""

WORKERS = ("sync", "more sync", "full_sync")


@pytest.fixture(
    params=[pytest.param(Redis, marks=pytest.mark.redis), pytest.param(RabbitMQ, marks=pytest.mark.rabbitmq)]
)
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """A server of this test's own."""
    with request.param(tmp_path) as server:
        yield server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with Redis(tmp_path) as server:
        yield server


@pytest.fixture
def harness_on(tmp_path: Path, results: Results, random: Random) -> Iterator[Callable[[Broker], Any]]:
    """A harness whose installation uses the broker."""
    with processes.own_postgresql() as database:
        yield lambda broker: chaos_harness(database, tmp_path, broker.address, results=results, random=random)


def _acknowledged(harness: ChaosHarness) -> dict[str, datetime]:
    """Queue -> when a worker last acknowledged a wake-up."""
    c = tables.wakeups.c
    latest = sa.func.max(c.answered_at).label("latest")
    with harness.mirror.database.read() as tx:
        rows = tx.execute(sa.select(c.queue, latest).group_by(c.queue))
        return {row.queue: row.latest for row in rows if row.latest is not None}


def _now(harness: ChaosHarness) -> datetime:
    with harness.mirror.database.read() as tx:
        return harness.mirror.database.now(tx)


def _works(harness: ChaosHarness, *queues: str) -> None:
    """Wait until workers acknowledge wake-ups sent from now on."""
    began = _now(harness)
    until(
        lambda: all(_acknowledged(harness).get(queue, began) > began for queue in queues or ("sync", "full_sync")),
        seconds=PATIENCE,
        what=lambda: f"work resumes: {_acknowledged(harness)} {harness.report()}",
    )


def _every_worker_consumes(harness: ChaosHarness) -> None:
    """Each worker of the queue that has two does the work alone."""
    for other in ("sync", "more sync"):
        harness.pause(other)
        _works(harness, "sync")
        harness.resume(other)
    _works(harness, "full_sync")


def _ready(harness: ChaosHarness) -> dict[str, Any]:
    return dict(harness.installation.ready().json())


def _survived(harness: ChaosHarness) -> None:
    """No process died, every webhook was accepted, and the log has no traceback."""
    assert [] == [name for name, process in harness.running.items() if process.poll() is not None], (
        harness.installation.logs()
    )
    assert set(harness.webhook_proxy.answers) <= {200}  # none at all where chance edited the other vendor only
    assert [] == [text[:4000] for text in harness.installation.logs().split("Traceback")[1:]]


def _away(harness: ChaosHarness, inject: Callable[[], None], mend: Callable[[], None]) -> None:
    inject()
    until(lambda: _ready(harness)["broker"] != "ok", seconds=30, what="the receiver says that the broker is away")
    assert not _ready(harness)["ok"]
    time.sleep(AWAY)
    mend()
    _works(harness)


def _faults(broker: Broker) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    faults = {"killed": (broker.kill, broker.start), "paused": (broker.pause, broker.resume)}
    # Redis stores nothing on disk here, so stopping and killing it are the same.
    return faults if isinstance(broker, Redis) else {"stopped": (broker.stop, broker.start), **faults}


def _stopped_in_a_task(harness: ChaosHarness, point: Point) -> None:
    """Stop a worker's child in a task, with its message unacknowledged."""
    harness.arm(point, "SIGSTOP")
    until(lambda: harness.was_hit(point), seconds=PATIENCE, what=lambda: f"{point} is reached: {harness.report()}")


def _goes_away(harness: ChaosHarness, broker: Broker) -> None:
    for name, (inject, mend) in _faults(broker).items():
        with harness.fault(f"{broker.name} {name}", pause=0.2) as result:
            _away(harness, inject, mend)
            result.times = 1
    with harness.fault(f"{broker.name} emptied", pause=0.2) as result:
        for result.times in range(1, 3):
            broker.flush() if isinstance(broker, Redis) else broker.empty()
            _works(harness)


def _goes_away_in_the_middle(harness: ChaosHarness, broker: Broker) -> None:
    with harness.fault(f"{broker.name} started again in the middle of tasks", pause=0.2) as result:
        for result.times, point in enumerate((Point.FETCHED, Point.CHUNK_ARRIVED), 1):
            _stopped_in_a_task(harness, point)
            broker.kill()
            time.sleep(1)
            broker.start()
            _wake(harness)
    with harness.fault(f"{broker.name} paused in the middle of tasks", pause=0.2) as result:
        for result.times, point in enumerate((Point.CHUNK_ARRIVED, Point.FETCHED), 1):
            _stopped_in_a_task(harness, point)
            broker.pause()
            for name in WORKERS:
                harness.resume(name)
            time.sleep(AWAY)
            broker.resume()
            _works(harness)


def _wake(harness: ChaosHarness) -> None:
    for name in WORKERS:
        harness.resume(name)
    _works(harness)


def test_a_broker_that_goes_away_and_comes_back_loses_nothing(
    broker: Broker, harness_on: Callable[[Broker], Any]
) -> None:
    with harness_on(broker) as harness:
        harness.start()
        _goes_away(harness, broker)
        _goes_away_in_the_middle(harness, broker)
        _every_worker_consumes(harness)
        _survived(harness)
        assert (True, "ok", "ok") == tuple(_ready(harness)[name] for name in ("ok", "broker", "workers"))


class ShortTimeoutRabbitMQ(RabbitMQ):
    """Requeues a message that stays unacknowledged for five seconds; by default that is half an hour."""

    def prepare(self) -> None:
        super().prepare()
        with (self.data / "rabbitmq.conf").open("a") as settings:
            settings.write("consumer_timeout = 5000\n")
        advanced = self.data / "advanced.config"
        advanced.write_text("[{rabbit, [{channel_tick_interval, 500}]}].")
        self._environment["RABBITMQ_ADVANCED_CONFIG_FILE"] = str(advanced)


@pytest.mark.rabbitmq
def test_a_task_that_takes_longer_than_rabbitmq_waits_ends_no_worker(
    tmp_path: Path, harness_on: Callable[[Broker], Any]
) -> None:
    with ShortTimeoutRabbitMQ(tmp_path) as broker, harness_on(broker) as harness:
        harness.start()
        with harness.fault("rabbitmq's consumer timeout during a long task", pause=0.2) as result:
            _stopped_in_a_task(harness, Point.CHUNK_ARRIVED)
            until(lambda: "timed out" in broker.log.read_text(), seconds=PATIENCE, what="the consumer timeout")
            _wake(harness)
            result.times = 1
        _survived(harness)


@pytest.mark.redis
def test_processes_that_start_without_a_broker_work_when_it_comes(
    redis: Redis, harness_on: Callable[[Broker], Any]
) -> None:
    with harness_on(redis) as harness:
        redis.stop()
        harness.revive()
        until(harness.installation.answers, seconds=60, what=harness.installation.logs)
        with harness.fault(f"{redis.name} away from the start", pause=0.2) as result:
            time.sleep(AWAY)
            redis.start()
            _works(harness)
            result.times = 1
        _survived(harness)


def _verb(harness: ChaosHarness, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "workers.cli", *words, "--config", str(harness.installation.file)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    return ran.returncode, ran.stdout + ran.stderr


def test_verbs_do_without_the_broker_and_say_so(broker: Broker, harness_on: Callable[[Broker], Any]) -> None:
    with harness_on(broker) as harness:
        # A stopped Redis refuses connections, a paused RabbitMQ does not answer.
        broker.stop() if isinstance(broker, Redis) else broker.pause()
        status, output = _verb(harness, "poll", "dilovod", "--no-wait")
        assert (0, True, True) == (status, "the broker cannot be used" in output, "The work stays due" in output), (
            output
        )
        status, output = _verb(harness, "status")
        assert (0, True, True) == (status, "the broker cannot be used" in output, "catalogs.goods" in output), output
        assert 0 == _verb(harness, "parked", "list")[0]
        status, output = _verb(harness, "check")
        assert (1, True) == (status, "the broker cannot be used" in output), output
