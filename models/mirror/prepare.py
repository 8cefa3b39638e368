"""From snapshots to rows ready to be written: redacted, hashed, laid out in columns. Outside any transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import compress
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog

from models import exact, redaction
from models.db import bulk
from models.mirror import canonical_json, column_types, flatten, flatten_batch, naming, schema_evolution
from models.values import Kind, Received

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from collections.abc import Set as AbstractSet

    import sqlalchemy as sa

    from models.db.database import Database
    from models.mirror import schemas
    from models.mirror.flatten_batch import FlatBatch
    from models.values import JsonObject, Notes, Shape, Snapshot

log = structlog.get_logger()

RULES = 2
"""The version of the rules by which fields become columns: raise it, and every row is written anew when next seen."""

_MANY_VALUES = 200
_MAX_ROW_BYTES = 7000
"""A row of PostgreSQL ends at 8,160 bytes (values of more than 24 can move out). No row of fewer values gets there."""
_MAX_INLINE_BYTES = 26
_BOOLEAN_BYTES = 12

_KEY = attrgetter("key")


def _as_sent(raw: JsonObject) -> JsonObject:
    return raw


@dataclass(frozen=True, slots=True)
class Target:
    """A resource of a connection, as the write path needs it.

    `omit`: dotted paths that are never stored (see `redaction.redact`). `shape`: declared fields whose columns exist
    from the start; `hints`: declared kinds, applied when the field first appears. `project`: the raw object as columns
    see it. `notes`: what fields mean; they stand on their columns.
    """

    connection: str
    system: str
    resource: str
    omit: tuple[str, ...] = ()
    shape: Shape = field(default_factory=dict)
    hints: Shape = field(default_factory=dict)
    notes: Notes = field(default_factory=dict)
    project: Callable[[JsonObject], JsonObject] = _as_sent

    @property
    def table(self) -> str:
        """The object's own table."""
        return naming.table(self.system, self.resource)

    def declared(self) -> Shape:
        """Shape and hints as one, the shape being the stronger."""
        parts = {*self.shape, *self.hints}
        return {part: {**self.hints.get(part, {}), **self.shape.get(part, {})} for part in parts}

    def salt(self) -> str:
        """What the hash depends on beside the object: change it, and rows are written anew."""
        shape = {
            part: {path: Kind(kind).value for path, kind in each.items()} for part, each in self.declared().items()
        }
        return exact.canonical([RULES, sorted(self.omit), shape])


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


def prepare(
    database: Database, target: Target, snapshots: Sequence[Snapshot | Received], *, as_known: bool = False
) -> Prepared:
    """Make a batch ready, tables and missing columns included. Of two snapshots of a key the last counts.

    `as_known`: most objects are as they were, so none is laid out, or decoded, before `records.apply` says which are
    not. Call it outside any transaction: columns are added in a short one of their own. Raises `columns.Locked` and
    `Malformed`.
    """
    latest = {exact.storable_text(snapshot.key): snapshot for snapshot in snapshots}
    as_known = as_known and schema_evolution.cached(database, target.table) is not None
    salt = target.salt()
    waiting = {key: each for key, each in latest.items() if as_known and isinstance(each, Received)}
    rows = _rows(target, salt, {key: each for key, each in latest.items() if key not in waiting})
    rows += [_undecoded(key, each, salt) for key, each in waiting.items()]
    rows.sort(key=_KEY)
    if as_known:
        return Prepared({row.key: row for row in rows})
    return _laid_out(database, target, rows, rows)


def lay_out(database: Database, target: Target, prepared: Prepared, keys: Collection[str]) -> Prepared:
    """The batch with these objects laid out, too. Otherwise like `prepare`."""
    waiting = {key: row.received for key in keys if (row := prepared.rows[key]).received is not None}
    decoded = {row.key: row for row in _rows(target, target.salt(), waiting)}
    rows = [decoded.get(key, row) for key, row in prepared.rows.items()]
    return _laid_out(database, target, rows, [row for row in rows if row.key in prepared.numbers or row.key in keys])


def _laid_out(database: Database, target: Target, every: Iterable[Row], rows: Sequence[Row]) -> Prepared:
    origin = schema_evolution.Origin(target.connection, target.resource, target.notes)
    declared = target.declared()
    schema = schema_evolution.cached(database, target.table)
    projected = [target.project(row.raw) for row in rows]
    spread = flatten_batch.flatten_batch(projected, declared)
    missing = schema_evolution.gap(schema, target.shape)
    while True:
        if schema is not None and not missing:
            layout = Layout(schema, declared, projected)
            sheets = layout.batches(rows, spread)
            missing = layout.missing
            if not missing:
                numbers = {row.key: number for number, row in enumerate(rows)}
                return Prepared({row.key: row for row in every}, sheets, numbers)
        schema = schema_evolution.add_columns(database, origin, target.table, missing)
        missing = schema_evolution.SchemaGap()


def _rows(target: Target, salt: str, snapshots: Mapping[str, Snapshot | Received]) -> list[Row]:
    given = [snapshot.raw for snapshot in snapshots.values()]
    raws = [redaction.redact(raw, target.omit) for raw in given] if target.omit else given
    sent = [_digest(*each, salt) for each in zip(snapshots.values(), given, raws, strict=True)]
    return [
        _row(key, snapshot, raw, text, digest, salt)
        for (key, snapshot), raw, text, digest in zip(
            snapshots.items(), raws, canonical_json.of(raws), sent, strict=True
        )
    ]


def _digest(snapshot: Snapshot | Received, given: JsonObject, raw: JsonObject, salt: str) -> str | None:
    """Of the bytes as they were sent; not where something was taken out, which might be guessed from it."""
    if not isinstance(snapshot, Received) or (raw is not given and raw != given):
        return None
    return exact.digest(snapshot.sent, salt=salt)


def _row(
    key: str, snapshot: Snapshot | Received, raw: JsonObject, text: str | None, sent: str | None, salt: str
) -> Row:
    if text is not None:
        hash_ = exact.digest(text.encode(), salt=salt)
        return Row(key, raw, hash_, snapshot.listed, text, sent)
    raw = exact.storable(raw)
    return Row(key, raw, exact.fingerprint(raw, salt=salt), snapshot.listed, None, sent)


def _undecoded(key: str, received: Received, salt: str) -> Row:
    sent = exact.digest(received.sent, salt=salt)
    return Row(key, {}, "", received.listed, None, sent, received)


class Layout:
    """Lays a batch out in the columns of a schema, and gathers what the schema lacks."""

    def __init__(self, schema: schemas.Schema, declared: Shape, projected: Sequence[JsonObject]) -> None:
        self.missing = schema_evolution.SchemaGap()
        self._schema = schema
        self._declared = declared
        self._projected = projected

    def batches(self, rows: Sequence[Row], spread: dict[str, FlatBatch]) -> dict[str, ColumnBatch]:
        """Part -> its rows."""
        sheets = {}
        for part, each in spread.items():
            table = self._schema.tables.get(part)
            values = self._values(table, part, each)
            if table is not None:
                place = self._part_batch if part else self._object_batch
                sheets[part] = place(rows, table.sql, each, values)
        return sheets

    def _object_batch(
        self, rows: Sequence[Row], table: sa.Table, spread: FlatBatch, values: dict[str, Sequence[Any]]
    ) -> ColumnBatch:
        """The objects' own rows."""
        ours: dict[str, Sequence[Any]] = {
            "_key": [row.key for row in rows],
            "_raw": [row.raw for row in rows],
            "_hash": [row.hash for row in rows],
            "_sent": [row.sent for row in rows],
        }
        return ColumnBatch(table, len(rows), spread.owners, {**ours, **values}, {"_raw": [row.text for row in rows]})

    def _part_batch(
        self, rows: Sequence[Row], table: sa.Table, spread: FlatBatch, values: dict[str, Sequence[Any]]
    ) -> ColumnBatch:
        """A part's rows."""
        ours: dict[str, Sequence[Any]] = {
            "_key": [rows[owner].key for owner in spread.owners],
            "_position": spread.positions,
        }
        if "_parent_position" in table.c:
            ours["_parent_position"] = spread.parents
        return ColumnBatch(table, len(rows), spread.owners, {**ours, **values})

    def _values(self, table: schemas.Table | None, part: str, spread: FlatBatch) -> dict[str, Sequence[Any]]:
        if table is None:
            self._request_part(part)
        found: dict[str, Sequence[Any]] = {}
        for path, values in spread.fields.items():
            column = table.columns.get(path) if table is not None else None
            if table is None or column is None:
                self._request_column(table, part, path, values)
                continue
            fitted = column_types.coerce_all(column.kind, values)
            if fitted is not values and column_types.DOES_NOT_FIT in fitted:
                found |= self._overflow_values(table, path, values, fitted)
                fitted = [None if value is column_types.DOES_NOT_FIT else value for value in fitted]
            found[column.name] = fitted
        return self._narrowed(table, spread, found) if table is not None and len(found) > _MANY_VALUES else found

    def _overflow_values(
        self, table: schemas.Table, path: str, values: Sequence[Any], fitted: Sequence[Any]
    ) -> dict[str, Sequence[Any]]:
        overflow = table.overflows.get(path)
        if overflow is not None:
            pairs = zip(values, fitted, strict=True)
            return {
                overflow.name: [
                    column_types.overflow(value) if fit is column_types.DOES_NOT_FIT else None for value, fit in pairs
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
        shown = {kind for value in values if value is not None and (kind := column_types.of(value)) is not None}
        if not shown:
            return
        declared = self._declared.get(part, {}).get(path)
        if declared is not None:
            self.missing.declared[part, path] = Kind(declared)
        elif table is None or not table.capped:
            self.missing.kinds[part, path] |= shown

    def _narrowed(
        self, table: schemas.Table, spread: FlatBatch, found: dict[str, Sequence[Any]]
    ) -> dict[str, Sequence[Any]]:
        """What fits into one row of PostgreSQL each; the rest stays in `_raw`, and is reported."""
        narrowed: dict[str, Any] = {name: list(values) for name, values in found.items()}
        for row, (owner, position) in enumerate(zip(spread.owners, spread.positions, strict=True)):
            values = {name: column[row] for name, column in found.items() if column[row] is not None}
            if len(values) > _MANY_VALUES:
                for name in self._without_room(table, values, self._order(table, owner, position)):
                    narrowed[name][row] = None
        return narrowed

    def _without_room(self, table: schemas.Table, values: dict[str, Any], order: Sequence[str]) -> Sequence[str]:
        """What has no room, declared fields being the first to have some."""
        undeclared = {column.name for column in table.columns.values() if not column.declared}
        ordered = sorted((name for name in order if name in values), key=undeclared.__contains__)
        width = 0
        for place, name in enumerate(ordered):
            width += _width(values[name])
            if width > _MAX_ROW_BYTES:
                if not table.capped:
                    self.missing.narrow.add((table.part, name))
                return ordered[place:]
        return ()

    def _order(self, table: schemas.Table, owner: int, position: int) -> list[str]:
        """The columns in the order of the object's own fields, which is the same whatever else is in the batch."""
        flat = flatten.flatten(self._projected[owner], self._declared)
        rows = (row.fields for row in flat.rows if (row.part, row.position) == (table.part, position))
        fields = next(rows) if table.part else flat.fields
        places = (places.get(path) for path in fields for places in (table.columns, table.overflows))
        return [column.name for column in places if column is not None]


def _width(value: Any) -> int:
    """The most bytes that a value takes within its row."""
    return min(len(str(value).encode()) + 2, _MAX_INLINE_BYTES) if not isinstance(value, bool) else _BOOLEAN_BYTES
