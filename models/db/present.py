"""What the database really holds, whoever made it: its owner may add to our tables, rename and drop them."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from models.db.database import Tx

_SQLITE_RELATIONS = sa.text("SELECT name FROM sqlite_master WHERE type <> 'trigger'")
_POSTGRESQL_RELATIONS = sa.text(
    "SELECT relname FROM pg_class WHERE relnamespace = current_schema()::regnamespace "
    "UNION SELECT typname FROM pg_type WHERE typnamespace = current_schema()::regnamespace"
)
"""A table has a type of its own name, so a type's name is taken, too."""

_SQLITE_COLUMNS = sa.text("SELECT name FROM pragma_table_xinfo(:name)")  # with generated columns, unlike table_info
_POSTGRESQL_COLUMNS = sa.text(
    "SELECT attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
    "WHERE relnamespace = current_schema()::regnamespace AND relname = :name AND NOT attisdropped"
)

_SQLITE_ALL = sa.text(
    "SELECT made.name, field.name FROM sqlite_master AS made, pragma_table_xinfo(made.name) AS field "
    "WHERE made.type = 'table'"
)
_POSTGRESQL_ALL = sa.text(
    "SELECT relname, attname FROM pg_attribute JOIN pg_class ON pg_class.oid = attrelid "
    "WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND NOT attisdropped AND attnum > 0"
)
_SQLITE_TABLES = sa.text("SELECT name FROM sqlite_master WHERE type = 'table'")
_POSTGRESQL_KEYS = sa.text(
    "SELECT relname FROM pg_index JOIN pg_class ON pg_class.oid = indrelid "
    "WHERE relnamespace = current_schema()::regnamespace AND indisprimary"
)

_KEY_PREFIX = "pk_"


def relations(tx: Tx) -> set[str]:
    """The names that a new table or its key may not have, in lower case: SQLite takes `Items` and `items` for one."""
    found = tx.execute(_SQLITE_RELATIONS if tx.is_sqlite else _POSTGRESQL_RELATIONS).scalars()
    return {name.lower() for name in found}


def taken_tables(tx: Tx) -> set[str]:
    """The names that a new table may not have: the table, its type or the index of its key would clash."""
    names = relations(tx)
    return names | {name.removeprefix(_KEY_PREFIX) for name in names}


def tables(tx: Tx) -> dict[str, set[str]]:
    """Each table and its columns, as they are spelt."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for table, column in tx.execute(_SQLITE_ALL if tx.is_sqlite else _POSTGRESQL_ALL):
        found[table].add(column)
    return dict(found)


def keyed(tx: Tx) -> set[str]:
    """The tables that have a primary key; on SQLite nobody can drop it."""
    return set(tx.execute(_SQLITE_TABLES if tx.is_sqlite else _POSTGRESQL_KEYS).scalars())


def columns(tx: Tx, table: str) -> set[str]:
    """The names of a table's columns in lower case, generated ones included."""
    found = tx.execute(_SQLITE_COLUMNS if tx.is_sqlite else _POSTGRESQL_COLUMNS, {"name": table}).scalars()
    return {name.lower() for name in found}
