"""The Celery app and the processes that run it. Messages are wake-ups: JSON, no results, harmless to lose or repeat."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery import Celery, signals
from kombu.entity import Queue

from models.db.database import Database
from workers import context, lifeline
from workers.gate import timing
from workers.queue import broker, scheduler, tasks, wakeup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.settings.connections import Connection
    from models.settings.load import Settings

SYNC = wakeup.SYNC
FULL_SYNC = wakeup.FULL_SYNC
DELIVER = wakeup.DELIVER

_TASKS_PER_CHILD = 500
_FLOWER_COLUMNS = "name,args,state,received,runtime,worker"
"""The columns of Flower's task page. By default it leaves out the arguments, which name the connection."""

_PURGE_OFFLINE_AFTER = 3600
"""Seconds until Flower forgets a worker that has ended: each start has a new name."""

_REQUESTS = 4
"""Requests for one result, each as slow as it may be: two for a login, and two for an object."""

_BATCH_REQUESTS = 30
"""Requests for a batch of objects, each of which waits for the rate limit; they are not all so slow."""

_IMPORTED_LATE = (
    "celery.app.amqp",
    "celery.app.control",
    "celery.app.events",
    "celery.app.log",
    "celery.apps.beat",
    "celery.apps.worker",
    "celery.backends.base",
    "celery.concurrency.prefork",
    "celery.events.receiver",
    "celery.fixups.django",
    "celery.worker.autoscale",
    "celery.worker.components",
    "celery.worker.consumer",
    "celery.worker.consumer.delayed_delivery",
    "celery.worker.strategy",
    "billiard.heap",
    "billiard.popen_fork",
    "billiard.sharedctypes",
    "billiard.synchronize",
    "cffi.cparser",
    "workers.queue.consumer",
    "encodings.idna",
    "h11",
    "httpcore",
)
"""What Celery, billiard, httpx and the codecs import at their first use."""

_SOFT_MARGIN = timedelta(minutes=1)
_HARD_MARGIN = timedelta(seconds=30)


def create_app(settings: Settings, database: Database | None = None) -> Celery:
    """The app for these settings. It connects with the first message."""
    database = database or Database(settings.database.url)
    app = Celery("erpmirror", set_as_current=False, broker=broker.url(settings))
    app.conf.update(
        broker_transport="workers.queue.filesystem:Transport" if settings.broker.folder else None,
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,  # a wake-up has no effect of its own, so it may be delivered twice
        worker_prefetch_multiplier=1,
        worker_max_tasks_per_child=_TASKS_PER_CHILD,
        worker_send_task_events=True,
        task_send_sent_event=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_queues=[Queue(name, routing_key=name) for name in wakeup.ALL_QUEUES],
        task_default_queue=SYNC,
        task_create_missing_queues=False,
        beat_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker waits for its broker without limit
        broker_connection_timeout=broker.TIMEOUT,
        broker_heartbeat=broker.HEARTBEAT,
        broker_channel_error_retry=True,  # RabbitMQ closes the channel of a task that takes over 30 min
        worker_cancel_long_running_tasks_on_connection_loss=False,  # a task may finish: its work is in rows
        broker_transport_options=broker.transport_options(settings),
        timezone="UTC",
    )
    hard = longest_task(settings)
    tasks.register(app, settings, database, soft=hard - _HARD_MARGIN, hard=hard)
    return app


def longest_task(settings: Settings) -> timedelta:
    """The time limit of every task but a full sync."""
    longest = max(map(_longest_work, settings.connections.values()), default=timedelta(seconds=30))
    return longest + _SOFT_MARGIN + _HARD_MARGIN


def _longest_work(options: Connection) -> timedelta:
    """How long the requests for one result may take, each with its wait for the rate limit."""
    interval = timing.MINUTE / options.requests_per_minute if options.requests_per_minute else timedelta(0)
    return _REQUESTS * options.timeout + _BATCH_REQUESTS * interval


def import_for_tasks(settings: Settings) -> None:
    """Import what else would be imported after a fork, by each process for itself."""
    for module in _IMPORTED_LATE:
        importlib.import_module(module)
    if settings.broker.folder is not None:
        importlib.import_module("workers.queue.filesystem")
    context.import_clients(settings)


def run_worker(settings: Settings, *, queues: Sequence[str], concurrency: int) -> None:
    """Run a worker for these queues until it is stopped."""
    database = Database(settings.database.url)
    broker.prepare(settings)
    app = create_app(settings, database)

    reader, writer = os.pipe()

    def after_fork(**_: Any) -> None:
        os.close(writer)
        lifeline.end_when_closed(reader)  # a child must not go on where this process was killed
        database.dispose()  # database connections opened before the fork belong to the parent
        gc.freeze()  # without it each collection walks all loaded modules, which takes longer than a task

    signals.worker_process_init.connect(after_fork, weak=False)
    app.conf.worker_consumer = "workers.queue.consumer:ReconnectingConsumer"
    _worker_class(app)(
        queues=queues,
        concurrency=concurrency,
        pool=_pool(settings, queues),
        task_events=True,
        without_gossip=True,
        without_mingle=True,
        quiet=True,
        # The process id makes it unique: RabbitMQ refuses a second worker of the same name.
        hostname=f"{'-'.join(queues)}@{socket.gethostname()}.{os.getpid()}",
        loglevel="WARNING",
    ).start()


def _pool(settings: Settings, queues: Sequence[str]) -> str | None:
    """The kind of Celery's pool. Deliveries wait for endpoints, so threads of one process serve them."""
    if list(queues) == [DELIVER]:
        signals.worker_shutting_down.connect(lambda **_: tasks.stopping.set(), weak=False)
        return "threads"
    return "workers.queue.filesystem:Pool" if settings.broker.folder else None


def _worker_class(app: Celery) -> Any:
    class Worker(app.Worker):
        def install_platform_tweaks(self, worker: Any) -> None:
            """A closed terminal ends the worker. Celery would start it again, in the background."""
            super().install_platform_tweaks(worker)
            signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))

    return Worker


def run_beat(settings: Settings) -> None:
    """Run the scheduler until it is stopped: it reads the tables and wakes workers for what is due."""
    database = Database(settings.database.url)
    broker.prepare(settings)
    app = create_app(settings, database)
    scheduler.run(app, settings, database)


def run_flower(settings: Settings, *, address: str, port: int, basic_auth: str | None) -> None:
    """Run Flower on this app until it is stopped."""
    from flower.views import monitor  # noqa: PLC0415 - takes a second, which no other process should wait
    from tornado import web  # noqa: PLC0415

    broker.prepare(settings)
    arguments = ["flower", f"--address={address}", f"--port={port}", f"--tasks-columns={_FLOWER_COLUMNS}"]
    arguments.append(f"--purge-offline-workers={_PURGE_OFFLINE_AFTER}")
    if basic_auth:
        arguments.append(f"--basic-auth={basic_auth}")
    # Flower answers these without its login, and has no option that changes it.
    for open_page in (monitor.Metrics, monitor.Healthcheck):
        open_page.get = web.authenticated(open_page.get)
    create_app(settings).start(arguments)
