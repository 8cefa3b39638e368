"""Many rows in one statement, however many columns they have: what makes a first load fast."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any

import simplejson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows; a column that a row does not name is NULL."""
    if rows:
        _execute(connection, table, _insert(connection, table), rows)


def upsert(
    connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]], *, keep: Collection[str]
) -> None:
    """Insert rows or, where the primary key is there, overwrite all columns but `keep`."""
    if not rows:
        return
    statement = _insert(connection, table)
    excluded = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keep}
    key = [column.name for column in table.primary_key]
    _execute(connection, table, statement, rows, index_elements=key, set_=excluded)


def _insert(connection: sa.Connection, table: sa.Table) -> Any:
    return sqlite.insert(table) if connection.dialect.name == "sqlite" else postgresql.insert(table)


def _execute(
    connection: sa.Connection, table: sa.Table, statement: Any, rows: Sequence[Mapping[str, Any]], **conflict: Any
) -> None:
    if connection.dialect.name == "sqlite":
        if conflict:
            statement = statement.on_conflict_do_update(**conflict)
        blank = dict.fromkeys(table.c.keys())
        # RETURNING makes SQLAlchemy send many rows in one statement.
        key = next(iter(table.primary_key))
        connection.execute(statement.returning(key), [{**blank, **row} for row in rows]).close()
        return
    # One parameter instead of one per value: neither the driver nor the server counts to 65,535.
    statement = statement.from_select(table.c.keys(), _as_rows(table))
    if conflict:
        statement = statement.on_conflict_do_update(**conflict)
    connection.execute(statement, {"packed": _pack(rows)})


def _as_rows(table: sa.Table) -> sa.Select[Any]:
    packed = sa.cast(sa.bindparam("packed", type_=sa.Text()), postgresql.JSON())
    typed = [sa.column(column.name, column.type) for column in table.c]
    unpacked = sa.func.json_to_recordset(packed).table_valued(*typed, name="unpacked")
    return sa.select(*unpacked.render_derived(with_types=True).c)


def _pack(rows: Sequence[Mapping[str, Any]]) -> str:
    return simplejson.dumps(rows, use_decimal=True, ensure_ascii=False, allow_nan=False, default=_moment)


def _moment(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a row")
