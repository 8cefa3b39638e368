"""Entries of the journal for whoever sends them on: their objects stay the JSON text that is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from models.bookkeeping.journal_news import Reading
from models.bookkeeping.undelivered import Object
from models.db.outgoing_tables import subscriptions
from models.db.tables import changes, feed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from models.bookkeeping.journal_news import JournalNews
    from models.db.database import Tx


class Entry(NamedTuple):
    """An entry. `before` and `after` are JSON."""

    id: int
    at: datetime
    connection: str
    resource: str
    key: str
    kind: str
    revision: int
    cause: str
    before: str | None
    after: str | None

    @property
    def size(self) -> int:
        """Characters of its objects."""
        return len(self.before or "") + len(self.after or "")

    @property
    def of(self) -> Object:
        """The object that has changed."""
        return Object(self.connection, self.resource, self.key)


_COLUMNS = [
    *(changes.c[name] for name in Entry._fields[:-2]),
    *(sa.cast(changes.c[name], sa.Text).label(name) for name in Entry._fields[-2:]),
]


def _ahead(*conditions: sa.ColumnElement[bool]) -> sa.Select[Any]:
    after, limit = (sa.bindparam(name, 0, type_=sa.BigInteger) for name in ("after", "limit"))
    return sa.select(*_COLUMNS).where(changes.c.id > after, *conditions).order_by(changes.c.id).limit(limit)


_ALL_AHEAD = Reading(_ahead())


def follow(news: JournalNews, *, after: int, limit: int) -> list[Entry]:
    """At most `limit` entries with an id above `after`, oldest first."""
    return [Entry(*row) for row in news.rows(_ALL_AHEAD, after=after, limit=limit)]


class Ahead(NamedTuple):
    """What lies ahead of a subscription: entries, and up to which id all that match were seen.

    `oldest`: the oldest entry that is kept, None if none is. `state`: the subscription's.
    """

    found: list[Entry]
    seen: int
    oldest: int | None
    state: str


class Following:
    """Reads on in the journal what meets the conditions. Its statement is built once: that takes as long as a query."""

    def __init__(self, subscription: str, conditions: Sequence[sa.ColumnElement[bool]] = ()) -> None:
        chosen = _ahead(*conditions).subquery()
        facts = {
            "id": feed.c.last,
            "connection": sa.select(subscriptions.c.state)
            .where(subscriptions.c.name == subscription)
            .scalar_subquery(),
            "revision": sa.select(sa.func.min(changes.c.id)).scalar_subquery(),
        }
        # UNION rather than a join: PostgreSQL expects a thousand rows of the one-row feed, and would compile the plan.
        row = [facts.get(each.name, sa.null()).cast(each.type).label(each.name) for each in chosen.c]
        self._reading = Reading(sa.select(*row).select_from(feed).union_all(sa.select(chosen)))

    def read(self, news: JournalNews, *, after: int, limit: int) -> Ahead:
        """Entries above the id `after`, at most `limit`.

        One statement: its snapshot shows the last id together with all entries up to it.
        """
        rows = [Entry(*row) for row in news.rows(self._reading, after=after, limit=limit)]
        found = sorted((row for row in rows if row.at is not None), key=lambda row: row.id)
        [facts] = [row for row in rows if row.at is None]
        seen = found[-1].id if len(found) == limit else max(facts.id, after)
        return Ahead(found, seen, facts.revision, facts.connection)


def by_id(tx: Tx, ids: Sequence[int]) -> dict[int, Entry]:
    """Those of the entries that were not trimmed."""
    if not ids:
        return {}
    return {row.id: Entry(*row) for row in tx.execute(sa.select(*_COLUMNS).where(changes.c.id.in_(ids)))}
