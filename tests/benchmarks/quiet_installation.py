"""A quiet system: an installation as its user starts it, a vendor in a process of its own, one webhook at a time."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlencode

import psycopg
import sqlalchemy as sa
from uvicorn.protocols.http.h11_impl import H11Protocol

from models import status
from models.db import migration
from models.db.database import Database
from models.mirror import naming
from tests.mirroring import table
from tests.processes import Installation, free_port, kill_group, until
from tests.serving import served
from workers import configuration
from workers.connectors.dilovod import sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

RESOURCE = "documents.saleOrder"
TABLE = naming.table_name("dilovod", RESOURCE)

_CHANNEL = "erpmirror_benchmark"
_LONGEST = 60.0
_FILE_POLL = 0.0005
"""Seconds between two polls of SQLite, which cannot notify."""


Hop = Callable[[], float]
"""Sends one message; returns the seconds to its task's first line."""


@dataclass
class Vendor:
    """The stand-in in its own process."""

    url: str
    keys: list[str]
    _pipe: Connection

    def edit(self, key: str, word: str) -> None:
        """A user edits an object; no webhook is sent."""
        self._ask(("edit", key, word))

    def spent(self) -> float:
        """Seconds that the vendor spent on requests since the last call."""
        return float(self._ask(("spent",)))

    def _ask(self, question: tuple[str, ...]) -> Any:
        self._pipe.send(question)
        return self._pipe.recv()


@contextmanager
def vendor(*, objects: int = 12) -> Iterator[Vendor]:
    """A sandbox in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve_sandbox, args=(there, objects), daemon=True)
    process.start()
    try:
        url, keys = here.recv()
        yield Vendor(url, keys, here)
    finally:
        process.kill()
        process.join()


def _serve_sandbox(pipe: Connection, objects: int) -> None:
    app = sandbox.create(objects=objects)
    books = app.state.sandbox.books
    with served(app, http=_Timed) as url:
        pipe.send((url, [thing.id for thing in books.of(RESOURCE)]))
        while True:
            match pipe.recv():
                case ("edit", key, word):
                    books.touch(books.things[key], remark=word)
                    pipe.send(None)
                case ("spent",):
                    spent, _Timed.spent = _Timed.spent, 0.0
                    pipe.send(spent)


class _Timed(H11Protocol):
    """Measures how long requests take: from their first byte read to the last byte of the answer written."""

    spent: ClassVar[float] = 0.0
    _since: float | None = None

    def data_received(self, data: bytes) -> None:
        self._since = self._since or time.perf_counter()
        super().data_received(data)

    def on_response_complete(self) -> None:
        if self._since is not None:
            _Timed.spent += time.perf_counter() - self._since
            self._since = None
        super().on_response_complete()


@dataclass
class Mirror:
    """A running installation that follows a vendor."""

    database: Database
    vendor: Vendor
    _hooks: http.client.HTTPConnection
    _committed: Callable[[str], Callable[[], float]]

    def webhook_to_row(self, key: str, word: str) -> float:
        """Seconds from sending one webhook to its row's commit, less those that the vendor spent on the request."""
        self.vendor.edit(key, word)
        self.vendor.spent()
        committed = self._committed(key)
        packet = {"action": "objectChanged", "params": {"objectName": RESOURCE, "id": key}}
        webhook = f"/hooks/shop?{urlencode({'packet': json.dumps(packet)})}"
        try:
            began, status = self._send(webhook)
        except (ConnectionResetError, BrokenPipeError):  # RemoteDisconnected is one: no byte of a response came
            # The kept connection was closed before the request reached the receiver; a webhook may arrive twice anyway.
            self._hooks.close()
            began, status = self._send(webhook)
        took = committed() - began
        if status != HTTPStatus.OK:
            raise RuntimeError(f"the webhook was answered {status}")
        return took - self.vendor.spent()

    def _send(self, webhook: str) -> tuple[float, int]:
        """When it was sent, and the response's status."""
        began = time.perf_counter()
        self._hooks.request("GET", webhook)
        answered = self._hooks.getresponse()
        answered.read()
        return began, answered.status


@contextmanager
def mirror(
    database: Database, folder: Path, *, broker: str, source: Vendor, grow: Callable[[Database], None] | None = None
) -> Iterator[Mirror]:
    """Receiver, workers and beat with the schedule that users have, once the first load is in.

    `grow`: called with the database before the webhooks that are measured.
    """
    folder.mkdir(parents=True, exist_ok=True)
    migration.migrate(database)
    port = free_port()
    address = database.url.render_as_string(hide_password=False)
    shop = {"system": "dilovod", "api_key": "sandbox-key", "url": source.url, "webhook_sources": ["127.0.0.1"]}
    file = folder / configuration.FILE
    ours = f'[database]\nurl = "{address}"\n[broker]\nurl = "{broker}"\n[receiver]\nport = {port}\n'
    file.write_text(f"{ours}{table('shop', shop | {'resources': [RESOURCE]})}", encoding="utf-8")
    installation = Installation(file, port)
    try:
        installation.start_all()
        until(partial(_loaded, database, len(source.keys)), seconds=_LONGEST, what=installation.logs)
        if grow is not None:
            grow(database)
        with _commit_times(database) as committed, closing(http.client.HTTPConnection("127.0.0.1", port)) as hooks:
            yield Mirror(database, source, hooks, committed)
    finally:
        installation.stop()


def _loaded(database: Database, objects: int) -> bool:
    return any(row.rows == objects and row.complete_as_of and not row.pending for row in status.resources(database))


@contextmanager
def _commit_times(database: Database) -> Iterator[Callable[[str], Callable[[], float]]]:
    """Key -> a function that returns when its row is committed: PostgreSQL notifies, SQLite is polled."""
    if database.is_sqlite:
        with sqlite3.connect(str(database.url.database), isolation_level=None) as file:
            yield partial(_poll_for_commit, file)
        return
    with database.begin() as tx:
        tx.execute(
            sa.text(
                f"CREATE OR REPLACE FUNCTION {_CHANNEL}() RETURNS trigger LANGUAGE plpgsql AS "
                f"$$ BEGIN PERFORM pg_notify('{_CHANNEL}_' || current_schema(), ''); RETURN NULL; END $$"
            )
        )
        tx.execute(
            sa.text(
                f"CREATE OR REPLACE TRIGGER {_CHANNEL} AFTER INSERT OR UPDATE ON {TABLE} "
                f"FOR EACH STATEMENT EXECUTE FUNCTION {_CHANNEL}()"
            )
        )
        schema = tx.execute(sa.select(sa.func.current_schema())).scalar_one()
    address = database.url.set(drivername="postgresql", query={}).render_as_string(hide_password=False)
    with psycopg.connect(address, autocommit=True) as listener:
        listener.execute(f'LISTEN "{_CHANNEL}_{schema}"'.encode())
        yield lambda _: partial(_await_notification, listener)


def _await_notification(listener: psycopg.Connection[Any]) -> float:
    for _ in listener.notifies(timeout=_LONGEST, stop_after=1):
        return time.perf_counter()
    raise RuntimeError("no row was committed")


def _poll_for_commit(file: sqlite3.Connection, key: str) -> Callable[[], float]:
    query = f"SELECT _revision FROM {TABLE} WHERE _key = ?"
    before = file.execute(query, (key,)).fetchone()

    def changed() -> float:
        end = time.perf_counter() + _LONGEST
        while file.execute(query, (key,)).fetchone() == before:
            if time.perf_counter() > end:
                raise RuntimeError("no row was committed")
            time.sleep(_FILE_POLL)
        return time.perf_counter()

    return changed


@contextmanager
def plain_worker(broker: str, folder: Path) -> Iterator[Hop]:
    """A worker with Celery alone."""
    from tests.benchmarks import bare_celery  # noqa: PLC0415 - the other benchmarks do not need Celery

    place = "-"
    if broker.startswith("filesystem"):
        place = str(folder / "plain")
        for each in (place, f"{place}-control"):
            Path(each).mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(_LONGEST)
        port = receiver.getsockname()[1]
        log = (folder / "plain.log").open("wb")
        command = [sys.executable, "-m", bare_celery.__name__, broker, place, str(port)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        task = bare_celery.app(broker, place, port).tasks["bare_celery.first_line"]

        def hop() -> float:
            began = time.time()
            task.delay()
            return float(receiver.recv(64)) - began

        try:
            hop()
            yield hop
        finally:
            log.close()
            kill_group(process)
