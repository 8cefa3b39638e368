"""Makes a resource's rows anew from `_raw`, or removes them; neither asks the vendor."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from models import exact
from models.bookkeeping import journal
from models.mirror import schema_evolution
from models.mirror.prepare import prepare
from models.mirror.statements import RowStatements, Update
from models.mirror.target import Target
from models.values import Cause, Change, ChangeKind, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from models.db.database import Database, Tx
    from models.mirror.rows import Prepared, Row
    from models.mirror.statements import RowState, StoredObject
    from models.values import JsonObject


_BATCH = 500


def rebuild(database: Database, target: Target, *, progress: Callable[[int], None]) -> int:
    """Make columns and parts anew from `_raw`, by today's rules, without asking the vendor. How many objects.

    `progress` is told the objects done so far. What a new `omit` rule takes out is journaled as an update, so that
    replaying the journal still gives the rows. Raises `columns.Locked`.
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


def _rewrite(
    tx: Tx,
    target: Target,
    prepared: Prepared,
    read: Mapping[str, JsonObject],
) -> None:
    schema = schema_evolution.lock_rows(tx, target)
    if schema is None:
        return
    writer = RowStatements(tx, schema, target.connection)
    old, seen = writer.states(read), writer.stored(read)
    # What was written since it was read was written by today's rules.
    still = [key for key in prepared.rows if key in seen and exact.same(seen[key].raw, read[key])]
    revision, now = tx.draw(), tx.now
    again = [_again(prepared.rows[key], old[key], seen[key]) for key in still]
    writer.write([], again, prepared, revision=revision, now=now)
    redacted = [key for key in still if old[key].live and not exact.same(seen[key].raw, prepared.rows[key].raw)]
    if redacted:
        changes = [Change(key, ChangeKind.UPDATED, {}, prepared.rows[key].raw) for key in redacted]
        journal.append(
            tx, target.connection, target.resource, changes, revision=revision, cause=Cause.BACKFILL, now=now
        )


def _again(row: Row, old: RowState, seen: StoredObject) -> Update:
    return Update(row, old.listed, old.revision, seen.changed_at, seen.observed_at, seen.deleted_at)


def forget(tx: Tx, *, connection: str, system: str, resource: str) -> int:
    """Delete the rows and part rows of a connection's resource, deleted ones included. How many objects."""
    target = Target(connection, system, resource)
    schema = schema_evolution.lock_rows(tx, target)
    if schema is None:
        return 0
    for table in schema.parts:
        tx.execute(sa.delete(table.sql).where(table.sql.c["_connection"] == connection))
    root = schema.root.sql
    return tx.execute(sa.delete(root).where(root.c["_connection"] == connection)).rowcount
