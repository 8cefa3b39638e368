"""Counts lines in files that grow, without reading anything twice."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

_PIECE = 2**20


class Tally:
    """The lines of all files that `paths` names at the time."""

    def __init__(self, paths: Callable[[], Iterable[Path]]) -> None:
        self._paths = paths
        self._known: dict[Path, tuple[int, int]] = {}  # read up to, lines up to there
        self._lock = threading.Lock()

    def lines(self) -> int:
        """How many there are now."""
        with self._lock:
            self._known = {path: _counted(path, *self._known.get(path, (0, 0))) for path in self._paths()}
            return sum(lines for _, lines in self._known.values())


def _counted(path: Path, position: int, lines: int) -> tuple[int, int]:
    try:
        with path.open("rb") as file:
            if path.stat().st_size < position:  # it was cut
                position, lines = 0, 0
            file.seek(position)
            while piece := file.read(_PIECE):
                position, lines = position + len(piece), lines + piece.count(b"\n")
    except FileNotFoundError:  # drained meanwhile
        return 0, 0
    return position, lines
