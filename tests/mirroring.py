"""A mirror of sandboxes without Celery: the same connection contexts and ingest, driven by the test."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import status
from models.bookkeeping import due, streams
from models.db import tables
from tests.serving import served
from workers import configuration, context
from workers.connectors import discovery
from workers.demo.compare import Comparison, compare
from workers.ingest import loop
from workers.queue import due_work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.db.database import Database
    from models.settings.load import Settings
    from models.status import ResourceStatus
    from workers.context import ConnectionContext

_ROUNDS = 400
_A_MOMENT = timedelta(seconds=3)
_UNPACED = {"requests_per_minute": 600_000}


@dataclass(frozen=True)
class Mirror:
    """Sandboxes by connection name (which is the system's name) and the mirror that follows them."""

    database: Database
    settings: Settings
    sandboxes: dict[str, Any]

    def context(self, name: str) -> ConnectionContext:
        return context.connection_context(self.database, self.settings, name)

    def work(self) -> None:
        """Do due work until nothing is due."""
        for _ in range(_ROUNDS):
            busy = False
            for name in self.sandboxes:
                each = self.context(name)
                to_sync, to_read = due_work.has_work(each, due.load(self.database))
                busy = busy or to_sync or to_read
                if to_read:
                    loop.full_sync(each)
                if to_sync:
                    loop.sync(each)
            if not busy:
                return
            time.sleep(0.005)
        raise AssertionError(f"work never ends: {self.status()}")

    def confirm(self) -> None:
        """Let the minute pass after which a second reply confirms what a listing lacked."""
        self._let_a_minute_pass()
        self.work()

    def catch_up(self) -> None:
        """Make every poll and full sync due, and do them."""
        with self.database.begin() as tx:
            for name in self.sandboxes:
                streams.poll_now(tx, connection=name)
                for row in streams.open_streams(tx, connection=name):
                    streams.update(tx, name, row.resource, full_due_at=self.database.now(tx))
        self.work()
        self.confirm()
        while self._is_due_soon():
            time.sleep(0.05)
            self.work()

    def _let_a_minute_pass(self) -> None:
        """Make keys due that are missing from one listing: a minute later a second request confirms their deletion."""
        c = tables.inbox.c
        with self.database.begin() as tx:
            now = self.database.now(tx)
            later = (c.state == "due", c.attempts == 0, c.due_at > now, c.due_at < now + timedelta(minutes=1))
            earlier = {c.due_at: now, c.first_enqueued_at: now - timedelta(minutes=1)}
            tx.execute(sa.update(tables.inbox).where(*later).values(earlier))

    def _is_due_soon(self) -> bool:
        """Whether a key is only postponed for a moment, as its vendor asked."""
        c = tables.inbox.c
        with self.database.read() as tx:
            latest = self.database.now(tx) + _A_MOMENT
            return bool(tx.execute(sa.select(sa.exists().where(c.state == "due", c.due_at < latest))).scalar())

    def compare(self) -> list[Comparison]:
        return compare(self.database, context.all_contexts(self.database, self.settings), self.sandboxes)

    def differences(self) -> dict[str, tuple[str, ...]]:
        """Resource -> keys, of those that differ."""
        return {row.resource: row.differences for row in self.compare() if row.differences}

    def status(self) -> dict[str, ResourceStatus]:
        return {row.resource: row for row in status.resources(self.database)}


@contextmanager
def mirrored(database: Database, folder: Path, **systems: dict[str, Any]) -> Iterator[Mirror]:
    """Serve a sandbox for each system (name -> arguments) and sync the mirror's streams.

    Two arguments are not the sandbox's: `options` for the settings, `wrapper` for a wrapper around its app.
    """
    tables = []
    with ExitStack() as stack:
        sandboxes = {}
        for name, knobs in systems.items():
            options, wrapper = knobs.pop("options", {}), knobs.pop("wrapper", lambda app: app)
            app = discovery.systems()[name].sandbox(**knobs)
            # A sandbox with a clock of its own sends its own Date header.
            url = stack.enter_context(served(wrapper(app), date_header="now" not in knobs))
            sandboxes[name] = app.state.sandbox
            tables.append(table(name, app.state.sandbox.settings() | {"url": url, **_UNPACED} | options))
        file = folder / "erpmirror.toml"
        file.write_text("\n".join(tables), encoding="utf-8")
        mirror = Mirror(database, configuration.load(file), sandboxes)
        context.sync_streams(database, mirror.settings)
        yield mirror


def table(name: str, values: dict[str, Any]) -> str:
    """A connection's table of the settings file."""
    lines = [f"{key} = {_toml(value)}" for key, value in values.items() if value is not None]
    return "\n".join([f"[connections.{name}]", *lines, ""])


def _toml(value: Any) -> str:
    """A value as TOML writes it: as JSON does, but for objects."""
    if not isinstance(value, dict):
        return json.dumps(value)
    return "{ " + ", ".join(f"{json.dumps(name)} = {_toml(each)}" for name, each in value.items()) + " }"


def sync_once(mirror: Mirror, system: str) -> None:
    """One poll and one full sync of everything; failures are not retried."""
    with mirror.database.begin() as tx:
        streams.poll_now(tx, connection=system)
        for row in streams.open_streams(tx, connection=system):
            streams.update(tx, system, row.resource, full_due_at=mirror.database.now(tx))
    loop.sync(mirror.context(system))
    loop.full_sync(mirror.context(system))
