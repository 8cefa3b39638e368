"""Entries of the journal for whoever sends them on: their objects stay the JSON text that is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import sqlalchemy as sa

from models.bookkeeping.undelivered import Object
from models.db.tables import changes, feed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

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


class Following:
    """Reads on in the journal what meets the conditions. Its statement is built once: that takes as long as a query."""

    def __init__(self, conditions: Sequence[sa.ColumnElement[bool]] = ()) -> None:
        after, limit = (sa.bindparam(name, type_=sa.BigInteger) for name in ("after", "limit"))
        ahead = sa.select(*_COLUMNS).where(changes.c.id > after, *conditions)
        chosen = ahead.order_by(changes.c.id).limit(limit).subquery()
        # UNION rather than a join: PostgreSQL expects a thousand rows of the one-row feed, and would compile the plan.
        empty = (sa.null().cast(column.type).label(column.name) for column in [*chosen.c][1:])
        self._statement = sa.select(feed.c.last, *empty).union_all(sa.select(chosen))

    def read(self, tx: Tx, *, after: int, limit: int) -> tuple[list[Entry], int]:
        """Entries above the id `after`, at most `limit`, and up to which id all were seen.

        One statement: its snapshot shows the last id together with all entries up to it.
        """
        rows = [Entry(*row) for row in tx.execute(self._statement, {"after": after, "limit": limit})]
        found = sorted((row for row in rows if row.at is not None), key=lambda row: row.id)
        [last] = [row.id for row in rows if row.at is None]
        return found, found[-1].id if len(found) == limit else max(last, after)


def by_id(tx: Tx, ids: Sequence[int]) -> dict[int, Entry]:
    """Those of the entries that were not trimmed."""
    if not ids:
        return {}
    return {row.id: Entry(*row) for row in tx.execute(sa.select(*_COLUMNS).where(changes.c.id.in_(ids)))}
