"""Finds what is missing of the bookkeeping tables, or stands in their way, and makes it anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.db import additions, present, tables

if TYPE_CHECKING:
    from models.db.database import Tx


INDEX = "the index"
"""How `missing` begins for an index."""


def names() -> set[str]:
    """The names of our tables, indexes and PostgreSQL's sequence."""
    made = tables.metadata.tables.values()
    return {table.name for table in made} | {str(index.name) for table in made for index in table.indexes}


def in_the_way(tx: Tx) -> list[str]:
    """What has one of our names."""
    return sorted((names() | {tables.revisions.name}) & present.relations(tx))


def missing(tx: Tx) -> list[str]:
    """What is missing, in words: tables and what belongs to them, else rows that always have to be there."""
    return missing_objects(tx) or _missing_rows(tx)


def missing_objects(tx: Tx) -> list[str]:
    """The tables, columns, indexes and the sequence that are missing, in words."""
    there, relations = present.tables(tx), present.relations(tx)
    found = []
    for table in tables.metadata.sorted_tables:
        if table.name not in there:
            found.append(f"the table {table.name}")
            continue
        found += [f"{table.name}.{name}" for name in sorted(set(table.c.keys()) - there[table.name])]
        found += [f"{INDEX} {index.name}" for index in table.indexes if str(index.name) not in relations]
    if not tx.is_sqlite and tables.revisions.name not in relations:
        found.append(f"the sequence {tables.revisions.name}")
    return found


def _missing_rows(tx: Tx) -> list[str]:
    """What a restore of tables without their rows, or of rows without the sequence, leaves out. It costs no scan."""
    single = (tables.feed, tables.counter) if tx.is_sqlite else (tables.feed,)
    found = [f"the row of {table.name}" for table in single if tx.execute(sa.select(table.c.one)).first() is None]
    newest = tx.execute(sa.select(tables.changes.c.revision).order_by(tables.changes.c.id.desc()).limit(1)).scalar()
    if not found and (newest or 0) > _last_drawn(tx):
        # A row is never overwritten under a lower revision, so all would stand still while the counter catches up.
        found.append("the right value of its counter of revisions")
    return found


def _last_drawn(tx: Tx) -> int:
    """The counter of revisions: the last one that was drawn."""
    name = tables.revisions.name
    drawn = tables.counter.c.last if tx.is_sqlite else sa.func.pg_sequence_last_value(sa.func.to_regclass(name))
    return int(tx.execute(sa.select(drawn)).scalar() or 0)


def repair(tx: Tx) -> None:
    """Make what is missing anew, empty. The counter goes on above every revision that is known, also if it is there."""
    there, relations = present.tables(tx), present.relations(tx)
    for table in tables.metadata.sorted_tables:
        if table.name not in there:
            table.create(tx)
            continue
        additions.add_columns(tx, table, [column for column in table.c if column.name not in there[table.name]])
        for index in table.indexes:
            if str(index.name) not in relations:
                index.create(tx)
    if not tx.is_sqlite and tables.revisions.name not in relations:
        sequence = sa.Sequence(str(tables.revisions.name), start=highest_revision(tx) + 1)
        tx.execute(sa.schema.CreateSequence(sequence))
    elif (highest := highest_revision(tx)) > _last_drawn(tx):
        catch_up = sa.update(tables.counter).values(last=highest)
        tx.execute(catch_up if tx.is_sqlite else sa.select(sa.func.setval(tables.revisions.name, highest)))


def highest_revision(tx: Tx) -> int:
    """The highest revision that a table still shows."""
    s = tables.streams.c
    shown = [tables.changes.c.revision, tables.inbox.c.wanted, tables.columns.c.version, tables.leases.c.revision]
    shown += [s.full_revision, s.requested_revision]
    highest = [tx.execute(sa.select(sa.func.max(column))).scalar() or 0 for column in shown]
    there = present.tables(tx)
    for name in tx.execute(sa.select(tables.parts.c.table_name).where(tables.parts.c.path == "")).scalars().all():
        if "_revision" in there.get(name, ()):
            column: sa.ColumnElement[int] = sa.column("_revision", sa.BigInteger)
            highest.append(tx.execute(sa.select(sa.func.max(column)).select_from(sa.table(name))).scalar() or 0)
    return int(max(highest))
