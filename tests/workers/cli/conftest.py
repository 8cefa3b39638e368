"""Fixtures of the command line's tests: an empty working directory, and an installation with one connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests import serving
from tests.workers.cli.runner import GOODS, ok, write_settings
from workers import configuration
from workers.cli import settings_template
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(configuration.VARIABLE, raising=False)


@pytest.fixture
def shop() -> Iterator[Any]:
    """A migrated installation with a connection `shop` to Dilovod's sandbox. Yields the sandbox."""
    app = discovery.systems()["dilovod"].sandbox(objects=3)
    with serving.served(app) as url:
        values = app.state.sandbox.settings() | {"url": url, "resources": [GOODS, "catalogs.units"]}
        write_settings(settings_template.table("shop", values))
        ok("migrate")
        yield app.state.sandbox


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands print as on a terminal of 80 columns without colours."""
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
