"""Notices at once that this host's wall clock has stepped back, by comparing it with the monotonic clock."""

from __future__ import annotations

import time

_TOLERANCE = 60.0
"""Seconds. Time services correct less than this all the time."""


class HostClock:
    """Each call looks at the time since the last one."""

    def __init__(self) -> None:
        self._ahead = _ahead()

    def stepped_back(self) -> bool:
        """Whether the wall clock has stepped back since the last call."""
        before, self._ahead = self._ahead, _ahead()
        return self._ahead < before - _TOLERANCE


def _ahead() -> float:
    return time.time() - time.monotonic()
