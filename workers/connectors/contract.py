"""The connector contract: what a system's folder provides, and what the core provides to it.

A connector speaks one vendor's API. It lists and fetches objects, declares what can be read, and maps the vendor's
errors to the classes of `workers.errors`. It knows nothing of the database, the task queue or another connector: of
our modules it may import only this one, `commands`, `http`, `objects`, `streaming`, `workers.errors`, `models.values`,
`models.exact` and `models.notation`.

The core calls a `Client` like this:

- for a key in the inbox: `fetch(resource, key)`, which returns the object as it is now, or a `Tombstone`
- for many keys in the inbox: `fetch_many(resource, keys, plan)`, at vendors that show whole objects by the hundred
- for a full sync: `list(resource, None)`, then `list(resource, End.cursor)` while `End.more`
- for a poll: `list(resource, cursor)` with the cursor of the last finished run, then likewise
- for a document: `interpret(resource, document)`, at vendors that read PDFs

Each call makes one request or a few, outside any database transaction. The core holds a lease on the vendor account
from before the call until its result is committed, so a client needs no locks of its own. `Http` announces each request
before it is sent: the core renews the lease and waits for the rate limit.

A folder contains these files. `options`, `resources` and `client` are required, the others as the system needs them:

- `options.py`    class `Options(Connection)`, or `SendsWebhooks`, `TakesDocuments` or `TakesCommands`: its settings
- `resources.py`  `resources(options) -> tuple[Resource, ...]`: what is mirrored, one declared row per resource
- `table.py`      the vendor's list of resources as data, if it is long or more than `resources.py` needs it
- `client.py`     class `Client`, the protocol below
- `answers.py`    decodes replies, and classifies refusals by the classes of `workers.errors`
- `cursors.py`    the progress of a listing, encoded as the opaque text that the core stores
- `metadata.py`   reads the field types that the vendor's API declares
- `batches.py`    reads many objects by few requests, and proves that they equal point reads
- `batch_plan.py` what it has learned of their form for that
- `queries.py`    builds queries in the vendor's query language
- `node.py`       writes the file that configures the vendor's side
- `auth.py`       an `httpx.Auth` that logs in
- `commands.py`   `actions(options) -> tuple[Action, ...]`: the writes that it takes (`workers.connectors.commands`)
- `command_*.py`  parts of it, if there are many: `table` and `fields` (data), `rules`, `shown` and `values` (comparing
                  what was sent with what is shown), `examples`, or one long action
- `packets.py`    sends the vendor's envelope and decodes the reply, if the client has no room for it
- `writes.py`     what the client has in addition, a `CommandClient`; `write_answers.py` decodes the replies to writes
- `webhooks.py`   `read(packet, options) -> ObjectRef | Ignored`: decodes a webhook; an `ObjectRef` is enqueued
- `sandbox.py`    `create(**knobs) -> Starlette`: an HTTP server that behaves like the vendor and enforces its rules;
                  `app.state.sandbox` is its `Sandbox`
- `sandbox_data.py`      the sandbox's data: an invented company
- `sandbox_writes.py`    its writes, with the vendor's rules; an enumeration `WriteFault` of what may become of one
- `sandbox_server.py`    the sandbox's other state (login, faults), if it is long
- `sandbox_scenario.py`  everyday edits, and a scripted day of changes that mirrors get wrong
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any, Protocol

from models.settings.connections import (
    ROW,
    Connection,
    Duration,
    Key,
    Network,
    Secret,
    SendsWebhooks,
    Strict,
    TakesCommands,
    TakesDocuments,
    Url,
)
from models.settings.messages import did_you_mean
from models.values import Batch, Chunk, Document, JsonObject, Notes, ObjectRef, Shape, Snapshot, Tombstone, Withheld

__all__ = [
    "ROW",
    "Batch",
    "CheckResult",
    "Client",
    "ClientRuntime",
    "Connection",
    "Duration",
    "Ignored",
    "Key",
    "MalformedWebhookError",
    "Network",
    "ObjectRef",
    "Resource",
    "Sandbox",
    "Secret",
    "SendsWebhooks",
    "Sessions",
    "Strict",
    "TakesCommands",
    "TakesDocuments",
    "Url",
    "did_you_mean",
    "standalone",
]


_CONFIRMATION_DELAY = timedelta(minutes=1)
_DOCUMENTS_REFUSED = timedelta(hours=1)


def _unchanged(raw: JsonObject) -> JsonObject:
    return raw


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, under the vendor's own name, and how it is kept in sync.

    Schedule:

    - `every`: time between two polls; None if the vendor cannot filter by modification time
    - `full_every`: time between two full syncs; with `handed_in`, between two scans of the watched folder
    - `bound`: the longest time until the mirror equals the vendor again, whichever webhooks are lost

    How it can be read:

    - `key`: the fields that identify an object; their values are joined by `:`
    - `optional_key`: those of its fields that may be empty; an empty text then stands in their place
    - `keyed_by_row`: objects have no such fields; the key is a hash of the whole object, so one that changes is
      deleted and another is created
    - `fetchable`: the vendor has point reads, so `fetch` works. A key that a listing no longer has is then fetched, and
      the fetch decides whether it is deleted. Otherwise a key missing from two complete replies, `confirms_after`
      apart, is deleted
    - `can_fetch_key`: whether `fetch` can ask for this key; None: for any. The vendor's query language or address may
      not be able to say it. Such a key is treated as one of a resource without point reads
    - `batch_size`: how many keys `fetch_many` takes at most; 0: the vendor has point reads alone
    - `batch_from`, `proof_from`: from how many keys on it costs fewer requests than point reads, with a plan and
      without one
    - `summaries`: a listing shows only part of each object, so a full sync does not replace a poll
    - `unpaged`: a full sync is a single reply
    - `register`: its rows come and go in normal use, so its deletions do not count against `max_deletions`
    - `handed_in`: it can be neither listed nor fetched. Its objects are what the vendor reads in documents that users
      hand in (`Client.interpret`)
    - `selection`: the vendor-side filter, as text. When it changes, the core starts a full sync
    - `if_costly`: which setting makes full syncs cheaper; `check` says so where they take many requests

    Columns (`models.values.Shape` maps part and field path to a type):

    - `has_metadata`: the vendor's metadata declares the fields: the core asks `Client.shape`
    - `shape`: fields whose columns exist from the start
    - `hints`: types for fields that get their column when they first appear
    - `notes`: the meaning of fields, from the vendor's document; stored as column comments
    - `project`: maps the raw object to the form that columns and parts are made from. Must not modify its argument
    """

    name: str
    full_every: timedelta
    bound: timedelta
    key: tuple[str, ...] = ("id",)
    optional_key: tuple[str, ...] = ()
    keyed_by_row: bool = False
    every: timedelta | None = None
    fetchable: bool = True
    can_fetch_key: Callable[[str], bool] | None = None
    batch_size: int = 0
    batch_from: int = 0
    proof_from: int = 0
    summaries: bool = False
    unpaged: bool = False
    register: bool = False
    handed_in: bool = False
    selection: str = ""
    if_costly: str = ""
    has_metadata: bool = False
    shape: Shape = field(default_factory=dict)
    hints: Shape = field(default_factory=dict)
    notes: Notes = field(default_factory=dict)
    project: Callable[[JsonObject], JsonObject] = _unchanged

    def fetches(self, key: str) -> bool:
        """Whether `fetch` can decide about this key; otherwise only its absence from complete replies can."""
        return self.fetchable and (self.can_fetch_key is None or self.can_fetch_key(key))

    @property
    def absence_deletes(self) -> bool:
        """Whether there may be keys that a fetch cannot decide about, and whose absence from full syncs can."""
        return self.can_fetch_key is not None if self.fetchable else self.unpaged

    @property
    def confirms_after(self) -> timedelta:
        """The delay before a reply with missing rows is requested again; only rows missing from both are deleted."""
        return min(_CONFIRMATION_DELAY, self.full_every)

    @property
    def refused_for(self) -> timedelta:
        """The wait after a refusal until the resource is tried again: rights are given back without notice."""
        return _DOCUMENTS_REFUSED if self.handed_in else self.full_every

    @property
    def total_bound(self) -> timedelta:
        """`bound`, plus `confirms_after` for resources whose deletions need two replies as proof."""
        return self.bound + self.confirms_after if self.absence_deletes else self.bound


class Sessions(Protocol):
    """Stores the vendor session (a token, a cookie) of one account, encrypted; all workers share it.

    One login then serves every worker process, which matters where a vendor allows only one session at a time.
    """

    def get(self) -> bytes | None:
        """The stored session; None if there is none or it has expired."""

    def put(self, session: bytes, until: datetime) -> None:
        """Store the session. `until`: aware; `get` returns None from then on."""

    def drop(self) -> None:
        """Delete the session, because the vendor refused it."""

    def login_lock(self) -> AbstractContextManager[None]:
        """Hold the account's login lock inside the block, so that only one worker logs in at a time.

        Call `get` again first thing inside: another worker may have logged in while this one waited. Raises
        `errors.BusyError` if the lock stays taken too long.
        """


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _unlimited() -> None:
    """No lease, and no rate limit."""


@dataclass(frozen=True, slots=True)
class ClientRuntime:
    """What the core provides to a client.

    - `before_request`: called before each request is sent, logins included; it waits for the vendor's rate limit
    - `heartbeat`: call it as bytes of a long reply arrive; it extends the lease
    - `sessions`: the shared session of this account
    - `now`: the clock that all workers share, aware; session expiry is measured by it
    - `largest`: bytes; a longer reply is refused by `Http.read` and must be read with `Http.stream`
    """

    heartbeat: Callable[[], None]
    sessions: Sessions
    now: Callable[[], datetime] = _utc_now
    largest: int = 64 * 2**20
    before_request: Callable[[], None] = _unlimited


class _ProcessSessions:
    """`Sessions` in this process's memory, shared with no other worker."""

    def __init__(self) -> None:
        self._session: tuple[bytes, datetime] | None = None

    def get(self) -> bytes | None:
        return self._session[0] if self._session is not None and self._session[1] > datetime.now(UTC) else None

    def put(self, session: bytes, until: datetime) -> None:
        self._session = session, until

    def drop(self) -> None:
        self._session = None

    def login_lock(self) -> AbstractContextManager[None]:
        return nullcontext()


def standalone() -> ClientRuntime:
    """For a client used outside erpmirror, in a script or a test: no database, no shared session, no rate limit."""
    return ClientRuntime(heartbeat=lambda: None, sessions=_ProcessSessions())


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of `Client.check`.

    `summary`: one line for a person. `clock`: the vendor's time (`Date` header), aware; None if it sends none.
    """

    summary: str
    clock: datetime | None = None


class Client(Protocol):
    """A client of one connection, constructed as `Client(options, runtime)`.

    Each worker process keeps one instance per connection and uses it for one task at a time. It is never called inside
    a database transaction. What it caches must not grow from task to task.

    Every method that makes a request raises the classes of `workers.errors`: `TryLater` if the same request may succeed
    later, `SetAside` if a person has to act, `NotForUs` if the object is of no mirrored resource.

    A client whose resources are all `handed_in` has `interpret`, and has no `fetch`, `list` or `shape`.
    """

    def fetch(self, resource: Resource, key: str) -> Snapshot | Tombstone | Withheld:
        """Read one object as it is now.

        `Tombstone`: the vendor says that it does not exist or is marked as deleted. `Withheld`: it exists, but the
        vendor cannot show its detail.
        """

    def fetch_many(self, resource: Resource, keys: Sequence[str], plan: str | None) -> Batch:
        """Read some of these objects by few requests; only for a resource with a `batch_size`.

        `plan`: that of the last batch. A batch brings an object only if it is proved that `fetch` returns the same, and
        never a tombstone. What the vendor refuses or shows differently is a `refusal` in the batch, no error. It should
        hold the gate for no longer than a page of a listing does, a few seconds.
        """

    def interpret(self, resource: Resource, document: Document) -> Snapshot:
        """Send the document once; the snapshot holds what the vendor read in it, under the document's key.

        Raises `TryLater` with `refused` if the vendor certainly did not process the document: the core sends it again.
        After any other error it may have been processed, so the core parks it and a person decides.
        """

    def list(self, resource: Resource, cursor: str | None) -> Iterator[Chunk]:
        """Make one request of a listing and yield its reply in bounded chunks; the last one carries an `End`.

        `cursor` None: start a full sync. The cursor of an `End` with `more`: continue that run. The cursor of a
        finished run: ask for what changed since.
        """

    def shape(self, resource: Resource) -> Shape | None:
        """Read the field types that the vendor's metadata declares; None if it has none. One request."""

    def check(self) -> CheckResult:
        """Prove address and login with one cheap request."""

    def probe(self, resource: Resource) -> str:
        """Prove with one cheap request that the resource can be read. Returns a few words on the reply."""

    def ask(self, words: Sequence[str]) -> Any:
        """Make one read request given in the vendor's own terms (`erpmirror ask`). Returns its decoded reply."""

    def close(self) -> None:
        """Close the HTTP connections."""


@dataclass(frozen=True, slots=True)
class Ignored:
    """A well-formed webhook that needs no work: answered 200, stored with this reason."""

    reason: str


class MalformedWebhookError(ValueError):
    """The webhook is not of this vendor's form: answered 400, with this message."""


class Sandbox(Protocol):
    """Controls a vendor's sandbox from demos and tests, beside its HTTP server. Thread-safe."""

    def settings(self) -> dict[str, Any]:
        """The `[connections.*]` table for this sandbox, without `url`: only the server knows its port."""

    def truth(self, resource: str) -> dict[str, JsonObject]:
        """The live objects of a resource by key, each exactly as the API would show it now."""

    def edit(self, random: Random) -> str:
        """Make one everyday change and send its webhooks. Returns a sentence that describes it."""

    def scenario(self) -> Iterator[str]:
        """A scripted day: each step makes one change that mirrors get wrong, and yields a sentence on it."""
