"""Two of everything over one database: the vendor sees one client, the mirror one writer."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from models.db.database import Database
from tests import processes
from tests.chaos.harness import ChaosHarness, chaos_harness
from tests.processes import FULL_SYNC, SYNC, free_port, until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path
    from random import Random

    from starlette.types import ASGIApp, Receive, Scope, Send

    from tests.chaos.results import Results

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]

TWICE = {
    "beat": ("beat",),
    "other beat": ("beat",),
    "sync": SYNC,
    "other sync": SYNC,
    "full_sync": FULL_SYNC,
    "other full_sync": FULL_SYNC,
    "receiver": ("receiver",),
}


def _two_of_everything(harness: ChaosHarness) -> None:
    port = free_port()
    harness.verbs = {**TWICE, "other receiver": ("receiver", "--port", str(port))}
    harness.start()
    other = f"http://127.0.0.1:{port}/hooks/dilovod"
    harness.webhook_proxy.forward_to([f"{harness.installation.address}/hooks/dilovod", other])
    for name, resource in (("dilovod", "documents.saleOrder"), ("directo", "orders")):
        with harness.fault("two receivers, four workers, two beats, two backfills") as result:
            backfills = [harness.installation.start("backfill", name, resource) for _ in range(2)]
            until(lambda: all(_ended(each) for each in backfills), seconds=120, what=harness.report)  # noqa: B023 - this round's
            time.sleep(1)
            result.times = 1
        assert [0, 0] == [each.returncode for each in backfills], harness.report()
    assert 0 == harness.mirror.sandboxes["dilovod"].overlaps


def _ended(process: subprocess.Popen[bytes]) -> bool:
    return process.poll() is not None


@contextmanager
def _installed(kind: str, folder: Path) -> Iterator[tuple[Database, str]]:
    with ExitStack() as stack:
        if kind == "files":
            database = Database(f"sqlite:///{folder / 'mirror.db'}")
            stack.callback(database.close)
            yield database, processes.FILES
        elif kind == "redis":
            yield stack.enter_context(processes.own_postgresql()), stack.enter_context(processes.own_redis())
        else:
            yield stack.enter_context(processes.own_postgresql()), processes.emptied_rabbitmq()


@pytest.mark.parametrize(
    "kind",
    [
        "files",
        pytest.param("redis", marks=[pytest.mark.redis, pytest.mark.postgresql]),
        pytest.param(
            "rabbitmq", marks=[pytest.mark.rabbitmq, pytest.mark.postgresql, pytest.mark.xdist_group("rabbitmq")]
        ),
    ],
)
def test_two_of_everything_are_one_client_to_the_vendor(
    tmp_path: Path, results: Results, random: Random, kind: str
) -> None:
    with (
        _installed(kind, tmp_path) as (database, broker),
        chaos_harness(database, tmp_path, broker, results=results, random=random) as harness,
    ):
        _two_of_everything(harness)


class Counted:
    """Wraps a sandbox and records when each request arrived."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.arrived: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note it and pass it on."""
        if scope["type"] == "http":
            self.arrived.append(time.monotonic())
        await self._app(scope, receive, send)

    def most_in_a_minute(self) -> int:
        """The most requests in any sliding minute."""
        minute = timedelta(minutes=1).total_seconds()
        return max(sum(begin <= each < begin + minute for each in self.arrived) for begin in self.arrived)


@pytest.mark.redis
@pytest.mark.postgresql
def test_limits_per_minute_hold_in_every_sliding_minute(tmp_path: Path, results: Results, random: Random) -> None:
    limit, counted = 120, []

    def wrapper(app: ASGIApp) -> Counted:
        counted.append(Counted(app))
        return counted[0]

    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        chaos_harness(
            database,
            tmp_path,
            broker,
            results=results,
            random=random,
            systems={"directo": {"seed": 4}},
            wrappers={"directo": wrapper},
            requests_per_minute=limit,
            full_every="2s",
        ) as harness,
    ):
        harness.verbs = TWICE
        harness.revive()
        # Everything is always due: the pace alone decides.
        until(lambda: _seconds(counted[0]) > 70, seconds=150, what=harness.report)
        with harness.fault("more work than the vendor's limit allows") as result:
            result.times = 1
        assert limit // 2 < counted[0].most_in_a_minute() <= limit


def _seconds(counted: Counted) -> float:
    return sum(other - one for one, other in pairwise(counted.arrived))
