"""A resource's schema: which tables it has, and which column holds which field."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.db import present, tables, types
from models.mirror import column_types, own_columns
from models.values import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.db.database import Tx


MAX_COLUMNS = 1500
"""Columns for fields in one table, declared ones and `__text` included: PostgreSQL allows 1,600, SQLite 2,000."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column and the field that it holds. `path`: dotted, inside its part."""

    name: str
    path: str
    kind: Kind
    overflow: bool
    declared: bool


@dataclass(frozen=True, slots=True)
class Table:
    """The object's own table, or a part's. `capped`: it takes no more undeclared columns."""

    name: str
    part: str
    columns: Mapping[str, Column]
    overflows: Mapping[str, Column]
    capped: bool
    sql: sa.Table

    @property
    def names(self) -> list[str]:
        """All columns that hold fields."""
        return [column.name for each in (self.columns, self.overflows) for column in each.values()]

    @property
    def full(self) -> bool:
        """Whether it takes no more columns at all."""
        return len(self.columns) + len(self.overflows) >= MAX_COLUMNS


@dataclass(frozen=True, slots=True)
class Schema:
    """A resource's tables by part ("" for the object itself).

    `version`: rises with every change. `capped`: no more parts get tables.
    """

    owner: str
    version: tuple[int, int]
    tables: Mapping[str, Table]
    capped: bool

    @property
    def root(self) -> Table:
        """The object's own table."""
        return self.tables[""]

    @property
    def parts(self) -> list[Table]:
        """The parts' tables, in the order in which every writer takes them."""
        return sorted((table for table in self.tables.values() if table.part), key=lambda table: table.name)


def _of_owner(owner: str | sa.ColumnElement[str]) -> sa.Select[Any]:
    return sa.select(tables.parts.c.table_name).where(tables.parts.c.owner == owner)


def current_version(tx: sa.Connection, owner: str) -> tuple[int, int]:
    """The number of tables, and the newest column's version."""
    row = tx.execute(_CURRENT_VERSION, {"owner": owner}).one()
    return (row[0], row[1] or 0)


_owner = sa.bindparam("owner", type_=types.KeyText)
_CURRENT_VERSION = sa.select(  # built once: every write executes it
    sa.select(sa.func.count()).select_from(tables.parts).where(tables.parts.c.owner == _owner).scalar_subquery(),
    sa.select(sa.func.max(tables.columns.c.version))
    .where(tables.columns.c.table_name.in_(_of_owner(_owner)))
    .scalar_subquery(),
)


def load(tx: sa.Connection, owner: str) -> Schema | None:
    """The schema as this transaction sees it; None if it has no table yet."""
    parts = tx.execute(
        sa.select(tables.parts.c.table_name, tables.parts.c.path).where(tables.parts.c.owner == owner)
    ).all()
    if not parts:
        return None
    found: defaultdict[str, list[Column]] = defaultdict(list)
    version = 0
    for row in tx.execute(
        sa.select(tables.columns)
        .where(tables.columns.c.table_name.in_(_of_owner(owner)))
        .order_by(tables.columns.c.version, tables.columns.c.column_name)
    ):
        version = max(version, row.version)
        column = Column(row.column_name, row.path, Kind(row.kind), row.overflow, row.declared)
        found[row.table_name].append(column)
    capped = _capped(tx, owner)
    by_part = {path: with_columns(name, path, found[name], capped=(name, True) in capped) for name, path in parts}
    return Schema(owner, (len(parts), version), by_part, capped=(owner, False) in capped)


def _capped(tx: sa.Connection, owner: str) -> set[tuple[str, bool]]:
    """The tables that take no more columns (True) or, for the owner, no more parts (False)."""
    entries = tables.schema_changes
    rows = tx.execute(
        sa.select(entries.c.table_name, entries.c.column_name.is_not(None)).where(
            entries.c.kind == "capped", entries.c.table_name.in_(_of_owner(owner))
        )
    )
    return {(name, bool(column)) for name, column in rows}


def with_columns(name: str, part: str, columns: Iterable[Column], *, capped: bool) -> Table:
    """A table with these columns, and its SQLAlchemy table."""
    columns = list(columns)
    return Table(
        name=name,
        part=part,
        columns={column.path: column for column in columns if not column.overflow},
        overflows={column.path: column for column in columns if column.overflow},
        capped=capped,
        sql=build(name, part, columns),
    )


def build(name: str, part: str, columns: Iterable[Column]) -> sa.Table:
    """The SQLAlchemy table: the bookkeeping columns, then the fields'."""
    metadata = sa.MetaData(naming_convention=tables.metadata.naming_convention)
    return sa.Table(name, metadata, *own_columns.of(part), *(_sql_column(column) for column in columns))


def add_index(tx: Tx, name: str) -> None:
    """Index the deleted objects of a resource's own table: counting the live ones then reads no object.

    Whatever else has the index's name keeps it: without the index counting takes longer, and nothing else changes.
    """
    table = sa.Table(name, sa.MetaData(), *(sa.Column(each) for each in ("_connection", "_deleted_at")))
    is_deleted = table.c["_deleted_at"].is_not(None)
    index = sa.Index(f"ix_{name}_del", table.c["_connection"], sqlite_where=is_deleted, postgresql_where=is_deleted)
    if index.name not in present.relations(tx):
        index.create(tx)


def _sql_column(column: Column) -> sa.Column[Any]:
    # Always quoted: no list of keywords is complete (SQLAlchemy's for SQLite has no RETURNING).
    return sa.Column(sa.sql.quoted_name(column.name, quote=True), column_types.SQL_TYPES[column.kind])
