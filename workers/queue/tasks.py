"""The tasks: unpack the message, call a plain function, wake again if work is left."""

from __future__ import annotations

import functools
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog
from kombu.exceptions import OperationalError

from models import failpoints
from models.bookkeeping import subscriptions
from models.db import faults
from models.db.faults import Fault
from models.failpoints import Point
from workers import alerts
from workers import context as contexts
from workers.deliveries import deliver as delivering
from workers.ingest import loop
from workers.queue import canary, wakeup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from celery import Celery, Task

    from models.db.database import Database
    from models.settings.load import Settings

log = structlog.get_logger()

_PASSING = {Fault.AWAY: "database away", Fault.LOCKED: "database locked"}
"""What says nothing about the work, as it is logged."""

SYNC = f"erpmirror.{wakeup.SYNC}"
FULL_SYNC = f"erpmirror.{wakeup.FULL_SYNC}"
DELIVER = f"erpmirror.{wakeup.DELIVER}"

stopping = threading.Event()
"""Set when this worker is told to stop: a session that lingers ends at once."""


def register(app: Celery, settings: Settings, database: Database, *, soft: timedelta, hard: timedelta) -> None:
    """Register the tasks, with this app alone. `sync` has a time limit; `full_sync` ends when its stream stalls."""
    waker = wakeup.Waker(app, database)
    # One cached context per connection and process; its HTTP client stays open.
    context = functools.cache(functools.partial(contexts.connection_context, database, settings, keeps_client=True))

    def handle(connection: str, queue: wakeup.QueueName) -> None:
        if connection in settings.connections:  # a process with other settings may have sent the wake-up
            _handle_wakeup(context(connection), waker, queue)
            if settings.subscriptions:
                _wake_subscriptions(database, settings, waker)

    limits = {"soft_time_limit": soft.total_seconds(), "time_limit": hard.total_seconds()}

    @app.task(name=SYNC, shared=False, **limits)
    def sync(connection: str) -> None:
        """Do a connection's short work that is due."""
        handle(connection, wakeup.SYNC)

    @app.task(name=FULL_SYNC, shared=False)
    def full_sync(connection: str) -> None:
        """Continue a connection's full syncs."""
        handle(connection, wakeup.FULL_SYNC)

    @app.task(name=DELIVER, shared=False)
    def deliver(subscription: str) -> None:
        """Deliver to a subscription what it was not told yet."""
        _deliver(database, settings, waker, subscription)

    @app.task(name=canary.TASK, bind=True, shared=False, **limits)
    def answer_canary(task: Task, queue: str) -> None:
        """Record that a worker takes messages from the queue."""
        canary.record_answer(database, queue, worker=f"{task.request.hostname}, process {os.getpid()}")


def _wake_subscriptions(database: Database, settings: Settings, waker: wakeup.Waker) -> None:
    """Wake for what the journal may have got. A session that lingers has heard of it already."""
    with _passing_faults():
        with database.read() as tx:
            due = subscriptions.due(tx, now=tx.now)
        for name in due:
            if name in settings.subscriptions:
                waker.wake(name, wakeup.DELIVER)


def _deliver(database: Database, settings: Settings, waker: wakeup.Waker, subscription: str) -> None:
    with _passing_faults(subscription=subscription):
        waker.acknowledge(subscription, wakeup.DELIVER)
        budget, linger = delivering.patience(settings)
        done = delivering.deliver(
            database, settings, subscription, stopping=stopping.is_set, budget=budget, linger=linger
        )
        if done.paused is not None:
            body = f"{done.paused}\n\n`erpmirror subscriptions resume {subscription}` goes on where it was."
            alerts.send(settings, title=f"the subscription {subscription} is paused", body=body)
        if done.has_more:
            waker.wake(subscription, wakeup.DELIVER)


def _handle_wakeup(context: contexts.ConnectionContext, waker: wakeup.Waker, queue: wakeup.QueueName) -> None:
    do_due_work = loop.sync if queue == wakeup.SYNC else loop.full_sync
    with _passing_faults(connection=context.name):
        waker.acknowledge(context.name, queue)
        failpoints.hit(Point.WAKEUP_ACKNOWLEDGED)
        if do_due_work(context).has_more:
            waker.wake(context.name, queue)


@contextmanager
def _passing_faults(**of: str) -> Iterator[None]:
    """Log that the broker or the database is away, and let the task end: nothing is lost with it.

    The work is committed or still due; the scheduler wakes for it once they are back, or the lock is gone.
    """
    try:
        yield
    except OperationalError as error:
        log.warning("wake-up failed", **of, error=type(error).__name__)
    except sa.exc.DBAPIError as error:
        fault = faults.of(error)
        if fault not in _PASSING:
            raise
        log.warning(_PASSING[fault], **of, error=faults.words(error))
