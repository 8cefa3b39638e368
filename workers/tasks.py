"""Thin tasks: unpack, call a plain function, ring again if more is left."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

import structlog
from kombu.exceptions import OperationalError

from models import faults
from models.faults import Point
from workers import bell, canary, desk, ingest

if TYPE_CHECKING:
    from datetime import timedelta

    from celery import Celery, Task

    from models.database import Database
    from models.settings import Settings

log = structlog.get_logger()

LOOK = "erpmirror.look"
READ = "erpmirror.read"


def register(app: Celery, settings: Settings, database: Database, *, soft: timedelta, hard: timedelta) -> None:
    """Put the tasks on the app. `look` is bounded in time; `read` by the stalling of its stream."""
    ring = bell.Bell(app, database)
    # A process makes a desk once, with its keys and its gate, and leaves its line to the vendor open.
    at = functools.cache(functools.partial(desk.desk, database, settings, lasting=True))

    def work(name: str, which: bell.Which) -> None:
        if name in settings.connections:  # else rung by somebody with other settings
            _work(at(name), ring, which)

    bounded = {"soft_time_limit": soft.total_seconds(), "time_limit": hard.total_seconds()}

    @app.task(name=LOOK, **bounded)
    def look(connection: str) -> None:
        """Look at what is due for a connection."""
        work(connection, bell.LOOK)

    @app.task(name=READ)
    def read(connection: str) -> None:
        """Go on with the full readings of a connection."""
        work(connection, bell.READ)

    @app.task(name=canary.TASK, bind=True, **bounded)
    def answer(task: Task, queue: str) -> None:
        """Say that a worker takes messages from the queue."""
        canary.answer(database, queue, worker=f"{task.request.hostname}, process {os.getpid()}")


def _work(at: desk.Desk, ring: bell.Bell, which: bell.Which) -> None:
    ring.answer(at.name, which)
    faults.reach(Point.RING_ANSWERED)
    work = ingest.look if which == bell.LOOK else ingest.read
    if work(at).more:
        try:
            ring.ring(at.name, which)
        except OperationalError as error:  # what was done is done; beat rings for the rest
            log.warning("ringing failed", connection=at.name, error=type(error).__name__)
