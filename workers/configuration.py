"""Find and load the settings file, with the options of every system that is installed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from models import settings
from workers.connectors import discovery

if TYPE_CHECKING:
    from models.settings import Settings

VARIABLE = "ERPMIRROR_CONFIG"
"""The environment variable that names the file; child processes find theirs by it."""

FILE = "erpmirror.toml"


def find(path: Path | None = None) -> Path:
    """The file that was asked for, else `$ERPMIRROR_CONFIG`, else the one in the working directory. Absolute."""
    return Path(path or os.environ.get(VARIABLE) or FILE).absolute()


def load(path: Path | None = None) -> Settings:
    """Read the settings. Raises `models.settings.SettingsError` and `discovery.IncompleteError`."""
    systems = discovery.systems()
    loaded = settings.load(find(path), {name: system.options for name, system in systems.items()})
    for connection in loaded.connections.values():
        systems[connection.system].require()
    return loaded
