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
from tests.chaos.stage import Stage, stage
from tests.processes import FULL_SYNC, until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from random import Random

    from tests.chaos.ledger import Ledger

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


def _inject(on: Stage, name: str, fault: Callable[[], object], *, times: int) -> None:
    """Inject a fault several times at random moments, starting again what dies of it."""
    with on.fault(name, hurried=True) as line:
        for _ in range(times):
            time.sleep(0.2 + on.random.random())
            fault()
            on.revive()
            on.leases_run_out()
            line.times += 1


_TITLES = {"receiver": "receiver", "sync": "sync workers", "full_sync": "full_sync workers", "beat": "beat"}
"""Process -> its name in the table."""


def _killed(on: Stage, *, times: int) -> None:
    for name, title in _TITLES.items():
        _inject(on, f"{title} killed", partial(on.kill, name), times=times)
    _inject(on, "worker's parent killed, its children left", on.kill_a_parent, times=times)
    _inject(on, "worker's child killed", on.kill_a_child, times=times)
    _inject(on, "everything killed at once", on.kill_everything, times=1)


@pytest.mark.redis
@pytest.mark.postgresql
def test_killed_at_any_moment_and_paused_past_a_lease_on_postgresql_and_redis(
    tmp_path: Path, ledger: Ledger, random: Random
) -> None:
    with processes.own_postgresql() as database, processes.own_redis() as broker:
        marked = database.url.update_query_dict({"application_name": tmp_path.name})
        with stage(database, tmp_path, broker, ledger=ledger, random=random, url=marked) as on:
            on.verbs["more full_sync"] = FULL_SYNC
            on.start()
            for point in (Point.FETCHED, Point.ROW_PREPARED, Point.CHUNK_ARRIVED):
                _paused_with_an_answer_in_hand(on, point)
            _killed(on, times=2)
            _inject(on, "database connections terminated", lambda: _terminate(database, tmp_path.name), times=3)


def _terminate(database: Database, name: str) -> None:
    with database.begin() as tx:
        ours = sa.column("application_name") == name
        sessions = sa.select(sa.func.pg_terminate_backend(sa.column("pid")))
        tx.execute(sessions.select_from(sa.table("pg_stat_activity")).where(ours))


def test_killed_at_any_moment_on_the_embedded_defaults(tmp_path: Path, ledger: Ledger, random: Random) -> None:
    database = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    with stage(database, tmp_path, processes.FILES, ledger=ledger, random=random) as on:
        on.start()
        _killed(on, times=2)
    database.close()


@pytest.mark.rabbitmq
@pytest.mark.postgresql
@pytest.mark.xdist_group("rabbitmq")
def test_killed_at_any_moment_on_postgresql_and_rabbitmq(tmp_path: Path, ledger: Ledger, random: Random) -> None:
    with (
        processes.own_postgresql() as database,
        stage(database, tmp_path, processes.emptied_rabbitmq(), ledger=ledger, random=random) as on,
    ):
        on.start()
        _inject(on, "sync workers killed", lambda: on.kill("sync"), times=2)
        _inject(on, "worker's child killed", on.kill_a_child, times=3)
        _inject(on, "everything killed at once", on.kill_everything, times=1)


def _paused_with_an_answer_in_hand(on: Stage, point: Point) -> None:
    late = on.installation.logs().count("lease lost")
    with on.fault("paused past its lease, with an answer in hand") as line:
        on.arm(point, "SIGSTOP")
        until(lambda: on.was_hit(point), seconds=150, what=lambda: f"{point} is reached: {on.report()}")
        on.leases_run_out()
        time.sleep(1)  # the others take over, and the objects change
        line.times = 1
    for name in on.verbs:
        on.resume(name)
    until(
        lambda: on.installation.logs().count("lease lost") > late, seconds=30, what="the paused worker loses its lease"
    )
    with on.fault("woken after its lease was taken over") as line:
        line.times = 1
