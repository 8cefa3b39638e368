"""Objects ready to be written, and their rows column by column."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import compress
from typing import TYPE_CHECKING, Any, NamedTuple

from models.db import bulk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    import sqlalchemy as sa

    from models.values import JsonObject, UndecodedSnapshot


class Row(NamedTuple):
    """An object ready to be written.

    `text`: `raw` as canonical JSON; None if `raw` had to be changed to be storable. `sent_hash`: of the bytes as
    received, if they are known. `undecoded`: the object, if it is not decoded yet; `raw` and `hash` are then empty.
    """

    key: str
    raw: JsonObject
    hash: str
    listed: str | None
    text: str | None = None
    sent_hash: str | None = None
    undecoded: UndecodedSnapshot | None = None


@dataclass(slots=True)
class ColumnBatch:
    """Rows of one table, column by column, without `_connection`, revision and times.

    `objects`: the number of objects. `owners`: the index of each row's object. `columns`: a value for each row.
    `texts`: the JSON columns whose values are already encoded.
    """

    table: sa.Table
    objects: int
    owners: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    texts: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    _lines: list[str] | None = None

    def lines(self) -> list[str]:
        """The rows as `bulk.encode` returns them, encoded once."""
        if self._lines is None:
            self._lines = bulk.encode(self.table, self.columns, self.texts)
        return self._lines

    def of(self, indexes: AbstractSet[int]) -> ColumnBatch:
        """The rows of the objects with these indexes alone, in the same order."""
        if len(indexes) == self.objects:
            return self
        chosen = [owner in indexes for owner in self.owners]
        columns, texts = (
            {name: list(compress(values, chosen)) for name, values in each.items()}
            for each in (self.columns, self.texts)
        )
        lines = None if self._lines is None else list(compress(self._lines, chosen))
        return ColumnBatch(self.table, len(indexes), list(compress(self.owners, chosen)), columns, texts, lines)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch ready for `apply`: objects by key, in the order of the keys, and their rows by part.

    `laid_out`: key -> index in `batches`, of the objects that were laid out. The others are expected to be unchanged.
    """

    rows: Mapping[str, Row]
    batches: Mapping[str, ColumnBatch] = field(default_factory=dict)
    laid_out: Mapping[str, int] = field(default_factory=dict)

    def of(self, part: str, rows: Iterable[Row]) -> ColumnBatch:
        """The rows of these objects in a part's table. All of them must have been laid out."""
        return self.batches[part].of({self.laid_out[row.key] for row in rows})

    def encode(self) -> None:
        """Encode the rows for COPY now, to shorten the transaction that writes them."""
        for batch in self.batches.values():
            batch.lines()
