"""What durability costs a webhook, against a route that stores nothing and against a usual hand-written one."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import redis
import sqlalchemy as sa

from models.db import migration, tables
from tests import services
from tests.benchmarks.measure import Answer, interleaved, quotients, say
from tests.mirroring import table
from tests.processes import Installation, free_port, kill_group, own_postgresql, until
from workers import configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.db.database import Database

QUESTION = "webhooks accepted a second, durable on PostgreSQL before the answer"

TOTAL = 20_000
BY_HAND = 4_000
"""Requests to the hand-written route: each takes many times as long, so fewer measure as well."""

MANY, FEW = 256, 32
READERS = 1000
_WARMUP = 1024
_SHOP = {"system": "dilovod", "api_key": "k", "resources": ["catalogs.goods"], "webhook_sources": ["127.0.0.1"]}


def answers(rounds: int) -> list[Answer]:
    """Four ratios of requests a second, all servers in processes of their own, and all on the same kind of server."""
    with ExitStack() as stack:
        database = stack.enter_context(own_postgresql())
        stack.callback(_forget)
        port = stack.enter_context(_receiver(database))
        ours = _counted(database, port)
        bare, delay, thread, nothing = (
            stack.enter_context(_served(name)) for name in ("bare", "delay", "delay-in-thread", "nothing")
        )
        ceiling = max(_rate(nothing, connections) for connections in (MANY, FEW))
        say(f"  the load generator's own ceiling: {ceiling:.0f} requests/s")
        by_hand = max((delay, thread), key=lambda port: _rate(port, MANY, total=2000))
        kind = "async def" if by_hand == delay else "def, in a thread"
        return [
            _answer(MANY, ours, bare, rounds, (0.7, 0.9), "a bare Starlette route that only parses", ceiling),
            _answer(FEW, ours, bare, rounds, (0.5, 0.7), "a bare Starlette route that only parses", ceiling),
            _answer(MANY, ours, by_hand, rounds, (6, 10), f"a Starlette route ({kind}) with task.delay()", ceiling),
            _beside_readers(ours, port, rounds),
        ]


def _beside_readers(ours: Callable[[int], float], port: int, rounds: int) -> Answer:
    """What programs that wait for changes cost the webhooks."""

    def beside() -> float:
        with _waiting_readers(port):
            return ours(MANY)

    mine, alone = interleaved(beside, lambda: ours(MANY), rounds=rounds, label=f"beside {READERS} readers")
    return Answer(
        question=f"webhooks at {MANY} connections beside {READERS:,} readers that wait on the event stream",
        against="the same receiver without readers",
        better="higher",
        must=0.8,
        aim=0.95,
        unit="requests/s",
        ours=mine,
        reference=alone,
        ratios=quotients(mine, alone),
        note=f"each round {TOTAL} requests, all answered 200, each one row",
        versions={name: metadata.version(name) for name in ("uvicorn", "starlette")},
    )


@contextmanager
def _waiting_readers(port: int) -> Iterator[None]:
    """Readers whose answers have begun. Nothing is written to the journal, so they only wait."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asked = b"GET /changes HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
    with ExitStack() as stack:
        readers = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(READERS)]
        for reader in readers:
            reader.sendall(asked)
        for reader in readers:
            assert reader.recv(65536).startswith(b"HTTP/1.1 200 ")
        yield


def _answer(
    connections: int,
    ours: Callable[[int], float],
    reference: int,
    rounds: int,
    bounds: tuple[float, float],
    against: str,
    ceiling: float,
) -> Answer:
    fewer = BY_HAND if "delay" in against else TOTAL
    mine, theirs = interleaved(
        lambda: ours(connections),
        lambda: _rate(reference, connections, total=fewer),
        rounds=rounds,
        label=f"{connections} connections, {against}",
    )
    packages = ("uvicorn", "httptools", "uvloop", "starlette", *(("celery", "redis") if "delay" in against else ()))
    return Answer(
        question=f"webhooks at {connections} connections",
        against=f"{against}, same server",
        better="higher",
        must=bounds[0],
        aim=bounds[1],
        unit="requests/s",
        ours=mine,
        reference=theirs,
        ratios=quotients(mine, theirs),
        note=f"each round {TOTAL} requests, all answered 200, each one row; the reference's {fewer}; "
        f"load generator's ceiling {ceiling:.0f}/s",
        versions={name: metadata.version(name) for name in packages},
    )


def _rate(port: int, connections: int, *, total: int = TOTAL) -> float:
    """Requests a second that the server at this port answers."""
    arguments = [str(number) for number in (port, connections, total, _WARMUP)]
    command = [sys.executable, "-m", "tests.benchmarks.webhooks_load", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stderr
    return total / float(done.stdout)


def _counted(database: Database, port: int) -> Callable[[int], float]:
    """Ours, which must leave a row for each request."""

    def measure(connections: int) -> float:
        before = _rows(database)
        rate = _rate(port, connections)
        assert TOTAL + _WARMUP == _rows(database) - before
        return rate

    return measure


def _rows(database: Database) -> int:
    with database.read() as tx:
        return tx.execute(sa.select(sa.func.count()).select_from(tables.webhooks)).scalar_one()


@contextmanager
def _receiver(database: Database) -> Iterator[int]:
    """`erpmirror receiver`, without workers: its wake-ups stay unanswered."""
    migration.migrate(database)
    url, broker, port = database.url.render_as_string(hide_password=False), services.need(services.REDIS), free_port()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / configuration.FILE
        head = f'[database]\nurl = "{url}"\n[broker]\nurl = "{broker}"\n[receiver]\nport = {port}\n'
        file.write_text(head + table("shop", _SHOP), encoding="utf-8")
        installation = Installation(file, port)
        try:
            installation.start("receiver")
            until(installation.answers, seconds=60, what=installation.logs)
            yield port
        finally:
            installation.stop()


@contextmanager
def _served(name: str) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "tests.benchmarks.webhooks_servers", name, str(port)]
    process = subprocess.Popen(command, start_new_session=True)
    try:
        until(lambda: _listens(port), seconds=60, what=f"{name} listens")
        yield port
    finally:
        kill_group(process)


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def _forget() -> None:
    with redis.Redis.from_url(services.REDIS) as client:
        client.delete("sync", "full_sync", "celery")
