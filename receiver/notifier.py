"""Wakes workers in the background, after the sender has its answer: a slow or broken broker fails no request."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

MIN_INTERVAL = 0.05
"""Seconds between two wake-ups of a connection while one is outstanding: each costs a database query."""

_LOG_INTERVAL = 60.0
"""Seconds between two log lines about a failing broker."""

_CLOSE_TIMEOUT = 1.0
"""Seconds that shutting down waits for the last wake-ups. The scheduler repeats those that were not sent."""


class Waker(Protocol):
    """Sends wake-ups to the workers (`workers.queue.wakeup.Waker`)."""

    def wake(self, connection: str) -> object:
        """Wake workers for a connection; False if a wake-up is outstanding already. May block, may raise."""

    def check_broker(self) -> None:
        """Raise unless the broker answers."""


class Notifier:
    """One background thread that sends wake-ups; those that wait for the same connection become one.

    A wake-up is sent at once, unless the last one for its connection found another outstanding: then `MIN_INTERVAL`
    must have passed.
    """

    def __init__(self, waker: Waker, *, on_failure: Callable[[], None]) -> None:
        self._waker = waker
        self._on_failure = on_failure
        self._pending: dict[str, float] = {}  # connection -> when to send its wake-up, by the monotonic clock
        self._not_before: dict[str, float] = {}  # connection -> the earliest time of its next wake-up, likewise
        self._condition = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._logged_at: float | None = None

    def wake(self, connection: str) -> None:
        """Wake workers for a connection soon; returns at once."""
        if connection in self._pending:  # it is removed before it is sent, so it still covers the caller
            return
        with self._condition:
            self._pending.setdefault(connection, self._not_before.get(connection, 0.0))
            if self._thread is None:
                # A daemon: a broker that hangs must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)
                self._thread.start()
            self._condition.notify()

    def close(self) -> None:
        """Send the wake-ups that still wait, for at most `_CLOSE_TIMEOUT` seconds."""
        with self._condition:
            self._closing = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(_CLOSE_TIMEOUT)

    def _run(self) -> None:
        while (connection := self._next()) is not None:
            try:
                if self._waker.wake(connection) is False:
                    self._not_before[connection] = time.monotonic() + MIN_INTERVAL
            except Exception as error:  # noqa: BLE001 - each broker's client has its own; the scheduler repeats it
                self._on_failure()
                self._log_failure(error)

    def _next(self) -> str | None:
        """Wait for the next connection to wake workers for; None once everything is sent and `close` was called."""
        with self._condition:
            while self._pending or not self._closing:
                connection = min(self._pending, key=self._pending.__getitem__, default=None)
                delay = None if connection is None else self._pending[connection] - time.monotonic()
                if connection is not None and delay is not None and (delay <= 0 or self._closing):
                    del self._pending[connection]
                    return connection
                self._condition.wait(delay)
            return None

    def _log_failure(self, error: Exception) -> None:
        now = time.monotonic()
        if self._logged_at is None or now - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = now
            log.warning("wake-up failed", error=type(error).__name__)
