"""Pages of the journal for its readers, each entry encoded once, and the 410 of a reader that would miss some."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from models import exact
from models.bookkeeping import journal, journal_entries
from models.bookkeeping.feed import Feed
from models.values import Cause, ChangeKind
from receiver.http import answers
from receiver.http.answers import Answer, Count, Object, Text, Timestamp
from receiver.http.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.bookkeeping.journal_news import JournalNews
    from models.db.database import Database, Tx


class Change(Answer, frozen=True):
    """An entry of the journal."""

    id: Annotated[int, Meta(ge=1)]
    at: Timestamp
    connection: Text
    resource: Text
    key: str
    kind: ChangeKind
    revision: Count
    cause: Cause
    before: Annotated[
        Object | None, Meta(description="Of an update: dotted path to earlier value, of the fields that differ.")
    ]
    after: Annotated[Object | None, Meta(description="The whole object, redacted; null when deleted.")]


class Changes(Answer, frozen=True):
    """A page of the journal."""

    changes: Annotated[list[Change], Meta(description="Oldest first.")]
    last: Annotated[Count, Meta(description="Pass it as `after` to get the next page.")]
    oldest: Annotated[Count, Meta(description="The oldest entry that was not trimmed.")]
    feed: Annotated[Text, Meta(description="It changes when a backup was restored: start again from 0.")]


class Selection(NamedTuple):
    """What a reader wants; None: any."""

    connection: str | None = None
    resource: str | None = None
    kind: str | None = None
    key: str | None = None

    def matches(self, entry: Entry) -> bool:
        """Whether the reader wants this entry."""
        return (
            (self.connection is None or self.connection == entry.connection)
            and (self.resource is None or self.resource == entry.resource)
            and (self.kind is None or self.kind == entry.kind)
            and (self.key is None or self.key == entry.key)
        )


class Entry(NamedTuple):
    """An entry of the journal, encoded once for all readers."""

    id: int
    connection: str
    resource: str
    kind: str
    key: str
    json: bytes

    @property
    def event(self) -> bytes:
        """As a Server-Sent Event. JSON has no line breaks outside its strings, and escapes those inside."""
        return b"id: %d\nevent: %s\ndata: %s\n\n" % (self.id, self.kind.encode(), self.json)


class RawPage(Answer, frozen=True):
    """`Changes` with entries that are encoded already."""

    changes: list[msgspec.Raw]
    last: int
    oldest: int
    feed: str


class Found(NamedTuple):
    """Entries in the journal's order.

    `last`: the position after them and after the entries that were not selected. `oldest`: what is left of the journal.
    """

    entries: Sequence[Entry]
    last: int
    oldest: int


class JournalPages:
    """Reads pages from the database. `witness`: see `Feed`."""

    def __init__(self, database: Database, *, witness: Path | None = None) -> None:
        self._database = database
        self.feed = Feed(database, witness=witness)

    def page(self, selection: Selection, *, after: int, limit: int) -> RawPage:
        """A page as it is answered; `ApiError` if the reader would miss entries."""
        found, feed = self.read_named(selection, after=after, limit=limit)
        return answered(found, feed=feed)

    def read_named(self, selection: Selection, *, after: int, limit: int) -> tuple[Found, str]:
        """As `read`, with the feed's name."""
        found = self.read(selection, after=after, limit=limit)
        return found, self.feed.name(found.last)

    def read(self, selection: Selection, *, after: int, limit: int) -> Found:
        """At most `limit` entries; `ApiError` if the reader would miss some."""
        with self._database.read() as tx:
            # The newest id is read before the entries: all entries up to it are visible then. The oldest id is read
            # after them, so that trimming in between is detected.
            _, newest, _ = journal.bounds(tx)
            entries = read_entries(tx, selection, after=after, limit=limit)
            oldest, _, _ = journal.bounds(tx)
        if after > newest:
            self.feed.read_beyond(after)
            raise ApiError(
                410,
                "gone",
                f"the journal ends at {newest}, so a backup was restored since the entry {after} was read; "
                "start again with after=0",
            )
        if 0 < after < oldest - 1:
            raise ApiError(410, "gone", f"the oldest entry is {oldest} now; start again with after=0")
        last = entries[-1].id if len(entries) == limit else max([newest, *(entry.id for entry in entries)])
        return Found(entries, last, oldest)

    def origin(self) -> tuple[str, int]:
        """The feed's name and its oldest entry: what a reader needs that has to start again."""
        with self._database.read() as tx:
            oldest, newest, _ = journal.bounds(tx)
        return self.feed.name(newest), oldest


def answered(found: Found, *, feed: str) -> RawPage:
    """The page of these entries."""
    return RawPage(
        changes=[msgspec.Raw(entry.json) for entry in found.entries], last=found.last, oldest=found.oldest, feed=feed
    )


def read_entries(tx: Tx, selection: Selection, *, after: int, limit: int) -> list[Entry]:
    """At most `limit` selected entries with an id above `after`."""
    rows = journal.read(tx, after=after, limit=limit, **selection._asdict())
    return [_entry(row, row.before, row.after) for row in rows]


def follow(news: JournalNews, *, after: int, limit: int) -> list[Entry]:
    """As `read_entries`, of all entries."""
    rows = journal_entries.follow(news, after=after, limit=limit)
    return [_entry(row, *map(_decoded, (row.before, row.after))) for row in rows]


def _decoded(text: str | None) -> Any:
    return None if text is None else exact.loads(text)


def _entry(row: Any, before: Any, after: Any) -> Entry:
    change = Change(
        id=row.id,
        at=row.at.isoformat(),
        connection=row.connection,
        resource=row.resource,
        key=row.key,
        kind=row.kind,
        revision=row.revision,
        cause=row.cause,
        before=before,
        after=after,
    )
    return Entry(row.id, row.connection, row.resource, row.kind, row.key, answers.encode(change))
