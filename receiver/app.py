"""The receiver's ASGI app: it stores webhooks and documents, wakes workers, and serves the journal."""

from __future__ import annotations

import gc
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Router

from receiver import db_timeouts
from receiver.api.changes import ChangesRoute
from receiver.api.documents import Documents
from receiver.api.health import Health
from receiver.api.metrics import Metrics
from receiver.api.openapi import OpenApi
from receiver.api.polls import Polls
from receiver.http.auth import RootPath, TokenAuth
from receiver.http.errors import HANDLERS
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


def create() -> Starlette:
    """The app of the settings file that `$ERPMIRROR_CONFIG` names: `uvicorn --factory receiver.app:create`.

    `receiver.http.server.OPTIONS` says which of uvicorn's defaults must be changed.
    """
    settings = configuration.load()
    broker.prepare(settings)
    database = db_timeouts.database(settings.database.url)
    app = create_app(settings, waker=wakeup.Waker(celery_app.create_app(settings, database), database))
    gc.collect()
    gc.freeze()  # these objects live as long as the process, so the collector need not scan them
    return app


class _App(Starlette):
    """Starlette with `WebhookFastPath` in front of its middleware."""

    webhooks: WebhookRoutes
    root_path: str

    def build_middleware_stack(self) -> ASGIApp:
        """Put `WebhookFastPath` outermost."""
        return WebhookFastPath(super().build_middleware_stack(), webhooks=self.webhooks, root_path=self.root_path)


def create_app(settings: Settings, *, waker: Waker) -> Starlette:
    """The receiver's app. It connects to nothing before the first request, unless webhooks wait in the spool."""
    database = db_timeouts.database(settings.database.url)
    spool = Spool(settings.receiver.spool)
    metrics_database = db_timeouts.database(settings.database.url, seconds=3)  # Prometheus' own timeout is ten
    metrics = Metrics(settings, database=metrics_database, spool=spool)
    notifier = Notifier(waker, on_failure=metrics.wakeup_failures.inc)
    # Pools of their own, so that readers cannot use up the connections that webhooks need. A webhook that gets none
    # within a second goes to the spool.
    store_database, drain_database = (db_timeouts.database(settings.database.url, seconds=1) for _ in range(2))
    batcher = WebhookBatcher(store_database, spool, on_batch=metrics.batches.observe, on_spooled=metrics.spooled.inc)
    drainer = Drainer(drain_database, spool, on_database_up=batcher.resume, on_drained=notifier.wake)
    webhooks = WebhookRoutes(settings, batcher=batcher, wake=notifier.wake, outcomes=metrics.webhooks)
    polls = Polls(settings, database=database, wake=notifier.wake)
    documents = Documents(settings, database=database, wake=notifier.wake)
    health = Health(database=database, check_broker=waker.check_broker, spool=spool)

    openapi = OpenApi(root_path=settings.receiver.root_path)
    other_routes = [ChangesRoute(database).route, health.readiness, metrics.route, openapi.route]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        drainer.start()
        yield
        await batcher.close()
        drainer.close()
        notifier.close()
        metrics_database.close()
        database.close()

    app = _App(
        routes=[
            Mount("/hooks", routes=webhooks.routes),
            health.liveness,
            Mount(
                "/",
                # No redirects: their target would be taken from the caller's Host header.
                Router([*polls.routes, *documents.routes, *other_routes], redirect_slashes=False),
                middleware=[
                    Middleware(TokenAuth, token=settings.receiver.token, proxies=settings.receiver.trusted_proxies)
                ],
            ),
        ],
        middleware=[Middleware(RootPath, root_path=settings.receiver.root_path)],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.webhooks, app.root_path = webhooks, settings.receiver.root_path
    return app
