"""A sixth system's vendor, simulated by the test, and the harness of a connection to it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from models.bookkeeping import due, inbox, parked, streams, webhooks
from models.db import outgoing_tables, tables
from models.mirror import queries, schema_evolution
from models.values import Cause, Lane, ObjectRef
from tests.mirroring import table
from tests.processes import TcpProxy
from tests.serving import served
from tests.workers import sixth_connector
from workers import configuration, connectors, context
from workers.ingest import loop
from workers.queue import due_work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request

    from models.bookkeeping.streams import Stream
    from models.db.database import Database
    from models.settings.load import Settings
    from workers.context import ConnectionContext, WorkSession

SYNC_SCRIPT = """
import sys
from datetime import datetime
from pathlib import Path

folder, file, url, now, name = sys.argv[1:]
from workers import configuration, connectors, context
from workers.ingest import loop
from models.db.database import Database

connectors.__path__.append(folder)
clock = datetime.fromisoformat(now)
database = Database(url, clock=lambda: clock)
loop.sync(context.connection_context(database, configuration.load(Path(file)), name))
"""
"""What `BaseHarness.sync_in_subprocess` runs."""

START = datetime(2026, 3, 1, 12, tzinfo=UTC)

Chunks = list[dict[str, Any]]


class Clock:
    """A database's clock that the test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


class Vendor:
    """The vendor that the test simulates.

    `objects`: resource -> key -> object. `listing`: resource -> what a listing answers to a cursor, instead of one
    complete page of snapshots. `instead`: path -> answers (status, headers, body) that come first, one each; the last
    one stays if `stuck`. `outage`: the answer to every request. `meanwhile`: path -> what happens while that request,
    whose answer is made, is on its way.
    """

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.listing: dict[str, Callable[[str | None], Chunks]] = {}
        self.instead: dict[str, list[tuple[int, dict[str, str], str]]] = {}
        self.meanwhile: dict[str, Callable[[], None]] = {}
        self.outage: tuple[int, dict[str, str], str] | None = None
        self.stuck = False
        self.asked: list[str] = []
        self.cursors: list[str | None] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._answer)])

    def _answer(self, request: Request) -> Response:
        path, cursor = request.path_params["path"], request.query_params.get("cursor")
        self.asked.append(path)
        answer = self._instead(path) or self._right(path, cursor)
        happens = self.meanwhile.pop(path, None)
        if happens is not None:
            happens()
        return answer

    def _instead(self, path: str) -> Response | None:
        answers = [self.outage] if self.outage is not None else self.instead.get(path)
        if not answers:
            return None
        stays = self.outage is not None or (self.stuck and len(answers) == 1)
        status, headers, body = answers[0] if stays else answers.pop(0)
        return Response(body, status, headers)

    def _right(self, path: str, cursor: str | None) -> Response:
        resource, _, key = path.partition("/")
        if key == "metadata":
            return Response(json.dumps({"": {"declared": "text"}}))
        if key:
            found = self.objects[resource].get(key)
            return Response("", 404) if found is None else Response(json.dumps({"raw": found, "listed": _token(found)}))
        if resource == "check":
            return Response('"well"')
        self.cursors.append(cursor)
        chunks = self.listing[resource](cursor) if resource in self.listing else whole(self.objects[resource])
        return Response(json.dumps(chunks))


def whole(objects: dict[str, Any]) -> Chunks:
    """One reply that brings everything."""
    return [{"snapshots": objects, "end": {"cursor": "done", "complete": True}}]


def named(objects: dict[str, Any]) -> Chunks:
    """One reply that brings only names."""
    return [{"lines": [[key, _token(raw)] for key, raw in objects.items()], "end": {"cursor": "d", "complete": True}}]


def _token(raw: Any) -> str | None:
    return str(raw["v"]) if isinstance(raw, dict) and "v" in raw else None


V = TypeVar("V")


@dataclass(frozen=True)
class BaseHarness(Generic[V]):
    """A connection to a vendor of type `V`, its mirror, and what a test does with both."""

    database: Database
    settings: Settings
    vendor: V
    clock: Clock
    name: str = "six"
    line: TcpProxy | None = None
    failures: list[BaseException] = field(default_factory=list)

    @property
    def context(self) -> ConnectionContext:
        return context.connection_context(self.database, self.settings, self.name)

    def sync(self) -> WorkSession:
        """All short work that is due: on a busy machine it takes more than one session, as it would a worker."""
        return _finished(lambda: loop.sync(self.context))

    def full_sync(self) -> WorkSession:
        """All long work that is due, likewise."""
        return _finished(lambda: loop.full_sync(self.context))

    def work(self) -> None:
        """Everything that is due at this moment."""
        for _ in range(100):
            short, long = due_work.has_work(self.context, due.load(self.database))
            if long:
                self.full_sync()
            if short:
                self.sync()
            if not (short or long):
                return
        raise AssertionError("there is always something due")

    def full_sync_again(self, resource: str = "goods") -> None:
        """A full sync, as if its schedule had come round."""
        self.change(resource, full_due_at=self.clock.now)
        self.full_sync()

    def full_sync_twice(self, resource: str = "goods") -> None:
        """A full sync and, after the confirmation delay, the one that confirms it."""
        self.full_sync_again(resource)
        self.clock.advance(minutes=1)
        self.work()

    def run_until(self, until: Callable[[], bool], *, hours: float = 1) -> None:
        """Let time pass until then, from one moment at which something is due to the next, with a worker for it."""
        end = self.clock.now + timedelta(hours=hours)
        while not until():
            assert self.clock.now < end, f"not within {hours} h: {self.inbox()} {self.stream()}"
            short, long = due_work.has_work(self.context, due.load(self.database))
            for wanted, work in ((long, self.full_sync), (short, self.sync)):
                with suppress(RuntimeError):  # a crash of our own: Celery logs it and takes the next message
                    _ = wanted and work()
            self.clock.now = min(self._next_due(), end)

    def run_for(self, hours: float) -> None:
        """The same, without anything to wait for."""
        end = self.clock.now + timedelta(hours=hours)
        self.run_until(lambda: self.clock.now >= end, hours=hours)

    def _next_due(self) -> datetime:
        i, s, g, c = tables.inbox.c, tables.streams.c, tables.gates.c, outgoing_tables.commands.c
        now = self.clock.now
        asked = [sa.select(i.due_at).where(i.state == "due", i.due_at > now)]
        columns = (s.due_at, s.full_due_at, g.closed_until, c.due_at)
        asked += [sa.select(column).where(column > now) for column in columns]
        with self.database.read() as tx:
            moments: list[datetime] = [moment for one in asked for moment in tx.execute(one).scalars()]
        at_least, at_most = now + timedelta(seconds=1), now + timedelta(minutes=5)
        return max(at_least, min([at_most, *moments]))

    def sync_in_subprocess(self) -> subprocess.Popen[bytes]:
        """Run `loop.sync` once in a process of its own, by the clock as it stands."""
        folder = str(self.settings.file.parent / "systems")
        url = self.database.url.render_as_string(hide_password=False)
        words = [folder, str(self.settings.file), url, self.clock.now.isoformat(), self.name]
        return subprocess.Popen([sys.executable, "-c", SYNC_SCRIPT, *words], stdout=subprocess.DEVNULL)

    def change(self, resource: str = "goods", **values: Any) -> None:
        with self.database.begin() as tx:
            streams.update(tx, self.name, resource, **values)

    def in_thread(self, work: Callable[[], object]) -> threading.Thread:
        """Let another worker do this."""

        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the test
                self.failures.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        thread.start()
        return thread

    def enqueue(
        self, *keys: str, resource: str = "goods", lane: Lane = Lane.LIVE, cause: Cause = Cause.WEBHOOK
    ) -> None:
        with self.database.begin() as tx:
            inbox.enqueue(
                tx,
                connection=self.name,
                refs=[ObjectRef(resource, key) for key in keys],
                lane=lane,
                cause=cause,
            )

    def webhook(self, *keys: str, resource: str = "goods") -> None:
        accepted = [webhooks.AcceptedWebhook(self.name, "{}", resource, key) for key in keys]
        with self.database.begin() as tx:
            webhooks.append(tx, accepted)

    def retry(self, *keys: str, resource: str = "goods") -> int:
        with self.database.begin() as tx:
            one = {"connection": self.name, "resource": resource}
            return sum(parked.retry(tx, key=key, **one) for key in keys)

    def stream(self, resource: str = "goods") -> Stream:
        with self.database.read() as tx:
            found = streams.get(tx, self.name, resource)
        assert found is not None
        return found

    def column(self, name: str, resource: str = "goods") -> Any:
        c = tables.streams.c
        with self.database.read() as tx:
            return tx.execute(sa.select(c[name]).where(c.connection == self.name, c.resource == resource)).scalar_one()

    def inbox(self, resource: str = "goods") -> dict[str, Any]:
        """The rows that wait, by key."""
        with self.database.read() as tx:
            chosen = sa.select(tables.inbox).where(
                tables.inbox.c.connection == self.name, tables.inbox.c.resource == resource
            )
            return {row.key: row for row in tx.execute(chosen)}

    def states(self, resource: str = "goods") -> dict[str, str]:
        return {key: row.state for key, row in self.inbox(resource).items()}

    def live(self, resource: str = "goods") -> dict[str, Any]:
        target = self.context.target(self.context.resources[resource])
        with self.database.read() as tx:
            return {key: raw for key, gone, raw in queries.export(tx, target) if gone is None}

    def row(self, key: str, resource: str = "goods") -> Any:
        with self.database.read() as tx:
            schema = schema_evolution.current(tx, f"sixth_{resource}")
            assert schema is not None
            root = schema.root.sql
            return tx.execute(sa.select(root).where(root.c["_key"] == key)).mappings().one()

    def journal(self, resource: str = "goods") -> list[tuple[str, str, str]]:
        """Key, kind and cause of each entry."""
        c = tables.changes.c
        with self.database.read() as tx:
            chosen = sa.select(c.key, c.kind, c.cause).where(c.resource == resource).order_by(c.id)
            return [(row.key, row.kind, row.cause) for row in tx.execute(chosen)]

    def leases(self) -> int:
        with self.database.read() as tx:
            return tx.execute(sa.select(sa.func.count()).select_from(tables.leases)).scalar_one()


def _finished(work: Callable[[], WorkSession]) -> WorkSession:
    session = work()
    while session.has_more:
        session = work()
    return session


class Harness(BaseHarness[Vendor]):
    """A connection to the sixth system's vendor."""


@contextmanager
def connected(
    database: Database,
    folder: Path,
    *,
    kinds: dict[str, dict[str, Any]] | None = None,
    also: dict[str, dict[str, Any]] | None = None,
    on_a_line: bool = False,
    **options: Any,
) -> Iterator[Harness]:
    """The sixth system's folder on the path, its vendor served, a connection `six`; `also`: more connections.

    `kinds`: resource -> fields of its `Resource` (`every` and `full_every` in seconds). `on_a_line`: the vendor is
    reached over a line that the test can cut.
    """
    put = folder / "systems"
    (put / "sixth").mkdir(parents=True)
    for name, text in sixth_connector.FILES.items():
        (put / "sixth" / f"{name}.py").write_text(text, encoding="utf-8")
    clock, vendor = Clock(), Vendor()
    database._clock = clock
    with connectors_in(put), ExitStack() as stack:
        url, line = stack.enter_context(served(vendor.app)), None
        if on_a_line:
            line = stack.enter_context(TcpProxy(url))
            url = line.address
        common = {"system": "sixth", "url": url, "api_key": "very-secret", "kinds": json.dumps(kinds or {"goods": {}})}
        common |= options
        written = [table(name, common | more) for name, more in {"six": {}, **(also or {})}.items()]
        file = folder / "erpmirror.toml"
        file.write_text("\n".join(written), encoding="utf-8")
        six = Harness(database, configuration.load(file), vendor, clock, line=line)
        for resource in six.context.resources:
            vendor.objects.setdefault(resource, {})
        context.sync_streams(database, six.settings)
        yield six
    assert [] == six.failures


@contextmanager
def connectors_in(folder: Path) -> Iterator[None]:
    """Have the connector folders in there found beside ours."""
    connectors.__path__.append(str(folder))
    try:
        yield
    finally:
        connectors.__path__.remove(str(folder))
        for name in [name for name in sys.modules if name.startswith("workers.connectors.sixth")]:
            del sys.modules[name]
            vars(connectors).pop("sixth", None)
