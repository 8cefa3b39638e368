"""The whole product as real processes: receiver, workers, beat and Flower, on any database and broker."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import httpx
import redis
import sqlalchemy as sa
from kombu.connection import Connection
from kombu.entity import Queue

from models import status
from models.db import migration
from models.db.database import Database
from tests import services
from tests.conftest import fresh_schema
from tests.mirroring import Mirror, table
from tests.serving import served
from workers import configuration
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

HURRIED = {"every": "1s", "full_every": "3s", "reconcile_every": "2s", "requests_per_minute": 600_000}
"""Intervals of seconds instead of minutes and hours."""

SYNC = ("worker", "--queues", "sync", "--concurrency", "2")
FULL_SYNC = ("worker", "--queues", "full_sync", "--concurrency", "1")
DELIVER = ("worker", "--queues", "deliver")

FILES = "filesystem:///var/broker"


# Services for one test


@contextmanager
def own_postgresql() -> Iterator[Database]:
    """An empty schema on PostgreSQL."""
    url, engine, schema = fresh_schema(sa.make_url(services.need(services.POSTGRESQL)))
    database = Database(url)
    try:
        yield database
    finally:
        database.close()
        with engine.connect() as tx:
            tx.execute(sa.text(f"DROP SCHEMA {schema} CASCADE"))


@contextmanager
def own_redis() -> Iterator[str]:
    """The address of an empty database of the Redis server that no other test uses at the same time."""
    server = urlsplit(services.need(services.REDIS))

    def address(number: int) -> str:
        return server._replace(path=f"/{number}").geturl()

    with redis.Redis.from_url(address(0)) as registry:
        number = next(n for n in range(1, 16) if registry.set(_claim(n), os.getpid(), nx=True, ex=300))
        try:
            with redis.Redis.from_url(address(number)) as client:
                client.flushdb()
                yield address(number)
                client.flushdb()
        finally:
            registry.delete(_claim(number))


def _claim(number: int) -> str:
    return f"erpmirror-tests:{number}"


def emptied_rabbitmq() -> str:
    """RabbitMQ with our queues emptied. Their names are fixed, so such tests run one after the other."""
    address = services.need(services.RABBITMQ)
    with Connection(address) as connection, connection.channel() as channel:
        for name in ("sync", "full_sync"):
            Queue(name, channel=channel).queue_declare()
            channel.queue_purge(name)
    return address


class TcpProxy:
    """A TCP proxy before a service, listening on `host`. The test cuts and mends it."""

    def __init__(self, address: str, *, host: str = "127.0.0.1") -> None:
        parts = urlsplit(address)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 0)
        self._listener = socket.create_server((host, 0))
        self._here = self._listener.getsockname()
        self._ends: list[socket.socket] = []
        login = parts.netloc.rpartition("@")
        self.address = parts._replace(netloc=f"{login[0]}{login[1]}{host}:{self._here[1]}").geturl()
        self._serve()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()

    def cut(self) -> None:
        """Refuse connections and close the open ones."""
        for end in (self._listener, *self._ends):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()
        self._thread.join(5)

    def mend(self) -> None:
        """Accept connections again, on the same port."""
        self._listener = socket.create_server(self._here)
        self._serve()

    def _serve(self) -> None:
        self._thread = threading.Thread(target=self._accept, args=[self._listener], daemon=True)
        self._thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                caller, _ = listener.accept()
            except OSError:
                return
            try:
                service = socket.create_connection(self._target)
            except OSError:  # the service is down
                caller.close()
                continue
            self._ends += [caller, service]
            for one, other in ((caller, service), (service, caller)):
                threading.Thread(target=_pump, args=[one, other], daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


# Processes


def free_port() -> int:
    """A port that no server uses, below those that systems give to outgoing connections.

    One of those may be taken by any connection between this call and the server's start.
    """
    while True:
        port = secrets.choice(range(10_000, 32_000))
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def until(
    condition: Callable[[], object], *, seconds: float, what: str | Callable[[], str], every: float = 0.1
) -> None:
    """Wait for a condition, with a bound; the bound is a safety net, not an expectation."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what() if callable(what) else what}")
        time.sleep(every)


@dataclass
class Installation:
    """A settings file and the processes that were started with it."""

    file: Path
    port: int
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, *verb: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start `erpmirror VERB …`; its output goes to a file beside the settings."""
        command = [sys.executable, "-m", "workers.cli", *verb, "--config", str(self.file)]
        log = self.file.parent / f"{len(self.running):03}-{'-'.join(verb[:3])}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=os.environ | {"NO_COLOR": "1"} | environment,
            )
        self.running.append(process)
        return process

    def start_all(self) -> None:
        """Receiver, workers and beat; returns once the receiver answers."""
        for verb in (("receiver",), SYNC, FULL_SYNC, ("beat",)):
            self.start(*verb)
        until(self.answers, seconds=60, what=lambda: f"the receiver answers: {self.logs()}")

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.address}/livez", timeout=2).is_success
        except httpx.TransportError:
            return False

    def ready(self) -> httpx.Response:
        """The answer of `/readyz`. A probe that is late on a busy host says so, not what is wrong: ask again."""
        return httpx.get(f"{self.address}/readyz", timeout=30)

    def logs(self) -> str:
        """Everything that every process printed."""
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.file.parent.glob("*.log")))

    def stop(self) -> None:
        """End every process that is left, and its children with it."""
        for process in self.running:
            kill_group(process)


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """The processes that a worker has forked."""
    return _children(process.pid)


def descendants(pid: int) -> list[int]:
    """The processes that it started, and those that these have started."""
    return [each for child in _children(pid) for each in (child, *descendants(child))]


def _children(pid: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)  # noqa: S607 - wherever it lies
    return [int(each) for each in found.stdout.split()]


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal a process that we started, and the children it forked."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process that we started, and the children it forked."""
    signal_group(process, signal.SIGKILL)
    process.wait()


@contextmanager
def installed(
    database: Database,
    folder: Path,
    *,
    broker: str,
    systems: dict[str, dict[str, Any]],
    url: sa.URL | None = None,
    wrappers: dict[str, Callable[[Any], Any]] | None = None,
    more: str = "",
    **options: Any,
) -> Iterator[tuple[Installation, Mirror]]:
    """Sandboxes, migrated tables, a settings file, and the mirror to compare with. Starts no process.

    `systems`: system -> its sandbox's arguments, and `options` of this connection. `url`: the database's address for
    the processes. `wrappers`: system -> a wrapper around its sandbox's app. `more`: further tables of the settings.
    `options`: of all connections.
    """
    migration.migrate(database)
    port = free_port()
    address = (url or database.url).render_as_string(hide_password=False)
    tables = [f'[database]\nurl = "{address}"\n[broker]\nurl = "{broker}"\n[receiver]\nport = {port}\n']
    with ExitStack() as stack:
        sandboxes = {}
        for name, knobs in systems.items():
            system = discovery.systems()[name]
            knobs = dict(knobs)  # noqa: PLW2901 - a copy that may be changed
            own = knobs.pop("options", {})
            if system.webhooks is not None:
                knobs.setdefault("webhook_url", f"http://127.0.0.1:{port}/hooks/{name}")
            app = system.sandbox(**knobs)
            wrapper = (wrappers or {}).get(name, lambda app: app)
            # A sandbox with a clock of its own sends its own Date header.
            url_ = stack.enter_context(served(wrapper(app), date_header="now" not in knobs))
            values = app.state.sandbox.settings() | {"url": url_}
            hurried = {key: value for key, value in HURRIED.items() if key in system.options.model_fields}
            sandboxes[name] = app.state.sandbox
            tables.append(table(name, values | hurried | options | own))
        file = folder / configuration.FILE
        file.write_text("\n".join([*tables, more]), encoding="utf-8")
        installation = Installation(file, port)
        stack.callback(installation.stop)
        yield installation, Mirror(database, configuration.load(file), sandboxes)


def equal(mirror: Mirror) -> bool:
    """Whether nothing differs and nothing is pending."""
    # Counting pending work is cheaper than comparing everything, so it comes first.
    return not any(row.pending for row in status.resources(mirror.database)) and not mirror.differences()


def unfinished(mirror: Mirror) -> str:
    """What differs and what is pending, parked or held, for the message of a failing test."""
    rows = [row for row in status.resources(mirror.database) if row.pending or row.parked or row.held or row.last_error]
    return f"{mirror.differences()} {rows}"
