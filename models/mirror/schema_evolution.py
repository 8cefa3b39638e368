"""Adds tables and columns for new fields, under one lock, and caches the schemas. It never alters or removes one."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
import structlog

from models import failpoints
from models.db import additions, faults, present, tables
from models.failpoints import Point
from models.mirror import naming, schemas
from models.values import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from models.db.database import Database, Tx
    from models.mirror.target import Target
    from models.values import Notes, Shape

log = structlog.get_logger()

MAX_UNDECLARED = 400
"""Undeclared columns per table."""

MAX_PARTS = 100
"""Tables for one resource: an object keyed by arbitrary values could hold a list under each of them."""

_LOCK_TIMEOUT = "2s"


class TableLockedError(Exception):
    """Another transaction has locked the table, which the message names, so no column can be added now: try later."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Whose objects brought new fields, for `schema_changes`, and the notes for their columns."""

    connection: str
    resource: str
    notes: Notes = field(default_factory=dict)


@dataclass(slots=True)
class SchemaGap:
    """What a batch of objects needs and the schema lacks.

    `kinds`: (part, path) -> the kinds of its values; `declared`: (part, path) -> its declared kind; `overflows`: fields
    whose values do not fit their columns; `parts`: lists of objects; `narrow`: (part, column) that did not fit a row.
    """

    parts: set[str] = field(default_factory=set)
    declared: dict[tuple[str, str], Kind] = field(default_factory=dict)
    kinds: defaultdict[tuple[str, str], set[Kind]] = field(default_factory=lambda: defaultdict(set))
    overflows: set[tuple[str, str]] = field(default_factory=set)
    narrow: set[tuple[str, str]] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.parts or self.declared or self.kinds or self.overflows or self.narrow)


_cache: WeakKeyDictionary[Database, dict[str, schemas.Schema]] = WeakKeyDictionary()
"""This process's schemas. An old one is still right, because a field keeps its column forever."""


def cached(database: Database, owner: str) -> schemas.Schema | None:
    """The cached schema, else the database's; None if the resource has no table yet."""
    schema = _cache.get(database, {}).get(owner)
    if schema is None:
        with database.read() as tx:
            schema = _remember(database, owner, schemas.load(tx, owner))
    return schema


_pinned: WeakKeyDictionary[Tx, dict[str, schemas.Schema]] = WeakKeyDictionary()
"""Schemas of the tables whose rows a transaction has locked: they cannot change until it ends."""


def current(tx: Tx, owner: str) -> schemas.Schema | None:
    """The schema as this transaction sees it: one query if the cached one is current, none under `lock_rows`."""
    pinned = _pinned.get(tx, {}).get(owner)
    if pinned is not None:
        return pinned
    schema = _cache.get(tx.database, {}).get(owner)
    if schema is not None and schema.version == schemas.current_version(tx, owner):
        return schema
    return schemas.load(tx, owner)


def add_columns(database: Database, origin: Origin, owner: str, missing: SchemaGap) -> schemas.Schema:
    """Create what is missing, in a short transaction of its own under one lock. Raises `TableLockedError`."""
    with lock_errors(), database.begin() as tx:
        lock_columns(tx, owner)
        change = _SchemaChange(tx, origin, owner, schemas.load(tx, owner))
        change.add(missing)
        failpoints.hit(Point.COLUMNS_ADDED)
        schema = schemas.load(tx, owner)
    failpoints.hit(Point.COLUMNS_COMMITTED)
    _remember(database, owner, schema)
    if schema is None:
        raise RuntimeError(f"{owner} was created and is not there")
    return schema


def gap(schema: schemas.Schema | None, shape: Shape) -> SchemaGap:
    """The declared parts and fields that the schema lacks."""
    missing = SchemaGap()
    have: Mapping[str, schemas.Table] = schema.tables if schema is not None else {}
    missing.parts = {part for part in {"", *shape} if part not in have}
    for part, fields in shape.items():
        if part in have and have[part].full:
            continue
        columns = have[part].columns if part in have else {}
        missing.declared.update({(part, path): Kind(kind) for path, kind in fields.items() if path not in columns})
    return missing


def _remember(database: Database, owner: str, schema: schemas.Schema | None) -> schemas.Schema | None:
    if schema is not None:
        _cache.setdefault(database, {})[owner] = schema
    return schema


@contextmanager
def lock_errors() -> Iterator[None]:
    """Raise `TableLockedError` where the database reports that a lock could not be had."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        if faults.of(error) is faults.Fault.LOCKED:
            raise TableLockedError(faults.remedy(error)) from None
        raise


def lock_columns(tx: Tx, owner: str) -> None:
    """Hold the lock under which this resource's tables change, until the transaction ends."""
    if not tx.is_sqlite:
        tx.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
    tx.lock(f"columns of {owner}")


def lock_rows(tx: Tx, target: Target) -> schemas.Schema | None:
    """Lock the rows of this connection's resource until the transaction ends; the schema as it then is.

    One lock for all rows is taken before any of them, so that two writers cannot deadlock and no row can appear after
    the check that it is missing.
    """
    pinned = _pinned.get(tx, {}).get(target.table)
    if pinned is not None:
        return pinned
    tx.lock(f"rows of {target.connection} {target.resource}")
    schema = current(tx, target.table)
    if schema is not None:
        _pinned.setdefault(tx, {})[target.table] = schema
    return schema


class _NewColumns:
    """The columns that one table gets. Sets and counts, because a table may get a thousand at once.

    `taken`: the names that no further one may have: ours, and those that the database's owner gave to own columns.
    """

    def __init__(self, table: schemas.Table, present: set[str]) -> None:
        self.columns: list[schemas.Column] = []
        self.paths: set[str] = set()
        self.taken = {*present, *table.names}
        self.count = len(table.names)
        self.undeclared = sum(not column.declared for column in table.columns.values())

    def append(self, column: schemas.Column) -> None:
        self.columns.append(column)
        self.taken.add(column.name)
        self.count += 1
        if not column.overflow:
            self.paths.add(column.path)
            self.undeclared += not column.declared


class _SchemaChange:
    """Adds tables and columns inside one transaction that holds the lock."""

    def __init__(self, tx: Tx, origin: Origin, owner: str, schema: schemas.Schema | None) -> None:
        self._tx = tx
        self._origin = origin
        self._owner = owner
        self._now = tx.now
        self._version = tx.draw()
        self._tables: dict[str, schemas.Table] = dict(schema.tables) if schema is not None else {}
        self._parts_capped = schema is not None and schema.capped
        self._entries: list[dict[str, Any]] = []
        self._added: dict[str, _NewColumns] = {}

    def add(self, missing: SchemaGap) -> None:
        """Add what is still missing now that the lock is held: another process may have added some of it."""
        created = self._new_parts(missing)
        for (part, path), kind in sorted(missing.declared.items()):
            self._column(part, path, kind, declared=True)
        for (part, path), kinds in sorted(missing.kinds.items()):
            self._column(part, path, _common_kind(kinds), declared=False)
        for part, path in sorted(missing.overflows):
            self._overflow(part, path)
        for part, name in sorted(missing.narrow):
            self._cap_columns(self._tables[part], name, name)
        for part, table in sorted(self._tables.items(), key=lambda each: each[1].name):
            columns = self._added[part].columns if part in self._added else []
            if part in created:
                schemas.build(table.name, part, columns).create(self._tx)
                if not part:
                    schemas.add_index(self._tx, table.name)
            elif columns:
                self._alter(table, columns)
        self._record(created)
        self._annotate()

    def _new_parts(self, missing: SchemaGap) -> set[str]:
        declared = {"", *(part for part, _ in missing.declared)}
        wanted = {*missing.parts, *declared} - self._tables.keys()
        taken = set(self._tx.execute(sa.select(tables.parts.c.table_name)).scalars())
        taken |= present.taken_tables(self._tx) if wanted else set()
        created = set()
        for part in sorted(wanted):
            if part not in declared and len(self._tables) >= MAX_PARTS:
                self._cap_parts(part)
                continue
            name = naming.part_table(self._owner, part, taken) if part else naming.root_table(self._owner, taken)
            taken.add(name)
            self._tables[part] = schemas.with_columns(name, part, [], capped=False)
            created.add(part)
            self._tx.execute(sa.insert(tables.parts).values(table_name=name, owner=self._owner, path=part))
            self._report(self._tables[part], None, part, "table")
        return created

    def _column(self, part: str, path: str, kind: Kind, *, declared: bool) -> None:
        table = self._tables.get(part)
        if table is None or path in table.columns or path in (new := self._new_columns(table)).paths:
            return
        name = naming.column(path, new.taken)
        if new.count >= schemas.MAX_COLUMNS or (not declared and new.undeclared >= MAX_UNDECLARED):
            self._cap_columns(table, name, path)
            return
        new.append(schemas.Column(name, path, kind, overflow=False, declared=declared))

    def _overflow(self, part: str, path: str) -> None:
        table = self._tables.get(part)
        column = table.columns.get(path) if table is not None else None
        if table is None or column is None or path in table.overflows:
            return
        new = self._new_columns(table)
        name = naming.overflow(column.name, path, new.taken)
        if new.count >= schemas.MAX_COLUMNS:
            self._cap_columns(table, name, path)
            return
        new.append(schemas.Column(name, path, Kind.TEXT, overflow=True, declared=column.declared))

    def _new_columns(self, table: schemas.Table) -> _NewColumns:
        if table.part not in self._added:
            self._added[table.part] = _NewColumns(table, present.columns(self._tx, table.name))
        return self._added[table.part]

    def _alter(self, table: schemas.Table, columns: list[schemas.Column]) -> None:
        built = schemas.build(table.name, table.part, columns)
        additions.add_columns(self._tx, built, [built.c[column.name] for column in columns])

    def _record(self, created: set[str]) -> None:
        rows = []
        for part, new in self._added.items():
            table = self._tables[part]
            for column in new.columns:
                rows.append(self._column_row(table, column))
                if column.overflow:
                    self._report(table, column.name, column.path, "overflow")
                elif part not in created:
                    self._report(table, column.name, column.path, "column")
        if rows:
            self._tx.execute(sa.insert(tables.columns), rows)
        if self._entries:
            self._tx.execute(sa.insert(tables.schema_changes), self._entries)
            counts = Counter(entry["kind"] for entry in self._entries)
            log.info("columns added", connection=self._origin.connection, table=self._owner, counts=dict(counts))

    def _column_row(self, table: schemas.Table, column: schemas.Column) -> dict[str, Any]:
        return {
            "table_name": table.name,
            "column_name": column.name,
            "path": column.path,
            "kind": column.kind.value,
            "overflow": column.overflow,
            "declared": column.declared,
            "added_at": self._now,
            "version": self._version,
            "note": self._note(table.part, column),
        }

    def _note(self, part: str, column: schemas.Column) -> str | None:
        return None if column.overflow else self._origin.notes.get(part, {}).get(column.path)

    def _annotate(self) -> None:
        """On PostgreSQL, store the note as the column's comment too."""
        if self._tx.dialect.name != "postgresql":
            return
        for part, new in self._added.items():
            built = schemas.build(self._tables[part].name, part, new.columns)
            for column in new.columns:
                if (note := self._note(part, column)) is not None:
                    built.c[column.name].comment = note
                    self._tx.execute(sa.schema.SetColumnComment(built.c[column.name]))

    def _cap_columns(self, table: schemas.Table, name: str, path: str) -> None:
        if not table.capped:
            self._report(table, name, path, "capped")
            self._tables[table.part] = schemas.with_columns(
                table.name, table.part, [*table.columns.values(), *table.overflows.values()], capped=True
            )

    def _cap_parts(self, part: str) -> None:
        if not self._parts_capped:
            self._parts_capped = True
            self._report(self._tables[""], None, part, "capped")

    def _report(self, table: schemas.Table, column: str | None, path: str, kind: str) -> None:
        self._entries.append(
            {
                "at": self._now,
                "connection": self._origin.connection,
                "resource": self._origin.resource,
                "table_name": table.name,
                "column_name": column,
                "path": path,
                "kind": kind,
            }
        )


def _common_kind(kinds: set[Kind]) -> Kind:
    """One kind for values of several kinds: text, which holds every scalar, whichever came first.

    A date is also the midnight that begins it.
    """
    scalars = kinds - {Kind.JSON}
    if scalars == {Kind.DATE, Kind.TIMESTAMP}:
        return Kind.TIMESTAMP
    if not scalars:
        return Kind.JSON
    return next(iter(scalars)) if len(scalars) == 1 else Kind.TEXT
