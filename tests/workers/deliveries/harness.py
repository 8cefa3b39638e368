"""A subscription, its endpoint on a real socket, and a journal: `told.deliver()` runs one session."""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from standardwebhooks import Webhook
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response
from starlette.routing import Route

from models.bookkeeping import deliveries, journal, subscriptions, undelivered
from models.db import outgoing_tables
from models.values import Cause, Change, ChangeKind
from tests.serving import served
from workers import configuration
from workers.deliveries import deliver, plans

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.requests import Request

    from models.bookkeeping.deliveries import Attempt
    from models.bookkeeping.subscriptions import Subscriber
    from models.db.database import Database
    from models.settings.load import Settings
    from workers.deliveries.deliver import Result

NAME = "crm"
SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
CONNECTION = (
    '[connections.shop]\nsystem = "dilovod"\napi_key = "k"\nresources = ["catalogs.goods", "catalogs.persons"]\n'
)

Reply = tuple[int, bytes, dict[str, str]]
OK: Reply = (204, b"", {})


@dataclass
class Posted:
    """One request, after the library has verified its signature."""

    id: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def data(self) -> dict[str, Any]:
        data: dict[str, Any] = self.body["data"]
        return data


@dataclass
class Listening:
    """An endpoint that verifies each delivery. `reply` decides what it answers; it may block, in a thread."""

    secret: str = SECRET
    reply: Callable[[Posted], Reply] = lambda _: OK
    posted: list[Posted] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def app(self) -> Starlette:
        return Starlette(routes=[Route("/{path:path}", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        raw = await request.body()
        headers = dict(request.headers)
        body = Webhook(self.secret).verify(raw, headers)
        posted = Posted(headers["webhook-id"], headers, body)
        with self.lock:
            self.posted.append(posted)
        status, content, more = await run_in_threadpool(self.reply, posted)
        return Response(content, status, more)

    @property
    def changes(self) -> list[int]:
        return [each.data["id"] for each in self.posted]

    def require_order(self) -> None:
        """Each object's changes came in their order."""
        last: dict[Any, int] = defaultdict(int)
        for each in self.posted:
            of = (each.data["connection"], each.data["resource"], each.data["key"])
            assert last[of] <= each.data["id"]
            last[of] = each.data["id"]


class Clock:
    """The database's clock, which a test moves."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now


@dataclass
class Told:
    """A subscription and its journal."""

    database: Database
    settings: Settings
    clock: Clock

    def change(self, *keys: str, connection: str = "shop", resource: str = "catalogs.goods") -> None:
        """One entry for each key, all in one transaction."""
        changes = [Change(key, ChangeKind.CREATED, None, {"id": key}) for key in keys]
        with self.database.begin() as tx:
            journal.append(tx, connection, resource, changes, revision=1, cause=Cause.WEBHOOK, now=tx.now)

    def deliver(self, **options: Any) -> Result:
        return deliver.deliver(self.database, self.settings, NAME, **{"linger": timedelta(0)} | options)

    def later(self, after: timedelta) -> None:
        self.clock.now += after

    @property
    def row(self) -> Subscriber:
        with self.database.read() as tx:
            found = subscriptions.get(tx, NAME)
        assert found is not None
        return found

    @property
    def attempts(self) -> list[Attempt]:
        """The oldest first."""
        with self.database.read() as tx:
            return deliveries.recent(tx, NAME, limit=10_000)[::-1]

    @property
    def waiting(self) -> dict[int, int]:
        """Change -> failed attempts."""
        with self.database.read() as tx:
            return {each.change: each.attempts for each in undelivered.listed(tx, NAME, limit=10_000)}

    def set(self, **values: Any) -> None:
        with self.database.begin() as tx:
            tx.execute(sa.update(outgoing_tables.subscriptions).values(values))


def settings(folder: Path, url: str, database: Database, **options: Any) -> Settings:
    """The settings with one subscription `crm`, read from a file like any other."""
    values = {"url": url, "secret": SECRET, "allow_private": True, "timeout": "5s"} | options
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    own = database.url.render_as_string(hide_password=False)
    text = "\n".join([f'[database]\nurl = "{own}"', CONNECTION, f"[subscriptions.{NAME}]", *lines, ""])
    file = folder / "erpmirror.toml"
    file.write_text(text, "utf-8")
    return configuration.load(file)


@contextmanager
def telling(database: Database, folder: Path, listening: Listening, **options: Any) -> Iterator[Told]:
    """A subscription whose endpoint is served for the block; it begins at the journal's end as it is then."""
    clock = Clock()
    database._clock = clock
    with served(listening.app) as address:
        told = Told(database, settings(folder, f"{address}/hooks", database, **options), clock)
        plans.sync(database, told.settings)
        yield told
