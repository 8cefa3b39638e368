"""Fixtures of the tests that cover all systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.workers.connectors import stands
from tests.workers.connectors.stands import SYSTEMS, Stand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def served() -> Iterator[Callable[[str], Stand]]:
    """Returns a system's stand, for tests that only read."""
    with stands.stands() as of:
        yield of


@pytest.fixture(params=SYSTEMS)
def stand(request: pytest.FixtureRequest, served: Callable[[str], Stand]) -> Stand:
    return served(request.param)
