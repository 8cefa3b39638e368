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
from receiver.webhooks.routes import Hooks, WebhookFastPath
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
    gc.freeze()  # the collector need not scan what lives as long as the process
    return app


class _App(Starlette):
    """Starlette with `Shortcut` before its middleware."""

    hooks: Hooks
    root_path: str

    def build_middleware_stack(self) -> ASGIApp:
        """See `Shortcut`."""
        return WebhookFastPath(super().build_middleware_stack(), hooks=self.hooks, root_path=self.root_path)


def create_app(settings: Settings, *, waker: Waker) -> Starlette:
    """The receiver's app. Nothing connects before the first request."""
    database = db_timeouts.database(settings.database.url)
    spool = Spool(settings.receiver.spool)
    scraped = db_timeouts.database(settings.database.url, seconds=3)  # Prometheus' own timeout is ten
    metrics = Metrics(settings, database=scraped, spool=spool)
    notifier = Notifier(waker, failed=metrics.wakeup_failures.inc)
    # A pool of its own, so that readers cannot use up the links that webhooks need. A webhook that gets none within
    # the second goes to the spool.
    keeper, taker = (db_timeouts.database(settings.database.url, seconds=1) for _ in range(2))
    letterbox = WebhookBatcher(keeper, spool, batched=metrics.batches.observe, spooled=metrics.spooled.inc)
    drainer = Drainer(taker, spool, returned=letterbox.resume, drained=notifier.wake)
    hooks = Hooks(settings, letterbox=letterbox, wake=notifier.wake, outcomes=metrics.webhooks)
    polls = Polls(settings, database=database, wake=notifier.wake)
    documents = Documents(settings, database=database, wake=notifier.wake)
    health = Health(database=database, broker_alive=waker.broker_alive, spool=spool)

    description = OpenApi(root_path=settings.receiver.root_path)
    pages = [ChangesRoute(database).route, health.readiness, metrics.route, description.route]

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        drainer.start()
        yield
        await letterbox.close()
        drainer.close()
        notifier.close()
        scraped.close()
        database.close()

    app = _App(
        routes=[
            Mount("/hooks", routes=hooks.routes),
            health.liveness,
            Mount(
                "/",
                # No redirects: their address would come from the caller's own Host header.
                Router([*polls.routes, *documents.routes, *pages], redirect_slashes=False),
                middleware=[
                    Middleware(TokenAuth, token=settings.receiver.token, proxies=settings.receiver.trusted_proxies)
                ],
            ),
        ],
        middleware=[Middleware(RootPath, root_path=settings.receiver.root_path)],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
    app.hooks, app.root_path = hooks, settings.receiver.root_path
    return app
