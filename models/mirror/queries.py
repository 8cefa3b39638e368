"""Questions about a resource's rows: how many, which are missing, what was listed, everything as an export."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from models.db import tables
from models.mirror import schema_evolution
from models.mirror.statements import RowStatements

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from models.db.database import Database, Tx
    from models.mirror.target import Target
    from models.values import JsonObject


_BATCH = 500


def fields(database: Database, target: Target) -> set[str]:
    """An object's own fields that have a column or a part already, in the vendor's spelling."""
    schema = schema_evolution.cached(database, target.table)
    if schema is None:
        return set()
    return {path.partition(".")[0] for path in (*schema.root.columns, *schema.tables) if path}


def table_of(database: Database, target: Target) -> sa.Table | None:
    """The objects' own table, once this process has seen it."""
    schema = schema_evolution.cached(database, target.table)
    return None if schema is None else schema.root.sql


def count_live(tx: Tx, target: Target) -> int:
    """How many objects are there, as far as we know."""
    schema = schema_evolution.current(tx, target.table)
    if schema is None:
        return 0
    c = schema.root.sql.c
    live = sa.select(sa.func.count()).where(c["_connection"] == target.connection, c["_deleted_at"].is_(None))
    return tx.execute(live).scalar_one()


def keys_absent(tx: Tx, target: Target, *, before_revision: int) -> Iterator[str]:
    """The live keys that a complete reading (`seen_keys`) did not name and that nobody wrote since its first turn."""
    schema = schema_evolution.current(tx, target.table)
    if schema is None:
        return
    c, seen = schema.root.sql.c, tables.seen_keys.c
    sighted = sa.select(seen.key).where(seen.connection == target.connection, seen.resource == target.resource)
    unwritten = sa.select(c["_key"]).where(
        c["_connection"] == target.connection, c["_deleted_at"].is_(None), c["_revision"] < before_revision
    )
    # Not as NOT EXISTS: of tables that just grew a planner knows nothing, and may go through one for each of the other.
    absent = sa.except_(unwritten, sighted).order_by(sa.column("_key"))
    yield from tx.execute(absent, execution_options={"yield_per": _BATCH}).scalars()


def listed_tokens(tx: Tx, target: Target, keys: Collection[str]) -> dict[str, tuple[str | None, bool]]:
    """What was listed last of these keys, and whether they are deleted. Unknown keys are left out."""
    schema = schema_evolution.current(tx, target.table)
    if schema is None:
        return {}
    old = RowStatements(tx, schema, target.connection).states(keys)
    return {key: (row.listed, not row.live) for key, row in old.items()}


def export(tx: Tx, target: Target) -> Iterator[tuple[str, datetime | None, JsonObject]]:
    """Every object as (key, deleted at, raw), in the order of the keys, never all at once in memory."""
    schema = schema_evolution.current(tx, target.table)
    if schema is None:
        return
    c = schema.root.sql.c
    rows = (
        sa.select(c["_key"], c["_deleted_at"], c["_raw"])
        .where(c["_connection"] == target.connection)
        .order_by(c["_key"])
    )
    for row in tx.execute(rows, execution_options={"yield_per": _BATCH}):
        yield row[0], row[1], row[2]


def analyze(database: Database, target: Target) -> None:
    """Have PostgreSQL look at tables that it never looked at; it would come by itself after a minute or more.

    Until then it believes that a connection has few rows, and reads all of them to find a thousand by their keys.
    """
    schema = None if database.is_sqlite else schema_evolution.cached(database, target.table)
    if schema is None:
        return
    with database.autocommit() as tx:
        quoted = tx.dialect.identifier_preparer
        for table in (schema.root, *schema.parts):
            name = quoted.format_table(table.sql)
            if tx.execute(_UNKNOWN, {"name": name}).scalar():
                tx.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {name}")


_pg_class = sa.table("pg_class", sa.column("oid"), sa.column("reltuples"))
_UNKNOWN = sa.select(_pg_class.c.reltuples <= 0).where(
    _pg_class.c.oid == sa.cast(sa.bindparam("name"), postgresql.REGCLASS)
)
