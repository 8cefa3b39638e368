"""A Wisedat server: the sandbox served over HTTP, with a clock in the test's hand, and clients that ask it."""

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
    """The server's clock. Tokens are kept by ours, so it starts there."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: float) -> None:
        self.now += timedelta(**duration)


@dataclass
class Reading:
    """All that one run brought."""

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
    """The sandbox as connections see it."""

    url: str
    sandbox: sandbox.Sandbox
    clock: Clock

    def options(self, **given: Any) -> Options:
        settings = self.sandbox.settings()
        settings.pop("rsa_padding", None)
        return Options.model_validate({"name": "loja", "url": self.url} | settings | given)

    @contextmanager
    def opened(self, wire: contract.Wire | None = None, **given: Any) -> Iterator[Client]:
        """A client; with another one's wire it shares that one's sessions."""
        client = Client(self.options(**given), wire or contract.alone())
        try:
            yield client
        finally:
            client.close()

    def resource(self, name: str, **given: Any) -> contract.Resource:
        return {each.name: each for each in resources.resources(self.options(**given))}[name]

    def read(self, client: Client, name: str, cursor: str | None = None, **given: Any) -> Reading:
        """A whole run: all its requests."""
        reading = Reading()
        while True:
            reading.chunks += client.list(self.resource(name, **given), cursor)
            if not reading.end.more:
                return reading
            cursor = reading.end.cursor

    def asked(self, beginning: str) -> list[str]:
        """The requests that begin so, as they came."""
        return [request for request in self.sandbox.asked if request.startswith(beginning)]


@contextmanager
def serving(**knobs: Any) -> Iterator[Server]:
    """A server with these knobs of the sandbox."""
    clock = Clock()
    app = sandbox.create(now=clock, **{"key_bits": 1024} | knobs)
    with served(app, date_header=False) as url:  # its Date is its own clock's
        yield Server(url, app.state.sandbox, clock)


@dataclass
class Box:
    """The contract's sessions, shared by several clients. `waiting`: what others do while somebody waits to log in."""

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
    def wire(self) -> contract.Wire:
        return contract.Wire(alive=lambda: None, sessions=self)

    def age(self) -> None:
        """The token in it is too old to be tried."""
        kept = exact.loads(self.session or b"")
        self.session = exact.dumps(kept | {"until": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}).encode()


class Door:
    """Stands before the sandbox: what `instead` answers to a request, else what the sandbox does."""

    def __init__(self, app: Any, instead: Callable[[Request], Response | None]) -> None:
        self.app = app
        self.instead = instead

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answer = self.instead(Request(scope)) if scope["type"] == "http" else None
        await (answer or self.app)(scope, receive, send)


@contextmanager
def answering(instead: Callable[[Request], Response | None], **given: Any) -> Iterator[tuple[Server, Client]]:
    """A client of a server whose answers are partly others."""
    app = sandbox.create(key_bits=1024)
    with served(Door(app, instead), date_header=False) as url:
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
