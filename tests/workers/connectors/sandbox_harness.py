"""Serves each system's sandbox behind a proxy that can spoil answers, for tests that cover all systems."""

from __future__ import annotations

import asyncio
import hashlib
import re
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from models.values import Chunk, Document, End
from tests.serving import served
from workers.connectors import discovery
from workers.connectors.contract import ClientRuntime, standalone
from workers.errors import VendorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from workers.connectors.contract import Client, Connection, Resource

    Spoil = Callable[[bytes], Response]

SYSTEMS = [name for name, system in discovery.systems().items() if system.has_sandbox]
_SEED = 11
_MAX_REQUESTS = 50
_COMMON_HEADERS = {"host", "connection", "user-agent", "accept", "accept-encoding", "content-type", "content-length"}
"""Headers that carry no login."""

_SECRET_TOKEN = re.compile(r"[\w.~/=-]{20,}", re.ASCII)
"""The secret parts of a stored session."""

_PDF = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n"


class Proxy:
    """An ASGI app before the sandbox: counts requests, and spoils answers inside `spoiling`.

    `last_request`: the latest request whose answer was spoiled, as text of `describe`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.count = 0
        self.last_request = ""
        self._spoil: Spoil | None = None
        self._skipped = 0

    @contextmanager
    def spoiling(self, spoil: Spoil | None, *, skipped: int = 0) -> Iterator[None]:
        """Replace each answer by `spoil(body)` inside the block, except the first `skipped` ones."""
        self.count, self._spoil, self._skipped = 0, spoil, skipped
        try:
            yield
        finally:
            self._spoil = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.count += scope["type"] == "http"
        if self._spoil is None or scope["type"] != "http" or self.count <= self._skipped:
            await self.app(scope, receive, send)
            return
        spoil, sent, answered = self._spoil, bytearray(), bytearray()

        async def recording_receive() -> Message:
            message = await receive()
            sent.extend(message.get("body", b""))
            return message

        async def recording_send(message: Message) -> None:
            await asyncio.sleep(0)
            answered.extend(message.get("body", b""))

        await self.app(scope, recording_receive, recording_send)
        self.last_request = describe(scope, bytes(sent))
        await spoil(bytes(answered))(scope, receive, send)


def describe(scope: Scope, body: bytes) -> str:
    """A request as one line: its uncommon headers, path, query and body, where secrets may be."""
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    specific = " ".join(f"{name}: {value}" for name, value in headers.items() if name not in _COMMON_HEADERS)
    return f"{specific} {scope['path']}?{scope['query_string'].decode()} {body.decode(errors='replace')}"


@dataclass(frozen=True)
class Question:
    """One call of a client. `method`: list, fetch or interpret; `argument`: a listing's cursor or a fetch's key."""

    method: str
    resource: Resource = field(hash=False)
    argument: str | None = None


@dataclass
class Outcome:
    """The result of a question: chunks of a listing, the `found` value, and the vendor error if one was raised."""

    chunks: list[Chunk] = field(default_factory=list)
    found: Any = None
    error: VendorError | None = None

    @property
    def end(self) -> End | None:
        return next((chunk.end for chunk in self.chunks if chunk.end is not None), None)

    @property
    def keys(self) -> list[str]:
        """The keys in the order of the listing."""
        rows = ((*chunk.snapshots, *chunk.lines) for chunk in self.chunks)
        return [row.key for chunk in rows for row in chunk]


@dataclass
class SandboxHarness:
    """A served sandbox and its clients. The sandbox's clock stands still."""

    system: Any
    sandbox: Any
    proxy: Proxy
    options: Connection
    stack: ExitStack
    _runtime: ClientRuntime = field(default_factory=standalone)
    _has_session: bool | None = None
    _clients: dict[str, Client] = field(default_factory=dict)
    _runs: dict[str, list[Outcome]] = field(default_factory=dict)
    _counts: dict[Question, int] = field(default_factory=dict)

    @property
    def resources(self) -> tuple[Resource, ...]:
        found: tuple[Resource, ...] = self.system.resources(self.options)
        return found

    @property
    def readable(self) -> tuple[Resource, ...]:
        """The resources that can be read without a document."""
        return tuple(each for each in self.resources if not each.handed_in)

    def given(self) -> dict[str, Any]:
        """The connection's settings, before validation."""
        settings: dict[str, Any] = self.sandbox.settings()
        return {"name": "it", "url": self.options.url} | settings

    def resource(self, name: str) -> Resource:
        return {each.name: each for each in self.resources}[name]

    def secrets(self) -> set[str]:
        """The secrets of the settings and of the session."""
        return secrets_of(self.options) | set(_SECRET_TOKEN.findall((self.session or b"").decode(errors="replace")))

    @property
    def session(self) -> bytes | None:
        """The stored session of the shared login; None for systems without a login of their own (no `auth.py`)."""
        knows_logins = find_spec(f"workers.connectors.{self.options.system}.auth") is not None
        return self._runtime.sessions.get() if knows_logins else None

    @contextmanager
    def client(self, options: Connection | None = None) -> Iterator[Client]:
        """A new client that is not logged in."""
        created = self.system.client(options or self.options, standalone())
        try:
            yield created
        finally:
            created.close()

    def known(self, options: Connection | None = None) -> Client:
        """The client that shares the harness's session; one per URL and timeout."""
        options = options or self.options
        account = f"{options.url} {options.timeout}"
        if account not in self._clients:
            self._clients[account] = self.system.client(options, self._runtime)
            self.stack.callback(self._clients[account].close)
        return self._clients[account]

    def _log_in(self) -> None:
        """Log in if the system has a login, also after an earlier question lost the session."""
        if self._has_session is not False:
            self.known().check()
            self._has_session = self.session is not None

    def run(self, resource: Resource) -> list[Outcome]:
        """A full sync without faults, page by page."""
        if resource.name not in self._runs:
            self._runs[resource.name] = list(self._pages(resource))
        return self._runs[resource.name]

    def _pages(self, resource: Resource) -> Iterator[Outcome]:
        cursor = None
        for _ in range(_MAX_REQUESTS):
            page = self.put(Question("list", resource, cursor))
            assert page.error is None, f"{resource.name}: {page.error}"
            assert page.end is not None, f"the last chunk of {resource.name} has an end"
            yield page
            if not page.end.more:
                return
            cursor = page.end.cursor
        raise AssertionError(f"{resource.name} never ends")

    def listings(self, resource: Resource) -> list[Question]:
        """Listings from the start, from the next pages, and since the last run: one question each."""
        ends = [page.end for page in self.run(resource) if page.end is not None]
        cursors: list[str | None] = [None, *[end.cursor for end in ends if end.more][:2]]
        if resource.every is not None:
            cursors.append(ends[-1].cursor)
        return [Question("list", resource, cursor) for cursor in dict.fromkeys(cursors)]

    def point_reads(self, resource: Resource) -> list[Question]:
        """A fetch of one object, or a document to interpret."""
        if resource.handed_in:
            return [Question("interpret", resource)]
        return [Question("fetch", resource, min(self.sandbox.truth(resource.name)))] if resource.fetchable else []

    def questions(self, resource: Resource) -> list[Question]:
        return [*([] if resource.handed_in else self.listings(resource)), *self.point_reads(resource)]

    def requests(self, question: Question) -> int:
        """The number of requests that the question needs when logged in."""
        if question not in self._counts:
            assert self.put(question).error is None
            self._counts[question] = self.proxy.count
        return self._counts[question]

    def put(
        self, question: Question, *, spoil: Spoil | None = None, skipped: int = 0, options: Connection | None = None
    ) -> Outcome:
        """Ask with the shared login. `spoil`: replaces the answers after the first `skipped` ones."""
        self._log_in()
        client = self.known(options)
        with self.proxy.spoiling(spoil, skipped=skipped):
            return ask(client, question)


def secrets_of(options: Connection) -> set[str]:
    """The secret settings."""
    return {value.get_secret_value() for _, value in options if isinstance(value, SecretStr)}


def ask(client: Client, question: Question) -> Outcome:
    """Ask the question. A vendor error becomes part of the outcome; any other exception is raised."""
    outcome = Outcome()
    try:
        match question.method:
            case "list":
                for chunk in client.list(question.resource, question.argument):
                    outcome.chunks.append(chunk)
            case "fetch":
                outcome.found = client.fetch(question.resource, question.argument or "")
            case _:
                outcome.found = client.interpret(question.resource, document(question.resource.name))
    except VendorError as error:
        outcome.error = error
    return outcome


def document(text: str) -> Document:
    """A PDF; equal texts give equal PDFs."""
    content = _PDF.replace(b"Catalog", b"Catalog /Note (" + text.encode() + b")")
    return Document(hashlib.sha256(content).hexdigest(), "paper.pdf", content)


@contextmanager
def serve(name: str, **knobs: Any) -> Iterator[SandboxHarness]:
    """Serve the system's sandbox. `knobs`: arguments of its `create`."""
    system, moment = discovery.systems()[name], datetime.now(UTC)
    app = system.sandbox(**{"seed": _SEED, "now": lambda: moment} | knobs)
    proxy = Proxy(app)
    with served(proxy, date_header=False) as url:
        options = system.options.model_validate({"name": "it", "url": url} | app.state.sandbox.settings())
        with ExitStack() as stack:
            yield SandboxHarness(system, app.state.sandbox, proxy, options, stack)


@contextmanager
def serve_all() -> Iterator[Callable[[str], SandboxHarness]]:
    """A function that returns a system's harness; each is served once, for tests that only read."""
    with ExitStack() as stack:
        created: dict[str, SandboxHarness] = {}

        def of(name: str) -> SandboxHarness:
            if name not in created:
                created[name] = stack.enter_context(serve(name))
            return created[name]

        yield of


def options_of(name: str) -> Connection:
    """A connection with the settings of the system's sandbox; it is not served."""
    system = discovery.systems()[name]
    given = {"name": "it", "url": "http://127.0.0.1:9"} | system.sandbox(seed=_SEED).state.sandbox.settings()
    return system.options.model_validate(given)


def resources_of(name: str) -> tuple[Resource, ...]:
    """The resources of the system's sandbox."""
    return discovery.systems()[name].resources(options_of(name))


CASES = [(name, resource) for name in SYSTEMS for resource in resources_of(name)]
"""Every resource of every sandbox, with its system."""


def by_resource(
    *,
    of: Callable[[Resource], bool] = lambda _: True,
    marks: Callable[[str], pytest.MarkDecorator | tuple[()]] = lambda _: (),
) -> list[Any]:
    """A test's parameters: system and resource, with ids like `wisedat-orders`. `marks`: of a system's tests."""
    chosen = [(system, resource.name) for system, resource in CASES if of(resource)]
    return [pytest.param(system, name, id=f"{system}-{name}", marks=marks(system)) for system, name in chosen]


def by_resource_and(more: Iterable[str]) -> list[Any]:
    """A test's parameters: system, resource and one of `more`, with ids like `wisedat-orders-429`."""
    return [
        pytest.param(system, resource.name, each, id=f"{system}-{resource.name}-{each}")
        for system, resource in CASES
        for each in more
    ]
