"""A question, its answer, and how a fair ratio is measured: interleaved, repeated, with its spread."""

from __future__ import annotations

import statistics
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

Better = Literal["higher", "lower"]
"""Whether the ratio is to be at least, or at most, its bounds."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One row of the table: ratios of ours to a reference, one for each round.

    `must`, `aim`: the ratio's bounds. `ours`, `reference`: what was measured in each round, in `unit`; a ratio that is
    no quotient of the two (how often faster) says so in `ratios`. `against`: what the reference is, with its version.
    """

    question: str
    against: str
    better: Better
    must: float
    aim: float
    unit: str
    ours: list[float]
    reference: list[float]
    ratios: list[float]
    note: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        """The median."""
        return statistics.median(self.ratios)

    @property
    def spread(self) -> tuple[float, float]:
        """The least and the greatest."""
        return min(self.ratios), max(self.ratios)

    def reaches(self, bound: float) -> bool:
        """Whether the median is on the right side of the bound."""
        return self.ratio >= bound if self.better == "higher" else self.ratio <= bound

    def as_json(self) -> dict[str, object]:
        """For the file of results."""
        return asdict(self)


Measured = tuple[list[float], list[float]]
"""Ours and the reference's, a figure for each round."""


def interleaved(ours: Callable[[], float], reference: Callable[[], float], *, rounds: int, label: str) -> Measured:
    """Measure both in each round, in alternating order, so that a busy minute affects both."""
    mine: list[float] = []
    theirs: list[float] = []
    for number in range(rounds):
        sides = [(ours, mine), (reference, theirs)]
        for measure, figures in sides if number % 2 == 0 else reversed(sides):
            figures.append(measure())
        say(f"  {label}: round {number + 1} of {rounds}, ours {mine[-1]:.4g}, reference {theirs[-1]:.4g}")
    return mine, theirs


def say(text: str) -> None:
    """Progress, apart from the table."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def quotients(ours: list[float], reference: list[float]) -> list[float]:
    """Ours to the reference, round by round."""
    return [one / other for one, other in zip(ours, reference, strict=True)]


def times_faster(ours: list[float], reference: list[float]) -> list[float]:
    """How often as fast as the reference, where both are seconds."""
    return quotients(reference, ours)


def percentile(figures: list[float], share: float) -> float:
    """The figure below which this share of them lies, by rank."""
    ordered = sorted(figures)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
