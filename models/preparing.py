"""From snapshots to rows ready to be written: redacted, hashed, laid out in columns. Outside any transaction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog

from models import columns, exact, flattening, kinds, names, redaction
from models.values import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from models import schemas
    from models.database import Database
    from models.flattening import Flat
    from models.values import JsonObject, Notes, Shape, Snapshot

log = structlog.get_logger()

RULES = 1
"""The version of the rules by which fields become columns: raise it, and every row is written anew when next seen."""

_WIDE = 200
_WIDEST = 7000
"""A row of PostgreSQL ends at 8,160 bytes (values of more than 24 can move out). No row of fewer values gets there."""
_MOVED_OUT = 26
_FIXED = 12


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
        return names.table(self.system, self.resource)

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


@dataclass(frozen=True, slots=True)
class Row:
    """An object ready to be written. `values`: column -> value (NULL where absent); `parts`: table -> its rows."""

    key: str
    raw: JsonObject
    hash: str
    listed: str | None
    values: dict[str, Any]
    parts: dict[str, list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A batch ready for `records.apply`, by key, in the order of the keys."""

    rows: dict[str, Row]


def prepare(database: Database, target: Target, snapshots: Sequence[Snapshot]) -> Prepared:
    """Make a batch ready, tables and missing columns included. Of two snapshots of a key the last counts.

    Call it outside any transaction: columns are added in a short one of their own. Raises `columns.Locked`.
    """
    origin = columns.Origin(target.connection, target.resource, target.notes)
    stored = _stored(target, snapshots)
    declared = target.declared()
    flats = {key: flattening.flatten(target.project(each.raw), declared) for key, each in stored.items()}
    schema = columns.known(database, target.table)
    missing = columns.lacking(schema, target.shape)
    while True:
        if schema is not None and not missing:
            layout = _Layout(schema, target, declared)
            prepared = Prepared({key: layout.row(stored[key], flat) for key, flat in flats.items()})
            missing = layout.missing
            if not missing:
                return prepared
        schema = columns.grow(database, origin, target.table, missing)
        missing = columns.Missing()


@dataclass(frozen=True, slots=True)
class _Stored:
    key: str
    raw: JsonObject
    hash: str
    listed: str | None


def _stored(target: Target, snapshots: Iterable[Snapshot]) -> dict[str, _Stored]:
    salt = target.salt()
    latest = {exact.storable_text(snapshot.key): snapshot for snapshot in snapshots}
    stored = {}
    for key in sorted(latest):
        raw = exact.storable(redaction.redact(latest[key].raw, target.omit))
        stored[key] = _Stored(key, raw, exact.fingerprint(raw, salt=salt), latest[key].listed)
    return stored


class _Layout:
    """Lays a batch out in the columns of a schema, and gathers what the schema lacks."""

    def __init__(self, schema: schemas.Schema, target: Target, declared: Shape) -> None:
        self.missing = columns.Missing()
        self._schema = schema
        self._connection = target.connection
        self._declared = declared

    def row(self, stored: _Stored, flat: Flat) -> Row:
        values = self._values("", flat.fields)
        parts: dict[str, list[dict[str, Any]]] = {}
        for each in flat.rows:
            placed = self._values(each.part, each.fields)
            table = self._schema.tables.get(each.part)
            if table is None:
                continue
            ours = {"_connection": self._connection, "_key": stored.key, "_position": each.position}
            if "_parent_position" in table.sql.c:
                ours["_parent_position"] = each.parent
            parts.setdefault(table.name, []).append({**ours, **placed})
        return Row(stored.key, stored.raw, stored.hash, stored.listed, values, parts)

    def _values(self, part: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        table = self._schema.tables.get(part)
        if table is None:
            self._want_part(part)
        values: dict[str, Any] = {}
        for path, value in fields.items():
            column = table.columns.get(path) if table is not None else None
            if table is None or column is None:
                self._want(table, part, path, value)
                continue
            fitted = kinds.fit(column.kind, value)
            if fitted is kinds.MISFIT:
                self._spill(table, path, value, values)
            elif fitted is not None:
                values[column.name] = fitted
        return self._narrow(table, values) if table is not None and len(values) > _WIDE else values

    def _spill(self, table: schemas.Table, path: str, value: Any, values: dict[str, Any]) -> None:
        overflow = table.overflows.get(path)
        if overflow is None:
            self.missing.overflows.add((table.part, path))
        else:
            values[overflow.name] = kinds.overflow(value)

    def _want_part(self, part: str) -> None:
        if not self._schema.capped:
            self.missing.parts.add(part)

    def _want(self, table: schemas.Table | None, part: str, path: str, value: Any) -> None:
        kind = kinds.of(value)
        if kind is None or (table is None and self._schema.capped):
            return
        declared = self._declared.get(part, {}).get(path)
        if declared is not None:
            self.missing.declared[part, path] = Kind(declared)
        elif table is None or not table.capped:
            self.missing.kinds[part, path].add(kind)

    def _narrow(self, table: schemas.Table, values: dict[str, Any]) -> dict[str, Any]:
        """What fits into one row of PostgreSQL, declared fields first; the rest stays in `_raw`, and is reported."""
        undeclared = {column.name for column in table.columns.values() if not column.declared}
        kept, width = {}, 0
        for name in sorted(values, key=undeclared.__contains__):
            width += _width(values[name])
            if width > _WIDEST:
                if not table.capped:
                    self.missing.narrow.add((table.part, name))
                break
            kept[name] = values[name]
        return kept


def _width(value: Any) -> int:
    """The most bytes that a value takes within its row."""
    return min(len(str(value).encode()) + 2, _MOVED_OUT) if not isinstance(value, bool) else _FIXED
