"""The journal of changes: ids without gaps, in the order of the commits, so that `id > last` never misses an entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from models.bookkeeping.journal_news import NOTIFY
from models.db import bulk
from models.db.tables import changes as entries
from models.db.tables import feed
from models.values import ChangeKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from models.db.database import Tx
    from models.values import Cause, Change

_Numbered = tuple[int, "Change"]

_INSERT_SELECT_FROM = 100
"""From so many created rows on, `INSERT … SELECT` from the resource's table is faster than sending them."""


def append(
    tx: Tx,
    connection: str,
    resource: str,
    changes: Sequence[Change],
    *,
    revision: int,
    cause: Cause,
    now: datetime,
    rows: sa.Table | None = None,
) -> None:
    """Write entries, as the LAST statements of the transaction. `rows`: the table that holds the created rows.

    The row of `erpmirror_feed` is the lock: its holder commits before the next id is drawn. An id drawn from a sequence
    could commit after a higher one, and a reader by id would miss it.
    """
    if not changes:
        return
    returned = (feed.c.last,) if tx.dialect.name == "sqlite" else (feed.c.last, NOTIFY)
    last = tx.execute(sa.update(feed).values(last=feed.c.last + len(changes)).returning(*returned)).scalar_one()
    constants = {"at": now, "connection": connection, "resource": resource, "revision": revision, "cause": cause.value}
    numbered = enumerate(changes, last - len(changes) + 1)
    if rows is None or len(changes) < _INSERT_SELECT_FROM or tx.dialect.name == "sqlite":
        _insert(tx, list(numbered), constants)
        return
    created: list[_Numbered] = []
    others: list[_Numbered] = []
    for each in numbered:
        (created if each[1].kind is ChangeKind.CREATED else others).append(each)
    _insert(tx, others, constants)
    _insert_as_stored(tx, created, constants, rows)


def _insert(tx: Tx, numbered: Sequence[_Numbered], constants: dict[str, Any]) -> None:
    changes = [change for _, change in numbered]
    columns: dict[str, Sequence[Any]] = {
        "id": [number for number, _ in numbered],
        "key": [change.key for change in changes],
        "kind": [change.kind.value for change in changes],
        "before": [change.before for change in changes],
        "after": [change.after for change in changes],
    }
    texts = {"after": [change.text for change in changes]}
    bulk.insert(tx, entries, columns, constants=constants, lines=lambda: bulk.encode(entries, columns, texts))


def _insert_as_stored(tx: Tx, numbered: Sequence[_Numbered], constants: dict[str, Any], rows: sa.Table) -> None:
    """Copy created objects from the resource's table: sending and decoding them a second time takes longer."""
    if not numbered:
        return
    ids = sa.cast(bulk.text_array([str(number) for number, _ in numbered]), postgresql.ARRAY(sa.BigInteger))
    keys = bulk.text_array([change.key for _, change in numbered])
    new = sa.func.unnest(ids, keys).table_valued("id", sa.column("key", sa.Text), name="new").render_derived()
    given = {name: sa.literal(value, entries.c[name].type) for name, value in constants.items()}
    given["kind"] = sa.literal(ChangeKind.CREATED.value)
    stored = sa.select(new.c.id, new.c.key, rows.c["_raw"], *given.values()).where(
        rows.c["_connection"] == constants["connection"], rows.c["_key"] == new.c.key
    )
    insert = sa.insert(entries).from_select(["id", "key", "after", *given], stored)
    inserted = tx.execute(insert, execution_options={"preserve_rowcount": True}).rowcount
    if inserted != len(numbered):
        raise RuntimeError(f"of {len(numbered)} created rows {inserted} are in the table")


def read(
    tx: Tx,
    *,
    after: int,
    limit: int,
    connection: str | None = None,
    resource: str | None = None,
    kind: str | None = None,
    key: str | None = None,
) -> Sequence[sa.Row[Any]]:
    """At most `limit` entries with an id above `after`, oldest first."""
    chosen = sa.select(entries).where(entries.c.id > after)
    for column, wanted in (
        (entries.c.connection, connection),
        (entries.c.resource, resource),
        (entries.c.kind, kind),
        (entries.c.key, key),
    ):
        if wanted is not None:
            chosen = chosen.where(column == wanted)
    return tx.execute(chosen.order_by(entries.c.id).limit(limit)).all()


def latest(tx: Tx, *, connection: str, resource: str) -> dict[str, int]:
    """Key -> id of its last entry, of the objects that are not deleted."""
    last: dict[str, int] = {}
    chosen = sa.select(entries.c.key, entries.c.id, entries.c.kind).where(
        entries.c.connection == connection, entries.c.resource == resource
    )
    for key, id_, kind in tx.execute(chosen.order_by(entries.c.id), execution_options={"yield_per": 1000}):
        if kind == ChangeKind.DELETED.value:
            last.pop(key, None)
        else:
            last[key] = id_
    return last


def objects(tx: Tx, ids: Sequence[int]) -> dict[str, Any]:
    """Key -> the whole object, of these entries."""
    chosen = sa.select(entries.c.key, entries.c.after).where(entries.c.id.in_(ids))
    return {row.key: row.after for row in tx.execute(chosen)}


def count_older(tx: Tx, *, connection: str, resource: str, revision: int, after: int, at_most: int) -> int:
    """The number of entries above the id `after` that were written before this revision, counted up to `at_most`."""
    chosen = sa.select(entries.c.id).where(
        entries.c.connection == connection,
        entries.c.id > after,
        entries.c.resource == resource,
        entries.c.revision < revision,
    )
    return tx.execute(sa.select(sa.func.count()).select_from(chosen.limit(at_most).subquery())).scalar_one()


def rewrite(
    tx: Tx, *, connection: str, resource: str, after: int, limit: int, redact: Callable[[Any, Any], tuple[Any, Any]]
) -> int | None:
    """Pass the next entries above the id `after` through `redact`, which returns (before, after) anew.

    Returns the last id, None if there was none. In no other way does an entry change.
    """
    c = entries.c
    chosen = sa.select(c.id, c.before, c.after).where(c.connection == connection, c.resource == resource, c.id > after)
    rows = tx.execute(chosen.order_by(c.id).limit(limit)).all()
    for row in rows:
        redacted = redact(row.before, row.after)
        if redacted != (row.before, row.after):
            tx.execute(sa.update(entries).where(c.id == row.id).values(before=redacted[0], after=redacted[1]))
    return rows[-1].id if rows else None


def bounds(tx: Tx) -> tuple[int, int, str]:
    """The oldest id that is kept (the next one, if none is), the last id drawn, and the feed's name."""
    oldest = sa.select(sa.func.min(entries.c.id)).scalar_subquery()
    row = tx.execute(sa.select(sa.func.coalesce(oldest, feed.c.last + 1), feed.c.last, feed.c.name)).one()
    return (row[0], row[1], row[2])


def trim(tx: Tx, before: datetime, *, limit: int = 1000) -> int:
    """Remove at most `limit` entries older than `before`, oldest first and without a gap; returns how many."""
    oldest = sa.select(entries.c.id, entries.c.at).order_by(entries.c.id).limit(limit).subquery()
    kept = sa.select(sa.func.min(oldest.c.id)).where(oldest.c.at >= before).scalar_subquery()
    ended = sa.select(sa.func.max(oldest.c.id) + 1).scalar_subquery()
    return tx.execute(sa.delete(entries).where(entries.c.id < sa.func.coalesce(kept, ended))).rowcount
