"""Statements that write many rows at once, for fast first loads.

Rows are given column by column. On PostgreSQL new rows are written by COPY, its fastest statement.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import simplejson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models import exact
from models.db import faults, types

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    Columns = Mapping[str, Sequence[Any]]
    Texts = Mapping[str, Sequence[str | None]]

MAX_KEYS = 10_000
"""Keys in one statement: SQLite allows 32,766 variables."""

_COPY_CHUNK_ROWS = 250
"""Rows per write to the server: it parses them while the next ones are joined."""

_NULL: Final = "\\N"
_SPECIAL = "\\\n\r\t"
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_NONE_TYPE = type(None)
_TEXTS = frozenset({str, _NONE_TYPE})


def insert(
    tx: sa.Connection,
    table: sa.Table,
    columns: Columns,
    *,
    constants: Mapping[str, Any] | None = None,
    lines: Callable[[], Sequence[str]] | None = None,
) -> None:
    """Insert rows, given as equally long columns; a column that is not given is NULL.

    `constants`: columns with one value for all rows. `lines`: returns the columns as `encode` does, if the caller has
    encoded them before. None of the primary keys may exist.
    """
    size, constants = _row_count(columns), constants or {}
    if not size:
        return
    if tx.dialect.name == "sqlite":
        all_columns = {**columns, **{name: [value] * size for name, value in constants.items()}}
        _insert_on_sqlite(tx, table, sqlite.insert(table), all_columns)
    else:
        _copy(tx, table, [*columns], lines() if lines is not None else encode(table, columns), constants)


def encode(table: sa.Table, columns: Columns, texts: Texts | None = None) -> list[str]:
    """The rows in COPY's text format, one line each, without the line break.

    `texts`: for JSON columns, values that are already encoded (None for one that is not).
    """
    texts = texts or {}
    encoded = [_encode_column(table.c[name].type, values, texts.get(name)) for name, values in columns.items()]
    return list(map("\t".join, zip(*encoded, strict=True)))


def any_of(tx: sa.Connection, column: sa.ColumnElement[str], keys: Sequence[str]) -> sa.ColumnElement[bool]:
    """The condition: the column's text is one of these; on PostgreSQL one array parameter, whatever their number."""
    if tx.dialect.name == "sqlite":
        return column.in_(keys)
    return column == sa.any_(text_array(keys))


def upsert(tx: sa.Connection, table: sa.Table, columns: Columns, *, keep: Collection[str]) -> None:
    """Insert rows; where the primary key exists, overwrite all columns but `keep`."""
    if not _row_count(columns):
        return
    on_sqlite = tx.dialect.name == "sqlite"
    statement = _upsert_statement(table, on_sqlite, frozenset(keep))
    if on_sqlite:
        _insert_on_sqlite(tx, table, statement, columns)
        return
    # One JSON parameter for all rows: PostgreSQL allows 65,535 parameters.
    sent = tx.execute(statement, {"packed": _pack(_rows(columns))}, execution_options={"preserve_rowcount": True})
    faults.require_written("INSERT", table.name, rows=_row_count(columns), written=sent.rowcount)


@lru_cache
def _upsert_statement(table: sa.Table, on_sqlite: bool, keep: frozenset[str]) -> Any:  # noqa: FBT001 - the cache key
    """Cached: for a wide table, building the statement takes longer than executing it for one row."""
    statement: Any = sqlite.insert(table) if on_sqlite else postgresql.insert(table)
    if not on_sqlite:
        statement = statement.from_select(table.c.keys(), _unpack(table))
    excluded = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keep}
    key = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(index_elements=key, set_=excluded)


def _row_count(columns: Columns) -> int:
    return len(next(iter(columns.values()), ()))


def _rows(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _insert_on_sqlite(tx: sa.Connection, table: sa.Table, statement: Any, columns: Columns) -> None:
    blank = dict.fromkeys(table.c.keys())
    # With RETURNING SQLAlchemy sends many rows in one statement instead of one statement per row.
    key = next(iter(table.primary_key))
    written = tx.execute(statement.returning(key), [{**blank, **row} for row in _rows(columns)]).all()
    faults.require_written("INSERT", table.name, rows=_row_count(columns), written=len(written))


def _unpack(table: sa.Table) -> sa.Select[Any]:
    packed = sa.cast(sa.bindparam("packed", type_=sa.Text()), postgresql.JSON())
    typed = [sa.column(column.name, column.type) for column in table.c]
    unpacked = sa.func.json_to_recordset(packed).table_valued(*typed, name="unpacked")
    return sa.select(*unpacked.render_derived(with_types=True).c)


def _pack(rows: Sequence[Mapping[str, Any]]) -> str:
    return simplejson.dumps(rows, use_decimal=True, ensure_ascii=False, allow_nan=False, default=_encode_date)


def _encode_date(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} cannot be stored in a row")


def _copy(
    tx: sa.Connection, table: sa.Table, names: Sequence[str], lines: Sequence[str], constants: Mapping[str, Any]
) -> None:
    dialect: Any = tx.dialect
    preparer = dialect.identifier_preparer
    column_list = ", ".join(preparer.quote(table.c[name].name) for name in [*names, *constants])
    statement = f"COPY {preparer.format_table(table)} ({column_list}) FROM STDIN"
    line_end = "\t".join(["", *encode(table, {name: [value] for name, value in constants.items()})]) + "\n"
    try:
        with tx.connection.cursor() as cursor:  # type: ignore[attr-defined]
            with cursor.copy(statement) as copy:
                for start in range(0, len(lines), _COPY_CHUNK_ROWS):
                    copy.write(line_end.join(lines[start : start + _COPY_CHUNK_ROWS]) + line_end)
            written = cursor.rowcount
    except dialect.dbapi.Error as error:
        raise _as_sqlalchemy_error(tx, error, statement) from error
    faults.require_written(statement, table.name, rows=len(lines), written=written)


def text_array(texts: Sequence[str]) -> sa.ColumnElement[Any]:
    """The texts as one array parameter in PostgreSQL's literal syntax: the driver would adapt each text by itself."""
    whole = '","'.join(texts)
    if "\\" in whole or whole.count('"') > 2 * (len(texts) - 1):
        whole = '","'.join(text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    literal = f'{{"{whole}"}}' if texts else "{}"
    # Untyped, so that the server parses it as an array when it plans, and estimates by its length.
    return sa.cast(sa.bindparam(None, literal, type_=sa.types.NullType()), postgresql.ARRAY(sa.Text))


def _as_sqlalchemy_error(tx: sa.Connection, error: Exception, statement: str) -> BaseException:
    """The error that `execute` would have raised: callers distinguish errors by SQLAlchemy's classes."""
    dialect: Any = tx.dialect
    gone = dialect.is_disconnect(error, tx.connection.dbapi_connection, None)
    if gone:
        tx.invalidate(error)
    return sa.exc.DBAPIError.instance(
        statement, None, error, dialect.dbapi.Error, hide_parameters=True, connection_invalidated=gone, dialect=dialect
    )


def _encode_column(
    kind: sa.types.TypeEngine[Any], values: Sequence[Any], texts: Sequence[str | None] | None
) -> Sequence[str]:
    """The values in COPY's text format."""
    if isinstance(kind, types.ExactJSON):
        return _encode_json(values, texts)
    found = set(map(type, values))
    if found <= _TEXTS:
        return _escape_all(values) if found == {str} else [_escape_or_null(value) for value in values]
    if _NONE_TYPE in found:
        return [_NULL if value is None else str(value) for value in values]
    return list(map(str, values))


def _escape_or_null(value: str | None) -> str:
    return _NULL if value is None else value.translate(_ESCAPES)


def _escape_all(values: Sequence[str]) -> Sequence[str]:
    whole = "".join(values)
    if any(character in whole for character in _SPECIAL):
        return [value.translate(_ESCAPES) for value in values]
    return values


def _encode_json(values: Sequence[Any], texts: Sequence[str | None] | None) -> Sequence[str]:
    encoded = texts if texts is not None else [None] * len(values)
    return [
        (_NULL if value is None else exact.dumps(value).replace("\\", "\\\\"))
        if text is None
        else text.replace("\\", "\\\\")
        for value, text in zip(values, encoded, strict=True)
    ]
