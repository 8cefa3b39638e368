"""Ten times the largest user: whether what a person and Prometheus ask is still answered, and what the scheduler costs.

One million objects in one resource, ten million journal entries, 5,000 connections, 200 of which are polled each
minute, on PostgreSQL and on SQLite: the processes as their user starts them, the other rows made by SQL.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.routing import Mount

from models import status
from models.bookkeeping import journal
from models.db import migration, tables
from models.db.database import Database
from models.mirror import naming
from models.values import Cause, Change, ChangeKind
from tests.benchmarks import idle
from tests.benchmarks.measure import Answer, percentile, quotients, say
from tests.mirroring import table
from tests.processes import FULL_SYNC, SYNC, Installation, free_port, own_postgresql, own_redis, until
from tests.serving import served
from workers import configuration, context
from workers.connectors.directo import sandbox
from workers.queue import retention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from models.settings.load import Settings

QUESTION = (
    "status, /metrics, scheduler and retention with 1,000,000 objects and 5,000 connections (half an hour, 20 GB)"
)

CONNECTIONS, BUSY = 5_000, 200
OBJECTS, ENTRIES = 1_000_000, 10_000_000
SECONDS = 60.0
_AT_ONCE = 250_000
_ITEMS = naming.table_name("directo", "items")
_KEPT = timedelta(days=365)
_LONGEST = 2.0
"""Seconds that a person or a scrape may wait."""


def answers(rounds: int) -> list[Answer]:
    """First PostgreSQL with Redis, then the embedded default."""
    found = []
    for name in ("PostgreSQL", "SQLite"):
        with running(name) as site:
            found += _questions(name, site, rounds)
    return found


def _questions(name: str, site: Site, rounds: int) -> list[Answer]:
    among = f"{OBJECTS:,} objects, {ENTRIES:,} journal entries, {CONNECTIONS:,} connections, {name}"
    asked: dict[str, Callable[[], float]] = {
        "`erpmirror status`": site.status,
        "`erpmirror status --json`": lambda: site.status("--json"),
        "`/metrics`": site.metrics,
    }
    found = [
        _limited(f"{what} with {among}", "two seconds", [ask() for _ in range(rounds)], [_LONGEST] * rounds)
        for what, ask in asked.items()
    ]
    spent, passed = zip(*(site.scheduler() for _ in range(rounds)), strict=True)
    share = f"scheduler and its backends, {BUSY} of {CONNECTIONS:,} connections polled each minute, {name}"
    found.append(_limited(share, "one core", list(spent), list(passed), must=0.05, aim=0.02, unit="s of CPU"))
    quiet, trimming, trimmed = zip(*(site.trimming() for _ in range(rounds)), strict=True)
    note = f"{min(trimmed):,} to {max(trimmed):,} entries trimmed in {retention.TIME_LIMIT:g} s"
    what = f"webhook accepted while the journal is trimmed, p99, {name}"
    return [*found, _limited(what, "without trimming", list(trimming), list(quiet), must=10, aim=3, note=note)]


def _limited(
    question: str,
    against: str,
    ours: list[float],
    reference: list[float],
    *,
    must: float = 1.0,
    aim: float = 0.5,
    unit: str = "s",
    note: str = "",
) -> Answer:
    say(f"  {question}: {', '.join(f'{each:.3g}' for each in ours)} {unit}")
    ratios, versions = quotients(ours, reference), {"sqlalchemy": version("sqlalchemy")}
    return Answer(question, against, "lower", must, aim, unit, ours, reference, ratios, note=note, versions=versions)


@dataclass(frozen=True)
class Site:
    """A running installation, and what it is asked."""

    database: Database
    settings: Settings
    installation: Installation
    beat: subprocess.Popen[bytes]
    backends: list[int]

    def status(self, *words: str) -> float:
        """Seconds of the verb, from its start to its end."""
        command = [sys.executable, "-m", "workers.cli", "status", *words, "--config", str(self.settings.file)]
        began = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        took = time.perf_counter() - began
        if done.returncode not in (0, 1) or not done.stdout:
            raise RuntimeError(f"status ended with {done.returncode}: {done.stderr}")
        return took

    def metrics(self) -> float:
        """Seconds of one scrape."""
        began = time.perf_counter()
        page = httpx.get(f"{self.installation.address}/metrics", timeout=60)
        took = time.perf_counter() - began
        if page.text.count("erpmirror_resource_rows{") < CONNECTIONS:
            raise RuntimeError(f"/metrics shows no {CONNECTIONS} resources: {page.text[-500:]}")
        return took

    def scheduler(self) -> tuple[float, float]:
        """Seconds of CPU of beat and its database backends, and the seconds passed."""
        pids = [self.beat.pid, *self.backends]
        before, began = sum(map(idle.cpu, pids)), time.monotonic()
        time.sleep(SECONDS)
        return sum(map(idle.cpu, pids)) - before, time.monotonic() - began

    def trimming(self) -> tuple[float, float, int]:
        """The p99 of a webhook's answer in seconds without and with the journal being trimmed; entries trimmed."""
        done = threading.Event()
        done.set()
        quiet = self._webhooks(done, least=200)
        done.clear()
        with self.database.read() as tx:
            before = journal.bounds(tx)[0]
        kept = self.settings.database.model_copy(update={"keep_changes": _KEPT})
        found: list[float] = []
        caller = threading.Thread(target=lambda: found.extend(self._webhooks(done, least=1)))
        caller.start()
        # What beat calls once a minute; called here so that it falls into the time that is measured.
        retention.prune(self.database, replace(self.settings, database=kept))
        done.set()
        caller.join()
        with self.database.read() as tx:
            return percentile(quiet, 0.99), percentile(found, 0.99), journal.bounds(tx)[0] - before

    def _webhooks(self, done: threading.Event, *, least: int) -> list[float]:
        """Seconds of each webhook, one after the other, until `done` and there are enough."""
        took: list[float] = []
        with httpx.Client(base_url=self.installation.address, timeout=60) as client:
            while len(took) < least or not done.is_set():
                began = time.perf_counter()
                answer = client.post("/hooks/shop", json=_PACKET)
                took.append(time.perf_counter() - began)
                if answer.status_code != httpx.codes.OK:
                    raise RuntimeError(f"the webhook was answered {answer.status_code}: {answer.text}")
                time.sleep(0.01)
        return took


_PACKET = {"action": "objectChanged", "params": {"objectName": "catalogs.units", "id": "1103600000000001"}}
"""Of a resource that is not mirrored: stored, and no request is sent."""


# The installation.


@contextmanager
def running(name: str) -> Iterator[Site]:
    """Receiver, workers and beat over a large database, once the busy connections have had their first full sync."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        vendor = stack.enter_context(_vendor())
        if name == "SQLite":
            database = Database(f"sqlite:///{folder / 'mirror.db'}")
            stack.callback(database.close)
            broker = "filesystem:///var/broker"
        else:
            database, broker = stack.enter_context(own_postgresql()), stack.enter_context(own_redis())
        settings, port = _settings(folder, database, broker, vendor)
        migration.migrate(database)
        began = time.monotonic()
        context.sync_streams(database, settings)
        say(f"  {CONNECTIONS:,} connections: their streams made in {time.monotonic() - began:.0f} s")
        idle.nothing_due(database, settings)
        with database.begin() as tx:
            busy = tables.streams.c.connection.like("busy%")
            due = {"cursor": None, "due_at": tx.now, "full_due_at": tx.now, "complete_as_of": None}
            tx.execute(sa.update(tables.streams).where(busy).values(**due))
        installation = Installation(settings.file, port)
        stack.callback(installation.stop)
        for verb in (("receiver",), SYNC, FULL_SYNC):
            installation.start(*verb)
        beat = installation.start("beat", PGAPPNAME=idle.NAME)
        until(lambda: _loaded(database), seconds=600, what=installation.logs, every=2)
        _grow(database)
        backends = [] if database.is_sqlite else idle.backends(database)
        yield Site(database, settings, installation, beat, backends)


def _settings(folder: Path, database: Database, broker: str, vendor: str) -> tuple[Settings, int]:
    port = free_port()
    address = database.url.render_as_string(hide_password=False)
    head = f'[database]\nurl = "{address}"\n[broker]\nurl = "{broker}"\n[receiver]\nport = {port}\n'
    shop = {"system": "dilovod", "api_key": "k", "url": idle.NOWHERE, "webhook_sources": ["127.0.0.1"]}
    connections = [table("shop", shop | {"resources": ["catalogs.goods"]})]
    for number in range(CONNECTIONS - 1):
        busy = number < BUSY
        name = f"busy{number:04}" if busy else f"idle{number:04}"
        own = {"url": f"{vendor}/{name}" if busy else idle.NOWHERE, "every": "1m" if busy else "5m"}
        key = "sandbox-key" if busy else f"key-of-{name}"
        values = {"system": "directo", "api_key": key, "resources": ["items"], **own}
        connections.append(table(name, values))
    file = folder / configuration.FILE
    file.write_text("\n".join([head, *connections]), encoding="utf-8")
    return configuration.load(file), port


@contextmanager
def _vendor() -> Iterator[str]:
    """A sandbox in a process of its own, which serves each path below its address as another account."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        process.kill()
        process.join()


def _serve(pipe: Connection) -> None:
    with served(Starlette(routes=[Mount("/{account}", sandbox.create(objects=12))])) as url:
        pipe.send(url)
        threading.Event().wait()


def _loaded(database: Database) -> bool:
    found = [row for row in status.resources(database) if row.connection.startswith("busy") and row.resource == "items"]
    return len(found) == BUSY and all(row.complete_as_of is not None for row in found)


# The rows.


def _grow(database: Database) -> None:
    """Objects like one that is there, under keys that the vendor does not have; journal entries of two years."""
    with database.begin() as tx:
        items = sa.Table(_ITEMS, sa.MetaData(), autoload_with=tx)
    own: dict[str, Callable[[sa.ColumnElement[int]], Any]] = {"_key": _key, "_hash": _key}
    sample = sa.select(items).where(items.c["_connection"] == "busy0000").limit(1).subquery()
    for first in range(1, OBJECTS + 1, _AT_ONCE):
        _repeat(database, items, sample, own, first=first, count=min(_AT_ONCE, OBJECTS - first + 1))
        say(f"  {min(first + _AT_ONCE - 1, OBJECTS):,} of {OBJECTS:,} objects")
    now, changes = datetime.now(UTC), tables.changes
    with database.begin() as tx:
        last = journal.bounds(tx)[1]
        tx.execute(sa.update(changes).values(at=now - 2 * _KEPT))  # retention trims from the least id on
    for first in range(last + 1, last + ENTRIES + 1, _AT_ONCE):
        count = min(_AT_ONCE, last + ENTRIES - first + 1)
        # The oldest entries have the least ids. One is written as usual, the others are like it.
        at = now - 2 * _KEPT * (1 - (first - last) / ENTRIES)
        with database.begin() as tx:
            tx.execute(sa.update(tables.feed).values(last=first - 1))
            change = Change("K0", ChangeKind.UPDATED, {"price": "9.50"}, _OBJECT)
            journal.append(tx, "busy0000", "items", [change], revision=1, cause=Cause.POLL, now=at)
            tx.execute(sa.update(tables.feed).values(last=first + count - 1))
        like = sa.select(changes).where(changes.c.id == first).subquery()
        ids: dict[str, Callable[[sa.ColumnElement[int]], Any]] = {"id": lambda number: number, "key": _key}
        _repeat(database, changes, like, ids, first=first + 1, count=count - 1)
        say(f"  {first + count - 1 - last:,} of {ENTRIES:,} journal entries")
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as link:
        link.exec_driver_sql("ANALYZE" if database.is_sqlite else f"VACUUM ANALYZE {_ITEMS}, {changes.name}")


_OBJECT = {
    "code": "K0",
    "name": "A name of some length, as items have",
    "price": "10.00",
    "class": "GOODS",
    "n": "x" * 200,
}


def _key(number: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
    return sa.literal("K") + sa.cast(number, sa.Text)


def _repeat(
    database: Database,
    target: sa.Table,
    sample: sa.Subquery,
    own: dict[str, Callable[[sa.ColumnElement[int]], Any]],
    *,
    first: int,
    count: int,
) -> None:
    """Insert a row like the sample for each number, with the columns in `own` computed from it."""
    if count <= 0:
        return
    if database.is_sqlite:
        start = sa.select(sa.literal(first).label("n")).cte("numbers", recursive=True)
        numbers = start.union_all(sa.select(start.c.n + 1).where(start.c.n < first + count - 1))
    else:
        series = sa.func.generate_series(first, first + count - 1).column_valued("n")
        numbers = sa.select(series.label("n")).cte("numbers")
    columns = [own[c.name](numbers.c.n) if c.name in own else sample.c[c.name] for c in target.c]
    chosen = sa.select(*columns).select_from(sample.join(numbers, sa.true()))
    with database.begin() as tx:
        tx.execute(sa.insert(target).from_select([c.name for c in target.c], chosen))
