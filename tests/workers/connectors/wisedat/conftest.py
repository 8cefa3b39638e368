"""Fixtures: the sandbox served over HTTP with a clock that tests set, and clients of it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from starlette.requests import Request

from models import exact
from tests.serving import served
from workers.connectors import contract
from workers.connectors.wisedat import resources, sandbox
from workers.connectors.wisedat.client import Client
from workers.connectors.wisedat.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from models.values import Chunk, End, JsonObject, Line


@dataclass
class Clock:
    """The server's clock. It starts at the real time, because clients measure a token's expiry by their own clock."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@dataclass
class Run:
    """All chunks of one run of a listing."""

    chunks: list[Chunk] = field(default_factory=list)

    @property
    def lines(self) -> dict[str, Line]:
        return {line.key: line for chunk in self.chunks for line in chunk.lines}

    @property
    def objects(self) -> dict[str, JsonObject]:
        return {snapshot.key: snapshot.raw for chunk in self.chunks for snapshot in chunk.snapshots}

    @property
    def keys(self) -> list[str]:
        return sorted({*self.lines, *self.objects})

    @property
    def ends(self) -> list[End]:
        return [chunk.end for chunk in self.chunks if chunk.end]

    @property
    def end(self) -> End:
        return self.ends[-1]


@dataclass
class Server:
    """A served sandbox, with settings and clients for it."""

    url: str
    sandbox: sandbox.Sandbox
    clock: Clock

    def options(self, **given: Any) -> Options:
        settings = self.sandbox.settings()
        settings.pop("rsa_padding", None)
        return Options.model_validate({"name": "loja", "url": self.url} | settings | given)

    @contextmanager
    def opened(self, runtime: contract.Wire | None = None, **given: Any) -> Iterator[Client]:
        """A client. Clients with the same `runtime` share their session."""
        client = Client(self.options(**given), runtime or contract.alone())
        try:
            yield client
        finally:
            client.close()

    def resource(self, name: str, **given: Any) -> contract.Resource:
        return {each.name: each for each in resources.resources(self.options(**given))}[name]

    def read(self, client: Client, name: str, cursor: str | None = None, **given: Any) -> Run:
        """Make all requests of one run."""
        run = Run()
        while True:
            run.chunks += client.list(self.resource(name, **given), cursor)
            if not run.end.more:
                return run
            cursor = run.end.cursor

    def asked(self, beginning: str) -> list[str]:
        """The requests with this beginning, in order."""
        return [request for request in self.sandbox.asked if request.startswith(beginning)]


@contextmanager
def serving(**knobs: Any) -> Iterator[Server]:
    """Serve a sandbox with these options of `sandbox.create`."""
    clock = Clock()
    app = sandbox.create(now=clock, **{"key_bits": 1024} | knobs)
    with served(app, date_header=False) as url:  # the sandbox sets its own Date
        yield Server(url, app.state.sandbox, clock)


@dataclass
class SharedSessions:
    """The contract's `Sessions` in memory, for several clients.

    `waiting`: actions of other clients while one waits for the login lock; each is done once.
    """

    session: bytes | None = None
    until: datetime | None = None
    waiting: list[Callable[[], object]] = field(default_factory=list)

    def get(self) -> bytes | None:
        return self.session

    def put(self, session: bytes, until: datetime) -> None:
        self.session, self.until = session, until

    def drop(self) -> None:
        self.session = None

    @contextmanager
    def renewing(self) -> Iterator[None]:
        if self.waiting:
            self.waiting.pop()()
        yield

    @property
    def runtime(self) -> contract.Wire:
        return contract.Wire(alive=lambda: None, sessions=self)

    def age(self) -> None:
        """Make the stored token expire."""
        stored = exact.loads(self.session or b"")
        self.session = exact.dumps(stored | {"until": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}).encode()


class Interceptor:
    """An ASGI app before the sandbox: answers with `intercept(request)`, or if that is None lets the sandbox answer."""

    def __init__(self, app: Any, intercept: Callable[[Request], Response | None]) -> None:
        self.app = app
        self.intercept = intercept

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.intercept(Request(scope)) if scope["type"] == "http" else None
        await (answer or self.app)(scope, receive, send)


@contextmanager
def intercepted(intercept: Callable[[Request], Response | None], **given: Any) -> Iterator[tuple[Server, Client]]:
    """A client of a sandbox behind an `Interceptor`."""
    app = sandbox.create(key_bits=1024)
    with served(Interceptor(app, intercept), date_header=False) as url:
        server = Server(url, app.state.sandbox, Clock())
        with server.opened(**given) as client:
            yield server, client


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with server.opened() as made:
        yield made
