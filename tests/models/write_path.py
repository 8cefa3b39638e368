"""Helpers for tests of the write path: write a batch, read the mirror by SQL."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import exact
from models.bookkeeping import journal
from models.db import tables
from models.mirror import apply, prepare, queries, schema_evolution
from models.mirror.target import Target
from models.values import Cause, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.db.database import Database
    from models.values import Change, JsonObject

START = datetime(2026, 2, 1, tzinfo=UTC)
TARGET = Target("books", "directo", "invoices")
TABLE = "directo_invoices"
INVOICE = {"number": 7, "total": Decimal("12.50"), "customer": {"code": "A1"}, "rows": [{"rn": 1}, {"rn": 2}]}


def moment(revision: int) -> datetime:
    """When this revision was written."""
    return START + timedelta(minutes=revision)


def _decoded(snapshot: Any) -> Any:
    if not isinstance(snapshot, Snapshot):  # still JSON text
        return snapshot
    return replace(snapshot, raw=exact.loads(exact.dumps(snapshot.raw)))


def write(
    database: Database,
    objects: Mapping[str, JsonObject] | Sequence[Snapshot] = (),
    *,
    revision: int = 1,
    target: Target = TARGET,
    tombstones: Sequence[str] = (),
    listed: Mapping[str, str] | None = None,
    point: bool = False,
) -> list[Change]:
    """Write a batch, journal and commit it. The objects are encoded and decoded first, as if they were received."""
    given = objects if not hasattr(objects, "items") else [Snapshot(key, raw) for key, raw in objects.items()]
    prepared = prepare.prepare(database, target, [_decoded(each) for each in given])
    with database.begin() as tx:
        changes = apply.apply(
            tx,
            target,
            prepared,
            tombstones=tombstones,
            revision=revision,
            now=moment(revision),
            listed=listed or {},
            point=point,
        )
        journal.append(
            tx,
            target.connection,
            target.resource,
            changes,
            revision=revision,
            cause=Cause.POLL,
            now=moment(revision),
            rows=queries.table_of(database, target),
        )
    return changes


def kinds(changes: Sequence[Change]) -> list[tuple[str, str]]:
    """Key and kind of each change."""
    return [(change.key, change.kind.value) for change in changes]


def rows(database: Database, target: Target = TARGET, part: str = "") -> list[dict[str, Any]]:
    """The rows of a table, typed, in the order of their keys and positions."""
    with database.read() as tx:
        schema = schema_evolution.current(tx, target.table)
        assert schema is not None
        table = schema.tables[part].sql
        return [dict(row) for row in tx.execute(sa.select(table).order_by(*table.primary_key)).mappings()]


def row(database: Database, key: str, target: Target = TARGET) -> dict[str, Any]:
    """One object's row."""
    (found,) = (each for each in rows(database, target) if each["_key"] == key)
    return found


def fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """The vendor's fields of a row."""
    return {name: value for name, value in row.items() if not name.startswith("_")}


def schema_changes(database: Database, kind: str) -> list[tuple[str, str | None, str]]:
    """The reported schema changes of this kind: table, column, path."""
    entries = tables.schema_changes.c
    with database.read() as tx:
        chosen = sa.select(entries.table_name, entries.column_name, entries.path).where(entries.kind == kind)
        return [(entry[0], entry[1], entry[2]) for entry in tx.execute(chosen.order_by(entries.id))]


def live(database: Database) -> dict[str, Any]:
    """The objects that are not deleted, by key."""
    with database.read() as tx:
        return {key: raw for key, gone, raw in queries.export(tx, TARGET) if gone is None}


def replayed(database: Database) -> dict[str, Any]:
    """The live rows as replaying the journal from the start gives them."""
    state: dict[str, Any] = {}
    with database.read() as tx:
        for entry in journal.read(tx, after=0, limit=10_000):
            if entry.kind == "deleted":
                del state[entry.key]
            else:
                assert (entry.key in state) is (entry.kind == "updated")
                state[entry.key] = entry.after
    return state
