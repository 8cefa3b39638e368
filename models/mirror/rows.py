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

    from models.values import JsonObject, Received


class Row(NamedTuple):
    """An object ready to be written. `text`: `raw` as JSON, where it is made.

    `sent`: the hash of the object as it was sent, where that is known. `received`: what is not decoded yet; `raw` and
    `hash` are empty then.
    """

    key: str
    raw: JsonObject
    hash: str
    listed: str | None
    text: str | None = None
    sent: str | None = None
    received: Received | None = None


@dataclass(slots=True)
class ColumnBatch:
    """Rows of one table, column by column, without our bookkeeping.

    `objects`: how many there are. `owners`: the number of each row's object. `columns`: a value for each row. `texts`:
    JSON columns that are texts already.
    """

    table: sa.Table
    objects: int
    owners: Sequence[int]
    columns: Mapping[str, Sequence[Any]]
    texts: Mapping[str, Sequence[str | None]] = field(default_factory=dict)
    _lines: list[str] | None = None

    def lines(self) -> list[str]:
        """What `bulk.spell` makes of the rows; made once."""
        if self._lines is None:
            self._lines = bulk.encode(self.table, self.columns, self.texts)
        return self._lines

    def of(self, numbers: AbstractSet[int]) -> ColumnBatch:
        """The sheet with the rows of these objects alone, in their order."""
        if len(numbers) == self.objects:
            return self
        chosen = [owner in numbers for owner in self.owners]
        columns, texts = (
            {name: list(compress(values, chosen)) for name, values in each.items()}
            for each in (self.columns, self.texts)
        )
        lines = None if self._lines is None else list(compress(self._lines, chosen))
        return ColumnBatch(self.table, len(numbers), list(compress(self.owners, chosen)), columns, texts, lines)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch ready for `records.apply`: objects by key, in the order of the keys, and what they are in each table.

    `numbers`: which object of the sheets each is. Who stands in none is believed to be as it was.
    """

    rows: Mapping[str, Row]
    batches: Mapping[str, ColumnBatch] = field(default_factory=dict)
    numbers: Mapping[str, int] = field(default_factory=dict)

    def of(self, part: str, rows: Iterable[Row]) -> ColumnBatch:
        """What these objects, all of them laid out, are in a part's table."""
        return self.batches[part].of({self.numbers[row.key] for row in rows})

    def encode(self) -> None:
        """Make the texts that new rows are written as, before the transaction that writes them."""
        for sheet in self.batches.values():
            sheet.lines()
