"""The Celery app: messages are doorbells, so JSON only, no results, nothing that must not be lost."""

from __future__ import annotations

import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery import Celery, signals
from kombu.entity import Queue

from models.database import Database
from workers import beat, broker, desk, tasks

if TYPE_CHECKING:
    from models.settings import Settings

LOOKS = "looks"
"""The queue of short tasks. No dots in queue names: the filesystem transport puts them into its file names."""

READS = "reads"
"""The queue of full readings, which may be long."""

_TASKS_PER_CHILD = 500
_COLUMNS = "name,args,state,received,runtime,worker"
"""What Flower's page of tasks shows. Its own choice leaves out the arguments, and ours are the connection."""

_SOFT_MARGIN = timedelta(minutes=1)
_HARD_MARGIN = timedelta(seconds=30)


def create_app(settings: Settings, database: Database | None = None) -> Celery:
    """The app for these settings. Nothing connects before the first message."""
    database = database or Database(settings.database.url)
    app = Celery("erpmirror", set_as_current=False, broker=broker.url(settings))
    longest = max((each.timeout for each in settings.connections.values()), default=timedelta(seconds=30))
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        task_ignore_result=True,
        task_acks_late=True,
        worker_prefetch_multiplier=1,
        worker_max_tasks_per_child=_TASKS_PER_CHILD,
        worker_send_task_events=True,
        task_send_sent_event=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        task_queues=[Queue(name, routing_key=name) for name in (LOOKS, READS)],
        task_default_queue=LOOKS,
        task_create_missing_queues=False,
        beat_enable_remote_control=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # a worker waits for its broker however long it is away
        broker_connection_timeout=broker.PATIENCE,
        broker_transport_options=broker.transport_options(settings),
        timezone="UTC",
    )
    tasks.register(app, settings, database, soft=longest + _SOFT_MARGIN, hard=longest + _SOFT_MARGIN + _HARD_MARGIN)
    return app


def run_worker(settings: Settings, *, queues: list[str], concurrency: int) -> None:
    """Work until told to stop."""
    database = Database(settings.database.url)
    broker.prepare(settings)
    app = create_app(settings, database)

    def forked(**_: Any) -> None:
        database.dispose()  # connections opened before the fork belong to the parent

    signals.worker_process_init.connect(forked, weak=False)
    desk.align(database, settings)
    database.close()
    app.Worker(
        queues=queues,
        concurrency=concurrency,
        task_events=True,
        without_gossip=True,
        without_mingle=True,
        quiet=True,
        hostname=f"{'-'.join(queues)}@{socket.gethostname()}",
        loglevel="WARNING",
    ).start()


def run_beat(settings: Settings) -> None:
    """Sweep the tables and ring for what is due, until told to stop."""
    database = Database(settings.database.url)
    broker.prepare(settings)
    app = create_app(settings, database)
    desk.align(database, settings)
    beat.run(app, settings, database)


def run_flower(settings: Settings, *, address: str, port: int, basic_auth: str | None) -> None:
    """Flower on this app."""
    broker.prepare(settings)
    arguments = ["flower", f"--address={address}", f"--port={port}", f"--tasks-columns={_COLUMNS}"]
    if basic_auth:
        arguments.append(f"--basic-auth={basic_auth}")
    create_app(settings).start(arguments)
