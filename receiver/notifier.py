"""Wakes workers in the background, after the sender has its answer: a slow or broken broker fails no request."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Protocol

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger(__name__)

_SPACE = 0.05
"""Seconds until the next wake-up of a connection whose last one no worker has answered: each costs a database query."""

_QUIET = 60.0
"""Seconds between two log lines about a failing broker."""

_FAREWELL = 1.0
"""Seconds that shutting down waits for the last wake-ups. The scheduler repeats those that were not sent."""


class Waker(Protocol):
    """Sends wake-ups to the workers (`workers.queue.wakeup.Bell`)."""

    def wake(self, connection: str) -> object:
        """Wake workers for a connection; False where a wake-up is outstanding. May block, may raise."""

    def broker_alive(self) -> None:
        """Raise unless the broker answers."""


class Notifier:
    """One background thread that sends wake-ups; those that wait for the same connection become one.

    A wake-up is sent at once, but not within `_SPACE` of one for which another was still outstanding.
    """

    def __init__(self, waker: Waker, *, failed: Callable[[], None]) -> None:
        self._waker = waker
        self._failed = failed
        self._wanted: dict[str, float] = {}
        self._free_at: dict[str, float] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._complained_at: float | None = None

    def wake(self, connection: str) -> None:
        """Wake workers for a connection soon; returns at once."""
        if connection in self._wanted:  # it is removed before its wake-up is sent, so this one still covers the caller
            return
        with self._changed:
            self._wanted.setdefault(connection, self._free_at.get(connection, 0.0))
            if self._thread is None:
                # A daemon: a broker that hangs must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name="notifier", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Send what still waits, within `_FAREWELL`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(_FAREWELL)

    def _run(self) -> None:
        while (connection := self._next()) is not None:
            try:
                if self._waker.wake(connection) is False:
                    self._free_at[connection] = time.monotonic() + _SPACE
            except Exception as error:  # noqa: BLE001 - of any broker's client; the scheduler wakes again
                self._failed()
                self._complain(error)

    def _next(self) -> str | None:
        with self._changed:
            while self._wanted or not self._closing:
                connection = min(self._wanted, key=self._wanted.__getitem__, default=None)
                left = None if connection is None else self._wanted[connection] - time.monotonic()
                if connection is not None and left is not None and (left <= 0 or self._closing):
                    del self._wanted[connection]
                    return connection
                self._changed.wait(left)
            return None

    def _complain(self, error: Exception) -> None:
        now = time.monotonic()
        if self._complained_at is None or now - self._complained_at >= _QUIET:
            self._complained_at = now
            log.warning("wake-up failed", error=type(error).__name__)
