"""Connections to the sixth system's vendor, which the test simulates."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.workers import vendor_harness

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.vendor_harness import Harness

    Connect = Callable[..., AbstractContextManager[Harness]]


@pytest.fixture
def connect(sqlite: Database, tmp_path: Path) -> Connect:
    """`vendor_harness.connected` on SQLite, for what does not differ between databases."""
    return partial(vendor_harness.connected, sqlite, tmp_path)


@pytest.fixture
def anywhere(database: Database, tmp_path: Path) -> Connect:
    """The same on every kind of database."""
    return partial(vendor_harness.connected, database, tmp_path)
