"""What the chaos tests did and found: one result for each fault, printed as a table at the end of the run."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pytest

PROPERTY = "chaos"


@dataclass(slots=True)
class FaultResult:
    """One row of the table: a fault, and what it did to the mirror.

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

    def __add__(self, other: FaultResult) -> FaultResult:
        return FaultResult(
            self.fault,
            self.times + other.times,
            self.webhooks + other.webhooks,
            self.edits + other.edits,
            self.lost + other.lost,
            self.doubled + other.doubled,
            self.backwards + other.backwards,
            max(self.seconds, other.seconds),
        )


class Results:
    """Stores a test's results in its report, from which the run prints the table."""

    def __init__(self, node: pytest.Item) -> None:
        self._node = node

    def record(self, result: FaultResult) -> None:
        """Store the result, then assert that nothing was lost, doubled or moved backwards."""
        self._node.user_properties.append((PROPERTY, asdict(result)))
        assert (0, 0, 0) == (result.lost, result.doubled, result.backwards), result


def by_fault(reports: Iterable[pytest.TestReport]) -> list[FaultResult]:
    """The results of a run, those of one fault added up."""
    found: defaultdict[str, list[FaultResult]] = defaultdict(list)
    for report in reports:
        for name, value in report.user_properties:
            if name == PROPERTY and report.when == "call":
                assert isinstance(value, dict)
                result = FaultResult(**value)
                found[result.fault].append(result)
    return [sum(each, FaultResult(fault)) for fault, each in sorted(found.items())]


_TITLES = ("times", "webhooks", "edits", "lost", "doubled", "backwards", "equal after")


def table(results: Iterable[FaultResult]) -> Iterator[str]:
    """The results as lines of text, in columns."""
    rows = [(result.fault, *_cells(result)) for result in results]
    if not rows:
        return
    width = max(len(row[0]) for row in rows)
    yield f"{'fault':<{width}}" + "".join(f"{title:>13}" for title in _TITLES)
    for fault, *cells in rows:
        yield f"{fault:<{width}}" + "".join(f"{cell:>13}" for cell in cells)


def _cells(result: FaultResult) -> Iterator[str]:
    for value in (result.times, result.webhooks, result.edits, result.lost, result.doubled, result.backwards):
        yield str(value)
    yield f"{result.seconds:.1f} s"
