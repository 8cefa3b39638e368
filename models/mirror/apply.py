"""The one write path: snapshots and tombstones become rows, parts and changes, whichever door they came through.

`prepare` does all that needs no lock, outside any transaction; `apply` writes inside the caller's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from models import exact, redaction
from models.bookkeeping import journal
from models.db import tables
from models.mirror import diff, naming, schema_evolution
from models.mirror.prepare import Prepared, Target, lay_out, prepare
from models.mirror.statements import Insert, Update, Writer
from models.values import Cause, Change, ChangeKind, Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from models.db.database import Database, Tx
    from models.mirror import schemas
    from models.mirror.prepare import Row
    from models.mirror.statements import RowState, StoredObject
    from models.values import JsonObject

__all__ = [
    "NeedsLayout",
    "Prepared",
    "Target",
    "analyze",
    "apply",
    "count_live",
    "export",
    "forget",
    "keys_absent",
    "lay_out",
    "listed_tokens",
    "prepare",
    "rebuild",
    "table_name",
    "table_of",
]

_BATCH = 500


def table_name(system: str, resource: str, part: str = "") -> str:
    """The table of a resource or of one of its parts (dotted path), as a person would look for it."""
    owner = naming.table(system, resource)
    return naming.part_table(owner, part, ()) if part else owner


def apply(
    tx: Tx,
    target: Target,
    prepared: Prepared,
    *,
    tombstones: Sequence[str] = (),
    revision: int,
    now: datetime,
    listed: Mapping[str, str] | None = None,
    point: bool,
    meanwhile: Callable[[], None] | None = None,
) -> list[Change]:
    """Write a batch inside the caller's transaction and tell what changed, in the order of the keys.

    `listed`: the tokens of the keys in a listing of names. `point`: each key was asked for by itself, so an unchanged
    row was observed, too. A row that a higher turn wrote stays. An equal object that is not deleted changes nothing.
    `meanwhile` is called, once or more, when there is little to do but to wait for the database. Raises `Stale` where
    an object that was not laid out differs from its row.
    """
    schema = _lock_resource(tx, target)
    if schema is None:
        if prepared.rows:
            raise NeedsLayout(prepared.rows)
        return []
    writer = Writer(tx, schema, target.connection)
    gone = {exact.storable_text(key) for key in tombstones} - prepared.rows.keys()
    if meanwhile is not None and not prepared.numbers:
        meanwhile()  # most rows will be found to be as they were
    old = writer.states({*prepared.rows, *gone})
    plan = _MergePlan(old, revision, now, listed or {})
    for row in prepared.rows.values():
        plan.add_snapshot(row)
    for key in sorted(gone):
        plan.add_tombstone(key)
    plan.require(prepared.numbers)
    changes = plan.changes(writer.stored(plan.differing), target.omit)
    if meanwhile is not None:
        meanwhile()
    writer.write(plan.fresh(), plan.anew(), prepared, revision=revision, now=now)
    writer.mark_deleted(plan.deleted, revision=revision, now=now)
    if point:
        writer.mark_observed(plan.seen, revision=revision, now=now)
    writer.relist(plan.relisted)
    writer.resend(plan.resent)
    return changes


class NeedsLayout(Exception):  # noqa: N818 - read as a sentence: except records.Stale
    """These objects have to be laid out: they are not as they were."""

    def __init__(self, keys: Iterable[str]) -> None:
        super().__init__()
        self.keys = frozenset(keys)


@dataclass(slots=True)
class _MergePlan:
    """What is to be done with each key of a batch."""

    old: Mapping[str, RowState]
    revision: int
    now: datetime
    listed: Mapping[str, str]
    arrived: dict[str, Row] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    relisted: dict[str, str] = field(default_factory=dict)
    resent: dict[str, str] = field(default_factory=dict)
    unchanged: dict[str, StoredObject] = field(default_factory=dict)

    @property
    def differing(self) -> list[str]:
        """Live rows that are written anew."""
        return [key for key in self.arrived if key in self.old and self.old[key].live]

    def add_snapshot(self, row: Row) -> None:
        old = self.old.get(row.key)
        if old is None:
            self.arrived[row.key] = row
        elif old.revision <= self.revision:
            if old.live and (old.hash == row.hash or (row.sent is not None and old.sent == row.sent)):
                self._stay(old, self._token(row))
                if row.sent is not None and row.sent != old.sent:
                    self.resent[row.key] = row.sent
            else:
                self.arrived[row.key] = row

    def add_tombstone(self, key: str) -> None:
        old = self.old.get(key)
        if old is None or old.revision > self.revision:
            return
        if old.live:
            self.deleted.append(key)
            if key in self.listed:
                self.relisted[key] = self.listed[key]
        else:
            self._stay(old, self.listed.get(key))

    def changes(self, seen: Mapping[str, StoredObject], omit: Sequence[str]) -> list[Change]:
        changes = [Change(key, ChangeKind.DELETED, None, None) for key in self.deleted]
        for key, row in self.arrived.items():
            if key not in seen:
                kind = ChangeKind.RESTORED if key in self.old else ChangeKind.CREATED
                changes.append(Change(key, kind, None, row.raw, row.text))
            elif exact.same(seen[key].raw, row.raw):
                self.unchanged[key] = seen[key]  # only the rules are new: the object is what it was
            else:
                # What a new rule takes out of the row must not enter the journal by the back door.
                before = diff.between(exact.storable(redaction.redact(seen[key].raw, omit)), row.raw)
                changes.append(Change(key, ChangeKind.UPDATED, before, row.raw, row.text))
        return sorted(changes, key=lambda change: change.key)

    def require(self, laid_out: Mapping[str, int]) -> None:
        """Raises `Stale` where a row is to be written that was not laid out."""
        if lacking := self.arrived.keys() - laid_out.keys():
            raise NeedsLayout(lacking)

    def fresh(self) -> list[Insert]:
        return [Insert(row, self._token(row)) for key, row in self.arrived.items() if key not in self.old]

    def anew(self) -> list[Update]:
        return [self._new(row) for key, row in self.arrived.items() if key in self.old]

    def _new(self, row: Row) -> Update:
        token, changed_at = self._token(row), self.now
        if row.key in self.unchanged:
            token, changed_at = token or self.old[row.key].listed, self.unchanged[row.key].changed_at
        return Update(row, token, self.revision, changed_at, self.now)

    def _stay(self, old: RowState, token: str | None) -> None:
        self.seen.append(old.key)
        if token is not None and token != old.listed:
            self.relisted[old.key] = token

    def _token(self, row: Row) -> str | None:
        return row.listed if row.listed is not None else self.listed.get(row.key)


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
    schema = _lock_resource(tx, target)
    if schema is None:
        return
    writer = Writer(tx, schema, target.connection)
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
    schema = _lock_resource(tx, target)
    if schema is None:
        return 0
    for table in schema.parts:
        tx.execute(sa.delete(table.sql).where(table.sql.c["_connection"] == connection))
    root = schema.root.sql
    return tx.execute(sa.delete(root).where(root.c["_connection"] == connection)).rowcount


def fields(database: Database, target: Target) -> set[str]:
    """An object's own fields that have a column or a part already, in the vendor's spelling."""
    schema = schema_evolution.cached(database, table_name(target.system, target.resource))
    if schema is None:
        return set()
    return {path.partition(".")[0] for path in (*schema.root.columns, *schema.tables) if path}


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
    old = Writer(tx, schema, target.connection).states(keys)
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


def _lock_resource(tx: Tx, target: Target) -> schemas.Schema | None:
    """Wait for whoever writes this connection's resource, then see the schema as it is.

    One lock for all its rows is taken before any of them, so two writers cannot lock each other out, and a row that is
    not there yet cannot appear in between. SQLite has one writer anyway.
    """
    if target.table in tx.schemas:
        return tx.schemas[target.table]
    if not tx.is_sqlite:
        schema_evolution.pin(tx, f"rows of {target.connection} {target.resource}")
    schema = schema_evolution.current(tx, target.table)
    if schema is not None:
        tx.schemas[target.table] = schema
    return schema
