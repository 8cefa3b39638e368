"""Every system's sandbox as tests of all systems meet it: served behind a proxy that spoils answers, with clients."""

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
from workers.connectors.contract import Wire, alone
from workers.errors import Fate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from workers.connectors.contract import Client, Connection, Resource

    Spoil = Callable[[bytes], Response]

SYSTEMS = [name for name, system in discovery.systems().items() if system.has_sandbox]
_SEED = 11
_MOST_REQUESTS = 50
_EVERYBODYS = {"host", "connection", "user-agent", "accept", "accept-encoding", "content-type", "content-length"}
"""Headers that tell nothing."""

_TOKEN = re.compile(r"[\w.~/=-]{20,}", re.ASCII)
"""What in a kept session lets somebody in."""

_PDF = b"%PDF-1.4\n1 0 obj\n<< /Type /Catalog >>\nendobj\ntrailer\n<< /Root 1 0 R >>\n%%EOF\n"


class Proxy:
    """Stands between a client and the sandbox, counts the requests, and spoils answers while it is told to.

    `heard`: the latest request whose answer was spoilt, as `heard` tells of it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.count = 0
        self.heard = ""
        self._spoil: Spoil | None = None
        self._spared = 0

    @contextmanager
    def spoiling(self, spoil: Spoil | None, *, spared: int = 0) -> Iterator[None]:
        """What becomes of the body of each answer inside the block; the first `spared` answers stay as they are."""
        self.count, self._spoil, self._spared = 0, spoil, spared
        try:
            yield
        finally:
            self._spoil = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.count += scope["type"] == "http"
        if self._spoil is None or scope["type"] != "http" or self.count <= self._spared:
            await self.app(scope, receive, send)
            return
        spoil, asked, answered = self._spoil, bytearray(), bytearray()

        async def listened() -> Message:
            message = await receive()
            asked.extend(message.get("body", b""))
            return message

        async def kept(message: Message) -> None:
            await asyncio.sleep(0)
            answered.extend(message.get("body", b""))

        await self.app(scope, listened, kept)
        self.heard = heard(scope, bytes(asked))
        await spoil(bytes(answered))(scope, receive, send)


def heard(scope: Scope, body: bytes) -> str:
    """A request in one line: its headers, where a login may be, then address and body."""
    headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
    telling = " ".join(f"{name}: {value}" for name, value in headers.items() if name not in _EVERYBODYS)
    return f"{telling} {scope['path']}?{scope['query_string'].decode()} {body.decode(errors='replace')}"


@dataclass(frozen=True)
class Question:
    """What is asked about a resource. `of`: the cursor of a listing, the key of a fetch."""

    way: str
    resource: Resource = field(hash=False)
    of: str | None = None


@dataclass
class Outcome:
    """How a question ended: with what was found or listed, or with a fate after the chunks that came before it."""

    chunks: list[Chunk] = field(default_factory=list)
    found: Any = None
    fate: Fate | None = None

    @property
    def end(self) -> End | None:
        return next((chunk.end for chunk in self.chunks if chunk.end is not None), None)

    @property
    def keys(self) -> list[str]:
        """In the order in which they came."""
        rows = ((*chunk.snapshots, *chunk.lines) for chunk in self.chunks)
        return [row.key for chunk in rows for row in chunk]


@dataclass
class Stand:
    """A system's sandbox as it is served, and clients of it. The vendor's clock stands still."""

    system: Any
    sandbox: Any
    proxy: Proxy
    options: Connection
    stack: ExitStack
    _wire: Wire = field(default_factory=alone)
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
        """Those that can be asked for without a document."""
        return tuple(each for each in self.resources if not each.handed_in)

    def resource(self, name: str) -> Resource:
        return {each.name: each for each in self.resources}[name]

    def secrets(self) -> set[str]:
        """What is never shown: of the settings, and of the session."""
        return secrets_of(self.options) | set(_TOKEN.findall((self.session or b"").decode(errors="replace")))

    @property
    def session(self) -> bytes | None:
        """What the known clients keep of their login; None for a vendor who knows none, whatever else is kept."""
        knows_logins = find_spec(f"workers.connectors.{self.options.system}.auth") is not None
        return self._wire.sessions.get() if knows_logins else None

    @contextmanager
    def client(self, options: Connection | None = None) -> Iterator[Client]:
        """A client of its own, whom nobody has let in yet."""
        made = self.system.client(options or self.options, alone())
        try:
            yield made
        finally:
            made.close()

    def known(self, options: Connection | None = None) -> Client:
        """A client with the stand's session: one serves all questions that are asked with these options."""
        options = options or self.options
        account = f"{options.url} {options.timeout}"
        if account not in self._clients:
            self._clients[account] = self.system.client(options, self._wire)
            self.stack.callback(self._clients[account].close)
        return self._clients[account]

    def _log_in(self) -> None:
        """Where there is something to log in to: also after an earlier question lost the session."""
        if self._has_session is not False:
            self.known().check()
            self._has_session = self.session is not None

    def run(self, resource: Resource) -> list[Outcome]:
        """A whole full reading, page by page, of a vendor who is well."""
        if resource.name not in self._runs:
            self._runs[resource.name] = list(self._pages(resource))
        return self._runs[resource.name]

    def _pages(self, resource: Resource) -> Iterator[Outcome]:
        cursor = None
        for _ in range(_MOST_REQUESTS):
            page = self.put(Question("list", resource, cursor))
            assert page.fate is None, f"{resource.name}: {page.fate}"
            assert page.end is not None, f"the last chunk of {resource.name} has an end"
            yield page
            if not page.end.more:
                return
            cursor = page.end.cursor
        raise AssertionError(f"{resource.name} never ends")

    def listings(self, resource: Resource) -> list[Question]:
        """From the beginning, from a page in the middle, and what changed since: one question for each."""
        ends = [page.end for page in self.run(resource) if page.end is not None]
        cursors: list[str | None] = [None, *[end.cursor for end in ends if end.more][:2]]
        if resource.every is not None:
            cursors.append(ends[-1].cursor)
        return [Question("list", resource, cursor) for cursor in dict.fromkeys(cursors)]

    def points(self, resource: Resource) -> list[Question]:
        """One object by itself: fetched, or read in a document."""
        if resource.handed_in:
            return [Question("interpret", resource)]
        return [Question("fetch", resource, min(self.sandbox.truth(resource.name)))] if resource.points else []

    def questions(self, resource: Resource) -> list[Question]:
        return [*([] if resource.handed_in else self.listings(resource)), *self.points(resource)]

    def requests(self, question: Question) -> int:
        """How many requests it takes where the login is known."""
        if question not in self._counts:
            assert self.put(question).fate is None
            self._counts[question] = self.proxy.count
        return self._counts[question]

    def put(
        self, question: Question, *, spoil: Spoil | None = None, spared: int = 0, options: Connection | None = None
    ) -> Outcome:
        """Ask, with the login known. `spoil`: what becomes of the answers after the first `spared` ones."""
        self._log_in()
        client = self.known(options)
        with self.proxy.spoiling(spoil, spared=spared):
            return asked(client, question)


def secrets_of(options: Connection) -> set[str]:
    """The settings that are secrets."""
    return {value.get_secret_value() for _, value in options if isinstance(value, SecretStr)}


def asked(client: Client, question: Question) -> Outcome:
    """Put the question; only a fate is an outcome, any other exception is not."""
    outcome = Outcome()
    try:
        match question.way:
            case "list":
                for chunk in client.list(question.resource, question.of):
                    outcome.chunks.append(chunk)
            case "fetch":
                outcome.found = client.fetch(question.resource, question.of or "")
            case _:
                outcome.found = client.interpret(question.resource, document(question.resource.name))
    except Fate as fate:
        outcome.fate = fate
    return outcome


def document(text: str) -> Document:
    """A PDF; the same text makes the same one."""
    content = _PDF.replace(b"Catalog", b"Catalog /Note (" + text.encode() + b")")
    return Document(hashlib.sha256(content).hexdigest(), "paper.pdf", content)


@contextmanager
def stand(name: str, **knobs: Any) -> Iterator[Stand]:
    """The system's sandbox, served. `knobs`: of the sandbox."""
    system, moment = discovery.systems()[name], datetime.now(UTC)
    app = system.sandbox(**{"seed": _SEED, "now": lambda: moment} | knobs)
    proxy = Proxy(app)
    with served(proxy, date_header=False) as url:
        options = system.options.model_validate({"name": "it", "url": url} | app.state.sandbox.settings())
        with ExitStack() as stack:
            yield Stand(system, app.state.sandbox, proxy, options, stack)


@contextmanager
def stands() -> Iterator[Callable[[str], Stand]]:
    """Stands by system, each served once, for tests that only read."""
    with ExitStack() as stack:
        made: dict[str, Stand] = {}

        def of(name: str) -> Stand:
            if name not in made:
                made[name] = stack.enter_context(stand(name))
            return made[name]

        yield of


def options_of(name: str) -> Connection:
    """The settings that lead to the system's sandbox, wherever it is served."""
    system = discovery.systems()[name]
    given = {"name": "it", "url": "http://127.0.0.1:9"} | system.sandbox(seed=_SEED).state.sandbox.settings()
    return system.options.model_validate(given)


def resources_of(name: str) -> tuple[Resource, ...]:
    """What is mirrored of the system's sandbox."""
    return discovery.systems()[name].resources(options_of(name))


CASES = [(name, resource) for name in SYSTEMS for resource in resources_of(name)]
"""Every resource of every sandbox, with its system."""


def by_resource(*, of: Callable[[Resource], bool] = lambda _: True) -> list[Any]:
    """A test's parameters: system and resource; ids read as in `wisedat-orders`."""
    chosen = [(system, resource.name) for system, resource in CASES if of(resource)]
    return [pytest.param(system, name, id=f"{system}-{name}") for system, name in chosen]


def by_resource_and(more: Iterable[str]) -> list[Any]:
    """A test's parameters: system, resource and one of `more`; ids read as in `wisedat-orders-429`."""
    return [
        pytest.param(system, resource.name, each, id=f"{system}-{resource.name}-{each}")
        for system, resource in CASES
        for each in more
    ]
