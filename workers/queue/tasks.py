"""The tasks: unpack the message, call a plain function, wake again if work is left."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog
from kombu.exceptions import OperationalError

from models import failpoints
from models.db import faults
from models.db.faults import Fault
from models.failpoints import Point
from workers import context as contexts
from workers.ingest import loop
from workers.queue import canary, wakeup

if TYPE_CHECKING:
    from datetime import timedelta

    from celery import Celery, Task

    from models.db.database import Database
    from models.settings.load import Settings

log = structlog.get_logger()

_PASSING = {Fault.AWAY: "database away", Fault.LOCKED: "database locked"}
"""What says nothing about the work, as it is logged."""

SYNC = f"erpmirror.{wakeup.SYNC}"
FULL_SYNC = f"erpmirror.{wakeup.FULL_SYNC}"


def register(app: Celery, settings: Settings, database: Database, *, soft: timedelta, hard: timedelta) -> None:
    """Register the tasks. `sync` has a time limit; `full_sync` has none, and ends when its stream stalls."""
    waker = wakeup.Waker(app, database)
    # One cached context per connection and process; its HTTP client stays open.
    context = functools.cache(functools.partial(contexts.connection_context, database, settings, keeps_client=True))

    def handle(connection: str, queue: wakeup.QueueName) -> None:
        if connection in settings.connections:  # a process with other settings may have sent the wake-up
            _handle_wakeup(context(connection), waker, queue)

    limits = {"soft_time_limit": soft.total_seconds(), "time_limit": hard.total_seconds()}

    @app.task(name=SYNC, **limits)
    def sync(connection: str) -> None:
        """Do a connection's short work that is due."""
        handle(connection, wakeup.SYNC)

    @app.task(name=FULL_SYNC)
    def full_sync(connection: str) -> None:
        """Continue a connection's full syncs."""
        handle(connection, wakeup.FULL_SYNC)

    @app.task(name=canary.TASK, bind=True, **limits)
    def answer_canary(task: Task, queue: str) -> None:
        """Record that a worker takes messages from the queue."""
        canary.record_answer(database, queue, worker=f"{task.request.hostname}, process {os.getpid()}")


def _handle_wakeup(context: contexts.ConnectionContext, waker: wakeup.Waker, queue: wakeup.QueueName) -> None:
    do_due_work = loop.sync if queue == wakeup.SYNC else loop.full_sync
    try:
        waker.acknowledge(context.name, queue)
        failpoints.hit(Point.WAKEUP_ACKNOWLEDGED)
        if do_due_work(context).has_more:
            waker.wake(context.name, queue)
    except OperationalError as error:  # the work is committed; the scheduler wakes for the rest
        log.warning("wake-up failed", connection=context.name, error=type(error).__name__)
    except sa.exc.DBAPIError as error:
        fault = faults.of(error)
        if fault not in _PASSING:
            raise
        # Nothing is lost with it, and the work is still due once the database is back, or the lock is gone.
        log.warning(_PASSING[fault], connection=context.name, error=faults.words(error))
