"""Runs the state machines: the same bounded examples each time, or new ones for `$ERPMIRROR_STATEFUL` seconds."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

LONG = float(os.environ.get("ERPMIRROR_STATEFUL", "0"))

SEEDS = (1, 2, 3)
"""A fixed seed may never reach some states; three seeds with few examples each reach more than one with many."""

BY_SEEDS = pytest.mark.parametrize(
    "seeds",
    [pytest.param((), id="at random")]
    if LONG
    else [pytest.param(SEEDS[:1], id="short"), pytest.param(SEEDS[1:], id="long", marks=pytest.mark.slow)],
)
"""Every run uses the first seed; tests marked slow use the others."""

ON_BOTH = pytest.mark.parametrize(
    "empty_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)

STATEFUL_TIMEOUT = pytest.mark.timeout(600 + 2 * LONG)
"""Shrinking a failing example takes a while."""


class Counted(RuleBasedStateMachine):
    """A machine that counts its examples and steps."""

    counts: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.counts["examples"] += 1

    def check_invariants(self, *arguments: Any, **named: Any) -> None:
        self.counts["steps"] += 1
        super().check_invariants(*arguments, **named)


def _as_class(factory: Callable[[], RuleBasedStateMachine]) -> type[RuleBasedStateMachine]:
    """Hypothesis calls any factory, but its annotation requires a class."""
    return cast("type[RuleBasedStateMachine]", factory)


def run(machine: Callable[[], RuleBasedStateMachine], *, seeds: Sequence[int], examples: int, steps: int) -> None:
    """Run it, `examples` over all of `SEEDS`; raises with the shortest steps that break a rule."""
    chosen = settings(
        max_examples=examples // len(SEEDS),
        stateful_step_count=steps,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    Counted.counts.clear()
    end = time.monotonic() + LONG
    for number in seeds:
        run_state_machine_as_test(_as_class(seed(number)(partial(machine))), settings=chosen)
    while time.monotonic() < end:
        run_state_machine_as_test(_as_class(machine), settings=chosen)
    sys.stdout.write(f"{Counted.counts['examples']} examples, {Counted.counts['steps']} steps\n")
