"""Processes killed and paused at random moments, one kind after the other, on every kind of database and broker."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.db.database import Database
from models.failpoints import Point
from tests import processes
from tests.chaos.harness import ChaosHarness, chaos_harness
from tests.processes import FULL_SYNC, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from tests.chaos.results import Results

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def _inject(harness: ChaosHarness, name: str, fault: Callable[[], object], *, times: int) -> None:
    """Inject a fault several times at random moments, starting again what dies of it."""
    with harness.fault(name, hurried=True) as result:
        for _ in range(times):
            time.sleep(0.2 + harness.random.random())
            fault()
            harness.revive()
            harness.leases_run_out()
            result.times += 1


_TITLES = {"receiver": "receiver", "sync": "sync workers", "full_sync": "full_sync workers", "beat": "beat"}
"""Process -> its name in the table."""


def _killed(harness: ChaosHarness, *, times: int) -> None:
    for name, title in _TITLES.items():
        _inject(harness, f"{title} killed", partial(harness.kill, name), times=times)
    _inject(harness, "worker's parent killed, its children left", harness.kill_a_parent, times=times)
    _inject(harness, "worker's child killed", harness.kill_a_child, times=times)
    _inject(harness, "everything killed at once", harness.kill_everything, times=1)


@pytest.mark.redis
@pytest.mark.postgresql
def test_killed_at_any_moment_and_paused_past_a_lease_on_postgresql_and_redis(
    tmp_path: Path, results: Results, random: Random
) -> None:
    with processes.own_postgresql() as database, processes.own_redis() as broker:
        marked = database.url.update_query_dict({"application_name": tmp_path.name})
        with chaos_harness(database, tmp_path, broker, results=results, random=random, url=marked) as harness:
            harness.verbs["more full_sync"] = FULL_SYNC
            harness.start()
            for point in (Point.FETCHED, Point.ROW_PREPARED, Point.CHUNK_ARRIVED):
                _paused_with_an_answer_in_hand(harness, point)
            _killed(harness, times=2)
            _inject(harness, "database connections terminated", lambda: _terminate(database, tmp_path.name), times=3)


def _terminate(database: Database, name: str) -> None:
    with database.begin() as tx:
        ours = sa.column("application_name") == name
        sessions = sa.select(sa.func.pg_terminate_backend(sa.column("pid")))
        tx.execute(sessions.select_from(sa.table("pg_stat_activity")).where(ours))


def test_killed_at_any_moment_on_the_embedded_defaults(tmp_path: Path, results: Results, random: Random) -> None:
    database = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    with chaos_harness(database, tmp_path, processes.FILES, results=results, random=random) as harness:
        harness.start()
        _killed(harness, times=2)
    database.close()


@pytest.mark.rabbitmq
@pytest.mark.postgresql
@pytest.mark.xdist_group("rabbitmq")
def test_killed_at_any_moment_on_postgresql_and_rabbitmq(tmp_path: Path, results: Results, random: Random) -> None:
    with (
        processes.own_postgresql() as database,
        chaos_harness(database, tmp_path, processes.emptied_rabbitmq(), results=results, random=random) as harness,
    ):
        harness.start()
        _inject(harness, "sync workers killed", lambda: harness.kill("sync"), times=2)
        _inject(harness, "worker's child killed", harness.kill_a_child, times=3)
        _inject(harness, "everything killed at once", harness.kill_everything, times=1)


def _paused_with_an_answer_in_hand(harness: ChaosHarness, point: Point) -> None:
    late = harness.installation.logs().count("lease lost")
    with harness.fault("paused past its lease, with an answer in hand") as result:
        harness.arm(point, "SIGSTOP")
        until(lambda: harness.was_hit(point), seconds=150, what=lambda: f"{point} is reached: {harness.report()}")
        harness.leases_run_out()
        time.sleep(1)  # the others take over, and the objects change
        result.times = 1
    for name in harness.verbs:
        harness.resume(name)
    until(
        lambda: harness.installation.logs().count("lease lost") > late,
        seconds=30,
        what="the paused worker loses its lease",
    )
    with harness.fault("woken after its lease was taken over") as result:
        result.times = 1
