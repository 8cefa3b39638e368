"""What is remembered of the resource tables: which exist, which column of which holds which field."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import exact
from models.db import tables
from models.mirror import column_types, naming
from models.values import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


MAX_COLUMNS = 1500
"""Columns of fields in one table, declared ones and `__text` included: PostgreSQL ends at 1,600, SQLite at 2,000."""


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
    """The object's own table, or one part's. `capped`: it takes no more undeclared columns."""

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
    """A resource's tables by part ("" for the object itself). `mark` tells an older schema from a newer one."""

    owner: str
    mark: tuple[int, int]
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


def mark(tx: sa.Connection, owner: str) -> tuple[int, int]:
    """What tells an older schema from a newer one: how many tables, and the newest column's version."""
    row = tx.execute(_MARK, {"this": owner}).one()
    return (row[0], row[1] or 0)


_this = sa.bindparam("this", type_=tables.KeyText)
_MARK = sa.select(  # spelt once: every write asks
    sa.select(sa.func.count()).select_from(tables.parts).where(tables.parts.c.owner == _this).scalar_subquery(),
    sa.select(sa.func.max(tables.columns.c.version))
    .where(tables.columns.c.table_name.in_(_of_owner(_this)))
    .scalar_subquery(),
)


def load(tx: sa.Connection, owner: str) -> Schema | None:
    """The schema as this transaction sees it; None where no table was ever created."""
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
    """The tables that are full: of columns (True) or, for the owner, of parts (False)."""
    entries = tables.schema_changes
    rows = tx.execute(
        sa.select(entries.c.table_name, entries.c.column_name.is_not(None)).where(
            entries.c.what == "capped", entries.c.table_name.in_(_of_owner(owner))
        )
    )
    return {(name, bool(column)) for name, column in rows}


def with_columns(name: str, part: str, columns: Iterable[Column], *, capped: bool) -> Table:
    """A table as remembered, with its SQLAlchemy face."""
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
    """The table as SQL knows it: our columns, then the fields'."""
    ours = _part_columns(part) if part else _root_columns()
    metadata = sa.MetaData(naming_convention=tables.metadata.naming_convention)
    return sa.Table(name, metadata, *ours, *(_sql_column(column) for column in columns))


def _sql_column(column: Column) -> sa.Column[Any]:
    # Always quoted: no list of keywords is complete (SQLAlchemy's for SQLite has no RETURNING).
    return sa.Column(sa.sql.quoted_name(column.name, quote=True), column_types.SQL_TYPES[column.kind])


def _root_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("_connection", tables.KeyText, primary_key=True),
        sa.Column("_key", tables.KeyText, primary_key=True),
        sa.Column("_raw", exact.ExactJSON, nullable=False),
        sa.Column("_hash", sa.Text, nullable=False),
        sa.Column("_sent", sa.Text),
        sa.Column("_listed", sa.Text),
        sa.Column("_revision", sa.BigInteger, nullable=False),
        sa.Column("_first_seen_at", tables.Instant, nullable=False),
        sa.Column("_changed_at", tables.Instant, nullable=False),
        sa.Column("_observed_at", tables.Instant, nullable=False),
        sa.Column("_deleted_at", tables.Instant),
    ]


def _part_columns(part: str) -> list[sa.Column[Any]]:
    ours: list[sa.Column[Any]] = [
        sa.Column("_connection", tables.KeyText, primary_key=True),
        sa.Column("_key", tables.KeyText, primary_key=True),
        sa.Column("_position", sa.Integer, primary_key=True, autoincrement=False),
    ]
    if len(naming.steps(part)) > 1:
        # NULL where the list stands in a plain object and not in another part's row.
        ours.append(sa.Column("_parent_position", sa.Integer))
    return ours
