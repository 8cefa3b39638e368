"""Thin tasks: unpack, call a plain function, ring again if more is left."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers import bell, desk, ingest

if TYPE_CHECKING:
    from datetime import timedelta

    from celery import Celery

    from models.database import Database
    from models.settings import Settings

LOOK = "erpmirror.look"
READ = "erpmirror.read"


def register(app: Celery, settings: Settings, database: Database, *, soft: timedelta, hard: timedelta) -> None:
    """Put the two tasks on the app. `look` is bounded in time; `read` by the stalling of its stream."""

    @app.task(name=LOOK, soft_time_limit=soft.total_seconds(), time_limit=hard.total_seconds())
    def look(connection: str) -> None:
        """Look at what is due for a connection."""
        _work(app, settings, database, connection, bell.LOOK)

    @app.task(name=READ)
    def read(connection: str) -> None:
        """Go on with the full readings of a connection."""
        _work(app, settings, database, connection, bell.READ)


def _work(app: Celery, settings: Settings, database: Database, name: str, which: bell.Which) -> None:
    if name not in settings.connections:
        return  # rung by somebody with other settings
    ring = bell.Bell(app, database)
    ring.answer(name, which)
    work = ingest.look if which == bell.LOOK else ingest.read
    if work(desk.desk(database, settings, name)).more:
        ring.ring(name, which)
