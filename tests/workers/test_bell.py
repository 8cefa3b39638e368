"""The doorbell: one ring for each connection, repeated only when it was lost, on every broker that we promise."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from kombu.exceptions import OperationalError

from models import migration
from models.database import Database
from tests import processes
from workers import app, bell, broker, configuration
from workers.bell import FULL_SYNC, SYNC, Bell

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.settings import Settings

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
def hung(database: Database, folder: Path, address: str, clock: Clock) -> Iterator[Bell]:
    """A bell on this broker."""
    loaded = settings(folder, address)
    timed = Database(database.url, clock=clock)
    celery = app.create_app(loaded, timed)
    try:
        yield Bell(celery, timed)
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
def doorbell(request: pytest.FixtureRequest, sqlite: Database, tmp_path: Path, clock: Clock) -> Iterator[Bell]:
    """A bell on each kind of broker."""
    if request.param == "redis":
        with processes.own_redis() as address, hung(sqlite, tmp_path, address, clock) as made:
            yield made
        return
    address = processes.FILES if request.param == "files" else processes.emptied_rabbitmq()
    with hung(sqlite, tmp_path, address, clock) as made:
        yield made
    if request.param == "rabbitmq":
        processes.emptied_rabbitmq()


def test_a_ring_is_one_message(doorbell: Bell) -> None:
    assert doorbell.ring("shop")
    assert 1 == doorbell.queued(SYNC)
    assert 0 == doorbell.queued(FULL_SYNC)


def test_a_ring_is_not_repeated_while_it_is_outstanding(doorbell: Bell, clock: Clock) -> None:
    doorbell.ring("shop")
    clock.pass_(seconds=9)
    assert not doorbell.ring("shop")
    assert not doorbell.ring("shop", again=True)
    assert 1 == doorbell.queued(SYNC)


def test_each_connection_and_each_queue_has_a_ring_of_its_own(doorbell: Bell) -> None:
    assert [True, True, True] == [doorbell.ring("shop"), doorbell.ring("books"), doorbell.ring("shop", FULL_SYNC)]
    assert 2 == doorbell.queued(SYNC)
    assert 1 == doorbell.queued(FULL_SYNC)


def test_an_answered_ring_is_followed_by_a_new_one(doorbell: Bell, clock: Clock) -> None:
    doorbell.ring("shop")
    clock.pass_(seconds=1)
    doorbell.answer("shop", SYNC)
    assert doorbell.ring("shop")


def test_what_is_stored_in_the_instant_of_the_answer_is_rung_for(doorbell: Bell) -> None:
    doorbell.ring("shop")
    doorbell.answer("shop", SYNC)
    assert doorbell.ring("shop")


def test_an_outstanding_ring_counts_for_ten_seconds(doorbell: Bell, clock: Clock) -> None:
    doorbell.ring("shop")
    clock.pass_(seconds=11)
    assert not doorbell.ring("shop")
    assert doorbell.ring("shop", again=True)
    assert not doorbell.ring("shop", again=True)


def test_the_database_on_postgresql_claims_alike(tmp_path: Path, clock: Clock) -> None:
    with processes.own_postgresql() as database:
        migration.migrate(database)
        with hung(database, tmp_path, processes.FILES, clock) as doorbell:
            assert [True, False] == [doorbell.ring("shop"), doorbell.ring("shop")]
            clock.pass_(seconds=11)
            assert [True, False] == [doorbell.ring("shop", again=True), doorbell.ring("shop", again=True)]
            doorbell.answer("shop", SYNC)
            assert doorbell.ring("shop")


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_away_is_said_and_the_ring_does_not_count(
    sqlite: Database, tmp_path: Path, clock: Clock, scheme: str
) -> None:
    nobody = f"{scheme}://127.0.0.1:{processes.free_port()}/0"
    with hung(sqlite, tmp_path, nobody, clock) as doorbell:
        for attempt in (lambda: doorbell.ring("shop"), lambda: doorbell.queued(SYNC), doorbell.broker_alive):
            with pytest.raises(OperationalError):
                attempt()
    with hung(sqlite, tmp_path, processes.FILES, clock) as doorbell:
        assert doorbell.ring("shop")


def test_a_broker_that_never_answers_is_away(sqlite: Database, tmp_path: Path, clock: Clock) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"amqp://127.0.0.1:{silent.getsockname()[1]}//"
        with hung(sqlite, tmp_path, address, clock) as doorbell, pytest.raises(OperationalError):
            doorbell.ring("shop")


def test_a_folder_that_is_gone_takes_the_claim_back(sqlite: Database, tmp_path: Path, clock: Clock) -> None:
    with hung(sqlite, tmp_path, processes.FILES, clock) as doorbell:
        messages = tmp_path / "var" / "broker" / "messages"
        messages.rmdir()
        with pytest.raises(OperationalError):
            doorbell.ring("shop")
        messages.mkdir()
        assert doorbell.ring("shop")


def test_queues_of_the_bell_and_of_the_worker_are_the_same() -> None:
    assert {app.SYNC, app.FULL_SYNC} == set(bell.QUEUES)


def test_a_ring_that_workers_passed_over_is_repeated_though_the_queue_is_busy(doorbell: Bell, clock: Clock) -> None:
    doorbell.ring("lost")
    doorbell.ring("queued")
    clock.pass_(seconds=15)
    assert not doorbell.repeat("lost", SYNC), "nobody answers: it may wait in the queue"
    doorbell.answer("other", SYNC)
    assert doorbell.repeat("lost", SYNC)
