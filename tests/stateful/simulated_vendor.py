"""A vendor in the test's own process: objects with all their earlier states, webhooks, listings in pages, faults."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.values import Chunk, End, Line, Snapshot, Tombstone
from tests.stateful.interleaving import stop
from workers.errors import BusyError, SetAside, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from models.values import JsonObject

PAGE = 3
CHUNK = 2
LISTED_BY_NAME = "goods"
PAGED = {"goods", "orders"}

vendors: dict[str, Vendor] = {}

FAILURES: dict[str, Callable[[], Exception]] = {
    "unreachable": lambda: TryLater("503"),
    "not this one": lambda: TryLater("try again", closes_gate=False),
    "busy": lambda: BusyError("another request is served"),
    "refused": lambda: SetAside("this one cannot be shown"),
    "forbidden": lambda: SetAside("access denied", whole_resource=True),
    "decoding error": lambda: TypeError("not what was expected"),
    "a bug of ours": lambda: RuntimeError("a bug of ours"),
}
"""What the vendor may answer instead."""


@dataclass
class Thing:
    """An object. `stamp`: the number of its last change among all changes of the vendor."""

    raw: JsonObject
    stamp: int
    marked: bool = False

    @property
    def visible(self) -> JsonObject | None:
        return None if self.marked else self.raw


@dataclass
class Vendor:
    """`things`: resource -> key -> object. `history`: (resource, key) -> (when, state) of all its states."""

    now: Callable[[], datetime]
    stamp: int = 0
    things: dict[str, dict[str, Thing]] = field(default_factory=lambda: defaultdict(dict))
    history: dict[tuple[str, str], list[tuple[datetime, JsonObject | None]]] = field(default_factory=dict)
    hooks: list[tuple[str, str]] = field(default_factory=list)
    failures: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    lacking: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    has_lacked: set[str] = field(default_factory=set)

    def edit(self, resource: str, key: str) -> None:
        """Change it, or make it."""
        self.stamp += 1
        rows = [{"line": number, "qty": self.stamp} for number in range(self.stamp % 3)]
        self._set(resource, key, Thing({"number": self.stamp, "name": f"{key} {self.stamp}", "rows": rows}, self.stamp))

    def revert(self, resource: str, key: str) -> None:
        """Set it back to its state before its last change."""
        earlier = [raw for _, raw in self.history.get((resource, key), ()) if raw is not None]
        if len(earlier) > 1 and key in self.things[resource]:
            self.stamp += 1
            self._set(resource, key, Thing(earlier[-2], self.stamp))

    def delete(self, resource: str, key: str) -> None:
        if self.things[resource].pop(key, None) is not None:
            self._remember(resource, key, None)

    def mark(self, resource: str, key: str) -> None:
        """Mark it as deleted, or take the mark away: the object stays what it is."""
        thing = self.things[resource].get(key)
        if thing is not None:
            self.stamp += 1
            thing.marked, thing.stamp = not thing.marked, self.stamp
            self._remember(resource, key, thing.visible)

    def lack(self, resource: str, count: int) -> None:
        """Let the next page of a full sync lack so many rows; only once for a resource without point reads."""
        if resource in PAGED or resource not in self.has_lacked:
            self.lacking[resource] = count
            self.has_lacked.add(resource)

    def truth(self, resource: str) -> dict[str, Any]:
        """The live objects."""
        return {key: thing.raw for key, thing in self.things[resource].items() if not thing.marked}

    def fetch(self, resource: str, key: str) -> Snapshot | Tombstone:
        with self._asked(resource):
            self.asked.append((resource, key))
            thing = self.things[resource].get(key)
            if thing is None or thing.visible is None:
                found: Snapshot | Tombstone = Tombstone(key)
            else:
                token = str(thing.stamp) if resource == LISTED_BY_NAME else None
                found = Snapshot(key, thing.raw, listed=token)
        return found

    def listing(self, resource: str, cursor: str | None) -> Iterator[Chunk]:
        with self._asked(resource):
            rows, end = self._page(resource, json.loads(cursor) if cursor else {"since": None})
        for start in range(0, len(rows) - CHUNK, CHUNK):
            yield _chunk(resource, rows[start : start + CHUNK], None)
            stop("the reply's middle")
            self._fail(resource, "in the middle of a reply: ")
        yield _chunk(resource, rows[(len(rows) - 1) // CHUNK * CHUNK :] if rows else [], end)

    def _page(self, resource: str, position: dict[str, Any]) -> tuple[list[tuple[str, Thing]], End]:
        since, start = position["since"], position.get("until", self.stamp)
        offset = position.get("offset", 0)
        found = [
            (key, Thing(thing.raw, thing.stamp, thing.marked))
            for key, thing in sorted(self.things[resource].items())
            if since is None or thing.stamp > since
        ]
        after = offset + PAGE if resource in PAGED else len(found)
        more = after < len(found)
        cursor = {"since": since, "until": start, "offset": after} if more else {"since": start}
        page = found[offset:after]
        if since is None and page and resource in self.lacking:
            page = page[: -self.lacking.pop(resource)]
        return page, End(json.dumps(cursor), more=more, complete=since is None and not more)

    @contextmanager
    def _asked(self, resource: str) -> Iterator[None]:
        """Stops before and after the moment at which the vendor answers."""
        stop("a request on its way")
        self._fail(resource, "")
        yield
        stop("an answer on its way")

    def _fail(self, resource: str, where: str) -> None:
        waiting = self.failures[resource]
        if waiting and waiting[0].startswith(where) and (bool(where) == waiting[0].startswith("in the middle")):
            error = FAILURES[waiting.pop(0).removeprefix(where)]()
            raise error

    def _set(self, resource: str, key: str, thing: Thing) -> None:
        self.things[resource][key] = thing
        self._remember(resource, key, thing.visible)

    def _remember(self, resource: str, key: str, state: JsonObject | None) -> None:
        self.history.setdefault((resource, key), [(self.now(), None)]).append((self.now(), state))


def _chunk(resource: str, rows: list[tuple[str, Thing]], end: End | None) -> Chunk:
    if resource == LISTED_BY_NAME:
        return Chunk(lines=[Line(key, str(thing.stamp), marked=thing.marked) for key, thing in rows], end=end)
    return Chunk(snapshots=[Snapshot(key, thing.raw) for key, thing in rows], end=end)


def expected(error: BaseException) -> bool:
    """Whether a worker may end so: with the failure that the test gave it."""
    return isinstance(error, RuntimeError) and str(error) == "a bug of ours" and not isinstance(error, VendorError)
