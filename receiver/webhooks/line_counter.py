"""Counts the lines of files that grow, and reads only what was added since the last count."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_READ_SIZE = 2**20


class LineCounter:
    """The lines of all files that `paths` returns at the time of the count."""

    def __init__(self, paths: Callable[[], Iterable[Path]]) -> None:
        self._paths = paths
        self._counted: dict[Path, tuple[int, int]] = {}  # bytes read so far, lines in them
        self._lock = threading.Lock()

    def lines(self) -> int:
        """How many there are now."""
        with self._lock:
            self._counted = {path: _count_on(path, *self._counted.get(path, (0, 0))) for path in self._paths()}
            return sum(lines for _, lines in self._counted.values())


def _count_on(path: Path, position: int, lines: int) -> tuple[int, int]:
    """Bytes and lines of the file, counted on from what was counted before."""
    try:
        with path.open("rb") as file:
            if path.stat().st_size < position:  # a failed write was truncated
                position, lines = 0, 0
            file.seek(position)
            while chunk := file.read(_READ_SIZE):
                position, lines = position + len(chunk), lines + chunk.count(b"\n")
    except FileNotFoundError:  # drained since it was listed
        return 0, 0
    return position, lines
