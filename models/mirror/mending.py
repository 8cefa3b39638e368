"""Makes anew what is missing of the mirror's tables: `erpmirror_parts` and `erpmirror_columns` say what they should be.

The data of what was made anew comes from `_raw`, and that of an object's own table from the journal; `rebuild` fills
them. Until then `erpmirror_streams.unfilled` says so.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.bookkeeping import streams
from models.db import additions, present, tables
from models.mirror import naming, schema_evolution, schemas

if TYPE_CHECKING:
    from models.db.database import Database, Tx

_OBJECTS = {"_raw", "_hash"}
"""Without one of these the objects themselves are lost, not only what was made of them."""


class CannotMendError(Exception):
    """A person has to do something first; the message says what."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What a table lacks: itself, columns, or its primary key."""

    owner: str
    table: str
    part: str
    is_missing: bool = False
    columns: frozenset[str] = field(default_factory=frozenset)
    key: bool = False

    def __str__(self) -> str:
        if self.is_missing:
            return f"the table {self.table} is missing"
        if self.columns:
            return f"the table {self.table} lacks {', '.join(sorted(self.columns))}"
        return f"the table {self.table} lacks its primary key"

    @property
    def loses_objects(self) -> bool:
        """Whether the objects themselves are gone."""
        return not self.part and (self.is_missing or not self.columns.isdisjoint(_OBJECTS))

    @property
    def loses_data(self) -> bool:
        """Whether anything has to be filled again."""
        return self.is_missing or bool(self.columns)


def damages(tx: Tx, owner: str | None = None) -> list[Damage]:
    """What is missing of all resources' tables, or of one's."""
    registered = sa.select(tables.parts)
    if owner is not None:
        registered = registered.where(tables.parts.c.owner == owner)
    fields: defaultdict[str, set[str]] = defaultdict(set)
    for name, column in tx.execute(sa.select(tables.columns.c.table_name, tables.columns.c.column_name)):
        fields[name].add(column)
    there, keyed = present.tables(tx), present.keyed(tx)
    found = []
    for row in tx.execute(registered.order_by(tables.parts.c.table_name)):
        name = row.table_name
        ours = {column.name for column in schemas.build(name, row.path, []).columns}
        if name not in there:
            found.append(Damage(row.owner, name, row.path, is_missing=True))
        elif lacking := (ours | fields[name]) - there[name]:
            found.append(Damage(row.owner, name, row.path, columns=frozenset(lacking)))
        elif name not in keyed:
            found.append(Damage(row.owner, name, row.path, key=True))
    return found


def mend(database: Database, owner: str | None = None) -> list[Damage]:
    """Make what is missing anew, each resource in a short transaction. Returns what was.

    Raises `CannotMendError`, and `TableLockedError`.
    """
    with database.read() as tx:
        found = damages(tx, owner)
    mended = []
    for each in sorted({damage.owner for damage in found}):
        with schema_evolution.lock_errors(), database.begin() as tx:
            schema_evolution.lock_columns(tx, each)
            mended += _mend(tx, each)
    return mended


def _mend(tx: Tx, owner: str) -> list[Damage]:
    found, schema = damages(tx, owner), schemas.load(tx, owner)
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
