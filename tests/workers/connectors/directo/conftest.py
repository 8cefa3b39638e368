"""A Directo account for tests: the sandbox served over HTTP, a clock that the test sets, and clients of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.serving import served
from workers.connectors.contract import standalone
from workers.connectors.directo import resources, sandbox
from workers.connectors.directo.client import Client
from workers.connectors.directo.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.values import Chunk, End, JsonObject, Snapshot, UndecodedSnapshot


@dataclass
class Clock:
    """Directo's clock, set by the test."""

    now: datetime = datetime(2026, 6, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **duration: int) -> None:
        self.now += timedelta(**duration)


@dataclass
class Listing:
    """All chunks of one run."""

    chunks: list[Chunk] = field(default_factory=list)

    @property
    def objects(self) -> dict[str, JsonObject]:
        return {snapshot.key: snapshot.raw for chunk in self.chunks for snapshot in chunk.snapshots}

    @property
    def snapshots(self) -> list[Snapshot | UndecodedSnapshot]:
        return [snapshot for chunk in self.chunks for snapshot in chunk.snapshots]

    @property
    def ends(self) -> list[End]:
        return [chunk.end for chunk in self.chunks if chunk.end]

    @property
    def end(self) -> End:
        return self.ends[-1]


@dataclass
class Account:
    """The sandbox and a connection to it."""

    url: str
    sandbox: sandbox.Sandbox
    clock: Clock
    options: Options
    client: Client

    def resource(self, name: str) -> Any:
        return {each.name: each for each in resources.resources(self.options)}[name]

    def list_all(self, name: str, cursor: str | None = None) -> Listing:
        """All chunks of a whole run, by as many requests as it takes."""
        listing = Listing()
        while True:
            listing.chunks += self.client.list(self.resource(name), cursor)
            if not listing.end.more:
                return listing
            cursor = listing.end.cursor

    def fetch(self, name: str, key: str) -> Any:
        return self.client.fetch(self.resource(name), key)


def options(url: str, **settings: Any) -> Options:
    common = {"name": "books", "system": "directo", "url": url, "api_key": "sandbox-key", "resources": ["items"]}
    return Options.model_validate(common | settings)


def client(url: str, **settings: Any) -> Client:
    return Client(options(url, **settings), standalone())


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock, request: pytest.FixtureRequest) -> Iterator[Account]:
    """The served sandbox; a test's parameter adds settings."""
    app = sandbox.create(now=clock)
    made: sandbox.Sandbox = app.state.sandbox
    with served(app, date_header=False) as url:  # the sandbox sends a Date by its own clock
        settings = made.settings() | getattr(request, "param", {})
        opened = client(url, **settings)
        yield Account(url, made, clock, options(url, **settings), opened)
        opened.close()
