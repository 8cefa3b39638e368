"""The settings that each broker needs, and the cleaning of the filesystem broker."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.events.event import get_exchange
from kombu.entity import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from celery import Celery

    from models.settings.load import Settings

TIMEOUT = 4.0
"""Seconds until a broker that does not answer counts as away."""

_ONCE = {"max_retries": 0}
"""A sender does not wait for the broker: the scheduler wakes again. (Workers wait, by Celery's settings.)"""

HEARTBEAT = 10
"""Seconds between two heartbeats on RabbitMQ; with Celery's default a lost link is noticed after minutes."""

_NOTICED = 5
"""Seconds between two checks whether Redis answers; with kombu's default a lost link is noticed after most of a
minute."""

_LONGEST_PAUSE = 5
"""Seconds between two attempts of a worker to reach its broker; Celery's pauses grow to 30."""

_SOON = 0.1
"""Seconds until a link is dropped over which a message could not be acknowledged."""

POLL = 0.1
"""Seconds between two scans of the filesystem broker's folder; at half of it an idle worker needs 1.5 times the CPU."""

_REDELIVER = 3600
_STALE = 60.0


def url(settings: Settings) -> str:
    """The broker's address for kombu, which takes the filesystem's folders as options."""
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
            **_ONCE,
            "visibility_timeout": _REDELIVER,
            "socket_connect_timeout": TIMEOUT,
            "socket_timeout": TIMEOUT,
            "socket_keepalive": True,
            "health_check_interval": _NOTICED,
        }
    # Without them RabbitMQ confirms nothing, and a client waits for a confirmation for ever.
    return {**_ONCE, "confirm_publish": True, "read_timeout": TIMEOUT, "write_timeout": TIMEOUT}


def consumer() -> type[Any]:
    """Celery's consumer, for a worker that survives the loss of its broker."""
    from celery.worker.consumer import Consumer  # noqa: PLC0415 - only workers need that much of Celery
    from kombu.transport import virtual  # noqa: PLC0415

    class Patient(Consumer):
        """Reconnects soon after the broker is back, also during a task, and never stops consuming for good."""

        def ensure_connected(self, conn: Any) -> Any:
            """Connect, with short pauses between the attempts."""
            attempt = conn.ensure_connection
            conn.ensure_connection = partial(attempt, interval_start=1, interval_step=1, interval_max=_LONGEST_PAUSE)
            return super().ensure_connected(conn)

        def call_soon_ack(self, p: Callable[..., None], *args: Any) -> Any:
            """Acknowledge, or reject, a message at the loop's next turn."""
            return super().call_soon_ack(partial(self._settle, p), *args)

        def _settle(self, settle: Any, *args: Any) -> None:
            """Settle a message, or reconnect: one that stays unsettled keeps its place in the prefetch window.

            With the last place taken the broker sends nothing more. A new link begins with an empty window.
            """
            with suppress(OSError):  # logged already, like every error of a lost link
                settle(*args)
            message = settle.__self__
            if not message.acknowledged and self.hub is not None:
                self.hub.call_later(_SOON, self._give_up, message.channel)  # the loop then reconnects

        def _give_up(self, channel: Any) -> None:
            """Reconnect, unless that has happened meanwhile."""
            if channel is self._channel():
                raise ConnectionError("a message could not be acknowledged")

        def on_connection_error_after_connected(self, exc: Exception) -> None:
            """Drop the lost link, but let a running task acknowledge its message later.

            kombu clears a transport that it closes. On Redis it would then fail to restore unacknowledged messages over
            the lost link, and later to acknowledge them, with errors that end the whole worker.
            """
            channel = self._channel()
            if not isinstance(channel, virtual.Channel):
                super().on_connection_error_after_connected(exc)
                return
            transport, channel.do_restore = channel.connection, False
            super().on_connection_error_after_connected(exc)
            channel.connection, transport.client = transport, self.conninfo

        def _channel(self) -> Any:
            """The channel of its messages, while it is connected."""
            return self.task_consumer.channel if self.task_consumer is not None else None

    return Patient


def prepare(settings: Settings) -> None:
    """Make the filesystem broker's folders."""
    folder = settings.broker.folder
    if folder is not None:
        for name in ("messages", "control"):
            (folder / name).mkdir(parents=True, exist_ok=True)


def purge_abandoned(app: Celery, settings: Settings) -> int:
    """Delete the event queues of Flowers that are gone, on the filesystem broker; returns how many.

    Servers do that by themselves. Here every event would leave one more file for each Flower that ever ran, and every
    waiting process scans all files at each poll.
    """
    if settings.broker.folder is None:
        return 0
    dead = set(_dead(settings.broker.folder / "messages"))
    if dead:
        with app.connection_for_write() as link, link.channel() as channel:
            for name in dead:
                queue = Queue(name, get_exchange(link), routing_key="#", channel=channel)
                queue.declare()  # only a process that has bound a queue can delete it with its binding and files
                queue.delete()
    return len(dead)


def _dead(messages: Path) -> Iterator[str]:
    """The event queues that no process has read for a minute."""
    oldest = time.time() - _STALE
    for file in messages.glob("*.celeryev.*.msg"):
        with suppress(FileNotFoundError):  # read meanwhile
            if file.stat().st_mtime < oldest:
                yield file.name.partition(".")[2].removesuffix(".msg")
