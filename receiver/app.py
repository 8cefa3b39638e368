"""The receiver's ASGI app: it stores webhooks and documents, wakes workers, and serves the journal."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.routing import Mount, Route, Router

from models import private
from models.settings import own_files
from receiver import db_timeouts
from receiver.api import change_stream
from receiver.api.change_stream import WaitingReaders
from receiver.api.changes import ChangesRoute
from receiver.api.commands import Commands
from receiver.api.documents import Documents
from receiver.api.health import Health
from receiver.api.journal_pages import JournalPages
from receiver.api.journal_tail import JournalTail
from receiver.api.metrics import Metrics
from receiver.api.openapi import OpenApi
from receiver.api.polls import Polls
from receiver.http import open_files
from receiver.http.auth import TokenAuth
from receiver.http.errors import HANDLERS
from receiver.http.root_path import RootPath
from receiver.http.server import LimitedProtocol
from receiver.notifier import Notifier
from receiver.webhooks.batcher import WebhookBatcher
from receiver.webhooks.drainer import Drainer
from receiver.webhooks.routes import WebhookFastPath, WebhookRoutes
from receiver.webhooks.spool import Spool
from workers import configuration
from workers.queue import app as celery_app
from workers.queue import broker, wakeup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp

    from models.settings.load import Settings
    from receiver.notifier import Waker


def create(settings: Settings | None = None) -> Starlette:
    """The app of these settings, else of the file that `$ERPMIRROR_CONFIG` names.

    `uvicorn --factory receiver.app:create` runs it.

    `receiver.http.server.OPTIONS` says which of uvicorn's defaults must be changed.
    """
    private.keep_private()
    open_files.raise_limit()
    settings = configuration.load() if settings is None else settings
    own_files.tighten(settings)
    broker.prepare(settings)
    database = db_timeouts.database(settings.database.url)
    app = create_app(settings, waker=wakeup.Waker(celery_app.create_app(settings, database), database))
    gc.collect()
    gc.freeze()  # these objects live as long as the process, so the collector need not scan them
    return app


class _App(Starlette):
    """Starlette with `WebhookFastPath` in front of its middleware."""

    def __init__(self, *, webhooks: WebhookRoutes, root_path: str, **options: Any) -> None:
        super().__init__(**options)
        self._webhooks = webhooks
        self._root_path = root_path

    def build_middleware_stack(self) -> ASGIApp:
        """Put `WebhookFastPath` outermost."""
        return WebhookFastPath(super().build_middleware_stack(), webhooks=self._webhooks, root_path=self._root_path)


class _Services:
    """What the routes of one app share: databases, spool, metrics and the threads in the background."""

    def __init__(self, settings: Settings, waker: Waker, *, most_readers: int, beat_seconds: float) -> None:
        url = settings.database.url
        self.database = db_timeouts.database(url)
        self.metrics_database = db_timeouts.database(url, seconds=3)  # Prometheus' own timeout is ten
        self.spool = Spool(settings.receiver.spool)
        self.metrics = Metrics(settings, database=self.metrics_database, spool=self.spool)
        self.notifier = Notifier(waker, on_failure=self.metrics.wakeup_failures.inc)
        # Pools of their own, so that readers cannot use up the connections that webhooks need. A webhook that gets none
        # within a second goes to the spool.
        store_database, drain_database = (db_timeouts.database(url, seconds=1) for _ in range(2))
        self.batcher = WebhookBatcher(
            store_database,
            self.spool,
            on_batch=self.metrics.batches.observe,
            on_spooled=self.metrics.spooled.inc,
        )
        self.drainer = Drainer(
            drain_database, self.spool, on_database_up=self.batcher.resume, on_drained=self.notifier.wake
        )
        pages = JournalPages(self.database, witness=settings.receiver.spool / "journal.feed")
        self.tail = JournalTail(db_timeouts.database(url), feed=pages.feed, most_readers=most_readers)
        self.readers = WaitingReaders(self.tail, pages, beat_seconds=beat_seconds)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[dict[str, Any]]:
        """Drain the spool from the start on; at shutdown write what waits, then close everything."""
        self.drainer.start()
        yield {LimitedProtocol.ON_SHUTDOWN: self.tail.recent.end}
        await run_in_threadpool(self.tail.close)
        await self.batcher.close()
        self.drainer.close()
        self.notifier.close()
        self.metrics_database.close()
        self.database.close()


def create_app(
    settings: Settings,
    *,
    waker: Waker,
    most_readers: int | None = None,
    beat_seconds: float = change_stream.BEAT_SECONDS,
) -> Starlette:
    """The receiver's app. It connects to nothing before the first request, unless webhooks wait in the spool.

    `most_readers`: that may wait for changes at once; None: as many as the limit of open files allows. `beat_seconds`:
    after which a silent event stream shows that it is alive.
    """
    most_readers = open_files.most_readers() if most_readers is None else most_readers
    services = _Services(settings, waker, most_readers=most_readers, beat_seconds=beat_seconds)
    receiver = settings.receiver
    webhooks = WebhookRoutes(
        settings, batcher=services.batcher, wake=services.notifier.wake, outcomes=services.metrics.webhooks
    )
    commands = Commands(settings, database=services.database, wake=services.notifier.wake)
    health = Health(
        database=services.database,
        check_broker=waker.check_broker,
        spool=services.spool,
        queues=wakeup.queues_of(settings),
    )
    protected = [health.readiness, *_protected_routes(settings, services)]
    return _App(
        webhooks=webhooks,
        root_path=receiver.root_path,
        routes=[
            Mount("/hooks", routes=webhooks.routes),
            health.liveness,
            *commands.routes,  # each connection has a token of its own
            Mount(
                "/",
                Router(protected, redirect_slashes=False),  # a redirect's target would come from the caller's Host
                middleware=[Middleware(TokenAuth, token=receiver.token, proxies=receiver.trusted_proxies)],
            ),
        ],
        middleware=[Middleware(RootPath, root_path=receiver.root_path)],
        exception_handlers=HANDLERS,
        lifespan=services.lifespan,
    )


def _protected_routes(settings: Settings, services: _Services) -> list[Route]:
    """The routes that need the token, except `/readyz`."""
    database, wake = services.database, services.notifier.wake
    return [
        *Polls(settings, database=database, wake=wake).routes,
        *Documents(settings, database=database, wake=wake).routes,
        ChangesRoute(settings, database=database, readers=services.readers).route,
        services.metrics.route,
        OpenApi(root_path=settings.receiver.root_path).route,
    ]
