"""The broker down, hung, emptied, killed, started again: intake goes on, nothing is lost, all workers still consume."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa

from models.db import tables
from models.failpoints import Point
from tests import processes
from tests.chaos.servers import RabbitMQ, Redis
from tests.chaos.stage import Stage, stage
from tests.processes import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from random import Random

    from tests.chaos.ledger import Ledger

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
def play(tmp_path: Path, ledger: Ledger, random: Random) -> Iterator[Callable[[Broker], Any]]:
    """A stage on this broker."""
    with processes.own_postgresql() as database:
        yield lambda broker: stage(database, tmp_path, broker.address, ledger=ledger, random=random)


def _acknowledged(on: Stage) -> dict[str, datetime]:
    """Queue -> when a worker last acknowledged a wake-up."""
    c = tables.wakeups.c
    latest = sa.func.max(c.answered_at).label("latest")
    with on.mirror.database.read() as tx:
        rows = tx.execute(sa.select(c.queue, latest).group_by(c.queue))
        return {row.queue: row.latest for row in rows if row.latest is not None}


def _now(on: Stage) -> datetime:
    with on.mirror.database.read() as tx:
        return on.mirror.database.now(tx)


def _works(on: Stage, *queues: str) -> None:
    """Wait until workers acknowledge wake-ups sent from now on."""
    began = _now(on)
    until(
        lambda: all(_acknowledged(on).get(queue, began) > began for queue in queues or ("sync", "full_sync")),
        seconds=PATIENCE,
        what=lambda: f"work resumes: {_acknowledged(on)} {on.report()}",
    )


def _every_worker_consumes(on: Stage) -> None:
    """Each worker of the queue that has two does the work alone."""
    for other in ("sync", "more sync"):
        on.pause(other)
        _works(on, "sync")
        on.resume(other)
    _works(on, "full_sync")


def _ready(on: Stage) -> dict[str, Any]:
    return dict(httpx.get(f"{on.installation.address}/readyz", timeout=20).json())


def _survived(on: Stage) -> None:
    """No process died, every webhook was accepted, and the log has no traceback."""
    assert [] == [name for name, process in on.running.items() if process.poll() is not None], on.installation.logs()
    assert set(on.postbox.answers) <= {200}  # none at all where chance edited the other vendor only
    assert "Traceback" not in on.installation.logs()


def _away(on: Stage, inject: Callable[[], None], mend: Callable[[], None]) -> None:
    inject()
    until(lambda: _ready(on)["broker"] != "ok", seconds=30, what="the receiver says that the broker is away")
    assert not _ready(on)["ok"]
    time.sleep(AWAY)
    mend()
    _works(on)


def _faults(broker: Broker) -> dict[str, tuple[Callable[[], None], Callable[[], None]]]:
    faults = {"killed": (broker.kill, broker.start), "paused": (broker.pause, broker.resume)}
    # Redis stores nothing on disk here, so stopping and killing it are the same.
    return faults if isinstance(broker, Redis) else {"stopped": (broker.stop, broker.start), **faults}


def _stopped_in_a_task(on: Stage, point: Point) -> None:
    """Stop a worker's child in a task, with its message unacknowledged."""
    on.arm(point, "SIGSTOP")
    until(lambda: on.was_hit(point), seconds=PATIENCE, what=lambda: f"{point} is reached: {on.report()}")


def _goes_away(on: Stage, broker: Broker) -> None:
    for name, (inject, mend) in _faults(broker).items():
        with on.fault(f"{broker.name} {name}", pause=0.2) as line:
            _away(on, inject, mend)
            line.times = 1
    with on.fault(f"{broker.name} emptied", pause=0.2) as line:
        for line.times in range(1, 3):
            broker.flush() if isinstance(broker, Redis) else broker.empty()
            _works(on)


def _goes_away_in_the_middle(on: Stage, broker: Broker) -> None:
    with on.fault(f"{broker.name} started again in the middle of tasks", pause=0.2) as line:
        for line.times, point in enumerate((Point.FETCHED, Point.CHUNK_ARRIVED), 1):
            _stopped_in_a_task(on, point)
            broker.kill()
            time.sleep(1)
            broker.start()
            _wake(on)
    with on.fault(f"{broker.name} paused in the middle of tasks", pause=0.2) as line:
        for line.times, point in enumerate((Point.CHUNK_ARRIVED, Point.FETCHED), 1):
            _stopped_in_a_task(on, point)
            broker.pause()
            for name in WORKERS:
                on.resume(name)
            time.sleep(AWAY)
            broker.resume()
            _works(on)


def _wake(on: Stage) -> None:
    for name in WORKERS:
        on.resume(name)
    _works(on)


def test_a_broker_that_goes_away_and_comes_back_loses_nothing(broker: Broker, play: Callable[[Broker], Any]) -> None:
    with play(broker) as on:
        on.start()
        _goes_away(on, broker)
        _goes_away_in_the_middle(on, broker)
        _every_worker_consumes(on)
        _survived(on)
        assert (True, "ok", "ok") == tuple(_ready(on)[name] for name in ("ok", "broker", "workers"))


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
    tmp_path: Path, play: Callable[[Broker], Any]
) -> None:
    with ShortTimeoutRabbitMQ(tmp_path) as broker, play(broker) as on:
        on.start()
        with on.fault("rabbitmq's consumer timeout during a long task", pause=0.2) as line:
            _stopped_in_a_task(on, Point.CHUNK_ARRIVED)
            until(lambda: "timed out" in broker.log.read_text(), seconds=PATIENCE, what="the consumer timeout")
            _wake(on)
            line.times = 1
        _survived(on)


@pytest.mark.redis
def test_processes_that_start_without_a_broker_work_when_it_comes(redis: Redis, play: Callable[[Broker], Any]) -> None:
    with play(redis) as on:
        redis.stop()
        on.revive()
        until(on.installation.answers, seconds=60, what=on.installation.logs)
        with on.fault(f"{redis.name} away from the start", pause=0.2) as line:
            time.sleep(AWAY)
            redis.start()
            _works(on)
            line.times = 1
        _survived(on)


def _verb(on: Stage, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "workers.cli", *words, "--config", str(on.installation.file)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)
    return ran.returncode, ran.stdout + ran.stderr


def test_verbs_do_without_the_broker_and_say_so(broker: Broker, play: Callable[[Broker], Any]) -> None:
    with play(broker) as on:
        # A stopped Redis refuses connections, a paused RabbitMQ does not answer.
        broker.stop() if isinstance(broker, Redis) else broker.pause()
        status, output = _verb(on, "poll", "dilovod", "--no-wait")
        assert (0, True, True) == (status, "the broker cannot be reached" in output, "The work stays due" in output), (
            output
        )
        status, output = _verb(on, "status")
        assert (0, True, True) == (status, "the broker cannot be reached" in output, "catalogs.goods" in output), output
        assert 0 == _verb(on, "parked", "list")[0]
        status, output = _verb(on, "check")
        assert (1, True) == (status, "the broker cannot be reached" in output), output
