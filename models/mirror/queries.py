"""Queries of a resource's rows: how many are live, which a full sync did not list, their tokens, an export."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from models.db import tables
from models.mirror import naming, schema_evolution
from models.mirror.statements import RowStatements

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from models.db.database import Database, Tx
    from models.mirror.target import Target
    from models.values import JsonObject


_BATCH = 500


def fields(database: Database, target: Target) -> set[str]:
    """The object's top-level fields that already have a column or a part, in the vendor's spelling."""
    schema = schema_evolution.cached(database, target.table)
    if schema is None:
        return set()
    return {path.partition(".")[0] for path in (*schema.root.columns, *schema.tables) if path}


def table_of(database: Database, target: Target) -> sa.Table | None:
    """The objects' own table; None if it does not exist yet."""
    schema = schema_evolution.cached(database, target.table)
    return None if schema is None else schema.root.sql


def count_live(tx: Tx, target: Target, *, at_most: int | None = None) -> int:
    """The number of objects that are not deleted. `at_most`: where counting stops, because a large table takes long."""
    schema = schema_evolution.current(tx, target.table)
    if schema is None:
        return 0
    c = schema.root.sql.c
    live = sa.select(c["_key"]).where(c["_connection"] == target.connection, c["_deleted_at"].is_(None))
    return tx.execute(sa.select(sa.func.count()).select_from(live.limit(at_most).subquery())).scalar_one()


def keys_absent(tx: Tx, target: Target, *, before_revision: int) -> Iterator[str]:
    """The live keys that a complete full sync did not list (`seen_keys`) and that were not written since it began."""
    schema = schema_evolution.current(tx, target.table)
    if schema is None:
        return
    c, seen = schema.root.sql.c, tables.seen_keys.c
    key = sa.func.json_each(seen["keys"]) if tx.is_sqlite else sa.func.jsonb_array_elements_text(seen["keys"])
    of_list = key.table_valued("value", joins_implicitly=True)
    listed = (
        sa.select(of_list.c.value if tx.is_sqlite else sa.collate(of_list.c.value, "C"))
        .select_from(tables.seen_keys, of_list)
        .where(seen.connection == target.connection, seen.resource == target.resource)
    )
    unwritten = sa.select(c["_key"]).where(
        c["_connection"] == target.connection, c["_deleted_at"].is_(None), c["_revision"] < before_revision
    )
    # EXCEPT rather than NOT EXISTS: without statistics PostgreSQL picks a nested loop.
    absent = sa.except_(unwritten, listed).order_by(sa.column("_key"))
    yield from tx.execute(absent, execution_options={"yield_per": _BATCH}).scalars()


def listed_tokens(tx: Tx, target: Target, keys: Collection[str]) -> dict[str, tuple[str | None, bool]]:
    """By key: the token that was listed last, and whether the object is deleted. Unknown keys are left out."""
    schema = schema_evolution.current(tx, target.table)
    if schema is None:
        return {}
    found = RowStatements(tx, schema, target.connection).states(keys)
    return {key: (row.listed, not row.live) for key, row in found.items()}


def forget_tokens(tx: Tx, target: Target) -> None:
    """Have the next full sync enqueue every object that it names, as if each had changed."""
    schema = schema_evolution.current(tx, target.table)
    if schema is not None:
        root = schema.root.sql
        tx.execute(sa.update(root).where(root.c["_connection"] == target.connection).values({"_listed": None}))


def export(tx: Tx, target: Target) -> Iterator[tuple[str, datetime | None, JsonObject]]:
    """Every object as (key, deleted at, raw), in the order of the keys, read in batches."""
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
    """Run ANALYZE on tables without statistics. Autovacuum would do so only after a minute or more.

    Without statistics PostgreSQL expects few rows per connection, and scans them all to find a thousand by their keys.
    """
    schema = None if database.is_sqlite else schema_evolution.cached(database, target.table)
    if schema is None:
        return
    with database.autocommit() as tx:
        quoted = tx.dialect.identifier_preparer
        for table in (schema.root, *schema.parts):
            name = quoted.format_table(table.sql)
            if tx.execute(_HAS_NO_STATISTICS, {"name": name}).scalar():
                tx.exec_driver_sql(f"ANALYZE (SKIP_LOCKED) {name}")


_pg_class = sa.table("pg_class", sa.column("oid"), sa.column("reltuples"))
_HAS_NO_STATISTICS = sa.select(_pg_class.c.reltuples <= 0).where(
    _pg_class.c.oid == sa.cast(sa.bindparam("name"), postgresql.REGCLASS)
)


def raw_of(tx: Tx, target: Target, key: str) -> JsonObject | None:
    """The object as its vendor sent it, redacted, also after it was deleted; None if it has no row."""
    schema = schema_evolution.current(tx, target.table)
    stored = {} if schema is None else RowStatements(tx, schema, target.connection).stored([key])
    return stored[key].raw if key in stored else None


def place_of(tx: Tx, connection: str, resource: str) -> tuple[str | None, str | None]:
    """The system of a connection that was mirrored, and the table of its resource, as far as they are known."""
    s, p = tables.streams.c, tables.parts.c
    system = tx.execute(sa.select(s.system).where(s.connection == connection).limit(1)).scalar()
    if system is None:
        return None, None
    owner = naming.table_name(system, resource)
    return system, tx.execute(sa.select(p.table_name).where(p.owner == owner, p.path == "")).scalar()
