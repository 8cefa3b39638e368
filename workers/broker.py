"""What each broker needs to be told, and the filesystem broker's housekeeping."""

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

    from models.settings import Settings

PATIENCE = 4.0
"""Seconds until a broker that does not answer counts as away."""

_ONCE = {"max_retries": 0}
"""Who rings does not wait for a broker to come back: beat rings again. (Workers do, by Celery's own settings.)"""

HEARTBEAT = 10
"""Seconds between two heartbeats on RabbitMQ; Celery's own choice notices a lost line after minutes."""

_NOTICED = 5
"""Seconds between two looks at whether Redis still answers; kombu's own choice notices a lost line after most of one
minute."""

_LONGEST_PAUSE = 5
"""Seconds between two attempts of a worker to reach its broker; Celery's pauses grow to half a minute."""

_SOON = 0.1
"""Seconds until a connection is given up over which a message could not be acknowledged."""

POLL = 0.1
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
            "polling_interval": POLL,
        }
    if settings.broker.url.startswith("redis"):
        return {
            **_ONCE,
            "visibility_timeout": _REDELIVER,
            "socket_connect_timeout": PATIENCE,
            "socket_timeout": PATIENCE,
            "socket_keepalive": True,
            "health_check_interval": _NOTICED,
        }
    # RabbitMQ confirms nothing unless asked, and a client would wait for its word for ever.
    return {**_ONCE, "confirm_publish": True, "read_timeout": PATIENCE, "write_timeout": PATIENCE}


def consumer() -> type[Any]:
    """Celery's consumer, as a worker needs it that outlives its broker."""
    from celery.worker.consumer import Consumer  # noqa: PLC0415 - only workers need that much of Celery
    from kombu.transport import virtual  # noqa: PLC0415

    class Patient(Consumer):
        """Comes back soon after its broker does, also from the middle of a task, and never stays without hearing."""

        def ensure_connected(self, conn: Any) -> Any:
            """Connect, however often one has to try."""
            attempt = conn.ensure_connection
            conn.ensure_connection = partial(attempt, interval_start=1, interval_step=1, interval_max=_LONGEST_PAUSE)
            return super().ensure_connected(conn)

        def call_soon_ack(self, p: Callable[..., None], *args: Any) -> Any:
            """Acknowledge, or reject, a message when the loop comes round."""
            return super().call_soon_ack(partial(self._settle, p), *args)

        def _settle(self, settle: Any, *args: Any) -> None:
            """A message that stays unsettled takes its place for ever, and with the last place the worker goes deaf.

            A new connection has all its places free.
            """
            with suppress(OSError):  # logged already, like every error that means a lost connection
                settle(*args)
            message = settle.__self__
            if not message.acknowledged and self.hub is not None:
                self.hub.call_later(_SOON, self._give_up, message.channel)  # only a running loop hears of it then

        def _give_up(self, channel: Any) -> None:
            """Connect anew, unless that has happened meanwhile."""
            if channel is self._channel():
                raise ConnectionError("the broker did not hear that a task was done")

        def on_connection_error_after_connected(self, exc: Exception) -> None:
            """Give the lost connection up, but let a task that is still at work acknowledge its message later.

            kombu empties what it closes. On Redis it would then fail at putting unfinished messages back over the lost
            connection, and later at acknowledging them, with errors that end the whole worker.
            """
            channel = self._channel()
            if not isinstance(channel, virtual.Channel):
                super().on_connection_error_after_connected(exc)
                return
            transport, channel.do_restore = channel.connection, False
            super().on_connection_error_after_connected(exc)
            channel.connection, transport.client = transport, self.conninfo

        def _channel(self) -> Any:
            """Where its messages come from, while it is connected."""
            return self.task_consumer.channel if self.task_consumer is not None else None

    return Patient


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
