"""What `erpmirror up` needs while nothing happens, and what a short verb costs."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from models import status
from models.db.database import Database
from tests.benchmarks.measure import Answer, say
from tests.mirroring import table
from tests.processes import Installation, descendants, free_port, until
from tests.serving import served
from workers import configuration
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Iterator

QUESTION = "How much memory does an idle installation need, and how much CPU `status` and `--help`?"

_SETTLED = 20.0
"""Seconds between the end of the first load and the measurement."""

_LONGEST = 180.0
_MB = 1e6


def answers(rounds: int) -> list[Answer]:
    """Memory, each round of an installation just started and loaded; CPU, beside it."""
    memory: list[dict[str, float]] = []
    seconds: dict[str, list[float]] = {"status": [], "--help": []}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder, idle(Path(folder)) as installation:
            memory.append(_memory(installation.running[-1]))
            for verb, spent in seconds.items():
                spent.append(_cpu(installation, verb))
        total = sum(memory[-1].values())
        spent_now = ", ".join(f"{verb} {spent[-1]:.2f} s" for verb, spent in seconds.items())
        say(f"  footprint: round {number + 1} of {rounds}, {total:.0f} MB, {spent_now}")
    return [_memory_answer(memory), *(_cpu_answer(verb, spent) for verb, spent in seconds.items())]


def _memory_answer(rounds: list[dict[str, float]]) -> Answer:
    totals = [sum(each.values()) for each in rounds]
    median = rounds[totals.index(sorted(totals)[len(totals) // 2])]
    note = ", ".join(f"{process} {size:.0f}" for process, size in median.items())
    return Answer(
        "erpmirror up, embedded default, idle with a connection to each system: memory of all processes",
        "100 MB",
        "lower",
        must=3,
        aim=2,
        unit="MB",
        ours=totals,
        reference=[100.0] * len(totals),
        ratios=[each / 100 for each in totals],
        note=f"PSS (/proc/PID/smaps_rollup) {_SETTLED:g} s after the first load: {note} MB",
        versions={name: version(name) for name in ("celery", "sqlalchemy", "pydantic")},
    )


def _cpu_answer(verb: str, spent: list[float]) -> Answer:
    return Answer(
        f"erpmirror {verb}: CPU",
        "one second",
        "lower",
        must=0.5,
        aim=0.3,
        unit="s of CPU",
        ours=spent,
        reference=[1.0] * len(spent),
        ratios=spent,
        versions={name: version(name) for name in ("typer", "sqlalchemy", "pydantic")},
    )


@contextmanager
def idle(folder: Path) -> Iterator[Installation]:
    """`erpmirror up` with the default settings and a sandbox of each system, some time after everything was loaded."""
    port = free_port()
    tables = [f"[receiver]\nport = {port}\n"]
    with ExitStack() as stack:
        for name, system in discovery.systems().items():
            app = system.sandbox()
            address = stack.enter_context(served(app))
            tables.append(table(name, app.state.sandbox.settings() | {"url": address}))
        file = folder / configuration.FILE
        file.write_text("\n".join(tables), encoding="utf-8")
        installation = Installation(file, port)
        stack.callback(installation.stop)
        process = installation.start("up")
        until(installation.answers, seconds=_LONGEST, what=installation.logs)
        database = Database(configuration.load(file).database.url)
        stack.callback(database.close)
        until(partial(_is_loaded, database), seconds=_LONGEST, what=installation.logs, every=1)
        time.sleep(_SETTLED)
        yield installation
        process.terminate()
        process.wait(_LONGEST)


def _is_loaded(database: Database) -> bool:
    rows = status.resources(database)
    return bool(rows) and all(row.last_read and not row.pending for row in rows if row.bound)


def _memory(up: subprocess.Popen[bytes]) -> dict[str, float]:
    """Process -> the MB of memory that count as its own: of a page that n processes share, an nth."""
    names = Counter[str]()
    found = {}
    for pid in [up.pid, *descendants(up.pid)]:
        name = "up" if pid == up.pid else _name(pid)
        names[name] += 1
        found[name if names[name] == 1 else f"{name} {names[name]}"] = _pss(pid)
    return found


def _name(pid: int) -> str:
    return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8").strip().removeprefix("erpm-")


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 / _MB for line in lines if line.startswith("Pss:"))


def _cpu(installation: Installation, *verb: str) -> float:
    """Seconds of CPU, user and system, of a second run."""
    command = [sys.executable, "-m", "workers.cli", *verb]
    # pip compiles what it installs, so the first run, which may write the byte code, does not count.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    run = partial(
        subprocess.run, command, cwd=installation.file.parent, env=environment, stdout=subprocess.DEVNULL, check=True
    )
    run()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    run()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
