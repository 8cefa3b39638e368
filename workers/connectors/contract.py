"""What a connector folder offers. Beside `http`, `streaming`, `workers.errors`, `models.values` all it may import.

A folder's files, each only if needed:

- `options.py`    class `Options(Connection)` (`Webhooked`, if it sends webhooks): its part of a connection
- `resources.py`  `resources(options) -> tuple[Resource, ...]`: one declared row each
- `table.py`      what the vendor offers to read, one row each, where that is much
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
- `sandbox_day.py`    what happens in that company: everyday edits, and a day of what mirrors get wrong
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Protocol

from models.settings import Connection, Duration, HandedIn, Network, Secret, Strict, Url, Webhooked
from models.values import Chunk, Document, JsonObject, Notes, Shape, Snapshot, Tombstone, Withheld

__all__ = [
    "Client",
    "Connection",
    "Duration",
    "Greeting",
    "HandedIn",
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
    "alone",
]


_CONFIRMS_AFTER = timedelta(minutes=1)


def _as_sent(raw: JsonObject) -> JsonObject:
    return raw


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, under the vendor's own name, and how it is looked at.

    - `key`: the fields that identify an object, joined by `:`
    - `every`: how often a tick asks for what changed since the cursor; None if it knows no "since"
    - `full_every`: how often everything is read
    - `bound`: within which time the mirror equals the ERP again, whatever was lost
    - `points`: `fetch` works, so absence from a listing is only a mention; without it, absence from two complete
      replies in a row deletes
    - `summaries`: a listing does not show all of an object, so a full reading stands in for no tick
    - `unpaged`: a full reading is one reply
    - `register`: rows come and go, so their deletions are not counted against `max_deletions`
    - `handed_in`: nothing can be listed or fetched: its objects are what the vendor reads in documents that people
      hand in (`Client.interpret`); `full_every` is how often the watched folder is looked at
    - `selection`: which of the vendor's objects are asked for, as text; when it changes, all is read anew
    - `described`: the vendor's metadata declares its fields; ask `Client.shape`
    - `shape`: declared fields that exist from the start; `hints`: those that get a column when they first appear
    - `notes`: what a field's values mean, in the vendor's words; they stand on the columns
    - `project`: the raw object as columns and parts see it
    """

    name: str
    full_every: timedelta
    bound: timedelta
    key: tuple[str, ...] = ("id",)
    every: timedelta | None = None
    points: bool = True
    summaries: bool = False
    unpaged: bool = False
    register: bool = False
    handed_in: bool = False
    selection: str = ""
    described: bool = False
    shape: Shape = field(default_factory=dict)
    hints: Shape = field(default_factory=dict)
    notes: Notes = field(default_factory=dict)
    project: Callable[[JsonObject], JsonObject] = _as_sent

    @property
    def confirms_after(self) -> timedelta:
        """When a reply that lacks rows is asked for again: only what is missing from both is gone."""
        return min(_CONFIRMS_AFTER, self.full_every)

    @property
    def bound_in_all(self) -> timedelta:
        """`bound`, with the second look at what is missing where nothing else can prove it gone."""
        return self.bound + self.confirms_after if self.unpaged and not self.points else self.bound


class Sessions(Protocol):
    """Where the account's vendor session is kept, encrypted and shared by all workers."""

    def get(self) -> bytes | None:
        """The session that is still valid, or None."""

    def put(self, session: bytes, until: datetime) -> None:
        """Keep it until then."""

    def drop(self) -> None:
        """The vendor refused it."""

    def renewing(self) -> AbstractContextManager[None]:
        """Log in inside this block: nobody else of the account does so meanwhile.

        Look again with `get` first: somebody else may just have done it. Raises `errors.Busy` where that takes long.
        """


def _utc() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Wire:
    """What the spine lends a client.

    `alive` is called as bytes arrive: it renews the lease of a long stream. `now`: the clock that all workers share,
    aware; sessions end by it. `largest`: bytes of a reply that is held whole; larger ones are for `Http.stream`.
    """

    alive: Callable[[], None]
    sessions: Sessions
    now: Callable[[], datetime] = _utc
    largest: int = 64 * 2**20


class _OwnSessions:
    """A session for one client alone."""

    def __init__(self) -> None:
        self._session: tuple[bytes, datetime] | None = None

    def get(self) -> bytes | None:
        return self._session[0] if self._session is not None and self._session[1] > datetime.now(UTC) else None

    def put(self, session: bytes, until: datetime) -> None:
        self._session = session, until

    def drop(self) -> None:
        self._session = None

    def renewing(self) -> AbstractContextManager[None]:
        return nullcontext()


def alone() -> Wire:
    """For a client that is used on its own, without a database: nobody shares its session, and no gate paces it."""
    return Wire(alive=lambda: None, sessions=_OwnSessions())


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a vendor said when we knocked: a line for a person, and his own clock (aware; None if he shows none)."""

    says: str
    clock: datetime | None = None


class Client(Protocol):
    """One connection's client, made as `Client(options, wire)`, for one task after the other in a process.

    Never called inside a transaction. What it remembers must not grow from task to task.

    A client whose resources are all `handed_in` has `interpret` instead of `fetch`, `list` and `shape`.
    """

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone | Withheld:
        """The object as it is now. Raises the families of `workers.errors`."""

    def interpret(self, resource: Resource, document: Document) -> Snapshot:
        """What the vendor reads in the document; its key is the document's. Sent once at most.

        Raises `TryLater` with `refused` where the vendor certainly did not take it; any other failure parks the
        document: what may have arrived is a person's to send again.
        """

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        """One request's reply, in bounded chunks; the last carries `End`.

        `cursor` None starts a full reading; a cursor from a finished run asks for what changed since; a cursor from an
        `End(more=True)` continues its run.
        """

    def shape(self, resource: Resource) -> Shape | None:
        """What the vendor's metadata declares of this resource; None where it has none. One request."""

    def check(self) -> Greeting:
        """Prove address and login with one cheap request."""

    def probe(self, resource: Resource) -> str:
        """Prove with one cheap request that this resource can be read; what it showed, in a few words for a person."""

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
