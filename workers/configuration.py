"""Finds and loads the settings file, with the options of every system that exists."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from models.mirror import naming
from models.settings import load as settings_file
from models.settings import messages
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.settings.load import Settings

VARIABLE = "ERPMIRROR_CONFIG"
"""The environment variable that names the file, for child processes too."""

FILE = "erpmirror.toml"


def find(path: Path | None = None) -> Path:
    """The absolute path: the given one, else `$ERPMIRROR_CONFIG`, else `erpmirror.toml` in the working directory."""
    return Path(path or os.environ.get(VARIABLE) or FILE).absolute()


def load(path: Path | None = None) -> Settings:
    """Read the settings. Raises `models.settings.load.SettingsError` and `discovery.IncompleteError`."""
    systems = discovery.systems()
    loaded = settings_file.load(find(path), {name: system.options for name, system in systems.items()})
    for name in {connection.system for connection in loaded.connections.values()}:
        systems[name].require()
    if complaints := [*_shared_tables(loaded), *_unknown_resources(loaded)]:
        raise settings_file.MistakesError(loaded.file, complaints)
    return loaded


def _shared_tables(loaded: Settings) -> Iterator[str]:
    """Complaints about resources of different names that would share a table and overwrite each other's rows."""
    resources: dict[str, str] = {}
    for name, connection in loaded.connections.items():
        for resource in discovery.systems()[connection.system].resources(connection):
            table = naming.table(connection.system, resource.name)
            other = resources.setdefault(table, resource.name)
            if other != resource.name:
                yield f'connections.{name}.resources: "{resource.name}" and "{other}" have one table, {table}; keep one'


def _unknown_resources(loaded: Settings) -> Iterator[str]:
    """Complaints about resources in a subscription's filter that none of its connections mirrors."""
    for name, subscription in loaded.subscriptions.items():
        chosen = [loaded.connections[each] for each in subscription.connections or loaded.connections]
        known = {each.name for options in chosen for each in discovery.systems()[options.system].resources(options)}
        for resource in subscription.resources:
            if resource not in known:
                guess = messages.did_you_mean(resource, known) or f"; there are {', '.join(sorted(known)) or 'none'}"
                yield f'subscriptions.{name}.resources: no connection mirrors "{resource}"{guess}'
