"""An installation that takes commands: `erpmirror up`, and the moments at which PostgreSQL has committed."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import sqlalchemy as sa

from models import status
from models.db import migration, outgoing_tables
from models.mirror import naming
from tests.benchmarks.commands_vendors import SYSTEMS
from tests.mirroring import table
from tests.processes import Installation, free_port, until
from workers import configuration, context
from workers.demo.compare import compare

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from models.db.database import Database
    from tests.benchmarks.commands_vendors import Vendor, Write
    from workers.context import ConnectionContext

_TOKEN = "commands-of-the-shop"
_SENDERS = 8
_LONGEST = 600.0
_SETTINGS = {
    "every": "24h",
    "full_every": "24h",
    "max_deletions": 1,
    "commands_token": _TOKEN,
    "commands_per_minute": 1_000_000,
}
"""Beside the sandbox's; the benchmark's docstring has the reasons."""


@dataclass(frozen=True, slots=True)
class Way:
    """A command's way: when it was answered 202, when the vendor had done it, when its row was committed.

    For the bare client: when the write was answered, twice, and when the object was read after it.
    """

    began: float
    accepted: float
    done: float
    row: float

    def seconds(self, stage: str) -> float:
        """From its POST to a stage, by the stage's name."""
        return float(getattr(self, stage)) - self.began


class Commits:
    """When what a trigger notifies of was committed, by this process's clock."""

    def __init__(self) -> None:
        self._latest: dict[str, tuple[float, str]] = {}
        self._news = threading.Condition()
        self._over = threading.Event()

    def listen(self, link: psycopg.Connection[Any]) -> None:
        """Note each notification, until `stop`. It has a subject and, behind a tab, what is to be known of it."""
        while not self._over.is_set():
            for notification in link.notifies(timeout=0.2):
                moment = time.perf_counter()
                subject, _, told = notification.payload.partition("\t")
                with self._news:
                    self._latest[subject] = moment, told
                    self._news.notify_all()

    def stop(self) -> None:
        """Listen no more."""
        self._over.set()

    def after(self, began: float, subject: str) -> tuple[float, str]:
        """Wait for a commit later than this."""
        with self._news:
            if not self._news.wait_for(lambda: self._latest.get(subject, (0.0, ""))[0] > began, timeout=_LONGEST):
                raise RuntimeError(f"{subject} was not committed")
            return self._latest[subject]


@dataclass
class Mirror:
    """A running installation with one connection."""

    database: Database
    vendor: Vendor
    _context: ConnectionContext
    _commits: Commits
    _commands: httpx.Client
    _numbers: Iterator[int] = field(default_factory=count)

    def send(self, write: Write, key: str) -> tuple[str, Way]:
        """Send one command and wait for its row; returns the key of the object that was written."""
        began = time.perf_counter()
        command = self._post(write, key)
        accepted = time.perf_counter()
        done, written = self._commits.after(began, f"command {command}")
        row, _ = self._commits.after(done, f"{self._table(write)} {written}")
        return written, Way(began, accepted, done, row)

    def send_many(self, write: Write, keys: Sequence[str]) -> Way:
        """Change many objects, by as many commands from several senders at once; returns when the last one came."""
        began = time.perf_counter()
        with ThreadPoolExecutor(_SENDERS) as senders:
            commands = list(senders.map(partial(self._post, write), keys))
        accepted = time.perf_counter()
        done = max(self._commits.after(began, f"command {each}")[0] for each in commands)
        row = max(self._commits.after(began, f"{self._table(write)} {each}")[0] for each in keys)
        return Way(began, accepted, done, row)

    def differences(self) -> set[str]:
        """The keys of all objects that the mirror does not show as the vendor has them."""
        found = compare(self.database, [self._context], {self._context.name: self.vendor})  # type: ignore[dict-item]
        return {key for resource in found for key in resource.differences}

    def _post(self, write: Write, key: str) -> int:
        number = next(self._numbers)
        headers = {"Idempotency-Key": f"benchmark-{number}"}
        command = write.request(key, number)
        answer = self._commands.post(f"/commands/{self._context.name}", json=command, headers=headers)
        if answer.status_code != httpx.codes.ACCEPTED:
            raise RuntimeError(f"{write.name}: {answer.text}")
        return int(answer.json()["command"])

    def _table(self, write: Write) -> str:
        return naming.table_name(self._context.options.system, write.resource)


@contextmanager
def running(name: str, vendor: Vendor, database: Database, broker: str, folder: Path) -> Iterator[Mirror]:
    """`erpmirror up` with a connection to the system of this name, once everything is loaded."""
    migration.migrate(database)
    port = free_port()
    address = database.url.render_as_string(hide_password=False)
    resources = sorted({write.resource for write in SYSTEMS[name].writes})
    mine = vendor.settings | {"url": vendor.url, "resources": resources} | _SETTINGS | SYSTEMS[name].settings
    head = f'[database]\nurl = "{address}"\n[broker]\nurl = "{broker}"\n[receiver]\nport = {port}\n'
    file = folder / configuration.FILE
    file.write_text(head + table(name, mine), encoding="utf-8")
    installation = Installation(file, port)
    headers = {"Authorization": f"Bearer {_TOKEN}"}
    try:
        up = installation.start("up")
        until(partial(_is_loaded, database), seconds=_LONGEST, what=installation.logs)
        until(installation.answers, seconds=_LONGEST, what=installation.logs)
        ours = context.connection_context(database, configuration.load(file), name)
        with (
            _commits(database, [naming.table_name(name, each) for each in resources]) as commits,
            httpx.Client(base_url=installation.address, headers=headers, timeout=60, trust_env=False) as client,
        ):
            yield Mirror(database, vendor, ours, commits, client)
        up.terminate()
        up.wait(_LONGEST)
    finally:
        installation.stop()


def _is_loaded(database: Database) -> bool:
    rows = status.resources(database)
    return bool(rows) and all(row.complete_as_of and not row.pending for row in rows)


@contextmanager
def _commits(database: Database, mirrored: Sequence[str]) -> Iterator[Commits]:
    """Triggers that notify of commands that are done, and of each row that is written, and a thread that listens."""
    with database.begin() as tx:
        channel = f"erpmirror_benchmark_{tx.execute(sa.select(sa.func.current_schema())).scalar_one()}"
        told = "'command ' || NEW.id || chr(9) || NEW.result_key"
        _notify(tx, channel, outgoing_tables.commands.name, told, when="WHEN (NEW.state = 'done')")
        for each in mirrored:
            _notify(tx, channel, each, "TG_TABLE_NAME || ' ' || NEW._key")
    address = database.url.set(drivername="postgresql", query={}).render_as_string(hide_password=False)
    commits = Commits()
    with psycopg.connect(address, autocommit=True) as link:
        link.execute(f'LISTEN "{channel}"'.encode())
        listener = threading.Thread(target=commits.listen, args=[link], daemon=True)
        listener.start()
        try:
            yield commits
        finally:
            commits.stop()
            listener.join()


def _notify(tx: sa.Connection, channel: str, table_name: str, told: str, *, when: str = "") -> None:
    function = f"benchmark_{table_name}"
    tx.execute(
        sa.text(
            f"CREATE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS "
            f"$$ BEGIN PERFORM pg_notify('{channel}', {told}); RETURN NULL; END $$"
        )
    )
    tx.execute(
        sa.text(
            f"CREATE TRIGGER {function} AFTER INSERT OR UPDATE ON {table_name} "
            f"FOR EACH ROW {when} EXECUTE FUNCTION {function}()"
        )
    )
