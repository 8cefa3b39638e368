"""Puts a batch of objects into the columns of a schema, and collects what the schema lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models.mirror import column_types, flatten, schema_evolution
from models.mirror.column_types import Beside
from models.mirror.rows import ColumnBatch
from models.values import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    import sqlalchemy as sa

    from models.mirror import schemas
    from models.mirror.flatten_batch import FlatBatch
    from models.mirror.rows import Row
    from models.mirror.spelling import Spellings
    from models.values import JsonObject, Shape


_MAX_ROW_BYTES = 7000
"""PostgreSQL stores at most 8,160 bytes per row, after it has moved long values out of it."""

_MAX_INLINE_BYTES = 26
"""What a value takes inside its row at most, as a pointer if it was moved out."""

_BOOLEAN_BYTES = 12
_MANY_VALUES = 200
"""A row of fewer values always fits."""


class Layout:
    """Puts a batch into the columns of a schema. `missing` collects what the schema lacks."""

    def __init__(
        self, schema: schemas.Schema, declared: Shape, projected: Sequence[JsonObject], spellings: Spellings
    ) -> None:
        self.missing = schema_evolution.SchemaGap()
        self._schema = schema
        self._declared = declared
        self._projected = projected
        self._spellings = spellings

    def batches(self, rows: Sequence[Row], flat: dict[str, FlatBatch]) -> dict[str, ColumnBatch]:
        """The rows by part."""
        batches = {}
        for part, each in flat.items():
            table = self._schema.tables.get(part)
            values = self._values(table, part, each)
            if table is not None:
                build = self._part_batch if part else self._object_batch
                batches[part] = build(rows, table.sql, each, values)
        return batches

    def _object_batch(
        self, rows: Sequence[Row], table: sa.Table, flat: FlatBatch, values: dict[str, Sequence[Any]]
    ) -> ColumnBatch:
        """The rows of the objects' own table."""
        columns: dict[str, Sequence[Any]] = {
            "_key": [row.key for row in rows],
            "_raw": [row.raw for row in rows],
            "_hash": [row.hash for row in rows],
            "_sent_hash": [row.sent_hash for row in rows],
        }
        return ColumnBatch(table, len(rows), flat.owners, {**columns, **values}, {"_raw": [row.text for row in rows]})

    def _part_batch(
        self, rows: Sequence[Row], table: sa.Table, flat: FlatBatch, values: dict[str, Sequence[Any]]
    ) -> ColumnBatch:
        """The rows of a part's table."""
        columns: dict[str, Sequence[Any]] = {
            "_key": [rows[owner].key for owner in flat.owners],
            "_position": flat.positions,
        }
        if "_parent_position" in table.c:
            columns["_parent_position"] = flat.parents
        return ColumnBatch(table, len(rows), flat.owners, {**columns, **values})

    def _values(self, table: schemas.Table | None, part: str, flat: FlatBatch) -> dict[str, Sequence[Any]]:
        if table is None:
            self._request_part(part)
        found: dict[str, Sequence[Any]] = {}
        for path, values in flat.fields.items():
            column = table.columns.get(path) if table is not None else None
            if table is None or column is None:
                self._request_column(table, part, path, values)
                continue
            fitted = column_types.coerce_all(column.kind, values)
            if fitted is not values and Beside in set(map(type, fitted)):
                found |= self._overflow_values(table, path, values, fitted)
                fitted = [value.value if isinstance(value, Beside) else value for value in fitted]
            found[column.name] = fitted
        if table is None or len(found) <= _MANY_VALUES:
            return found
        return self._cut_to_row_size(table, flat, found)

    def _overflow_values(
        self, table: schemas.Table, path: str, values: Sequence[Any], fitted: Sequence[Any]
    ) -> dict[str, Sequence[Any]]:
        overflow = table.overflows.get(path)
        if overflow is not None:
            pairs = zip(values, fitted, strict=True)
            return {
                overflow.name: [
                    column_types.overflow(value) if isinstance(fit, Beside) else None for value, fit in pairs
                ]
            }
        if not table.full:
            self.missing.overflows.add((table.part, path))
        return {}

    def _request_part(self, part: str) -> None:
        if not self._schema.capped:
            self.missing.parts.add(part)

    def _request_column(self, table: schemas.Table | None, part: str, path: str, values: Sequence[Any]) -> None:
        if self._schema.capped if table is None else table.full:
            return
        kinds = column_types.of_all(values)
        if not kinds:
            return
        declared = self._declared.get(part, {}).get(path)
        if declared is not None:
            self.missing.declared[part, path] = Kind(declared)
        elif table is None or not table.capped:
            self.missing.kinds[part, path] |= kinds

    def _cut_to_row_size(
        self, table: schemas.Table, flat: FlatBatch, found: dict[str, Sequence[Any]]
    ) -> dict[str, Sequence[Any]]:
        """The values that fit into PostgreSQL's row size; the others stay in `_raw` only, and are reported."""
        narrowed: dict[str, Any] = {name: list(values) for name, values in found.items()}
        for row, (owner, position) in enumerate(zip(flat.owners, flat.positions, strict=True)):
            values = {name: column[row] for name, column in found.items() if column[row] is not None}
            if len(values) > _MANY_VALUES:
                for name in self._without_room(table, values, self._order(table, owner, position)):
                    narrowed[name][row] = None
        return narrowed

    def _without_room(self, table: schemas.Table, values: dict[str, Any], order: Sequence[str]) -> Sequence[str]:
        """The columns that the row has no room for. Declared fields get room first."""
        undeclared = {column.name for column in table.columns.values() if not column.declared}
        ordered = sorted((name for name in order if name in values), key=undeclared.__contains__)
        width = 0
        for index, name in enumerate(ordered):
            width += _width(values[name])
            if width > _MAX_ROW_BYTES:
                if not table.capped:
                    self.missing.narrow.add((table.part, name))
                return ordered[index:]
        return ()

    def _order(self, table: schemas.Table, owner: int, position: int) -> list[str]:
        """The columns in the order of the object's fields: the result must not depend on the rest of the batch."""
        flat = flatten.flatten(self._projected[owner], self._declared, self._spellings)
        rows = (row.fields for row in flat.rows if (row.part, row.position) == (table.part, position))
        fields = next(rows) if table.part else flat.fields
        columns = (by_path.get(path) for path in fields for by_path in (table.columns, table.overflows))
        return [column.name for column in columns if column is not None]


def _width(value: Any) -> int:
    """The most bytes that a value takes inside its row."""
    return min(len(str(value).encode()) + 2, _MAX_INLINE_BYTES) if not isinstance(value, bool) else _BOOLEAN_BYTES
