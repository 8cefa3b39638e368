"""Wake-ups: one for each connection and queue, repeated only when it was lost, on every supported broker."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from kombu.exceptions import OperationalError

from models.db import migration
from models.db.database import Database
from tests import processes
from workers import configuration
from workers.queue import app, broker, wakeup
from workers.queue.wakeup import FULL_SYNC, SYNC, Waker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.settings.load import Settings

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Clock:
    """A database's clock that the test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> None:
        self.now += timedelta(**time)


def settings(folder: Path, address: str) -> Settings:
    file = folder / configuration.FILE
    file.write_text(f'[broker]\nurl = "{address}"\n')
    loaded = configuration.load(file)
    broker.prepare(loaded)
    return loaded


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextmanager
def waking(database: Database, folder: Path, address: str, clock: Clock) -> Iterator[Waker]:
    """A waker on this broker."""
    loaded = settings(folder, address)
    timed = Database(database.url, clock=clock)
    celery = app.create_app(loaded, timed)
    try:
        yield Waker(celery, timed)
    finally:
        celery.close()
        timed.close()


@pytest.fixture(
    params=[
        "files",
        pytest.param("redis", marks=pytest.mark.redis),
        pytest.param("rabbitmq", marks=[pytest.mark.rabbitmq, pytest.mark.xdist_group("rabbitmq")]),
    ]
)
def waker(request: pytest.FixtureRequest, sqlite: Database, tmp_path: Path, clock: Clock) -> Iterator[Waker]:
    """A waker on each kind of broker."""
    if request.param == "redis":
        with processes.own_redis() as address, waking(sqlite, tmp_path, address, clock) as made:
            yield made
        return
    address = processes.FILES if request.param == "files" else processes.emptied_rabbitmq()
    with waking(sqlite, tmp_path, address, clock) as made:
        yield made
    if request.param == "rabbitmq":
        processes.emptied_rabbitmq()


def test_a_wake_up_is_one_message(waker: Waker) -> None:
    assert waker.wake("shop")
    assert 1 == waker.depth(SYNC)
    assert 0 == waker.depth(FULL_SYNC)


def test_a_wake_up_is_not_repeated_while_it_is_outstanding(waker: Waker, clock: Clock) -> None:
    waker.wake("shop")
    clock.pass_(seconds=9)
    assert not waker.wake("shop")
    assert not waker.wake("shop", again=True)
    assert 1 == waker.depth(SYNC)


def test_each_connection_and_queue_has_its_own_wake_up(waker: Waker) -> None:
    assert [True, True, True] == [waker.wake("shop"), waker.wake("books"), waker.wake("shop", FULL_SYNC)]
    assert 2 == waker.depth(SYNC)
    assert 1 == waker.depth(FULL_SYNC)


def test_an_acknowledged_wake_up_is_followed_by_a_new_one(waker: Waker, clock: Clock) -> None:
    waker.wake("shop")
    clock.pass_(seconds=1)
    waker.acknowledge("shop", SYNC)
    assert waker.wake("shop")


def test_work_stored_at_the_moment_of_the_acknowledgement_is_woken_for(waker: Waker) -> None:
    waker.wake("shop")
    waker.acknowledge("shop", SYNC)
    assert waker.wake("shop")


def test_an_outstanding_wake_up_counts_for_ten_seconds(waker: Waker, clock: Clock) -> None:
    waker.wake("shop")
    clock.pass_(seconds=11)
    assert not waker.wake("shop")
    assert waker.wake("shop", again=True)
    assert not waker.wake("shop", again=True)


def test_the_database_on_postgresql_claims_alike(tmp_path: Path, clock: Clock) -> None:
    with processes.own_postgresql() as database:
        migration.migrate(database)
        with waking(database, tmp_path, processes.FILES, clock) as waker:
            assert [True, False] == [waker.wake("shop"), waker.wake("shop")]
            clock.pass_(seconds=11)
            assert [True, False] == [waker.wake("shop", again=True), waker.wake("shop", again=True)]
            waker.acknowledge("shop", SYNC)
            assert waker.wake("shop")


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_down_raises_and_the_wake_up_does_not_count(
    sqlite: Database, tmp_path: Path, clock: Clock, scheme: str
) -> None:
    closed_port = f"{scheme}://127.0.0.1:{processes.free_port()}/0"
    with waking(sqlite, tmp_path, closed_port, clock) as waker:
        for attempt in (lambda: waker.wake("shop"), lambda: waker.depth(SYNC), waker.check_broker):
            with pytest.raises(OperationalError):
                attempt()
    with waking(sqlite, tmp_path, processes.FILES, clock) as waker:
        assert waker.wake("shop")


def test_a_broker_that_never_answers_is_down(sqlite: Database, tmp_path: Path, clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"amqp://127.0.0.1:{silent.getsockname()[1]}//"
        with waking(sqlite, tmp_path, address, clock) as waker, pytest.raises(OperationalError):
            waker.wake("shop")


def test_a_claim_is_taken_back_where_the_folder_is_gone(sqlite: Database, tmp_path: Path, clock: Clock) -> None:
    with waking(sqlite, tmp_path, processes.FILES, clock) as waker:
        messages = tmp_path / "var" / "broker" / "messages"
        messages.rmdir()
        with pytest.raises(OperationalError):
            waker.wake("shop")
        messages.mkdir()
        assert waker.wake("shop")


def test_wake_ups_go_to_the_queues_of_the_workers() -> None:
    assert {app.SYNC, app.FULL_SYNC} == set(wakeup.QUEUES)


def test_an_overtaken_wake_up_is_repeated_though_the_queue_is_not_empty(waker: Waker, clock: Clock) -> None:
    waker.wake("lost")
    waker.wake("queued")
    clock.pass_(seconds=15)
    both: list[tuple[str, wakeup.QueueName]] = [("lost", SYNC), ("queued", SYNC)]
    assert [] == waker.rewake(both), "no worker acknowledges: they may wait in the queue"
    waker.acknowledge("queued", SYNC)
    assert [("lost", SYNC)] == waker.rewake(both)
