"""A host whose clock is three hours ahead until its time service has started: afterwards nothing waits for hours."""

from __future__ import annotations

import signal
import subprocess
import sys
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import clock_steps
from models.db.database import Database
from models.db.tables import streams
from tests import processes
from tests.chaos.hosts import faketime
from tests.processes import equal, installed, unfinished, until

if TYPE_CHECKING:
    from pathlib import Path


def test_after_a_clock_was_three_hours_ahead_everything_goes_on_at_once(tmp_path: Path) -> None:
    """Real processes on the embedded defaults. Their clocks step back while they run; the vendors' are right."""
    offset = tmp_path / "offset"
    offset.write_text("+3h\n")
    environment = {
        "LD_PRELOAD": faketime(),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    database = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    seldom = {"reconcile_every": "1h", "resources": ["catalogs.goods"]}
    directo = {"options": {"every": "5s", "full_every": "1h", "resources": ["items", "orders"]}}
    systems: dict[str, dict[str, Any]] = {"dilovod": {"objects": 3, "options": seldom}, "directo": directo}
    with installed(database, tmp_path, broker=processes.FILES, systems=systems) as (installation, mirror):
        for verb in (("receiver",), ("worker", "--concurrency", "2")):
            installation.start(*verb, **environment)
        beat = installation.start("beat", **environment)
        until(lambda: equal(mirror), seconds=240, what=lambda: unfinished(mirror))
        processes.signal_group(beat, signal.SIGSTOP)  # nothing can be mended yet
        offset.write_text("+0\n")
        with database.read() as tx:
            step = clock_steps.find(tx)
        assert step is not None
        assert step.by > timedelta(hours=2)
        until(
            lambda: "clock has stepped back by" in installation.ready().json()["workers"],
            seconds=60,
            what=lambda: installation.ready().text,
        )
        shown = _status(installation.file)
        assert "clock has stepped back by" in shown
        mirror.sandboxes["dilovod"].edit(Random(5))
        processes.signal_group(beat, signal.SIGCONT)
        until(
            lambda: equal(mirror) and _is_told(installation),
            seconds=240,
            what=lambda: f"{unfinished(mirror)} {installation.logs()}",
        )
        with database.read() as tx:
            assert clock_steps.find(tx) is None
            ahead = tx.execute(sa.select(streams.c.connection).where(streams.c.complete_as_of > tx.now)).all()
        assert [] == ahead
        assert "clock" not in _status(installation.file)
        assert 1 == installation.logs().count("clock has stepped back")
    database.close()


def _is_told(installation: processes.Installation) -> bool:
    return "clock has stepped back" in installation.logs()


def _status(file: Path) -> str:
    command = [sys.executable, "-m", "workers.cli", "status", "--config", str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
