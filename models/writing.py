"""The statements that read and write resource tables: set-wise, in the order of the keys, never one per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import bulk, faults
from models.faults import Point

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from models import schemas
    from models.preparing import Row, Sheet
    from models.values import JsonObject

_AT_ONCE = 10_000
"""Keys or pairs in one statement: SQLite takes 32,766 variables."""

_KEPT = {"_connection", "_key", "_first_seen_at"}


@dataclass(frozen=True, slots=True)
class Old:
    """The bookkeeping of a row that is already there."""

    key: str
    hash: str
    listed: str | None
    turn: int
    first_seen_at: datetime
    changed_at: datetime
    observed_at: datetime
    deleted_at: datetime | None

    @property
    def live(self) -> bool:
        """Whether the object is there, as far as we know."""
        return self.deleted_at is None


@dataclass(frozen=True, slots=True)
class New:
    """A row to be written, and its bookkeeping."""

    row: Row
    listed: str | None
    turn: int
    changed_at: datetime
    observed_at: datetime
    first_seen_at: datetime
    deleted_at: datetime | None = None


class Writer:
    """Reads and writes one connection's rows of one resource, inside one transaction."""

    def __init__(self, connection: sa.Connection, schema: schemas.Schema, connection_name: str) -> None:
        self._connection = connection
        self._schema = schema
        self._name = connection_name
        self._root = schema.root.sql

    def old(self, keys: Collection[str]) -> dict[str, Old]:
        """The bookkeeping of the rows that are there."""
        c = self._root.c
        ours = [
            c["_key"],
            c["_hash"],
            c["_listed"],
            c["_turn"],
            c["_first_seen_at"],
            c["_changed_at"],
            c["_observed_at"],
            c["_deleted_at"],
        ]
        return {old.key: old for old in (Old(*row) for row in self._select(ours, keys))}

    def raws(self, keys: Collection[str]) -> dict[str, JsonObject]:
        """The objects as last seen."""
        return {row[0]: row[1] for row in self._select([self._root.c["_key"], self._root.c["_raw"]], keys)}

    def write(self, news: Sequence[New], sheets: Mapping[str, Sheet], *, there: Collection[str]) -> None:
        """Write rows and their parts. `there`: the keys that have a row, and perhaps part rows, already."""
        if not news:
            return
        replaced = [new for new in news if new.row.key in there]
        bulk.insert(
            self._connection, self._root, *self._columns([new for new in news if new.row.key not in there], sheets)
        )
        bulk.upsert(self._connection, self._root, self._columns(replaced, sheets)[0], keep=_KEPT)
        faults.reach(Point.ROWS_WRITTEN)
        self.clear_parts([new.row.key for new in replaced])
        faults.reach(Point.PARTS_CLEARED)
        numbers = _numbers(new for new in news if new.deleted_at is None)
        for table in self._schema.parts:
            if table.name in sheets:
                bulk.insert(self._connection, table.sql, sheets[table.name].of(numbers))
        faults.reach(Point.PARTS_WRITTEN)

    def clear_parts(self, keys: Collection[str]) -> None:
        """Remove the part rows of these objects."""
        for some in _portions(keys):
            for table in self._schema.parts:
                self._connection.execute(sa.delete(table.sql).where(*self._among(table.sql, some)))

    def bury(self, keys: Collection[str], *, turn: int, now: datetime) -> None:
        """Mark rows as deleted, as last seen; their parts go."""
        gone = {"_deleted_at": now, "_changed_at": now, "_observed_at": now, "_turn": turn, "_listed": None}
        for some in _portions(keys):
            self._connection.execute(sa.update(self._root).where(*self._among(self._root, some)).values(gone))
        self.clear_parts(keys)

    def touch(self, keys: Collection[str], *, turn: int, now: datetime) -> None:
        """Rows that were looked at and found as they are."""
        seen = {"_observed_at": now, "_turn": turn}
        for some in _portions(keys):
            self._connection.execute(sa.update(self._root).where(*self._among(self._root, some)).values(seen))

    def relist(self, tokens: Mapping[str, str]) -> None:
        """Rows that are as they were under a new token."""
        for some in _portions(tokens):
            pairs = sa.values(sa.column("key", sa.Text), sa.column("token", sa.Text), name="pairs")
            news = pairs.data([(key, tokens[key]) for key in some]).cte("news")
            self._connection.execute(
                sa.update(self._root)
                .where(self._root.c["_connection"] == self._name, self._root.c["_key"] == news.c.key)
                .values(_listed=news.c.token)
            )

    def _among(self, table: sa.Table, keys: Sequence[str]) -> list[sa.ColumnElement[bool]]:
        return [table.c["_connection"] == self._name, bulk.among(self._connection, table.c["_key"], keys)]

    def _select(self, wanted: Sequence[sa.Column[Any]], keys: Collection[str]) -> Iterator[Sequence[Any]]:
        for some in _portions(keys):
            chosen = sa.select(*wanted).where(*self._among(self._root, some))
            yield from self._connection.execute(chosen)

    def _columns(
        self, news: Sequence[New], sheets: Mapping[str, Sheet]
    ) -> tuple[dict[str, Sequence[Any]], dict[str, Sequence[str | None]]]:
        """The rows' columns, and the JSON texts that are made already."""
        ours: dict[str, Sequence[Any]] = {
            "_connection": [self._name] * len(news),
            "_key": [new.row.key for new in news],
            "_raw": [new.row.raw for new in news],
            "_hash": [new.row.hash for new in news],
            "_listed": [new.listed for new in news],
            "_turn": [new.turn for new in news],
            "_first_seen_at": [new.first_seen_at for new in news],
            "_changed_at": [new.changed_at for new in news],
            "_observed_at": [new.observed_at for new in news],
            "_deleted_at": [new.deleted_at for new in news],
        }
        sheet = sheets.get(self._root.name)
        fields = sheet.of(_numbers(news)) if sheet is not None else {}
        return {**ours, **fields}, {"_raw": [new.row.text for new in news]}


def _numbers(news: Iterable[New]) -> set[int]:
    return {new.row.number for new in news if new.row.number is not None}


def _portions(keys: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(keys)
    for start in range(0, len(ordered), _AT_ONCE):
        yield ordered[start : start + _AT_ONCE]
