"""Plain values that cross the layers: what connectors yield and the write path takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from models import exact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LONGEST_BACKOFF = timedelta(minutes=5)

JsonObject = dict[str, Any]
"""A decoded JSON object. Numbers are in the normal form of `exact.loads`: `int` or `Decimal`, never `float`."""


class Kind(StrEnum):
    """The type of a mirror's column."""

    TEXT = "text"
    NUMBER = "number"  # exact decimal of any size
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"  # local time without a zone, stored as sent
    INSTANT = "instant"  # a timestamp with zone, stored as UTC
    JSON = "json"  # a list of scalars


Shape = dict[str, dict[str, Kind]]
"""Declared fields: part (dotted path, "" for the object itself) -> dotted field path -> kind.

Paths are those of the projected object (`Resource.project`), in the vendor's own spelling:
`{"": {"person.id": Kind.TEXT}, "tpGoods": {"price": Kind.NUMBER}}`.
"""


Notes = dict[str, dict[str, str]]
"""What fields mean, in the form of a `Shape`: `{"items": {"type": "1 goods or service, 2 postage, …"}}`."""


class Lane(IntEnum):
    """How soon an enqueued key is fetched; lower first."""

    LIVE = 0
    BULK = 1


class Cause(StrEnum):
    """What first enqueued a key, or led to a change."""

    WEBHOOK = "webhook"
    POLL = "poll"
    BACKFILL = "backfill"
    RECONCILE = "reconcile"
    DOCUMENT = "document"
    COMMAND = "command"


class ChangeKind(StrEnum):
    """The kind of a journal entry."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An object as its system sent it.

    `raw` is the object as sent; `listed` is the token that a listing of names would show for this state, so
    that the next listing does not enqueue the object again; None if only the listing knows it.
    """

    key: str
    raw: JsonObject
    listed: str | None = None


class UndecodedSnapshot(NamedTuple):
    """A `Snapshot` that is still JSON text: an object that was received in the same bytes before is not decoded again.

    `encoded`: the bytes as received, less what may not be stored. `digest`: of them (`exact.bytes_digest`), if it is
    known already.
    """

    key: str
    encoded: bytes
    listed: str | None = None
    digest: bytes | None = None

    @property
    def raw(self) -> JsonObject:
        """The object as sent. Raises `MalformedError` if it is not JSON."""
        try:
            decoded: JsonObject = exact.loads(self.encoded)
        except ValueError:
            raise MalformedError(f"{self.key} is not JSON") from None
        return decoded


class MalformedError(Exception):
    """What was sent cannot be decoded."""


@dataclass(frozen=True, slots=True)
class Tombstone:
    """The news that an object is gone or marked as deleted."""

    key: str


@dataclass(frozen=True, slots=True)
class Withheld:
    """The object exists, but the vendor does not return its details: the listing's line is stored instead.

    `mark` is added to that line (`{"detail_unavailable": True}`), so that readers can tell.
    """

    key: str
    mark: JsonObject


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was handed in for a vendor to interpret. `sha256`: of its content, in lower-case hex; the key.

    `order_id`: the vendor's order that it belongs to, if one was given.
    """

    sha256: str
    name: str
    content: bytes = field(repr=False)
    order_id: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A key in a listing of names, with a token that changes when the object does.

    `marked`: the listing says that the object is marked as deleted. `changed`: the vendor says that the object changed,
    so it is fetched whatever its token, because a token does not cover every field. `summary`: the line as sent, kept
    while the key is pending, for a vendor that may withhold the details (see `Withheld`).
    """

    key: str
    token: str
    marked: bool = False
    changed: bool = False
    summary: JsonObject | None = None


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """A reference to an object that is to be enqueued."""

    resource: str
    key: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row of a listing that has no usable key or meaning: it is parked with its reason and with `raw`.

    Rows with an empty `raw` have a key, and each is parked by it. Of the others one entry is kept for each `reason`,
    which therefore names no values. `remedy`: what a person can do; it may differ from row to row. `hides_key`: it
    could not be read as far as its key, so it could be any object that seems to be missing.
    """

    key: str
    reason: str
    raw: JsonObject
    remedy: str = ""
    hides_key: bool = False

    @property
    def has_key(self) -> bool:
        """Whether the row can be parked, and fetched again, by its key."""
        return not self.raw and not self.key.startswith("?")


@dataclass(frozen=True, slots=True)
class End:
    """The end of one reply to a listing.

    `cursor`: the connector's opaque text, given to the next `list`. `more`: the run needs another request.
    `complete`: with this reply the run has listed every object that exists, so a key that it did not list is missing.
    `gap`: what a complete run may not have seen all the same. Then a missing key is fetched but not deleted without
    that, and `complete_as_of` stays. `warning`: what a person should know although the run worked (such as a filter
    that the vendor ignored).
    """

    cursor: str
    more: bool = False
    complete: bool = False
    gap: str | None = None
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A bounded piece of a reply to a listing. Only the reply's last chunk has an `end`."""

    snapshots: Sequence[Snapshot | UndecodedSnapshot] = ()
    lines: Sequence[Line] = ()
    refs: Sequence[ObjectRef] = ()
    unreadable: Sequence[Unreadable] = ()
    end: End | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one `fetch_many` has read. Keys that it does not name still wait.

    - `snapshots`: objects, each exactly as `fetch` would return it
    - `alone`: keys that have to be fetched by themselves, each with the reason
    - `plan`: the connector's opaque text for the next batch of the resource; None: nothing is known any more
    - `refusal`: why the resource is to be read object by object, until its metadata is read again
    - `distrusted`: what earlier batches have brought may differ from what `fetch` returns: it has to be read again
    """

    snapshots: Sequence[Snapshot] = ()
    alone: Mapping[str, str] = field(default_factory=dict)
    plan: str | None = None
    refusal: str | None = None
    distrusted: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A journal entry to be written. `before`: dotted path -> earlier value of what differs (updates only).

    `text`: `after` as JSON, if it was encoded already.
    """

    key: str
    kind: ChangeKind
    before: Mapping[str, Any] | None
    after: JsonObject | None
    text: str | None = field(default=None, repr=False, compare=False)


def backoff(failures: int) -> timedelta:
    """How long to wait after a failure: 1 s, doubled for each of the `failures` in a row before it, up to 5 min."""
    return min(timedelta(seconds=2 ** min(failures, 10)), _LONGEST_BACKOFF)
