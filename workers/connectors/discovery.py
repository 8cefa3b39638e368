"""Finds the known systems: each folder beside this file is one. There is no other registration."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, cast

from workers import connectors

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.applications import Starlette

    from workers.connectors.commands import Action
    from workers.connectors.contract import Client, ClientRuntime, Connection, Ignored, ObjectRef, Resource

_REQUIRED = ("client", "options", "resources")
_HINT = "workers/connectors/contract.py lists the files of a connector"


class IncompleteError(Exception):
    """A connector folder lacks a required file, or a file a required name. The message says which."""


class Webhooks(Protocol):
    """The interface of a system's `webhooks.py`."""

    def read(self, packet: Any, options: Any) -> ObjectRef | Ignored:
        """Decode a webhook's packet (parsed JSON). MalformedWebhookError: the sender gets its message."""


@dataclass(frozen=True)
class System:
    """A known ERP. Each property imports its file on first use, and raises `IncompleteError` if it is missing.

    Importing late keeps `--help` and settings errors fast, and the sandboxes out of production processes.
    """

    name: str

    @functools.cached_property
    def options(self) -> type[Connection]:
        """The class of a connection's settings."""
        return cast("type[Connection]", self._attribute("options", "Options"))

    @functools.cached_property
    def client(self) -> Callable[[Connection, ClientRuntime], Client]:
        """The constructor of its client: `system.client(options, runtime)`."""
        return cast("Callable[[Connection, ClientRuntime], Client]", self._attribute("client", "Client"))

    @functools.cached_property
    def resources(self) -> Callable[[Connection], tuple[Resource, ...]]:
        """The function that returns the mirrored resources of a connection."""
        return cast("Callable[[Connection], tuple[Resource, ...]]", self._attribute("resources", "resources"))

    @functools.cached_property
    def webhooks(self) -> Webhooks | None:
        """The module that decodes its webhooks; None for a system without webhooks."""
        if not self._has_file("webhooks"):
            return None
        self._attribute("webhooks", "read")
        return cast("Webhooks", importlib.import_module(f"{self._package}.webhooks"))

    @functools.cached_property
    def actions(self) -> Callable[[Connection], tuple[Action, ...]] | None:
        """The function that returns the writes that a connection may allow; None for a system that takes none."""
        if not self._has_file("commands"):
            return None
        return cast("Callable[[Connection], tuple[Action, ...]]", self._attribute("commands", "actions"))

    @property
    def has_sandbox(self) -> bool:
        """Whether the system has a sandbox."""
        return self._has_file("sandbox")

    @functools.cached_property
    def sandbox(self) -> Callable[..., Starlette]:
        """The function that creates its sandbox: `system.sandbox(**knobs)`."""
        return cast("Callable[..., Starlette]", self._attribute("sandbox", "create"))

    def require(self) -> None:
        """Raise `IncompleteError` unless all required files exist."""
        for file in _REQUIRED:
            self._require(file)

    @property
    def _package(self) -> str:
        return f"{connectors.__name__}.{self.name}"

    def _has_file(self, file: str) -> bool:
        return importlib.util.find_spec(f"{self._package}.{file}") is not None

    def _require(self, file: str) -> None:
        if not self._has_file(file):
            raise IncompleteError(f"workers/connectors/{self.name} has no {file}.py; {_HINT}")

    def _attribute(self, file: str, name: str) -> Any:
        self._require(file)
        module = importlib.import_module(f"{self._package}.{file}")
        if not hasattr(module, name):
            raise IncompleteError(f"workers/connectors/{self.name}/{file}.py has no `{name}`; {_HINT}")
        return getattr(module, name)


def systems() -> dict[str, System]:
    """All systems by name, which is the name of the folder."""
    return _systems_in(tuple(connectors.__path__))


@functools.cache
def _systems_in(folders: tuple[str, ...]) -> dict[str, System]:
    names = sorted(module.name for module in pkgutil.iter_modules(folders) if module.ispkg)
    return {name: System(name) for name in names}
