"""Asks for one page after the other; a page names the next one."""

from collections.abc import Iterator

from models.values import Chunk, End, Snapshot, Tombstone
from tests.benchmarks.systems.paged.options import Options
from workers.connectors import pages
from workers.connectors.contract import ClientRuntime, Resource
from workers.connectors.http import Http


class Client:
    def __init__(self, options: Options, runtime: ClientRuntime) -> None:
        headers = {"X-Key": options.api_key.get_secret_value()}
        self._http = Http(runtime, base_url=options.url, timeout=options.timeout, route=options.route, headers=headers)

    def close(self) -> None:
        self._http.close()

    def fetch(self, _resource: Resource, key: str) -> Snapshot | Tombstone:
        return Tombstone(key)

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        page = pages.split_page(self._http.read("GET", cursor or f"/{resource.name}/0"), "items", "id")
        following = page.rest["next"]
        yield Chunk(
            snapshots=page.objects,
            unreadable=page.unreadable,
            end=End(following or "done", more=following is not None, complete=following is None),
        )
