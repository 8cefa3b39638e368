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
    def of(self) -> Object:
        """The object that has changed."""
        return Object(self.connection, self.resource, self.key)


_COLUMNS = [
    *(changes.c[name] for name in Entry._fields[:-2]),
    *(sa.cast(changes.c[name], sa.Text).label(name) for name in Entry._fields[-2:]),
]


def following(
    tx: Tx, *, after: int, limit: int, conditions: Sequence[sa.ColumnElement[bool]] = ()
) -> tuple[list[Entry], int]:
    """Entries above the id `after` that meet the conditions, at most `limit`, and up to which id all were seen.

    One statement: its snapshot shows the last id together with all entries up to it.
    """
    chosen = (
        sa.select(*_COLUMNS).where(changes.c.id > after, *conditions).order_by(changes.c.id).limit(limit).subquery()
    )
    joined = sa.select(feed.c.last, chosen).select_from(feed.outerjoin(chosen, sa.true())).order_by(chosen.c.id)
    rows = tx.execute(joined).all()
    found = [Entry(*row[1:]) for row in rows if row[1] is not None]
    newest = max(rows[0][0], found[-1].id if found else 0)
    return found, found[-1].id if len(found) == limit else max(newest, after)


def by_id(tx: Tx, ids: Sequence[int]) -> dict[int, Entry]:
    """Those of the entries that were not trimmed."""
    if not ids:
        return {}
    return {row.id: Entry(*row) for row in tx.execute(sa.select(*_COLUMNS).where(changes.c.id.in_(ids)))}
