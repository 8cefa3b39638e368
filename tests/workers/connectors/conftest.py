"""Fixtures of the tests that cover all systems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.workers.connectors import sandbox_harness
from tests.workers.connectors.sandbox_harness import SYSTEMS, SandboxHarness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def served() -> Iterator[Callable[[str], SandboxHarness]]:
    """Returns a system's harness, for tests that only read."""
    with sandbox_harness.serve_all() as of:
        yield of


@pytest.fixture(params=SYSTEMS)
def harness(request: pytest.FixtureRequest, served: Callable[[str], SandboxHarness]) -> SandboxHarness:
    return served(request.param)
