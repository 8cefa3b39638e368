"""Which systems there are: the folders beside this file. Nothing is registered anywhere else."""

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

    from workers.connectors.contract import Client, Connection, Ignored, Notice, Resource, Wire

_REQUIRED = ("client", "options", "resources")
_SEE = "workers/connectors/contract.py says what a folder needs"


class IncompleteError(Exception):
    """A connector folder lacks a file, or a file lacks what the contract asks of it. The message names both."""


class Notices(Protocol):
    """A system's `notices.py`."""

    def read(self, packet: Any, options: Any) -> Notice | Ignored:
        """What a decoded packet asks for. Raises `contract.Malformed`."""


@dataclass(frozen=True, slots=True)
class System:
    """An ERP we know. Its files are imported when they are first asked for; each raises `IncompleteError`."""

    name: str

    @property
    def options(self) -> type[Connection]:
        """Its part of a connection's settings."""
        return cast("type[Connection]", self._part("options", "Options"))

    @property
    def client(self) -> Callable[[Connection, Wire], Client]:
        """How the vendor is asked."""
        return cast("Callable[[Connection, Wire], Client]", self._part("client", "Client"))

    @property
    def resources(self) -> Callable[[Connection], tuple[Resource, ...]]:
        """What is mirrored of a connection."""
        return cast("Callable[[Connection], tuple[Resource, ...]]", self._part("resources", "resources"))

    @property
    def notices(self) -> Notices | None:
        """How its webhook reads; None for a system without webhooks."""
        if not self._has("notices"):
            return None
        self._part("notices", "read")
        return cast("Notices", importlib.import_module(f"{self._package}.notices"))

    @property
    def has_sandbox(self) -> bool:
        """Whether there is a stand-in of the vendor."""
        return self._has("sandbox")

    @property
    def sandbox(self) -> Callable[..., Starlette]:
        """Makes a stand-in of the vendor: `system.sandbox(**knobs)`."""
        return cast("Callable[..., Starlette]", self._part("sandbox", "create"))

    def require(self) -> None:
        """Raise `IncompleteError` unless every file that a system needs is there."""
        for file in _REQUIRED:
            self._must_have(file)

    @property
    def _package(self) -> str:
        return f"{connectors.__name__}.{self.name}"

    def _has(self, file: str) -> bool:
        return importlib.util.find_spec(f"{self._package}.{file}") is not None

    def _must_have(self, file: str) -> None:
        if not self._has(file):
            raise IncompleteError(f"workers/connectors/{self.name} has no {file}.py; {_SEE}")

    def _part(self, file: str, name: str) -> Any:
        self._must_have(file)
        module = importlib.import_module(f"{self._package}.{file}")
        if not hasattr(module, name):
            raise IncompleteError(f"workers/connectors/{self.name}/{file}.py has no `{name}`; {_SEE}")
        return getattr(module, name)


def systems() -> dict[str, System]:
    """Every system by name."""
    return _found(tuple(connectors.__path__))


@functools.cache
def _found(folders: tuple[str, ...]) -> dict[str, System]:
    names = sorted(module.name for module in pkgutil.iter_modules(folders) if module.ispkg)
    return {name: System(name) for name in names}
