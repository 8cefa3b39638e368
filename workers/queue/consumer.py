"""Celery's consumer for a worker that survives the loss of its broker. Only workers load it."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.worker.consumer import Consumer
from kombu.transport import virtual

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST_PAUSE = 5
"""Seconds between two attempts to reach the broker; Celery's pauses grow to 30."""

_RECONNECT_AFTER = 0.1
"""Seconds until a link is dropped over which a message could not be acknowledged."""


class ReconnectingConsumer(Consumer):
    """Reconnects soon after the broker is back, also during a task, and never stops consuming for good."""

    def ensure_connected(self, conn: Any) -> Any:
        """Connect, with short pauses between the attempts."""
        connect = conn.ensure_connection
        conn.ensure_connection = partial(connect, interval_start=1, interval_step=1, interval_max=_LONGEST_PAUSE)
        return super().ensure_connected(conn)

    def call_soon_ack(self, p: Callable[..., None], *args: Any) -> Any:
        """Acknowledge, or reject, a message in the next iteration of the event loop."""
        return super().call_soon_ack(partial(self._settle, p), *args)

    def _settle(self, settle: Any, *args: Any) -> None:
        """Acknowledge or reject a message, or reconnect: unsettled, it keeps its place in the prefetch window.

        Once the window is full the broker sends nothing more. A new link begins with an empty window.
        """
        with suppress(OSError):  # logged already, like every error of a lost link
            settle(*args)
        message = settle.__self__
        if not message.acknowledged and self.hub is not None:
            self.hub.call_later(_RECONNECT_AFTER, self._drop_link, message.channel)  # the loop then reconnects

    def _drop_link(self, channel: Any) -> None:
        """Make the event loop reconnect, unless it has done so meanwhile."""
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
        """The channel of the worker's messages, while it is connected."""
        return self.task_consumer.channel if self.task_consumer is not None else None
