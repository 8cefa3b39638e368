"""What a connector folder offers. Beside `http`, `workers.errors` and `models.values` all that it may import.

A folder's files, each only if needed:

- `options.py`    class `Options(Connection)` (`Webhooked`, if it sends webhooks): its part of a connection
- `resources.py`  `resources(options) -> tuple[Resource, ...]`: one declared row each
- `client.py`     class `Client`, as below
- `answers.py`    how the vendor's replies read, and which fate its refusals have
- `cursors.py`    where a reading stands, as the client's opaque text
- `metadata.py`   what the vendor itself declares of its fields
- `queries.py`    the vendor's query language, where it has one
- `node.py`       the file from which the vendor sets up its side
- `auth.py`       an `httpx.Auth`
- `notices.py`    `read(packet, options) -> Notice | Ignored`: how its webhook reads
- `sandbox.py`    `create(**knobs) -> Starlette`: behaves like the vendor, its `Sandbox` is at `app.state.sandbox`
- `sandbox_books.py`  the made-up company behind it
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, Protocol

from models.settings import Connection, Duration, Network, Secret, Strict, Url, Webhooked
from models.values import Chunk, JsonObject, Shape, Snapshot, Tombstone

__all__ = [
    "Client",
    "Connection",
    "Duration",
    "Ignored",
    "Malformed",
    "Network",
    "Notice",
    "Resource",
    "Sandbox",
    "Secret",
    "Sessions",
    "Strict",
    "Url",
    "Webhooked",
    "Wire",
]


def _as_sent(raw: JsonObject) -> JsonObject:
    return raw


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, under the vendor's own name, and how it is looked at.

    - `key`: the fields that identify an object, joined by `:`
    - `every`: how often a tick asks for what changed since the cursor; None if it knows no "since"
    - `full_every`: how often everything is read
    - `bound`: within which time the mirror equals the ERP again, whatever was lost
    - `points`: `fetch` works, so absence from a listing is only a mention; without it, absence from a complete reply
      deletes
    - `unpaged`: a full reading is one reply
    - `register`: rows come and go, so their deletions are not counted against `max_deletions`
    - `described`: the vendor's metadata declares its fields; ask `Client.shape`
    - `shape`: declared fields that exist from the start; `hints`: those that get a column when they first appear
    - `project`: the raw object as columns and parts see it
    """

    name: str
    full_every: timedelta
    bound: timedelta
    key: tuple[str, ...] = ("id",)
    every: timedelta | None = None
    points: bool = True
    unpaged: bool = False
    register: bool = False
    described: bool = False
    shape: Shape = field(default_factory=dict)
    hints: Shape = field(default_factory=dict)
    project: Callable[[JsonObject], JsonObject] = _as_sent


class Sessions(Protocol):
    """Where the account's vendor session is kept, encrypted and shared by all workers."""

    def get(self) -> bytes | None:
        """The session that is still valid, or None."""

    def put(self, session: bytes, until: datetime) -> None:
        """Keep it until then."""

    def drop(self) -> None:
        """The vendor refused it."""


@dataclass(frozen=True, slots=True)
class Wire:
    """What the spine lends a client. `alive` is called as bytes arrive: it renews the lease of a long stream."""

    alive: Callable[[], None]
    sessions: Sessions


class Client(Protocol):
    """One connection's client for one task, made as `Client(options, wire)`. Never called inside a transaction."""

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone:
        """The object as it is now. Raises the families of `workers.errors`."""

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        """One request's reply, in bounded chunks; the last carries `End`.

        `cursor` None starts a full reading; a cursor from a finished run asks for what changed since; a cursor from an
        `End(more=True)` continues its run.
        """

    def shape(self, resource: Resource) -> Shape | None:
        """What the vendor's metadata declares of this resource; None where it has none. One request."""

    def check(self) -> str:
        """Prove address and login with one cheap request; a line for a person."""

    def ask(self, words: Sequence[str]) -> Any:
        """One read request in the vendor's own terms, for `erpmirror ask`; its decoded answer."""

    def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, slots=True)
class Notice:
    """A webhook that names an object to look at."""

    resource: str
    key: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A well-formed webhook that is none of our business: answered 200, kept with the reason."""

    reason: str


class Malformed(ValueError):  # noqa: N818 - read as a sentence: raise Malformed(...)
    """Not what this vendor sends; the message is shown to the sender."""


class Sandbox(Protocol):
    """A vendor's stand-in as demos and tests hold it, beside the HTTP that it speaks. Thread-safe."""

    def settings(self) -> dict[str, Any]:
        """A `[connections.*]` table that leads to it, without the `url`, which only its server knows."""

    def truth(self, resource: str) -> dict[str, JsonObject]:
        """The live objects of a resource by key, each as the vendor would show it now."""

    def edit(self, random: Random) -> str:
        """One everyday change, with whatever the vendor sends when it happens; a sentence for a person."""

    def story(self) -> Iterator[str]:
        """A scripted day: each step makes one change that mirrors get wrong, and says in a sentence what it was."""
