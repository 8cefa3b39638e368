"""Many rows in one statement, however many columns they have: what makes a first load fast.

Rows come column by column. PostgreSQL takes new ones as a `COPY`, which no other statement equals.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import psycopg
import simplejson
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models import exact

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    Columns = Mapping[str, Sequence[Any]]
    Texts = Mapping[str, Sequence[str | None]]

MAX_KEYS = 10_000
"""Texts in one statement: SQLite takes 32,766 variables."""

_COPY_CHUNK_ROWS = 250
"""Rows handed to the server at once: it reads them while the next are put together."""

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

    `same`: columns that have one value in all of them. `lines`: what `spell` makes of the columns. The caller knows
    that no row's key is there.
    """
    size, constants = _row_count(columns), constants or {}
    if not size:
        return
    if tx.dialect.name == "sqlite":
        whole = {**columns, **{name: [value] * size for name, value in constants.items()}}
        _insert_on_sqlite(tx, table, sqlite.insert(table), whole)
    else:
        _copy(tx, table, [*columns], lines() if lines is not None else encode(table, columns), constants)


def encode(table: sa.Table, columns: Columns, texts: Texts | None = None) -> list[str]:
    """The rows as PostgreSQL's COPY reads them, a text each.

    `texts`: JSON columns whose values, or some of them, are made texts already.
    """
    texts = texts or {}
    spelled = [_encode_column(table.c[name].type, values, texts.get(name)) for name, values in columns.items()]
    return list(map("\t".join, zip(*spelled, strict=True)))


def any_of(tx: sa.Connection, column: sa.ColumnElement[str], keys: Sequence[str]) -> sa.ColumnElement[bool]:
    """Whether the column's text is one of these: on PostgreSQL one parameter, however many they are."""
    if tx.dialect.name == "sqlite":
        return column.in_(keys)
    return column == sa.any_(text_array(keys))


def insert_missing(
    tx: sa.Connection, table: sa.Table, constants: Mapping[str, str], column: sa.Column[str], texts: Sequence[str]
) -> None:
    """Insert a row for each of these texts, `same` in each of them; one that is there already stays as it is."""
    if not texts:
        return
    if tx.dialect.name == "sqlite":
        rows = [{**constants, column.name: text} for text in texts]
        tx.execute(sqlite.insert(table).values(rows).on_conflict_do_nothing())
        return
    each = sa.func.unnest(text_array(texts))
    chosen = sa.select(*(sa.literal(value).label(name) for name, value in constants.items()), each.label(column.name))
    statement = postgresql.insert(table).from_select([*constants, column.name], chosen)
    tx.execute(statement.on_conflict_do_nothing())


def upsert(tx: sa.Connection, table: sa.Table, columns: Columns, *, keep: Collection[str]) -> None:
    """Insert rows or, where the primary key is there, overwrite all columns but `keep`."""
    if not _row_count(columns):
        return
    on_sqlite = tx.dialect.name == "sqlite"
    statement = _upsert_statement(table, on_sqlite, frozenset(keep))
    if on_sqlite:
        _insert_on_sqlite(tx, table, statement, columns)
    else:
        # One parameter instead of one per value: neither the driver nor the server counts to 65,535.
        tx.execute(statement, {"packed": _pack(_rows(columns))})


@lru_cache
def _upsert_statement(table: sa.Table, on_sqlite: bool, keep: frozenset[str]) -> Any:  # noqa: FBT001 - what it is remembered by
    """A wide table's statement takes longer to spell than to execute for one row."""
    statement: Any = sqlite.insert(table) if on_sqlite else postgresql.insert(table)
    if not on_sqlite:
        statement = statement.from_select(table.c.keys(), _as_rows(table))
    excluded = {column.name: statement.excluded[column.name] for column in table.c if column.name not in keep}
    key = [column.name for column in table.primary_key]
    return statement.on_conflict_do_update(index_elements=key, set_=excluded)


def _row_count(columns: Columns) -> int:
    return len(next(iter(columns.values()), ()))


def _rows(columns: Columns) -> list[dict[str, Any]]:
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _insert_on_sqlite(tx: sa.Connection, table: sa.Table, statement: Any, columns: Columns) -> None:
    blank = dict.fromkeys(table.c.keys())
    # RETURNING makes SQLAlchemy send many rows in one statement.
    key = next(iter(table.primary_key))
    tx.execute(statement.returning(key), [{**blank, **row} for row in _rows(columns)]).close()


def _as_rows(table: sa.Table) -> sa.Select[Any]:
    packed = sa.cast(sa.bindparam("packed", type_=sa.Text()), postgresql.JSON())
    typed = [sa.column(column.name, column.type) for column in table.c]
    unpacked = sa.func.json_to_recordset(packed).table_valued(*typed, name="unpacked")
    return sa.select(*unpacked.render_derived(with_types=True).c)


def _pack(rows: Sequence[Mapping[str, Any]]) -> str:
    return simplejson.dumps(rows, use_decimal=True, ensure_ascii=False, allow_nan=False, default=_encode_date)


def _encode_date(value: Any) -> str:
    if isinstance(value, date):
        return value.isoformat()
    raise TypeError(f"{type(value).__name__} has no place in a row")


def _copy(
    tx: sa.Connection, table: sa.Table, names: Sequence[str], lines: Sequence[str], constants: Mapping[str, Any]
) -> None:
    dialect = tx.dialect
    quoted = dialect.identifier_preparer
    named = ", ".join(quoted.quote(table.c[name].name) for name in [*names, *constants])
    statement = f"COPY {quoted.format_table(table)} ({named}) FROM STDIN"
    end = "\t".join(["", *encode(table, {name: [value] for name, value in constants.items()})]) + "\n"
    try:
        with tx.connection.cursor() as cursor, cursor.copy(statement) as copy:  # type: ignore[attr-defined]
            for start in range(0, len(lines), _COPY_CHUNK_ROWS):
                copy.write(end.join(lines[start : start + _COPY_CHUNK_ROWS]) + end)
    except psycopg.Error as error:
        raise _as_sqlalchemy_error(tx, error, statement) from error


def text_array(texts: Sequence[str]) -> sa.ColumnElement[Any]:
    """The texts as one parameter of PostgreSQL, in PostgreSQL's own spelling: the driver would look at each of them."""
    whole = '","'.join(texts)
    if "\\" in whole or whole.count('"') > 2 * (len(texts) - 1):
        whole = '","'.join(text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    spelled = f'{{"{whole}"}}' if texts else "{}"
    # Without a type of its own: the server then takes it for an array from the start, and plans with it.
    return sa.cast(sa.bindparam(None, spelled, type_=sa.types.NullType()), postgresql.ARRAY(sa.Text))


def _as_sqlalchemy_error(tx: sa.Connection, error: psycopg.Error, statement: str) -> BaseException:
    """What `execute` would have made of it: callers sort errors by SQLAlchemy's classes."""
    dialect: Any = tx.dialect
    gone = dialect.is_disconnect(error, tx.connection.dbapi_connection, None)
    if gone:
        tx.invalidate(error)
    return sa.exc.DBAPIError.instance(
        statement, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=gone, dialect=dialect
    )


def _encode_column(
    kind: sa.types.TypeEngine[Any], values: Sequence[Any], texts: Sequence[str | None] | None
) -> Sequence[str]:
    """The values as COPY reads them."""
    if isinstance(kind, exact.ExactJSON):
        return _encode_json(values, texts)
    types = set(map(type, values))
    if types <= _TEXTS:
        return _escape_all(values) if types == {str} else [_escape_or_null(value) for value in values]
    if _NONE_TYPE in types:
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
    made = texts if texts is not None else [None] * len(values)
    return [
        (_NULL if value is None else exact.dumps(value).replace("\\", "\\\\"))
        if text is None
        else text.replace("\\", "\\\\")
        for value, text in zip(values, made, strict=True)
    ]
