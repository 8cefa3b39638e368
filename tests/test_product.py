"""The whole product as real processes on every pair of database and broker that we promise."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa

from models import tables
from models.database import Database
from tests import processes
from tests.processes import equal, installed, until, waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.mirroring import Mirror

SYSTEMS: dict[str, dict[str, Any]] = {"dilovod": {"seed": 2, "lost": 0.3, "doubled": 0.3}, "directo": {"seed": 2}}

ON_REDIS = pytest.param("redis", marks=[pytest.mark.redis, pytest.mark.postgresql])
ON_RABBITMQ = pytest.param(
    "rabbitmq", marks=[pytest.mark.rabbitmq, pytest.mark.postgresql, pytest.mark.xdist_group("rabbitmq")]
)


@contextmanager
def place(kind: str, folder: Path) -> Iterator[tuple[Database, str]]:
    """A database and a broker that go together."""
    with ExitStack() as stack:
        if kind == "files":
            database = Database(f"sqlite:///{folder / 'mirror.db'}")
            stack.callback(database.close)
            yield database, processes.FILES
        else:
            database = stack.enter_context(processes.own_postgresql())
            broker = stack.enter_context(processes.own_redis()) if kind == "redis" else processes.emptied_rabbitmq()
            yield database, broker


def caught_up(mirror: Mirror) -> None:
    until(lambda: equal(mirror), seconds=90, what=lambda: waiting(mirror))


@pytest.mark.parametrize("kind", ["files", ON_REDIS, ON_RABBITMQ])
def test_a_day_at_both_vendors_is_mirrored(kind: str, tmp_path: Path) -> None:
    with (
        place(kind, tmp_path) as (database, broker),
        installed(database, tmp_path, broker=broker, systems=SYSTEMS) as (installation, mirror),
    ):
        installation.start_all()
        for sandbox in mirror.sandboxes.values():
            for _ in sandbox.story():
                pass
        caught_up(mirror)
        ready = httpx.get(f"{installation.address}/readyz", timeout=10)
        assert 200 == ready.status_code, ready.text
        changes = httpx.get(f"{installation.address}/changes", params={"after": 0, "limit": 1}, timeout=10).json()
        assert [1] == [entry["id"] for entry in changes["changes"]]
        for private in ("sandbox-key", "packet"):
            assert private not in installation.logs()


@pytest.mark.parametrize("kind", ["files", ON_REDIS])
def test_two_beats_and_several_workers_at_once_do_no_harm(kind: str, tmp_path: Path) -> None:
    with (
        place(kind, tmp_path) as (database, broker),
        installed(database, tmp_path, broker=broker, systems=SYSTEMS) as (installation, mirror),
    ):
        for verb in (("beat",), ("beat",), processes.LOOKS, processes.LOOKS, ("worker", "--concurrency", "1")):
            installation.start(*verb)
        caught_up(mirror)
        chance = Random(2)
        for _ in range(20):
            for sandbox in mirror.sandboxes.values():
                sandbox.edit(chance)
        caught_up(mirror)
        with database.read() as connection:
            entries = connection.execute(sa.select(tables.changes)).all()
        created = [(row.resource, row.key) for row in entries if row.kind == "created"]
        assert len(set(created)) == len(created)
        assert all(process.poll() is None for process in installation.running), installation.logs()


@pytest.mark.redis
@pytest.mark.postgresql
def test_processes_come_back_when_the_broker_was_away_for_a_while(tmp_path: Path) -> None:
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as address,
        processes.Line(address) as line,
        installed(database, tmp_path, broker=line.address, systems=SYSTEMS) as (installation, mirror),
    ):
        installation.start_all()
        caught_up(mirror)
        line.cut()
        until(lambda: "sweep failed" in installation.logs(), seconds=30, what="beat notices")
        chance = Random(2)
        for _ in range(10):
            for sandbox in mirror.sandboxes.values():
                sandbox.edit(chance)
        assert 503 == httpx.get(f"{installation.address}/readyz", timeout=10).status_code
        line.mend()
        caught_up(mirror)
        assert all(process.poll() is None for process in installation.running), installation.logs()
