"""The receiver: believes nobody, keeps what it accepts, rings the bell."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from receiver import patience
from receiver.changes import Changes
from receiver.documents import Documents
from receiver.door import Door, Prefix
from receiver.health import Health
from receiver.hooks import Hooks
from receiver.letterbox import Letterbox
from receiver.metrics import Metrics
from receiver.refusals import HANDLERS
from receiver.ringer import Ringer
from receiver.ticks import Ticks
from workers import app as celery_app
from workers import bell, broker, configuration

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from models.settings import Settings
    from receiver.ringer import Bell


def create() -> Starlette:
    """The app of the settings file that `$ERPMIRROR_CONFIG` names: `uvicorn --factory receiver.app:create`.

    `receiver.server.OPTIONS` says which of uvicorn's defaults must be changed.
    """
    settings = configuration.load()
    broker.prepare(settings)
    database = patience.database(settings.database.url)
    return create_app(settings, bell=bell.Bell(celery_app.create_app(settings, database), database))


def create_app(settings: Settings, *, bell: Bell) -> Starlette:
    """The receiver's app. Nothing connects before the first request."""
    database = patience.database(settings.database.url)
    metrics = Metrics(settings, database=database)
    ringer = Ringer(bell, failed=metrics.ring_failures.inc)
    # With connections of its own, so that readers never keep a webhook waiting for one.
    letterbox = Letterbox(patience.database(settings.database.url), batched=metrics.batches.observe)
    hooks = Hooks(settings, letterbox=letterbox, stored=ringer.ring, outcomes=metrics.webhooks)
    ticks = Ticks(settings, database=database, marked=ringer.ring)
    documents = Documents(settings, database=database, stored=ringer.ring)
    health = Health(database=database, broker_alive=bell.broker_alive)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        await letterbox.close()
        ringer.close()
        database.close()

    return Starlette(
        routes=[
            Mount("/hooks", routes=hooks.routes),
            health.liveness,
            Mount(
                "/",
                routes=[*ticks.routes, *documents.routes, Changes(database).route, health.readiness, metrics.route],
                middleware=[Middleware(Door, token=settings.receiver.token)],
            ),
        ],
        middleware=[Middleware(Prefix, root_path=settings.receiver.root_path)],
        exception_handlers=HANDLERS,
        lifespan=lifespan,
    )
