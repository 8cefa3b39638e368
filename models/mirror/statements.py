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
    from models.mirror.rows import ColumnBatch, Prepared, Row
    from models.values import JsonObject

_NEVER_UPDATED = {"_connection", "_key", "_first_seen_at"}


class RowState(NamedTuple):
    """An existing row's bookkeeping. `live`: the object is not deleted."""

    key: str
    hash: str
    sent_hash: str | None
    listed: str | None
    revision: int
    live: bool


class StoredObject(NamedTuple):
    """An existing row's object as last seen, and when."""

    key: str
    raw: JsonObject
    changed_at: datetime
    observed_at: datetime
    deleted_at: datetime | None


class Insert(NamedTuple):
    """A row to be inserted."""

    row: Row
    listed: str | None


class Update(NamedTuple):
    """A row to be rewritten, with its bookkeeping."""

    row: Row
    listed: str | None
    revision: int
    changed_at: datetime
    observed_at: datetime
    deleted_at: datetime | None = None


class RowStatements:
    """Reads and writes one connection's rows of one resource, inside one transaction."""

    def __init__(self, tx: Tx, schema: schemas.Schema, connection: str) -> None:
        self._tx = tx
        self._schema = schema
        self._connection = connection
        self._root = schema.root.sql

    def states(self, keys: Collection[str]) -> dict[str, RowState]:
        """The bookkeeping of those rows that exist."""
        c = self._root.c
        columns = [c["_key"], c["_hash"], c["_sent_hash"], c["_listed"], c["_revision"], c["_deleted_at"].is_(None)]
        return {row.key: row for row in map(RowState._make, self._select(columns, keys))}

    def differing(self, sent: Mapping[str, str | None], *, revision: int) -> set[str]:
        """Those keys without a live row whose object was received in these bytes, by a revision that is not higher.

        `sent`: key -> hash of the bytes. On SQLite all of them: it has no arrays, and reads a row as fast as it
        compares one.
        """
        if self._tx.dialect.name == "sqlite":
            return {*sent}
        found: set[str] = set()
        c = self._root.c
        for batched in _batches(sent):
            hashes = bulk.text_array([sent[key] or "" for key in batched])
            given = sa.func.unnest(bulk.text_array(batched), hashes).table_valued("key", "hash", name="given")
            given = given.render_derived()
            # As a scalar, because PostgreSQL may join the whole table for an EXISTS.
            stored = sa.select(c["_sent_hash"]).where(
                c["_connection"] == self._connection,
                c["_key"] == given.c.key,
                c["_deleted_at"].is_(None),
                c["_revision"] <= revision,
            )
            missing = sa.select(given.c.key).where(stored.scalar_subquery().is_distinct_from(given.c.hash))
            found.update(self._tx.execute(missing).scalars())
        return found

    def stored(self, keys: Collection[str]) -> dict[str, StoredObject]:
        """The objects of those rows that exist, as last seen."""
        c = self._root.c
        columns = [c["_key"], c["_raw"], c["_changed_at"], c["_observed_at"], c["_deleted_at"]]
        return {row.key: row for row in map(StoredObject._make, self._select(columns, keys))}

    def write(
        self,
        inserts: Sequence[Insert],
        updates: Sequence[Update],
        prepared: Prepared,
        *,
        revision: int,
        now: datetime,
    ) -> None:
        """Write rows and their parts. Inserted rows get this revision; updates bring their own."""
        if not (inserts or updates):
            return
        if inserts:
            self._insert(inserts, prepared.of("", (each.row for each in inserts)), revision=revision, now=now)
        if updates:
            batch = prepared.of("", (each.row for each in updates))
            bulk.upsert(self._tx, self._root, self._update_columns(updates, batch, now=now), keep=_NEVER_UPDATED)
        failpoints.hit(Point.ROWS_WRITTEN)
        self.clear_parts([each.row.key for each in updates])
        failpoints.hit(Point.PARTS_CLEARED)
        live = [each.row for each in inserts] + [each.row for each in updates if each.deleted_at is None]
        for table in self._schema.parts:
            if table.part in prepared.batches:
                batch = prepared.of(table.part, live)
                constants = {"_connection": self._connection}
                bulk.insert(self._tx, table.sql, batch.columns, constants=constants, lines=batch.lines)
        failpoints.hit(Point.PARTS_WRITTEN)

    def clear_parts(self, keys: Collection[str]) -> None:
        """Remove the part rows of these objects."""
        for batched in _batches(keys):
            for table in self._schema.parts:
                self._tx.execute(sa.delete(table.sql).where(*self._has_key(table.sql, batched)))

    def mark_deleted(self, keys: Collection[str], *, revision: int, now: datetime) -> None:
        """Mark rows as deleted: they keep their object as last seen, but lose their part rows."""
        values = {"_deleted_at": now, "_changed_at": now, "_observed_at": now, "_revision": revision, "_listed": None}
        for batched in _batches(keys):
            self._tx.execute(sa.update(self._root).where(*self._has_key(self._root, batched)).values(values))
        self.clear_parts(keys)

    def mark_observed(self, keys: Collection[str], *, revision: int, now: datetime) -> None:
        """Record that these rows were read again and are unchanged."""
        values = {"_observed_at": now, "_revision": revision}
        for batched in _batches(keys):
            self._tx.execute(sa.update(self._root).where(*self._has_key(self._root, batched)).values(values))

    def set_listed(self, tokens: Mapping[str, str]) -> None:
        """Store the tokens under which unchanged rows are listed now."""
        self._set_text("_listed", tokens)

    def set_sent_hashes(self, hashes: Mapping[str, str]) -> None:
        """Store the hashes of the bytes in which unchanged objects were received now."""
        self._set_text("_sent_hash", hashes)

    def _set_text(self, column: str, texts: Mapping[str, str]) -> None:
        for batched in _batches(texts):
            pairs = sa.values(sa.column("key", sa.Text), sa.column("text", sa.Text), name="pairs")
            new = pairs.data([(key, texts[key]) for key in batched]).cte("new")
            self._tx.execute(
                sa.update(self._root)
                .where(self._root.c["_connection"] == self._connection, self._root.c["_key"] == new.c.key)
                .values({column: new.c.text})
            )

    def _has_key(self, table: sa.Table, keys: Sequence[str]) -> list[sa.ColumnElement[bool]]:
        return [table.c["_connection"] == self._connection, bulk.any_of(self._tx, table.c["_key"], keys)]

    def _select(self, columns: Sequence[sa.ColumnElement[Any]], keys: Collection[str]) -> Iterator[Sequence[Any]]:
        for batched in _batches(keys):
            chosen = sa.select(*columns).where(*self._has_key(self._root, batched))
            yield from self._tx.execute(chosen)

    def _insert(self, inserts: Sequence[Insert], batch: ColumnBatch, *, revision: int, now: datetime) -> None:
        stamps = dict.fromkeys(("_first_seen_at", "_changed_at", "_observed_at"), now)
        constants = {"_connection": self._connection, "_revision": revision, **stamps}
        listed = {"_listed": [each.listed for each in inserts]}
        if not any(listed["_listed"]):
            bulk.insert(self._tx, self._root, batch.columns, constants=constants, lines=batch.lines)
            return

        def lines() -> list[str]:
            pairs = zip(batch.lines(), bulk.encode(self._root, listed), strict=True)
            return list(map("\t".join, pairs))

        bulk.insert(self._tx, self._root, {**batch.columns, **listed}, constants=constants, lines=lines)

    def _update_columns(
        self, updates: Sequence[Update], batch: ColumnBatch, *, now: datetime
    ) -> dict[str, Sequence[Any]]:
        size = len(updates)
        return {
            "_connection": [self._connection] * size,
            "_listed": [each.listed for each in updates],
            "_revision": [each.revision for each in updates],
            "_first_seen_at": [now] * size,  # of new rows only: `_NEVER_UPDATED`
            "_changed_at": [each.changed_at for each in updates],
            "_observed_at": [each.observed_at for each in updates],
            "_deleted_at": [each.deleted_at for each in updates],
            **batch.columns,
        }


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(keys)
    for start in range(0, len(ordered), bulk.MAX_KEYS):
        yield ordered[start : start + bulk.MAX_KEYS]
