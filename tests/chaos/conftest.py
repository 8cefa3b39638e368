"""What every chaos test is given: a place for its results, and chance that one seed decides."""

from __future__ import annotations

from random import Random

import pytest

from tests.chaos.results import Results


@pytest.fixture
def results(request: pytest.FixtureRequest) -> Results:
    """Where the test writes what it did and found."""
    return Results(request.node)


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Chance: the run's seed (`--chaos-seed`) and the test's name decide it."""
    return Random(f"{request.config.getoption('--chaos-seed')} {request.node.name}")
