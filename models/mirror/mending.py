"""Makes anew what is missing of the mirror's tables.

The data of what was made anew comes from `_raw`, and that of an object's own table from the journal; `rebuild` fills
them. Until then `erpmirror_streams.unfilled` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.bookkeeping import streams
from models.db import additions, present, tables
from models.mirror import damages, naming, schema_evolution, schemas

if TYPE_CHECKING:
    from models.db.database import Database, Tx
    from models.mirror.damages import Damage


class CannotMendError(Exception):
    """A person has to do something first; the message says what."""


def mend(database: Database, owner: str | None = None) -> list[Damage]:
    """Make what is missing anew, each resource in a short transaction. Returns what was.

    Raises `CannotMendError`, and `TableLockedError`.
    """
    with database.read() as tx:
        found = damages.find(tx, owner)
    mended = []
    for each in sorted({damage.owner for damage in found}):
        with schema_evolution.lock_errors(), database.begin() as tx:
            schema_evolution.lock_columns(tx, each)
            mended += _mend(tx, each)
    return mended


def _mend(tx: Tx, owner: str) -> list[Damage]:
    found, schema = damages.find(tx, owner), schemas.load(tx, owner)
    if schema is None:
        return []
    for damage in found:
        table = schema.tables[damage.part].sql
        if damage.is_missing:
            _create(tx, table)
            if not damage.part:
                schemas.add_index(tx, table.name)
        else:
            _complete(tx, table, damage)
    if any(damage.loses_objects and damage.is_missing for damage in found):
        for part in schema.parts:  # rows without an object
            tx.execute(sa.delete(part.sql))
    elif any(damage.loses_objects for damage in found):
        tx.execute(sa.update(schema.root.sql).values(_hash="", _sent_hash=None))  # nothing equals these rows
    if any(damage.loses_data for damage in found):
        _mark(tx, owner, is_lost=any(damage.loses_objects for damage in found))
    return found


def _create(tx: Tx, table: sa.Table) -> None:
    taken = present.relations(tx)
    if table.name.lower() in taken:
        raise CannotMendError(
            f"{table.name} is no table of erpmirror's any more: rename or drop it, then run `erpmirror migrate`"
        )
    table.primary_key.name = naming.key(table.name, taken)  # the old one's index stays with a table that was renamed
    table.create(tx)


def _complete(tx: Tx, table: sa.Table, damage: Damage) -> None:
    if lost := damage.columns & {column.name for column in table.primary_key}:
        raise CannotMendError(
            f"the table {table.name} lacks {', '.join(sorted(lost))}, part of its primary key: rename or drop the "
            "table, then run `erpmirror migrate`, which makes it anew"
        )
    additions.add_columns(tx, table, [column for column in table.columns if column.name in damage.columns])
    if table.name not in present.keyed(tx):
        additions.add_key(tx, table, naming.key(table.name, present.relations(tx)))


def _mark(tx: Tx, owner: str, *, is_lost: bool) -> None:
    """Record, for each connection whose rows it held, that they are to be filled again."""
    c = tables.streams.c
    for connection, system, resource in tx.execute(sa.select(c.connection, c.system, c.resource)).all():
        if naming.table(system, resource) == owner:
            streams.mark_unfilled(tx, connection=connection, resource=resource, is_lost=is_lost)
