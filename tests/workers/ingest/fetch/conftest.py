"""Connections whose first full sync has found a vendor without objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.workers import vendor_harness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Harness


@pytest.fixture
def six(connect: Connect) -> Iterator[Harness]:
    with connect() as connected:
        connected.work()  # the first full sync of an empty vendor
        yield connected


@pytest.fixture
def everywhere(database: Database, tmp_path: Path) -> Iterator[Harness]:
    """The same on every kind of database."""
    with vendor_harness.connected(database, tmp_path) as connected:
        connected.work()
        yield connected
