"""What the chaos tests did and found: one line for each fault, printed as a table at the end of the run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pytest

PROPERTY = "chaos"


@dataclass(slots=True)
class Line:
    """One fault.

    `webhooks`, `edits`: under way during the fault. `lost`: webhooks that were answered 200 and not kept, and objects
    that differ in the end. `doubled`: webhooks kept more often than sent, and changes journaled more than once.
    `backwards`: rows that returned to an older state. `seconds`: the longest time to equality, once it was over.
    """

    fault: str
    times: int = 0
    webhooks: int = 0
    edits: int = 0
    lost: int = 0
    doubled: int = 0
    backwards: int = 0
    seconds: float = 0.0

    def __add__(self, other: Line) -> Line:
        return Line(
            self.fault,
            self.times + other.times,
            self.webhooks + other.webhooks,
            self.edits + other.edits,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.backwards + other.backwards,
            max(self.seconds, other.seconds),
        )


class Ledger:
    """Stores a test's lines in its report, from which the run prints the table."""

    def __init__(self, node: pytest.Item) -> None:
        self._node = node

    def write(self, line: Line) -> None:
        """Store the line, then assert that nothing was lost, doubled or moved backwards."""
        self._node.user_properties.append((PROPERTY, asdict(line)))
        assert (0, 0, 0) == (line.lost, line.doubled, line.backwards), line


def lines(reports: Iterable[pytest.TestReport]) -> list[Line]:
    """The lines of a run, those of one fault added up."""
    found: defaultdict[str, list[Line]] = defaultdict(list)
    for report in reports:
        for name, value in report.user_properties:
            if name == PROPERTY and report.when == "call":
                assert isinstance(value, dict)
                line = Line(**value)
                found[line.fault].append(line)
    return [sum(each, Line(fault)) for fault, each in sorted(found.items())]


_TITLES = ("times", "webhooks", "edits", "lost", "doubled", "backwards", "equal after")


def table(written: Iterable[Line]) -> Iterator[str]:
    """The lines as text, in columns."""
    rows = [(line.fault, *_cells(line)) for line in written]
    if not rows:
        return
    width = max(len(row[0]) for row in rows)
    yield f"{'fault':<{width}}" + "".join(f"{title:>13}" for title in _TITLES)
    for fault, *cells in rows:
        yield f"{fault:<{width}}" + "".join(f"{cell:>13}" for cell in cells)


def _cells(line: Line) -> Iterator[str]:
    for value in (line.times, line.webhooks, line.edits, line.lost, line.doubled, line.backwards):
        yield str(value)
    yield f"{line.seconds:.1f} s"
