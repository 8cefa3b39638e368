"""An EasyFlor account for tests: the sandbox served over HTTP, a clock that the test sets, and clients of it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.serving import served
from workers.connectors import contract
from workers.connectors.easyflor import resources, sandbox
from workers.connectors.easyflor.client import Client
from workers.connectors.easyflor.options import Options
from workers.gate.gate import Gate

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.db.database import Database
    from models.values import Chunk, End, JsonObject, ObjectRef, Unreadable


@dataclass
class Clock:
    """EasyFlor's clock, set by the test."""

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
    def refs(self) -> list[ObjectRef]:
        return [ref for chunk in self.chunks for ref in chunk.refs]

    @property
    def unreadable(self) -> list[Unreadable]:
        return [row for chunk in self.chunks for row in chunk.unreadable]

    @property
    def ends(self) -> list[End]:
        return [chunk.end for chunk in self.chunks if chunk.end]

    @property
    def end(self) -> End:
        return self.ends[-1]


@dataclass
class Account:
    """The sandbox and a connection to it. `runtime`: shared by its clients."""

    url: str
    sandbox: sandbox.Sandbox
    clock: Clock
    options: Options
    runtime: contract.ClientRuntime
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

    @property
    def table(self) -> list[JsonObject]:
        return self.sandbox.books.tables["debtor"]

    @contextmanager
    def another(self, *, runtime: contract.ClientRuntime | None = None, **settings: Any) -> Iterator[Client]:
        """Another client with other settings, which shares the session unless it gets its own runtime."""
        changed = options(self.url, **(self.sandbox.settings() | settings))
        opened = Client(changed, runtime or self.runtime)
        try:
            yield opened
        finally:
            opened.close()


def options(url: str = "https://api.easyflor.eu", **settings: Any) -> Options:
    common = {"name": "flora", "system": "easyflor", "url": url}
    login = {"username": "api", "password": "wouldntyouliketoknow", "database": "EasyFlor-Demo"}
    return Options.model_validate(common | login | settings)


def shared_sessions(database: Database, settings: Options) -> contract.ClientRuntime:
    """A runtime with the account's session store, which all its workers share."""
    gate = Gate(database, settings)
    return contract.ClientRuntime(heartbeat=lambda: None, sessions=gate.sessions)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def account(clock: Clock, request: pytest.FixtureRequest) -> Iterator[Account]:
    """The served sandbox. A test's parameter adds settings; `auth`, `closed`, `objects`, `camel` go to the sandbox."""
    settings = dict(getattr(request, "param", {}))
    knobs = {name: settings.pop(name) for name in ("auth", "closed", "objects", "camel") if name in settings}
    app = sandbox.create(now=clock, **knobs)
    made: sandbox.Sandbox = app.state.sandbox
    with served(app, date_header=False) as url:  # the sandbox sends a Date by its own clock
        given, runtime = options(url, **(made.settings() | settings)), contract.standalone()
        opened = Client(given, runtime)
        yield Account(url, made, clock, given, runtime, opened)
        opened.close()
