"""Plain values that cross the layers: what a connector yields and what the write path takes."""

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
    TIMESTAMP = "timestamp"  # a wall clock without zone, stored as sent
    INSTANT = "instant"  # a timestamp with zone, stored as UTC
    JSON = "json"  # a list of scalars


Shape = dict[str, dict[str, Kind]]
"""Declared fields: part (dotted path, "" for the object itself) -> dotted field path -> kind.

Paths are those of the projected object (`Resource.project`), in the vendor's own spelling:
`{"": {"person.id": Kind.TEXT}, "tpGoods": {"price": Kind.NUMBER}}`.
"""


Notes = dict[str, dict[str, str]]
"""What fields mean, laid out like a `Shape`: `{"items": {"type": "1 goods or service, 2 postage, …"}}`."""


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


class ChangeKind(StrEnum):
    """The kind of a journal entry."""

    CREATED = "created"
    UPDATED = "updated"
    DELETED = "deleted"
    RESTORED = "restored"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """An object as its system showed it.

    `raw` is the object as sent; `listed` is the token that a listing of names would show for this very state
    (None where only the listing can tell), so that the next listing does not enqueue what was just fetched.
    """

    key: str
    raw: JsonObject
    listed: str | None = None


class Received(NamedTuple):
    """A `Snapshot` still as JSON text: an object that was sent in the same bytes before is not decoded again.

    Its key was read from it, so it begins as a JSON object, but may be truncated.
    """

    key: str
    sent: bytes
    listed: str | None = None

    @property
    def raw(self) -> JsonObject:
        """The object as sent. Raises `Malformed` where it is not JSON."""
        try:
            decoded: JsonObject = exact.loads(self.sent)
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
    """The object exists, but its vendor cannot show its details: the listing's line is kept instead.

    `mark` is added to the listing's line (`{"detail_unavailable": True}`), so that a reader can tell.
    """

    key: str
    mark: JsonObject


@dataclass(frozen=True, slots=True)
class Document:
    """A file that was handed in for a vendor that decodes it. `sha256`: of its content, in lower-case hex; the key.

    `order`: the order at the vendor that it belongs to, if one was given.
    """

    sha256: str
    name: str
    content: bytes = field(repr=False)
    order: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """A key in a listing of names, with the token that stands for its state.

    `marked`: the listing itself says that the object is marked as deleted. `changed`: the vendor says that it
    changed, so it is fetched whatever the token is: a summary does not show everything. `summary`: the line as sent,
    kept while the key is pending, for a vendor that may refuse the details (see `Withheld`).
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
    """A row without a usable key or meaning: to be parked with its reason, `raw` kept."""

    key: str
    reason: str
    raw: JsonObject


@dataclass(frozen=True, slots=True)
class End:
    """The end of one reply to a listing.

    `cursor`: the connector's opaque text, given to the next `list`. `more`: the run needs another request.
    `complete`: with this reply the run has named every object that exists, so a key it did not name is missing.
    `warning`: what a person should know about a run that worked (a filter that the vendor ignored).
    """

    cursor: str
    more: bool = False
    complete: bool = False
    warning: str | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A bounded piece of a reply to a listing. Only the reply's last chunk has an `end`."""

    snapshots: Sequence[Snapshot | Received] = ()
    lines: Sequence[Line] = ()
    refs: Sequence[ObjectRef] = ()
    unreadable: Sequence[Unreadable] = ()
    end: End | None = None


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
    """The backoff after so many failures in a row: 1 s, doubling to 5 min."""
    return min(timedelta(seconds=2 ** min(failures, 10)), _LONGEST_BACKOFF)
