"""When a delivery that failed is tried again, and when a whole subscription waits."""

from __future__ import annotations

from datetime import timedelta

LADDER = (
    timedelta(seconds=5),
    timedelta(minutes=5),
    timedelta(minutes=30),
    timedelta(hours=2),
    timedelta(hours=5),
    timedelta(hours=10),
)
"""The pauses after the first failures, as Standard Webhooks recommends; the last one repeats."""

TRIALS = 3
"""Failures in a row, of whichever changes, after which the endpoint counts as down.

Fewer may be about the changes themselves: others are still tried, one at a time.
"""

_LONGEST_REQUEST = timedelta(days=1)
"""The longest `Retry-After` that is followed: an endpoint that asks for years would be forgotten."""


def after(failures: int, asked: timedelta | None) -> timedelta:
    """The pause after so many failures. `asked`: by the endpoint; it gets at least the shortest pause."""
    if asked:
        return min(max(asked, LADDER[0]), _LONGEST_REQUEST)
    return LADDER[min(failures, len(LADDER)) - 1]


def of_endpoint(failures: int, asked: timedelta | None) -> timedelta | None:
    """How long the whole subscription waits after so many failures in a row; None: not at all."""
    if asked:
        return after(1, asked)
    return after(failures - TRIALS + 1, None) if failures >= TRIALS else None
