"""Asks the simulated vendor. While it answers, other workers act."""

from collections.abc import Iterator

from models.values import Chunk, Snapshot, Tombstone
from tests.stateful import simulated_vendor
from tests.stateful.systems.simulated.options import Options
from workers.connectors.contract import ClientRuntime, Resource


class Client:
    def __init__(self, options: Options, _runtime: ClientRuntime) -> None:
        self._vendor = simulated_vendor.vendors[options.url]

    def close(self) -> None:
        """Nothing to close."""

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone:
        return self._vendor.fetch(resource.name, key)

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        yield from self._vendor.listing(resource.name, cursor)
