"""What each broker needs to be told, and the filesystem broker's housekeeping."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from celery.events.event import get_exchange
from kombu.entity import Queue

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery import Celery

    from models.settings import Settings

PATIENCE = 4.0
"""Seconds until a broker that does not answer counts as away."""

_ONCE = {"max_retries": 0}
"""Who rings does not wait for a broker to come back: beat rings again. (Workers do, by Celery's own settings.)"""

_POLL = 0.1
_REDELIVER = 3600
_STALE = 60.0


def url(settings: Settings) -> str:
    """The broker's address for kombu, which wants the filesystem's folders as options."""
    return "filesystem://localhost//" if settings.broker.folder else settings.broker.url


def transport_options(settings: Settings) -> dict[str, Any]:
    """What kombu must be told of this broker."""
    folder = settings.broker.folder
    if folder is not None:
        messages = str(folder / "messages")
        return {
            "data_folder_in": messages,
            "data_folder_out": messages,
            "control_folder": str(folder / "control"),
            "store_processed": False,
            "polling_interval": _POLL,
        }
    if settings.broker.url.startswith("redis"):
        return {
            **_ONCE,
            "visibility_timeout": _REDELIVER,
            "socket_connect_timeout": PATIENCE,
            "socket_timeout": 30.0,
            "socket_keepalive": True,
        }
    return {**_ONCE, "confirm_publish": True}  # RabbitMQ confirms nothing unless asked


def prepare(settings: Settings) -> None:
    """Make the filesystem broker's folders."""
    folder = settings.broker.folder
    if folder is not None:
        for name in ("messages", "control"):
            (folder / name).mkdir(parents=True, exist_ok=True)


def sweep(app: Celery, settings: Settings) -> int:
    """Take a dead Flower's queues away, on the filesystem broker; returns how many.

    Servers do that by themselves. Here every event would leave one more file for each Flower that ever ran, and whoever
    waits for a ring reads through all of them ten times a second.
    """
    if settings.broker.folder is None:
        return 0
    dead = set(_dead(settings.broker.folder / "messages"))
    if dead:
        with app.connection_for_write() as broker, broker.channel() as channel:
            for name in dead:
                queue = Queue(name, get_exchange(broker), routing_key="#", channel=channel)
                queue.declare()  # only a process that has bound it can take it away, binding, files and all
                queue.delete()
    return len(dead)


def _dead(messages: Path) -> Iterator[str]:
    """The queues of events that nobody has read for a minute."""
    oldest = time.time() - _STALE
    for file in messages.glob("*.celeryev.*.msg"):
        with suppress(FileNotFoundError):  # taken by its reader meanwhile
            if file.stat().st_mtime < oldest:
                yield file.name.partition(".")[2].removesuffix(".msg")
