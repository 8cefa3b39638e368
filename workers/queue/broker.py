"""The options that each broker needs, and the removal of abandoned files of the filesystem broker."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from models import private

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery import Celery

    from models.settings.load import Settings

TIMEOUT = 4.0
"""Seconds until a broker that does not answer counts as down."""

_NO_RETRIES = {"max_retries": 0}
"""A sender does not wait for the broker: the scheduler wakes again. Workers do wait, by Celery's own settings."""

HEARTBEAT = 10
"""Seconds between two heartbeats on RabbitMQ; with Celery's default a lost link is noticed after minutes."""

_HEALTH_CHECK_INTERVAL = 5
"""Seconds between two checks whether Redis answers; with kombu's default a lost link takes a minute to notice."""

POLL = 0.05
"""Seconds between two scans of the filesystem broker's folder, which cost an idle worker 0.6 % of a core."""

_VISIBILITY_TIMEOUT = 3600
"""Seconds until Redis redelivers a message that was not acknowledged."""

_ABANDONED_AFTER = 60.0
"""Seconds without a reader after which an event queue is deleted."""


def url(settings: Settings) -> str:
    """The broker's address for kombu. The filesystem broker's folders are not in it: kombu takes them as options."""
    return "filesystem://localhost//" if settings.broker.folder else settings.broker.url


def transport_options(settings: Settings) -> dict[str, Any]:
    """The kombu options for this broker."""
    folder = settings.broker.folder
    if folder is not None:
        messages = str(folder / "messages")
        return {
            "data_folder_in": messages,
            "data_folder_out": messages,
            "control_folder": str(folder / "control"),
            "store_processed": False,
            "polling_interval": POLL,
        }
    if settings.broker.url.startswith("redis"):
        return {
            **_NO_RETRIES,
            "visibility_timeout": _VISIBILITY_TIMEOUT,
            "socket_connect_timeout": TIMEOUT,
            "socket_timeout": TIMEOUT,
            "socket_keepalive": True,
            "health_check_interval": _HEALTH_CHECK_INTERVAL,
        }
    # Without `confirm_publish` RabbitMQ confirms nothing; without the timeouts a client waits for ever.
    return {**_NO_RETRIES, "confirm_publish": True, "read_timeout": TIMEOUT, "write_timeout": TIMEOUT}


def prepare(settings: Settings) -> None:
    """Make the filesystem broker's folders."""
    folder = settings.broker.folder
    if folder is not None:
        for name in ("messages", "control"):
            private.make_folder(folder / name, setting="`url` of [broker]")


def purge_abandoned(app: Celery, settings: Settings) -> int:
    """Delete the event queues of Flowers that have ended, on the filesystem broker; returns how many.

    Redis and RabbitMQ delete them by themselves. Here each event would leave one more file for every Flower that ever
    ran, and each waiting process lists all files at every poll.
    """
    if settings.broker.folder is None:
        return 0
    # Here, because whoever only wants this module's settings needs nothing of Celery.
    from celery.events.event import get_exchange  # noqa: PLC0415
    from kombu.entity import Queue  # noqa: PLC0415

    abandoned = set(_abandoned_queues(settings.broker.folder / "messages"))
    if abandoned:
        with app.connection_for_write() as link, link.channel() as channel:
            for name in abandoned:
                queue = Queue(name, get_exchange(link), routing_key="#", channel=channel)
                queue.declare()  # only a process that has bound a queue can delete it with its binding and files
                queue.delete()
    return len(abandoned)


def _abandoned_queues(messages: Path) -> Iterator[str]:
    """The event queues with a message that no process has read for a minute."""
    oldest = time.time() - _ABANDONED_AFTER
    for file in messages.glob("*.celeryev.*.msg"):
        with suppress(FileNotFoundError):  # read meanwhile
            if file.stat().st_mtime < oldest:
                yield file.name.partition(".")[2].removesuffix(".msg")
