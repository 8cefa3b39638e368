"""What every chaos test is given: a place for its figures, and chance that one seed decides."""

from __future__ import annotations

from random import Random

import pytest

from tests.chaos.ledger import Ledger


@pytest.fixture
def ledger(request: pytest.FixtureRequest) -> Ledger:
    """Where the test writes what it did and found."""
    return Ledger(request.node)


@pytest.fixture
def random(request: pytest.FixtureRequest) -> Random:
    """Chance: the run's seed (`--chaos-seed`) and the test's name decide it."""
    return Random(f"{request.config.getoption('--chaos-seed')} {request.node.name}")
