"""The whole product as real processes on every pair of database and broker that we promise."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from models.db.database import Database
from tests import processes
from tests.processes import equal, installed, unfinished, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.mirroring import Mirror

SYSTEMS: dict[str, dict[str, Any]] = {"dilovod": {"seed": 2, "lost": 0.3, "doubled": 0.3}, "directo": {"seed": 2}}

ON_REDIS = pytest.param("redis", marks=[pytest.mark.redis, pytest.mark.postgresql, pytest.mark.slow])
ON_RABBITMQ = pytest.param(
    "rabbitmq",
    marks=[pytest.mark.rabbitmq, pytest.mark.postgresql, pytest.mark.xdist_group("rabbitmq"), pytest.mark.slow],
)


@contextmanager
def place(kind: str, folder: Path) -> Iterator[tuple[Database, str]]:
    """A database and a broker of one kind."""
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
    until(lambda: equal(mirror), seconds=90, what=lambda: unfinished(mirror))


@pytest.mark.timeout(400)
@pytest.mark.parametrize("kind", ["files", ON_REDIS, ON_RABBITMQ])
def test_a_day_at_both_vendors_is_mirrored(kind: str, tmp_path: Path) -> None:
    with (
        place(kind, tmp_path) as (database, broker),
        installed(database, tmp_path, broker=broker, systems=SYSTEMS) as (installation, mirror),
    ):
        installation.start_all()
        for sandbox in mirror.sandboxes.values():
            for _ in sandbox.scenario():
                pass
        caught_up(mirror)
        until(lambda: 200 == installation.ready().status_code, seconds=60, what=lambda: installation.ready().text)
        changes = httpx.get(f"{installation.address}/changes", params={"after": 0, "limit": 1}, timeout=10).json()
        assert [1] == [entry["id"] for entry in changes["changes"]]
        for private in ("sandbox-key", "packet"):
            assert private not in installation.logs()
