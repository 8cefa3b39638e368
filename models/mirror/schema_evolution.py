"""Which table and column hold which field: remembered, shared by all processes, and only ever added to."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import sqlalchemy as sa
import structlog

from models import failpoints
from models.db import tables
from models.failpoints import Point
from models.mirror import naming, schemas
from models.values import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from models.db.database import Database, Tx
    from models.values import Notes, Shape

log = structlog.get_logger()

MOST_UNDECLARED = 400
"""Columns that nobody declared, per table."""

MOST_PARTS = 100
"""Tables for one resource: a list in an object that is keyed by anything at all must not become a flood of them."""

_LOCK_TIMEOUT = "2s"
_LOCKED_STATES = {"55P03", "40P01"}  # lock_not_available, deadlock_detected


class TableLockedError(Exception):
    """Somebody holds the table, so that no column can be added now; the work is to be due later."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where new fields come from, for `schema_changes`, and what they mean there."""

    connection: str
    resource: str
    notes: Notes = field(default_factory=dict)


@dataclass(slots=True)
class SchemaGap:
    """What a batch of objects needs and the schema lacks.

    `kinds`: (part, path) -> the kinds that its values show; `declared`: the same, declared; `overflows`: fields whose
    values do not fit; `parts`: lists of objects; `narrow`: (part, column) that a row had no room for.
    """

    parts: set[str] = field(default_factory=set)
    declared: dict[tuple[str, str], Kind] = field(default_factory=dict)
    kinds: defaultdict[tuple[str, str], set[Kind]] = field(default_factory=lambda: defaultdict(set))
    overflows: set[tuple[str, str]] = field(default_factory=set)
    narrow: set[tuple[str, str]] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.parts or self.declared or self.kinds or self.overflows or self.narrow)


_known: WeakKeyDictionary[Database, dict[str, schemas.Schema]] = WeakKeyDictionary()
"""What this process has seen. Never wrong, only old: a field keeps its column for good."""


def cached(database: Database, owner: str) -> schemas.Schema | None:
    """The schema as last seen by this process, else as the database has it now; None before the first `grow`."""
    schema = _known.get(database, {}).get(owner)
    if schema is None:
        with database.read() as tx:
            schema = _remember(database, owner, schemas.load(tx, owner))
    return schema


def current(tx: Tx, owner: str) -> schemas.Schema | None:
    """The schema as it is inside this transaction; one query while nothing has changed, none behind its lock."""
    if owner in tx.schemas:
        return tx.schemas[owner]
    schema = _known.get(tx.database, {}).get(owner)
    if schema is not None and schema.mark == schemas.mark(tx, owner):
        return schema
    return schemas.load(tx, owner)


def add_columns(database: Database, origin: Origin, owner: str, missing: SchemaGap) -> schemas.Schema:
    """Create what is missing, in a short transaction of its own under one lock. Raises `Locked`."""
    with _raise_locked(), database.begin() as tx:
        _take_lock(tx, owner)
        growth = _Growth(tx, origin, owner, schemas.load(tx, owner))
        growth.add(missing)
        failpoints.hit(Point.COLUMNS_ADDED)
        schema = schemas.load(tx, owner)
    failpoints.hit(Point.COLUMNS_COMMITTED)
    _remember(database, owner, schema)
    if schema is None:
        raise RuntimeError(f"{owner} was created and is not there")
    return schema


def gap(schema: schemas.Schema | None, shape: Shape) -> SchemaGap:
    """What a declaration asks for and the schema has not got."""
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
        _known.setdefault(database, {})[owner] = schema
    return schema


@contextmanager
def _raise_locked() -> Iterator[None]:
    try:
        yield
    except sa.exc.OperationalError as error:
        if getattr(error.orig, "sqlstate", None) in _LOCKED_STATES or "database is locked" in str(error.orig):
            raise TableLockedError(str(error.orig)) from None
        raise


def _take_lock(tx: Tx, owner: str) -> None:
    if tx.is_sqlite:
        return  # BEGIN IMMEDIATE is the lock
    tx.execute(sa.text(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'"))
    pin(tx, f"columns of {owner}")


def pin(tx: Tx, what: str) -> None:
    """Take a lock until the end of this transaction (PostgreSQL), apart from other schemas of the same database."""
    tx.execute(_HOLD, {"what": what})


_what = sa.func.concat(sa.func.current_schema(), " ", sa.bindparam("what", type_=sa.Text))
_HOLD = sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(_what, 0)))


_Added = defaultdict[str, list[schemas.Column]]


class _Growth:
    """One transaction that adds tables and columns, under the lock."""

    def __init__(self, tx: Tx, origin: Origin, owner: str, schema: schemas.Schema | None) -> None:
        self._connection = tx
        self._origin = origin
        self._owner = owner
        self._now = tx.now
        self._version = tx.draw()
        self._tables: dict[str, schemas.Table] = dict(schema.tables) if schema is not None else {}
        self._full = schema is not None and schema.capped
        self._told: list[dict[str, Any]] = []

    def add(self, missing: SchemaGap) -> None:
        """Everything that is still missing, now that nobody else can add."""
        added: _Added = defaultdict(list)
        created = self._new_parts(missing)
        for (part, path), kind in sorted(missing.declared.items()):
            self._column(added, part, path, kind, declared=True)
        for (part, path), shown in sorted(missing.kinds.items()):
            self._column(added, part, path, _common(shown), declared=False)
        for part, path in sorted(missing.overflows):
            self._overflow(added, part, path)
        for part, name in sorted(missing.narrow):
            self._cap_columns(self._tables[part], name, name)
        for part, table in sorted(self._tables.items(), key=lambda each: each[1].name):
            if part in created:
                schemas.build(table.name, part, added[part]).create(self._connection)
            elif added[part]:
                self._alter(table, added[part])
        self._record(created, added)
        self._annotate(added)

    def _new_parts(self, missing: SchemaGap) -> set[str]:
        declared = {"", *(part for part, _ in missing.declared)}
        wanted = {*missing.parts, *declared} - self._tables.keys()
        taken = set(self._connection.execute(sa.select(tables.parts.c.table_name)).scalars())
        created = set()
        for part in sorted(wanted):
            if part not in declared and len(self._tables) >= MOST_PARTS:
                self._cap_parts(part)
                continue
            name = naming.part_table(self._owner, part, taken) if part else self._owner
            taken.add(name)
            self._tables[part] = schemas.with_columns(name, part, [], capped=False)
            created.add(part)
            self._connection.execute(sa.insert(tables.parts).values(table_name=name, owner=self._owner, path=part))
            self._log(self._tables[part], None, part, "table")
        return created

    def _column(self, added: _Added, part: str, path: str, kind: Kind, *, declared: bool) -> None:
        table = self._tables.get(part)
        if table is None or path in table.columns or any(column.path == path for column in added[part]):
            return
        name = naming.column(path, _taken(table, added[part]))
        columns = [*table.columns.values(), *added[part]]
        undeclared = sum(not (column.declared or column.overflow) for column in columns)
        if len(columns) + len(table.overflows) >= schemas.MOST_COLUMNS or (
            not declared and undeclared >= MOST_UNDECLARED
        ):
            self._cap_columns(table, name, path)
            return
        added[part].append(schemas.Column(name, path, kind, overflow=False, declared=declared))

    def _overflow(self, added: _Added, part: str, path: str) -> None:
        table = self._tables.get(part)
        beside = table.columns.get(path) if table is not None else None
        if table is None or beside is None or path in table.overflows:
            return
        name = naming.overflow(beside.name, path, _taken(table, added[part]))
        if len(table.names) + len(added[part]) >= schemas.MOST_COLUMNS:
            self._cap_columns(table, name, path)
            return
        added[part].append(schemas.Column(name, path, Kind.TEXT, overflow=True, declared=beside.declared))

    def _alter(self, table: schemas.Table, columns: list[schemas.Column]) -> None:
        dialect = self._connection.dialect
        quoted = dialect.identifier_preparer.format_table(table.sql)
        built = schemas.build(table.name, table.part, columns).columns
        made = [sa.schema.CreateColumn(column) for column in built if not column.name.startswith("_")]
        additions = [f"ADD COLUMN {column.compile(dialect=dialect)}" for column in made]
        at_once = [", ".join(additions)] if dialect.name == "postgresql" else additions
        for addition in at_once:
            self._connection.exec_driver_sql(f"ALTER TABLE {quoted} {addition}")

    def _record(self, created: set[str], added: _Added) -> None:
        rows = []
        for part, columns in added.items():
            table = self._tables[part]
            for column in columns:
                rows.append(self._row(table, column))
                if column.overflow:
                    self._log(table, column.name, column.path, "overflow")
                elif part not in created:
                    self._log(table, column.name, column.path, "column")
        if rows:
            self._connection.execute(sa.insert(tables.columns), rows)
        if self._told:
            self._connection.execute(sa.insert(tables.schema_changes), self._told)
            told = Counter(entry["what"] for entry in self._told)
            log.info("columns added", connection=self._origin.connection, table=self._owner, told=dict(told))

    def _row(self, table: schemas.Table, column: schemas.Column) -> dict[str, Any]:
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

    def _annotate(self, added: _Added) -> None:
        """Where the database keeps comments, a column says itself what its values mean."""
        if self._connection.dialect.name != "postgresql":
            return
        for part, columns in added.items():
            built = schemas.build(self._tables[part].name, part, columns)
            for column in columns:
                if (note := self._note(part, column)) is not None:
                    built.c[column.name].comment = note
                    self._connection.execute(sa.schema.SetColumnComment(built.c[column.name]))

    def _cap_columns(self, table: schemas.Table, name: str, path: str) -> None:
        if not table.capped:
            self._log(table, name, path, "capped")
            self._tables[table.part] = schemas.with_columns(
                table.name, table.part, [*table.columns.values(), *table.overflows.values()], capped=True
            )

    def _cap_parts(self, part: str) -> None:
        if not self._full:
            self._full = True
            self._log(self._tables[""], None, part, "capped")

    def _log(self, table: schemas.Table, column: str | None, path: str, what: str) -> None:
        self._told.append(
            {
                "at": self._now,
                "connection": self._origin.connection,
                "resource": self._origin.resource,
                "table_name": table.name,
                "column_name": column,
                "path": path,
                "what": what,
            }
        )


def _taken(table: schemas.Table, added: Iterable[schemas.Column]) -> set[str]:
    return {*table.names, *(column.name for column in added)}


def _common(shown: set[Kind]) -> Kind:
    """One kind for a field that shows several at once: text holds every scalar, whichever came first."""
    scalars = shown - {Kind.JSON}
    if not scalars:
        return Kind.JSON
    return next(iter(scalars)) if len(scalars) == 1 else Kind.TEXT
