"""How soon and how fast programs are told of changes: over Server-Sent Events, and by deliveries to an endpoint.

Latency: one change at a time is committed as a worker commits it. What hears of it is a thread of the process that
commits: a bare psycopg connection that listens, a reader of the receiver's event stream, or an endpoint. Each is
measured alone, in turns, from just before the commit; the commit does not wait for the disk, as it would for all.

Rate: a backlog of changes of as many objects is delivered to an endpoint in a process of its own, by a worker as users
start it. The reference is one `httpx.Client` that posts the same bodies, already signed, one after the other. Both are
timed by the endpoint, from the first request's end to the last's.
"""

from __future__ import annotations

import json
import multiprocessing
import socket
import statistics
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import sqlalchemy as sa

from models.bookkeeping import journal
from models.bookkeeping.journal_news import CHANNEL
from models.db import migration, outgoing_tables, tables
from models.db.database import Tx
from models.values import Cause, Change, ChangeKind
from tests.benchmarks.measure import Answer, percentile, quotients, say
from tests.mirroring import table
from tests.processes import DELIVER, Installation, free_port, own_postgresql, own_redis, until
from tests.serving import served
from workers import configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from models.db.database import Database

QUESTION = "from a change committed to a program told of it, and deliveries a second"

_COMMITS = 100
"""Of each kind in a round."""

_PAUSE = 0.03
_BACKLOG = 3000
_LONGEST = 60.0
_SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
_SHOP = {"system": "dilovod", "api_key": "k", "resources": ["catalogs.goods"], "webhook_sources": ["127.0.0.1"]}


def answers(rounds: int) -> list[Answer]:
    """Latency at the median and the 99th percentile, and the rate."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(own_postgresql())
        broker = stack.enter_context(own_redis())
        migration.migrate(database)
        latency = _latencies(database, folder / "latency", broker, rounds)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(own_postgresql())
        broker = stack.enter_context(own_redis())
        migration.migrate(database)
        rates = _rates(database, folder / "rate", broker, rounds)
    hop = f"a bare LISTEN/NOTIFY hop (psycopg {version('psycopg')})"
    return [
        *(
            _answer(f"change committed to {words}, p{share:.0%}".rstrip("%"), hop, latency["hop"], latency[kind], share)
            for kind, words in (("event", "its SSE event"), ("delivery", "its delivery"))
            for share in (0.5, 0.99)
        ),
        Answer(
            question="deliveries a second",
            against=f"an httpx {version('httpx')} loop that posts the same bodies",
            better="higher",
            must=0.5,
            aim=0.8,
            unit="requests/s",
            ours=rates[0],
            reference=rates[1],
            ratios=quotients(*rates),
            note=f"each round {_BACKLOG} changes of as many objects",
            versions={name: version(name) for name in ("httpx", "httpcore", "standardwebhooks")},
        ),
    ]


def _answer(question: str, hop: str, theirs: list[list[float]], ours: list[list[float]], share: float) -> Answer:
    mine, reference = ([percentile(each, share) for each in side] for side in (ours, theirs))
    return Answer(
        question=question,
        against=hop,
        better="lower",
        must=4,
        aim=2,
        unit="ms",
        ours=mine,
        reference=reference,
        ratios=quotients(mine, reference),
        versions={name: version(name) for name in ("psycopg", "uvicorn", "httpcore")},
    )


# Latency


def _latencies(database: Database, folder: Path, broker: str, rounds: int) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {"hop": [], "event": [], "delivery": []}
    heard: dict[int, float] = {}
    with (
        _endpoint(heard) as address,
        _installed(database, folder, broker, f"{address}/hooks") as site,
    ):
        _stop_telling(database)
        kinds: dict[str, Callable[[], Any]] = {
            "hop": partial(_hop, database, heard),
            "event": partial(_events, site.address, heard),
            "delivery": partial(_delivering, database),
        }
        for number in range(rounds):
            for kind in sorted(kinds, key=lambda each: hash((each, number))):
                with kinds[kind]():
                    _commit_some(database, heard, 20)  # warm-up
                    found[kind].append(_commit_some(database, heard, _COMMITS))
            last = {kind: each[-1] for kind, each in found.items()}
            figures = {
                name: f"{statistics.median(ms):.3g}, p99 {percentile(ms, 0.99):.3g}" for name, ms in last.items()
            }
            say(f"  round {number + 1} of {rounds}, ms: {figures}")
    return found


def _commit_some(database: Database, heard: dict[int, float], count: int) -> list[float]:
    """Milliseconds from each commit until it was heard of."""
    took = []
    for number in range(count):
        time.sleep(_PAUSE)
        change = Change(
            str(number), ChangeKind.UPDATED, {"price": 1}, {"id": str(number), "name": "Hammer", "price": 2}
        )
        tx = Tx(database)
        with tx:
            tx.begin()
            tx.exec_driver_sql("SET LOCAL synchronous_commit = off")
            journal.append(tx, "shop", "catalogs.goods", [change], revision=1, cause=Cause.WEBHOOK, now=tx.now)
            last = tx.execute(sa.select(tables.feed.c.last)).scalar_one()
            began = time.perf_counter()
            tx.commit()
        until(lambda last=last: heard.get(last), seconds=_LONGEST, what=f"change {last} is heard of", every=0.002)  # type: ignore[misc]
        took.append(1000 * (heard[last] - began))
    return took


@contextmanager
def _hop(database: Database, heard: dict[int, float]) -> Iterator[None]:
    """A connection that only listens. It hears of no number: of the next commit, which is the only one."""
    over = threading.Event()
    url = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with database.read() as tx:
        last = tx.execute(sa.select(tables.feed.c.last)).scalar_one()

    def listen(link: psycopg.Connection[Any]) -> None:
        nonlocal last
        while not over.is_set():
            for _ in link.notifies(timeout=0.5, stop_after=1):
                last += 1
                heard[last] = time.perf_counter()

    with psycopg.connect(url, autocommit=True) as link:
        link.execute(f"LISTEN {CHANNEL}")
        thread = threading.Thread(target=listen, args=[link])
        thread.start()
        yield
        over.set()
        thread.join()


@contextmanager
def _events(address: str, heard: dict[int, float]) -> Iterator[None]:
    """A reader of the event stream."""
    host, _, port = address.rpartition("//")[2].partition(":")
    with socket.create_connection((host, int(port))) as link:
        after = max(heard, default=0)
        asked = b"GET /changes?after=%d HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n\r\n"
        link.sendall(asked % after)

        def read() -> None:
            rest = b""
            while chunk := link.recv(65536):
                at = time.perf_counter()
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if line.startswith(b"id:"):
                        heard.setdefault(int(line[3:]), at)

        thread = threading.Thread(target=read)
        thread.start()
        yield
        link.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def _delivering(database: Database) -> Iterator[None]:
    """The subscription is told for the block; the rest of the time it is paused, and does not work."""
    s = outgoing_tables.subscriptions
    with database.begin() as tx:
        last = tx.execute(sa.select(tables.feed.c.last)).scalar_one()
        tx.execute(sa.update(s).values(state="active", position=last, due_at=tx.now, leased_until=None))
    yield
    _stop_telling(database)


def _stop_telling(database: Database) -> None:
    with database.begin() as tx:
        tx.execute(sa.update(outgoing_tables.subscriptions).values(state="paused"))
    until(lambda: _lease(database) is None, seconds=_LONGEST, what="its session ends")


def _lease(database: Database) -> Any:
    with database.read() as tx:
        return tx.execute(sa.select(outgoing_tables.subscriptions.c.lease)).scalar_one()


@contextmanager
def _endpoint(heard: dict[int, float]) -> Iterator[str]:
    """Notes when a request was complete. A bare socket: what a framework makes of it is the endpoint's own time."""

    def serve(link: socket.socket) -> None:
        received = b""
        with link:
            while chunk := link.recv(65536):
                at = time.perf_counter()
                received += chunk
                if received.endswith(b"}"):
                    heard.setdefault(json.loads(received.partition(b"\r\n\r\n")[2])["data"]["id"], at)
                    link.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                    received = b""

    def accept() -> None:
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=[link], daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


# Rate


def _rates(database: Database, folder: Path, broker: str, rounds: int) -> tuple[list[float], list[float]]:
    ours, theirs = [], []
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve_endpoint, args=(there,), daemon=True)
    process.start()
    try:
        url = here.recv()
        with _installed(database, folder, broker, url):
            for number in range(rounds):
                ours.append(_deliver_backlog(database, here))
                theirs.append(_post_loop(url, here))
                say(f"  round {number + 1} of {rounds}: ours {ours[-1]:.0f}/s, the loop {theirs[-1]:.0f}/s")
    finally:
        process.kill()
        process.join()
    return ours, theirs


def _deliver_backlog(database: Database, endpoint: Connection) -> float:
    """The rate of a backlog that was committed while the subscription was paused."""
    with _paused(database):
        start = 0
        with database.read() as tx:
            start = tx.execute(sa.select(tables.feed.c.last)).scalar_one()
        changes = [
            Change(
                str(number), ChangeKind.UPDATED, {"price": 1}, {"id": str(number), "name": "Hammer " * 60, "price": 2}
            )
            for number in range(_BACKLOG)
        ]
        with database.begin() as tx:
            journal.append(tx, "shop", "catalogs.goods", changes, revision=1, cause=Cause.POLL, now=tx.now)
        with database.begin() as tx:
            tx.execute(sa.update(outgoing_tables.subscriptions).values(position=start))
        endpoint.send(("begin", _BACKLOG))
    rate = float(endpoint.recv())
    assert start + _BACKLOG == _position(database, start + _BACKLOG)
    return rate


def _position(database: Database, wanted: int) -> int:
    def read() -> int:
        with database.read() as tx:
            return int(tx.execute(sa.select(outgoing_tables.subscriptions.c.position)).scalar_one())

    until(lambda: read() >= wanted, seconds=_LONGEST, what="the position is written")
    return read()


@contextmanager
def _paused(database: Database) -> Iterator[None]:
    _stop_telling(database)
    yield
    with database.begin() as tx:
        values = {"state": "active", "due_at": tx.now, "leased_until": None}
        tx.execute(sa.update(outgoing_tables.subscriptions).values(values))


def _post_loop(url: str, endpoint: Connection) -> float:
    """The same bodies by a plain loop."""
    endpoint.send(("bodies",))
    bodies: list[tuple[dict[str, str], bytes]] = endpoint.recv()
    endpoint.send(("begin", len(bodies)))
    with httpx.Client(trust_env=False) as client:
        for headers, body in bodies:
            client.post(url, content=body, headers=headers).raise_for_status()
    return float(endpoint.recv())


_SENT = {"content-type", "user-agent", "webhook-id", "webhook-timestamp", "webhook-signature"}


def _serve_endpoint(pipe: Connection) -> None:
    """Counts requests, times them from the first to the last, and remembers them."""
    kept: list[tuple[dict[str, str], bytes]] = []
    times: list[float] = []
    wanted, done = 0, threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in scope["headers"] if name.decode() in _SENT}
        kept.append((headers, body))
        times.append(time.perf_counter())
        if len(times) == wanted:
            done.set()
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with served(app, loop="uvloop", http="httptools") as address:
        pipe.send(f"{address}/hooks")
        while True:
            match pipe.recv():
                case ("begin", count):
                    kept.clear()
                    times.clear()
                    done.clear()
                    wanted = count
                    assert done.wait(_LONGEST)
                    pipe.send((count - 1) / (times[-1] - times[0]))
                case ("bodies",):
                    pipe.send(kept[:])


# Both


@contextmanager
def _installed(database: Database, folder: Path, broker: str, url: str) -> Iterator[Installation]:
    """A receiver, a worker that delivers, and the scheduler."""
    folder.mkdir(parents=True)
    port = free_port()
    address = database.url.render_as_string(hide_password=False)
    file = folder / configuration.FILE
    file.write_text(
        f'[database]\nurl = "{address}"\n[broker]\nurl = "{broker}"\n[receiver]\nport = {port}\n{table("shop", _SHOP)}'
        f'[subscriptions.crm]\nurl = "{url}"\nsecret = "{_SECRET}"\nallow_private = true\n',
        encoding="utf-8",
    )
    installation = Installation(file, port)
    try:
        for verb in (("receiver",), DELIVER, ("beat",)):
            installation.start(*verb)
        until(installation.answers, seconds=_LONGEST, what=installation.logs)
        until(lambda: _has_row(database), seconds=_LONGEST, what=installation.logs)
        yield installation
    finally:
        installation.stop()


def _has_row(database: Database) -> bool:
    with database.read() as tx:
        return tx.execute(sa.select(outgoing_tables.subscriptions.c.name)).first() is not None
