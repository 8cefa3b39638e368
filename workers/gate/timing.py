"""How long the gate waits, leases and backs off, and the timer that measures it."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from models.values import backoff

GRACE = timedelta(seconds=15)
"""A lease outlives its request's deadline by this, for the commit."""

LONGEST_SLEEP = timedelta(seconds=2)
"""The longest sleep at the gate. A task that would have to wait longer ends, and its work is due later."""

SLACK = timedelta(seconds=1)
"""Added to the rate limit's minute, because requests that are sent evenly do not arrive evenly."""

MINUTE = timedelta(minutes=1) + SLACK
"""The minute over which a rate limit is spread."""

SHORTEST_BACKOFF = timedelta(seconds=1)
"""The least backoff: `429` with `Retry-After: 0` would otherwise be retried in a tight loop."""

LOGIN_POLL = 0.05
"""Seconds between two checks whether another worker's login has ended."""


class Timer(Protocol):
    """The process's own timer: the module `time`, or a test's replacement."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary start."""

    def sleep(self, seconds: float, /) -> None:
        """Return after so long, or later."""


def retry_delay(failures: int, after: timedelta | None = None) -> timedelta:
    """The backoff after a failure: `after`, the vendor's `Retry-After`, if there is one, but at least 1 s.

    Else 1 s, doubled for each of the `failures` in a row before it, up to 5 min.
    """
    if after is not None:
        return max(after, SHORTEST_BACKOFF)
    return backoff(failures)
