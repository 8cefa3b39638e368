"""Rebuilds a resource's columns and parts from `_raw`, or deletes its rows, without a request to the vendor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import exact, redaction
from models.bookkeeping import journal, omitted, streams
from models.db import present
from models.mirror import apply, diff, schema_evolution
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
    journaled as an update, so that replaying the journal still gives the rows; then the rule is applied to the
    journal's earlier entries and to the inbox, too. Raises `TableLockedError`.
    """
    done, after = 0, ""
    prepare(database, target, [])
    while True:
        with database.read() as tx:
            batch = _stored_after(tx, target, after)
        if not batch:
            break
        prepared = prepare(database, target, [Snapshot(key, raw) for key, raw in batch])
        with database.begin() as tx:
            _rewrite(tx, target, prepared, dict(batch))
        done, after = done + len(batch), batch[-1][0]
        progress(done)
    _clear(database, target)
    with database.begin() as tx:
        followed = omitted.followed(target.omit)
        streams.update(tx, target.connection, target.resource, unfilled=None, redaction=followed)
    return done


def _clear(database: Database, target: Target) -> None:
    """Remove what later `omit` rules name from journal, inbox and commands, in short transactions; resumes."""
    here = {"connection": target.connection, "resource": target.resource}

    def redact(before: Any, after: Any) -> tuple[Any, Any]:
        return (
            None if before is None else diff.redact(before, target.omit),
            None if after is None else redaction.redact(after, target.omit),
        )

    while True:
        with database.begin() as tx:
            stored = streams.redaction_of(tx, **here)
            waiting = omitted.pending(stored)
            if stored is None or waiting is None:
                return
            last = journal.rewrite(tx, **here, after=waiting.cleared, limit=_BATCH, redact=redact)
            if last is None:
                omitted.redact_waiting(tx, **here, redact=lambda raw: redaction.redact(raw, target.omit))
                omitted.redact_commands(tx, **here, redact=lambda raw: redaction.redact(raw, target.omit))
                return
            streams.update(tx, target.connection, target.resource, redaction={**stored, "cleared": last})


def restore(database: Database, target: Target) -> None:
    """Insert the live objects that the journal has and the table, made anew, lacks. None of them is journaled again."""
    with database.read() as tx:
        last = sorted(journal.latest(tx, connection=target.connection, resource=target.resource).items())
    for start in range(0, len(last), _BATCH):
        with database.read() as tx:
            found = journal.objects(tx, [id_ for _, id_ in last[start : start + _BATCH]])
        prepared = prepare(database, target, [Snapshot(key, raw) for key, raw in found.items()])
        with database.begin() as tx:
            schema = schema_evolution.lock_rows(tx, target)
            there = {} if schema is None else RowStatements(tx, schema, target.connection).states(prepared.rows)
            lacking = {key: row for key, row in prepared.rows.items() if key not in there or not there[key].hash}
            apply.apply(
                tx, target, replace(prepared, rows=lacking), revision=tx.draw(), now=tx.now, listed={}, point=False
            )


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
    """Remove all rows of a connection's resource, parts included, as far as there are any. Returns how many objects."""
    target = Target(connection, system, resource)
    schema = schema_evolution.lock_rows(tx, target)
    if schema is None:
        return 0
    there = present.tables(tx)
    for table in schema.parts:
        if table.name in there:
            tx.execute(sa.delete(table.sql).where(table.sql.c["_connection"] == connection))
    root = schema.root.sql
    if root.name not in there:
        return 0
    return tx.execute(sa.delete(root).where(root.c["_connection"] == connection)).rowcount
