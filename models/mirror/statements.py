"""The statements that read and write resource tables: set-wise, in the order of the keys, never one per row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy as sa

from models import failpoints
from models.db import bulk
from models.failpoints import Point

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from models.db.database import Tx
    from models.mirror import schemas
    from models.mirror.prepare import ColumnBatch, Prepared, Row
    from models.values import JsonObject

_KEPT = {"_connection", "_key", "_first_seen_at"}


class RowState(NamedTuple):
    """A row that is already there. `live`: the object is there, as far as we know."""

    key: str
    hash: str
    sent: str | None
    listed: str | None
    revision: int
    live: bool


class StoredObject(NamedTuple):
    """A row that is already there: the object as last seen, and when."""

    key: str
    raw: JsonObject
    changed_at: datetime
    observed_at: datetime
    deleted_at: datetime | None


class Insert(NamedTuple):
    """A row that is not there yet."""

    row: Row
    listed: str | None


class Update(NamedTuple):
    """A row that is written anew, and its bookkeeping."""

    row: Row
    listed: str | None
    revision: int
    changed_at: datetime
    observed_at: datetime
    deleted_at: datetime | None = None


class Writer:
    """Reads and writes one connection's rows of one resource, inside one transaction."""

    def __init__(self, tx: Tx, schema: schemas.Schema, connection: str) -> None:
        self._connection = tx
        self._schema = schema
        self._name = connection
        self._root = schema.root.sql

    def states(self, keys: Collection[str]) -> dict[str, RowState]:
        """The bookkeeping of the rows that are there."""
        c = self._root.c
        ours = [c["_key"], c["_hash"], c["_sent"], c["_listed"], c["_revision"], c["_deleted_at"].is_(None)]
        return {old.key: old for old in map(RowState._make, self._select(ours, keys))}

    def stored(self, keys: Collection[str]) -> dict[str, StoredObject]:
        """The objects as last seen."""
        c = self._root.c
        ours = [c["_key"], c["_raw"], c["_changed_at"], c["_observed_at"], c["_deleted_at"]]
        return {seen.key: seen for seen in map(StoredObject._make, self._select(ours, keys))}

    def write(
        self,
        fresh: Sequence[Insert],
        news: Sequence[Update],
        prepared: Prepared,
        *,
        revision: int,
        now: datetime,
    ) -> None:
        """Write rows and their parts: those that are not there yet, of this turn, and those written anew."""
        if not (fresh or news):
            return
        if fresh:
            self._insert(fresh, prepared.of("", (each.row for each in fresh)), revision=revision, now=now)
        if news:
            again = prepared.of("", (new.row for new in news))
            bulk.upsert(self._connection, self._root, self._anew(news, again, now=now), keep=_KEPT)
        failpoints.hit(Point.ROWS_WRITTEN)
        self.clear_parts([new.row.key for new in news])
        failpoints.hit(Point.PARTS_CLEARED)
        live = [each.row for each in fresh] + [new.row for new in news if new.deleted_at is None]
        for table in self._schema.parts:
            if table.part in prepared.batches:
                sheet = prepared.of(table.part, live)
                same = {"_connection": self._name}
                bulk.insert(self._connection, table.sql, sheet.columns, same=same, lines=sheet.lines)
        failpoints.hit(Point.PARTS_WRITTEN)

    def clear_parts(self, keys: Collection[str]) -> None:
        """Remove the part rows of these objects."""
        for some in _portions(keys):
            for table in self._schema.parts:
                self._connection.execute(sa.delete(table.sql).where(*self._among(table.sql, some)))

    def mark_deleted(self, keys: Collection[str], *, revision: int, now: datetime) -> None:
        """Mark rows as deleted, as last seen; their parts go."""
        gone = {"_deleted_at": now, "_changed_at": now, "_observed_at": now, "_revision": revision, "_listed": None}
        for some in _portions(keys):
            self._connection.execute(sa.update(self._root).where(*self._among(self._root, some)).values(gone))
        self.clear_parts(keys)

    def mark_observed(self, keys: Collection[str], *, revision: int, now: datetime) -> None:
        """Rows that were looked at and found as they are."""
        seen = {"_observed_at": now, "_revision": revision}
        for some in _portions(keys):
            self._connection.execute(sa.update(self._root).where(*self._among(self._root, some)).values(seen))

    def relist(self, tokens: Mapping[str, str]) -> None:
        """Rows that are as they were under a new token."""
        self._note("_listed", tokens)

    def resend(self, digests: Mapping[str, str]) -> None:
        """Rows that are as they were in another spelling."""
        self._note("_sent", digests)

    def _note(self, column: str, texts: Mapping[str, str]) -> None:
        for some in _portions(texts):
            pairs = sa.values(sa.column("key", sa.Text), sa.column("text", sa.Text), name="pairs")
            news = pairs.data([(key, texts[key]) for key in some]).cte("news")
            self._connection.execute(
                sa.update(self._root)
                .where(self._root.c["_connection"] == self._name, self._root.c["_key"] == news.c.key)
                .values({column: news.c.text})
            )

    def _among(self, table: sa.Table, keys: Sequence[str]) -> list[sa.ColumnElement[bool]]:
        return [table.c["_connection"] == self._name, bulk.among(self._connection, table.c["_key"], keys)]

    def _select(self, wanted: Sequence[sa.ColumnElement[Any]], keys: Collection[str]) -> Iterator[Sequence[Any]]:
        for some in _portions(keys):
            chosen = sa.select(*wanted).where(*self._among(self._root, some))
            yield from self._connection.execute(chosen)

    def _insert(self, fresh: Sequence[Insert], mine: ColumnBatch, *, revision: int, now: datetime) -> None:
        stamps = dict.fromkeys(("_first_seen_at", "_changed_at", "_observed_at"), now)
        same = {"_connection": self._name, "_revision": revision, **stamps}
        listed = {"_listed": [each.listed for each in fresh]}
        if not any(listed["_listed"]):
            bulk.insert(self._connection, self._root, mine.columns, same=same, lines=mine.lines)
            return

        def lines() -> list[str]:
            pairs = zip(mine.lines(), bulk.encode(self._root, listed), strict=True)
            return list(map("\t".join, pairs))

        bulk.insert(self._connection, self._root, {**mine.columns, **listed}, same=same, lines=lines)

    def _anew(self, news: Sequence[Update], sheet: ColumnBatch, *, now: datetime) -> dict[str, Sequence[Any]]:
        size = len(news)
        return {
            "_connection": [self._name] * size,
            "_listed": [new.listed for new in news],
            "_revision": [new.revision for new in news],
            "_first_seen_at": [now] * size,  # stays as it is
            "_changed_at": [new.changed_at for new in news],
            "_observed_at": [new.observed_at for new in news],
            "_deleted_at": [new.deleted_at for new in news],
            **sheet.columns,
        }


def _portions(keys: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(keys)
    for start in range(0, len(ordered), bulk.MOST):
        yield ordered[start : start + bulk.MOST]
