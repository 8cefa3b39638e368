"""Fixtures: the sandbox served over HTTP, clients of it, documents, and the recorded requests."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from models.values import Document, Snapshot
from tests.serving import served
from workers.connectors.contract import Resource, standalone
from workers.connectors.interpreter import resources, sandbox, sandbox_data
from workers.connectors.interpreter.client import Client
from workers.connectors.interpreter.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

TODAY = datetime(2026, 6, 1, 12, tzinfo=UTC)
SAMPLES = Path(__file__).parent / "samples"


@dataclass
class Clock:
    """The vendor's clock."""

    now: datetime = TODAY

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: int) -> None:
        self.now += timedelta(**duration)


@dataclass
class Recorder:
    """An ASGI app before the sandbox that records each request."""

    app: ASGIApp
    scopes: list[Scope] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            self.scopes.append(scope)
        await self.app(scope, receive, send)

    def headers(self) -> dict[str, str]:
        """The headers of the latest request."""
        return {name.decode(): value.decode() for name, value in self.scopes[-1]["headers"]}


@dataclass
class Store:
    """A served sandbox with a client."""

    url: str
    sandbox: sandbox.Sandbox
    clock: Clock
    recorder: Recorder
    client: Client

    def interpret(self, given: Document | None = None, kind: str = "deliverynote") -> Snapshot:
        return self.client.interpret(resource(kind), given or document(kind))

    @contextmanager
    def other(self, **settings: Any) -> Iterator[Client]:
        """A client with other settings."""
        made = client(self.url, **settings)
        yield made
        made.close()


def options(url: str | None = "http://localhost", **settings: Any) -> Options:
    common = {"name": "goods_in", "system": "interpreter", "url": url, "store": "3546", "api_key": "sandbox-key"}
    given = {key: value for key, value in (common | settings).items() if value is not None}
    return Options.model_validate(given)


def client(url: str, **settings: Any) -> Client:
    return Client(options(url, **settings), standalone())


def resource(kind: str = "deliverynote", **settings: Any) -> Resource:
    return {each.name: each for each in resources.resources(options(**settings))}[kind]


def paper(kind: str = "deliverynote", number: int = 1, **changes: Any) -> sandbox_data.Paper:
    """A paper with one row by default."""
    rows = changes.pop("rows", (sandbox_data.Row("A-1", "Skruv M6", 4, "12.50"),))
    title = {"deliverynote": "Delivery note", "invoice": "Invoice"}[kind]
    head: dict[str, Any] = {"supplier": sandbox_data.SUPPLIERS[0], "order": 1003, "date": "2026-05-30", "quoted": True}
    return sandbox_data.Paper(title, number, rows=rows, **(head | changes))


def document(kind: str = "deliverynote", number: int = 1, **changes: Any) -> Document:
    """A document with such a paper as its content."""
    order, name = changes.pop("order_id", None), changes.pop("name", "paper.pdf")
    return as_document(paper(kind, number, **changes).pdf(), name=name, order=order)


def as_document(content: bytes, *, name: str = "paper.pdf", order: str | None = None) -> Document:
    return Document(hashlib.sha256(content).hexdigest(), name, content, order)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Store]:
    """The served sandbox; a test's parameter adds settings."""
    app = sandbox.create(now=clock, inbox=tmp_path / "incoming")
    recorder = Recorder(app)
    with served(recorder, log_level="critical") as url:  # a truncated response is an error for uvicorn
        opened = client(url, **getattr(request, "param", {}))
        yield Store(url, app.state.sandbox, clock, recorder, opened)
        opened.close()
