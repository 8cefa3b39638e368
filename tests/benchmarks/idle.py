"""What a thousand connections cost while nothing is due: the CPU of the scheduler and its database backends."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.db import migration, tables
from tests import services
from tests.benchmarks.measure import Answer, quotients, say
from tests.mirroring import table
from tests.processes import Installation, free_port, own_postgresql, until
from workers import configuration, context
from workers.gate import gate
from workers.queue import wakeup

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.db.database import Database
    from models.settings.load import Settings

QUESTION = "What do 1,000 idle connections cost?"

CONNECTIONS = 1000
SECONDS = 20.0
NAME = "erpmirror idle benchmark"
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
NOWHERE = "http://127.0.0.1:9"
_RESOURCES = {
    "dilovod": ["catalogs.goods", "catalogs.persons", "documents.saleOrder", "balanceRegisters.goods"],
    "directo": ["items", "customers", "orders", "invoices"],
}


def answers(rounds: int) -> list[Answer]:
    """CPU seconds of beat and its database backends over the seconds passed: the share of one core."""
    mine, passed, split = [], [], []
    with (
        tempfile.TemporaryDirectory() as folder,
        own_postgresql() as database,
        scheduled(database, Path(folder)) as processes,
    ):
        for number in range(rounds):
            before, began = [cpu(pid) for pid in processes.all], time.monotonic()
            time.sleep(SECONDS)
            passed.append(time.monotonic() - began)
            spent = [cpu(pid) - earlier for pid, earlier in zip(processes.all, before, strict=True)]
            mine.append(sum(spent))
            split.append((spent[0] / passed[-1], sum(spent[1:]) / passed[-1]))
            say(f"  idle: round {number + 1} of {rounds}, {mine[-1]:.2f} s of {passed[-1]:.1f} s")
    beat, backends = (sorted(each)[rounds // 2] for each in zip(*split, strict=True))
    note = (
        f"beat {beat:.2%}, its {len(processes.backends)} PostgreSQL backend(s) {backends:.2%}; "
        f"due work checked each second, canaries and retention included; {CONNECTIONS} connections, "
        f"4 resources each; started within {processes.started:.0f} s, "
        f"after {processes.synced:.0f} s for syncing the streams"
    )
    return [
        Answer(
            f"{CONNECTIONS:,} idle connections: CPU of due work and beat",
            "one core",
            "lower",
            must=0.05,
            aim=0.02,
            unit="s of CPU",
            ours=mine,
            reference=passed,
            ratios=quotients(mine, passed),
            note=note,
            versions={"celery": version("celery")},
        )
    ]


@dataclass(frozen=True)
class Processes:
    """Beat and its database backends. `synced`, `started`: the seconds that syncing the streams and starting took."""

    beat: int
    backends: Sequence[int]
    synced: float
    started: float

    @property
    def all(self) -> list[int]:
        """The processes whose CPU counts."""
        return [self.beat, *self.backends]


@contextmanager
def scheduled(database: Database, folder: Path) -> Iterator[Processes]:
    """Beat in a process of its own; all its connections had their full sync a while ago."""
    migration.migrate(database)
    file = folder / configuration.FILE
    url = database.url.update_query_dict({"application_name": NAME}).render_as_string(hide_password=False)
    broker = services.need(services.REDIS)
    connections = [_connection(number) for number in range(CONNECTIONS)]
    head = f'[database]\nurl = "{url}"\n[broker]\nurl = "{broker}"\n'
    file.write_text("\n".join([head, *connections]), encoding="utf-8")
    began = time.monotonic()
    settings = configuration.load(file)
    context.sync_streams(database, settings)
    synced = time.monotonic() - began
    nothing_due(database, settings)
    beat = Installation(file, free_port())
    began = time.monotonic()
    try:
        process = beat.start("beat")
        until(lambda: backends(database), seconds=120, what=lambda: f"beat checks for due work: {beat.logs()}")
        _await_calm(process.pid)
        yield Processes(process.pid, backends(database), synced, time.monotonic() - began)
    finally:
        beat.stop()


def _connection(number: int) -> str:
    system = list(_RESOURCES)[number % 2]
    values = {"system": system, "url": NOWHERE, "api_key": f"key-{number}", "resources": _RESOURCES[system]}
    return table(f"c{number:04}", values)


def nothing_due(database: Database, settings: Settings) -> None:
    """Fill the tables as after a day of work: cursors set, gates used, wake-ups acknowledged, nothing due for hours."""
    with database.begin() as tx:
        now = database.now(tx)
        later = now + timedelta(hours=12)
        values = {"cursor": "x", "due_at": later, "full_due_at": later, "last_read_at": now, "complete_as_of": now}
        tx.execute(sa.update(tables.streams).values(values))
        accounts = [
            {"account": gate.account_of(each), "failures": 0, "next_start_at": now, "answered_at": now}
            for each in settings.connections.values()
        ]
        tx.execute(sa.insert(tables.gates), accounts)
        wakeups = [
            {"connection": name, "queue": which, "woken_at": now, "answered_at": now}
            for name in settings.connections
            for which in wakeup.QUEUES
        ]
        tx.execute(sa.insert(tables.wakeups), wakeups)


def backends(database: Database) -> list[int]:
    named = sa.text("SELECT pid FROM pg_stat_activity WHERE application_name = :name ORDER BY pid")
    with database.read() as tx:
        found = [int(pid) for pid in tx.execute(named, {"name": NAME}).scalars()]
    return [pid for pid in found if Path(f"/proc/{pid}/stat").exists()]


def _await_calm(pid: int) -> None:
    """Wait until it has started: until it uses little CPU in two consecutive intervals."""
    calm = 0
    while calm < 2:
        before = cpu(pid)
        time.sleep(2)
        calm = calm + 1 if cpu(pid) - before < 1 else 0


def cpu(pid: int) -> float:
    """Seconds of CPU so far, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS
