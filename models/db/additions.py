"""Statements that add columns and keys to a table which may hold rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.db.types import ExactJSON, Instant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.db.database import Tx


def add_columns(tx: Tx, table: sa.Table, columns: Sequence[sa.Column[Any]]) -> None:
    """Add columns. One that may not be NULL gets a value that says nothing (`''`, 0, now) in the rows that exist."""
    if not columns:
        return
    quoted = tx.dialect.identifier_preparer.format_table(table)
    additions = [f"ADD COLUMN {_clause(tx, column)}" for column in columns]
    if not tx.is_sqlite:
        additions = [", ".join(additions)]  # one statement; SQLite adds one column at a time
    for addition in additions:
        tx.exec_driver_sql(f"ALTER TABLE {quoted} {addition}")


def add_key(tx: Tx, table: sa.Table, name: str) -> None:
    """Add the primary key."""
    preparer = tx.dialect.identifier_preparer
    columns = ", ".join(preparer.quote(column.name) for column in table.primary_key)
    tx.exec_driver_sql(
        f"ALTER TABLE {preparer.format_table(table)} ADD CONSTRAINT {preparer.quote(name)} PRIMARY KEY ({columns})"
    )


def _clause(tx: Tx, column: sa.Column[Any]) -> str:
    clause = str(sa.schema.CreateColumn(column).compile(dialect=tx.dialect))
    if column.nullable or column.server_default is not None:
        return clause
    return f"{clause} DEFAULT {_default(tx, column)}"


def _default(tx: Tx, column: sa.Column[Any]) -> str:
    if isinstance(column.type, ExactJSON):
        return "'{}'"
    if isinstance(column.type, Instant):
        return f"'{tx.now.strftime('%Y-%m-%d %H:%M:%S.%f+00:00')}'"
    if isinstance(column.type, sa.Boolean):
        return "false"
    return "0" if isinstance(column.type, sa.Integer) else "''"
