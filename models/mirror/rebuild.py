"""Rebuilds a resource's columns and parts from `_raw`, or deletes its rows, without a request to the vendor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from models import exact
from models.mirror import schema_evolution
from models.mirror.prepare import prepare
from models.mirror.statements import RowStatements, Update
from models.mirror.target import Target
from models.mirror.writer import MirrorWriter
from models.values import Cause, Change, ChangeKind, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.db.database import Database, Tx
    from models.mirror.rows import Prepared, Row
    from models.mirror.statements import RowState, StoredObject
    from models.values import JsonObject


_BATCH = 500


def rebuild(database: Database, target: Target, *, progress: Callable[[int], None]) -> int:
    """Write columns and parts anew from `_raw`, by the current rules. Returns the number of objects.

    `progress` is called with the number done so far. An object from which a new `omit` rule removes something is
    journaled as an update, so that replaying the journal still gives the rows. Raises `TableLockedError`.
    """
    done, after = 0, ""
    prepare(database, target, [])
    while True:
        with database.read() as tx:
            batch = _stored_after(tx, target, after)
        if not batch:
            return done
        prepared = prepare(database, target, [Snapshot(key, raw) for key, raw in batch])
        with database.begin() as tx:
            _rewrite(tx, target, prepared, dict(batch))
        done, after = done + len(batch), batch[-1][0]
        progress(done)


def _stored_after(tx: Tx, target: Target, after: str) -> list[tuple[str, JsonObject]]:
    schema = schema_evolution.current(tx, target.table)
    if schema is None:
        return []
    c = schema.root.sql.c
    rows = (
        sa.select(c["_key"], c["_raw"])
        .where(c["_connection"] == target.connection, c["_key"] > after)
        .order_by(c["_key"])
    )
    return [(key, raw) for key, raw in tx.execute(rows.limit(_BATCH))]


def _rewrite(tx: Tx, target: Target, prepared: Prepared, before: Mapping[str, JsonObject]) -> None:
    schema = schema_evolution.lock_rows(tx, target)
    if schema is None:
        return
    rows = RowStatements(tx, schema, target.connection)
    states, stored = rows.states(before), rows.stored(before)
    # A row that was written after it was read here already follows the current rules.
    unchanged = [key for key in prepared.rows if key in stored and exact.same(stored[key].raw, before[key])]
    updates = [_update(prepared.rows[key], states[key], stored[key]) for key in unchanged]
    redacted = [
        key for key in unchanged if states[key].live and not exact.same(stored[key].raw, prepared.rows[key].raw)
    ]
    with MirrorWriter(tx, target, revision=tx.draw(), cause=Cause.BACKFILL) as writer:
        rows.write([], updates, prepared, revision=writer.revision, now=tx.now)
        writer.changes += [Change(key, ChangeKind.UPDATED, {}, prepared.rows[key].raw) for key in redacted]


def _update(row: Row, state: RowState, stored: StoredObject) -> Update:
    """Write the columns anew; bookkeeping and times stay as they are."""
    return Update(row, state.listed, state.revision, stored.changed_at, stored.observed_at, stored.deleted_at)


def forget(tx: Tx, *, connection: str, system: str, resource: str) -> int:
    """Remove all rows of a connection's resource, parts included. Returns the number of objects."""
    target = Target(connection, system, resource)
    schema = schema_evolution.lock_rows(tx, target)
    if schema is None:
        return 0
    for table in schema.parts:
        tx.execute(sa.delete(table.sql).where(table.sql.c["_connection"] == connection))
    root = schema.root.sql
    return tx.execute(sa.delete(root).where(root.c["_connection"] == connection)).rowcount
