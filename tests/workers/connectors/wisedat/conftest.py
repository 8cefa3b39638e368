"""Fixtures: the sandbox served over HTTP with a clock that tests set, and clients of it."""

from __future__ import annotations

import base64
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from starlette.requests import Request

from models import exact
from tests.serving import served
from workers.connectors import contract
from workers.connectors.wisedat import resources, sandbox
from workers.connectors.wisedat.client import Client
from workers.connectors.wisedat.options import Options
from workers.errors import VendorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from models.values import Chunk, End, JsonObject, Line
    from workers.connectors.wisedat.sandbox_data import Thing


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
    def opened(self, runtime: contract.ClientRuntime | None = None, **given: Any) -> Iterator[Client]:
        """A client. Clients with the same `runtime` share their session."""
        client = Client(self.options(**given), runtime or contract.standalone())
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

    def requests(self, beginning: str) -> list[str]:
        """The requests with this beginning, in order."""
        return [request for request in self.sandbox.requests if request.startswith(beginning)]


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
    def login_lock(self) -> Iterator[None]:
        if self.waiting:
            self.waiting.pop()()
        yield

    @property
    def runtime(self) -> contract.ClientRuntime:
        return contract.ClientRuntime(heartbeat=lambda: None, sessions=self)

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


def error_of(client: Client) -> VendorError:
    """The vendor error of a simple read."""
    with pytest.raises(VendorError) as raised:
        client.read("taxes")
    return raised.value


def some_key(server: Server, name: str) -> str:
    """The smallest key of the resource."""
    return min(server.sandbox.truth(name))


LOGIN = "sandbox-key;espelho;sandbox-password"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class Caller:
    """A plain HTTP client of the sandbox, written after the vendor's document, with a clock that tests set."""

    sandbox: sandbox.Sandbox
    http: httpx.Client
    clock: list[datetime]
    token: str = ""

    def advance(self, **duration: float) -> None:
        self.clock[0] += timedelta(**duration)

    def status(self, key: str = "sandbox-key") -> Any:
        answer = self.http.get("/status", headers={"Authorization": f"WDAPI {key}"})
        assert 200 == answer.status_code
        return answer.json()

    def encrypted_login(self, login: str = LOGIN, scheme: Any = None) -> str:
        """The login, encrypted with the key of `/status`."""
        key = self.status()["PublicKey"]
        modulus, exponent = (int.from_bytes(base64.b64decode(key[name]), "big") for name in ("Modulus", "Exponent"))
        encrypted = (
            rsa.RSAPublicNumbers(exponent, modulus).public_key().encrypt(login.encode(), scheme or padding.PKCS1v15())
        )
        return base64.b64encode(encrypted).decode()

    def log_in(self, encrypted_login: str | None = None) -> httpx.Response:
        header = {"Authorization": f"WDAPI {self.encrypted_login() if encrypted_login is None else encrypted_login}"}
        answer = self.http.post("/authentication/login", headers=header)
        if answer.status_code == 200:
            self.token = answer.json()["auth_token"]
        return answer

    def get(self, path: str, /, **params: Any) -> httpx.Response:
        return self.http.get(f"/{path}", params=params, headers={"Authorization": f"Bearer {self.token}"})

    def read(self, path: str, /, **params: Any) -> Any:
        """The decoded answer to a request that must succeed."""
        answer = self.get(path, **params)
        assert 200 == answer.status_code, answer.text
        return exact.loads(answer.content)

    def listed(self, name: str, /, **params: Any) -> list[Any]:
        """The rows of all pages."""
        rows, page, pages = [], 1, 1
        while page <= pages:
            answer = self.read(name, page=page, **params)
            pages = answer["pagination"]["number_pages"]
            (wrapped,) = [value for key, value in answer.items() if key != "pagination"]
            rows += wrapped
            page += 1
        return rows

    def thing(self, name: str, place: int = 0) -> Thing:
        return self.sandbox.books.tables[name][place]


class AppSwitch:
    """One HTTP server for all tests; each test sets its own sandbox as `app`."""

    app: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.app(scope, receive, send)


@pytest.fixture(scope="module")
def app_switch() -> AppSwitch:
    return AppSwitch()


@pytest.fixture(scope="module")
def http(app_switch: AppSwitch) -> Iterator[httpx.Client]:
    with (
        served(app_switch, lifespan="off", date_header=False) as url,
        httpx.Client(base_url=url, trust_env=False) as client,
    ):
        yield client


@pytest.fixture
def caller(app_switch: AppSwitch, http: httpx.Client, request: pytest.FixtureRequest) -> Caller:
    """A logged-in caller. A test's indirect parameter: options of `sandbox.create`."""
    clock = [NOON]
    knobs = {"key_bits": 1024, "now": lambda: clock[0]} | getattr(request, "param", {})
    app_switch.app = sandbox.create(**knobs)
    made = Caller(app_switch.app.state.sandbox, http, clock)
    if "padding" not in knobs:
        made.log_in()
    return made
