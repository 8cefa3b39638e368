"""A limit by the wall clock for a whole request, which httpx does not have."""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING

from workers.errors import TimedOutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx


class Deadline:
    """Limits a request by the wall clock, from a timer thread, from `start` on: again for each request of a login.

    When the time is over it shuts down the socket, because a read that waits for the next byte cannot be stopped from
    its own thread. `expired`: it has done so.
    """

    def __init__(self, seconds: float, shut_down: Callable[[], None]) -> None:
        self.expired = False
        self._seconds = seconds
        self._shut_down = shut_down
        self._timer: threading.Timer | None = None
        self._ends_at = math.inf

    @property
    def is_over(self) -> bool:
        """Whether the time is over, also where the timer's thread has not run since."""
        return time.monotonic() >= self._ends_at

    def start(self) -> None:
        """Start the timer: the request is about to be sent."""
        self._ends_at = time.monotonic() + self._seconds
        self._timer = threading.Timer(self._seconds, self._expire)
        self._timer.daemon = True
        self._timer.start()

    def cancel(self) -> None:
        """Stop the timer: the request is complete, or is limited by its progress from here on."""
        if self._timer is not None:
            self._timer.cancel()

    def body(self, response: httpx.Response) -> Iterator[bytes]:
        """Yield the body. TimedOutError if this deadline cut it.

        A body without a declared length ends where the connection ends, so httpx reports no error for a cut one.
        """
        for chunk in response.iter_bytes():
            self._raise_if_expired()
            yield chunk
        self._raise_if_expired()

    def _expire(self) -> None:
        self.expired = True
        self._shut_down()

    def _raise_if_expired(self) -> None:
        if self.expired:
            raise TimedOutError(f"the answer was not complete within {self._seconds:g} s")
