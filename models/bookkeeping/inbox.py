"""The inbox: one row for each (connection, resource, key) that has to be fetched, whatever announced the change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.db import bulk
from models.db.database import Tx
from models.db.tables import inbox, revisions, streams
from models.exact import storable, storable_text
from models.values import Cause, Lane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from models.values import JsonObject, ObjectRef

_BATCH = 500

MISSING = ""
"""In place of a token: the last listing did not name the key, and only the next one can confirm that it is gone."""


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the inbox as a fetch takes it. `wanted` was read before the fetch acquires its lease."""

    connection: str
    resource: str
    key: str
    wanted: int
    lane: Lane
    cause: Cause
    attempts: int
    lone_failures: int
    tried_at: datetime | None
    approved: bool
    listed: str | None
    summary: JsonObject | None
    due_at: datetime


def enqueue(
    tx: Tx,
    *,
    connection: str,
    refs: Iterable[ObjectRef],
    lane: Lane,
    cause: Cause,
    tokens: Mapping[str, str] | None = None,
    summaries: Mapping[str, JsonObject] | None = None,
    unless_known: bool = False,
    after: timedelta = timedelta(0),
) -> int:
    """Have each key fetched; returns how many keys that were.

    A key that is already there gets a new `wanted`, so that a fetch under way does not finish it. A parked or held one
    becomes due again. `tokens`: key -> the token in its line of the listing; `summaries`: key -> the line itself, after
    redaction. `unless_known`: leave rows that are already there alone (a key that is still missing is not a change).
    `after`: due only after so much time.
    """
    distinct = sorted({(ref.resource, storable_text(ref.key)) for ref in refs}, key=_bytewise)
    if not distinct:
        return 0
    if len(distinct) == 1 and not (tokens or summaries or unless_known or after):
        resource, key = distinct[0]
        _enqueue_one(tx, {"connection": connection, "resource": resource, "key": key}, lane=lane, cause=cause)
        return 1
    wanted, now = tx.draw_now()
    constants = {
        "connection": connection,
        "wanted": wanted,
        "lane": lane,
        "cause": cause,
        "state": "due",
        "due_at": now + after,
        "first_enqueued_at": now,
        "attempts": 0,
        "approved": False,
    }
    listed = {storable_text(key): token for key, token in (tokens or {}).items()}
    lines = {storable_text(key): storable(line) for key, line in (summaries or {}).items()}
    for start in range(0, len(distinct), _BATCH):
        rows = [
            {**constants, "resource": resource, "key": key, "listed": listed.get(key), "summary": lines.get(key)}
            for resource, key in distinct[start : start + _BATCH]
        ]
        insert = tx.insert(inbox).values(rows)
        tx.execute(insert.on_conflict_do_nothing() if unless_known else _upsert(insert))
    return len(distinct)


def _enqueue_one(tx: Tx, primary_key: dict[str, str], *, lane: Lane, cause: Cause) -> None:
    """Enqueue one key, as a webhook does, by a cached statement."""
    clock = tx.clock_sql()
    row: dict[str, Any] = {**primary_key, "lane": lane, "cause": cause}
    if tx.is_sqlite:
        row["wanted"] = tx.draw()
    tx.execute(_upsert_one(clock.expression, tx.is_sqlite), {**row, **clock.params})


def _upsert(insert: Any) -> Any:
    new = insert.excluded
    not_due = inbox.c.state != "due"
    return insert.on_conflict_do_update(
        index_elements=[inbox.c.connection, inbox.c.resource, inbox.c.key],
        set_={
            "wanted": new.wanted,
            "lane": sa.case((new.lane < inbox.c.lane, new.lane), else_=inbox.c.lane),
            "state": "due",
            # A key that is due keeps its place, else one that changes all the time would never come first.
            "due_at": sa.case((sa.and_(~not_due, inbox.c.due_at < new.due_at), inbox.c.due_at), else_=new.due_at),
            "attempts": sa.case((not_due, 0), else_=inbox.c.attempts),
            "lone_failures": sa.case((not_due, 0), else_=inbox.c.lone_failures),
            "listed": sa.func.coalesce(new.listed, inbox.c.listed),
            "summary": sa.func.coalesce(new.summary, inbox.c.summary),
        },
    )


@cache
def _upsert_one(clock: sa.ColumnElement[datetime], is_sqlite: bool) -> Any:  # noqa: FBT001 - the cache key
    """The statement for a single row, cached: building it takes longer than executing it."""
    given = {"state": "due", "due_at": clock, "first_enqueued_at": clock, "attempts": 0, "approved": False}
    if is_sqlite:
        return _upsert(sqlite.insert(inbox).values(given))
    return _upsert(postgresql.insert(inbox).values(**given, wanted=revisions.next_value()))


def due(tx: Tx, *, connection: str, now: datetime, limit: int = 1) -> list[Item]:
    """The next rows to fetch: live before bulk, then the longest overdue. Keys of a retired resource are left out."""
    found = tx.execute(_DUE, {"its_connection": connection, "now": now, "max_rows": limit})
    return [
        Item(**{**row._mapping, "lane": Lane(row.lane), "cause": Cause(row.cause)})  # noqa: SLF001 - SQLAlchemy's public name
        for row in found
    ]


def due_together(
    tx: Tx, *, connection: str, resource: str, cause: Cause, now: datetime, limit: int
) -> dict[str, str | None]:
    """Key -> its token in the last listing, of the next keys that a batch may fetch, the longest overdue first.

    A key that a fetch or a batch has failed for is fetched by itself, and so is a deletion that a person approved.
    """
    c = inbox.c
    here = (c.connection == connection, c.resource == resource, c.state == "due", c.lane == Lane.BULK)
    untried = (c.attempts == 0, c.lone_failures == 0, c.unbatched.is_(None), ~c.approved)
    chosen = sa.select(c.key, c.listed).where(*here, c.cause == cause, c.due_at <= now, *untried)
    return {row.key: row.listed for row in tx.execute(chosen.order_by(c.due_at, c.key).limit(limit))}


def leave_alone(tx: Tx, *, connection: str, resource: str, keys: Mapping[str, str]) -> None:
    """Have these keys fetched by themselves. `keys`: key -> why no batch can bring it."""
    here = (inbox.c.connection == connection, inbox.c.resource == resource)
    for reason in sorted(set(keys.values())):
        chosen = [key for key, why in keys.items() if why == reason]
        _in_batches(tx, sa.update(inbox).values(unbatched=storable_text(reason)).where(*here), chosen)


def tokens(tx: Tx, *, connection: str, resource: str, keys: Sequence[str]) -> dict[str, str]:
    """Key -> its token in the last listing, of those keys that are in the inbox with one."""
    statement = sa.select(inbox.c.key, inbox.c.listed).where(
        inbox.c.connection == connection,
        inbox.c.resource == resource,
        inbox.c.key.in_(keys),
        inbox.c.listed.is_not(None),
    )
    return {row.key: row.listed for row in tx.execute(statement)}


def has(tx: Tx, *, connection: str, ref: ObjectRef) -> bool:
    """Whether the object is to be fetched, or parked: the mirror may not show it as it is."""
    here = (inbox.c.connection == connection, inbox.c.resource == ref.resource, inbox.c.key == ref.key)
    return tx.execute(sa.select(sa.exists().where(*here))).scalar_one()


def is_pending(tx: Tx, item: Item) -> bool:
    """Whether the row is due and unchanged since it was read."""
    return tx.execute(sa.select(sa.exists().where(_unchanged(item), inbox.c.state == "due"))).scalar_one()


def claim(tx: Tx, item: Item, *, now: datetime, until: datetime) -> bool:
    """Claim the row until `until`, the end of the request's lease. False if it is no longer due.

    The attempt counts before it is made, so that one which kills the worker counts, too.
    """
    attempt = {"now": now, "until": until, "failed": item.attempts + 1, "failed_alone": item.lone_failures + 1}
    return tx.execute(_CLAIM, _parameters(item) | attempt).rowcount == 1


def finish_listed(tx: Tx, *, connection: str, resource: str, keys: Sequence[str], before: int) -> None:
    """Remove the rows of objects that a listing brought, if they were enqueued before its request (`before`)."""
    for start in range(0, len(keys), bulk.MAX_KEYS):
        named = [storable_text(key) for key in keys[start : start + bulk.MAX_KEYS]]
        tx.execute(
            sa.delete(inbox).where(
                inbox.c.connection == connection,
                inbox.c.resource == resource,
                bulk.any_of(tx, inbox.c.key, named),
                inbox.c.wanted < before,
            )
        )


def lock(tx: Tx, *, connection: str) -> None:
    """Admit one transaction at a time that writes many rows of a connection in several statements.

    Within a statement rows are locked in the order of their keys, across statements they are not: without this lock two
    such transactions could deadlock.
    """
    tx.lock(f"inbox {connection}")


def finish(tx: Tx, item: Item) -> bool:
    """Remove the row, because its fetch is written. False if the key was enqueued meanwhile: the row stays due.

    A person's approval covered what this fetch found, so it ends either way.
    """
    finished = tx.execute(_FINISH, _parameters(item)).rowcount == 1
    if not finished:
        _reset_counts(tx, item, approved=False, attempts=0, lone_failures=0)
    return finished


def postpone(tx: Tx, item: Item, *, until: datetime, reason: str | None, counts: bool, lone: bool = False) -> None:
    """Try again at `until`. A key that was enqueued meanwhile keeps its own time, but its failures count on.

    `counts`: it was an attempt. `lone`: other keys of the account were answered since the last attempt.
    """
    failures = {"attempts": item.attempts + counts, "lone_failures": item.lone_failures + lone}
    if not _update(tx, item, due_at=until, reason=reason, **failures):
        _reset_counts(tx, item, **failures)


def defer_all(
    tx: Tx, *, connection: str, resource: str, chosen: Callable[[str], bool], now: datetime, until: datetime
) -> int:
    """Have the resource's due keys that are `chosen` wait until `until`, because a full sync reads them instead.

    Returns how many these are.
    """
    here = (inbox.c.connection == connection, inbox.c.resource == resource, inbox.c.state == "due")
    due_keys = tx.execute(sa.select(inbox.c.key).where(*here, inbox.c.due_at <= now)).scalars()
    keys = [key for key in due_keys if chosen(key)]
    values = {"due_at": until, "reason": "waits for a full sync"}
    _in_batches(tx, sa.update(inbox).values(**values).where(*here), keys)
    return len(keys)


def park(tx: Tx, item: Item, *, reason: str) -> None:
    """Park the key for a person. One that was enqueued meanwhile stays due, with all its attempts."""
    if not _update(tx, item, state="parked", reason=reason):
        _reset_counts(tx, item, attempts=0, lone_failures=0)


def hold(tx: Tx, item: Item, *, reason: str) -> None:
    """Hold the deletion for a person's approval. A key that was enqueued meanwhile stays due."""
    if not _update(tx, item, state="held", reason=reason):
        _reset_counts(tx, item, attempts=0, lone_failures=0)


def finish_absent(
    tx: Tx,
    *,
    connection: str,
    resource: str,
    decides: Callable[[str], bool],
    missing: Sequence[str],
    before: int,
    now: datetime,
    confirms_after: timedelta,
) -> tuple[set[str], set[str]]:
    """Remove the rows enqueued before a complete full sync, of the keys that it `decides` because no fetch can.

    `missing`: those of the keys that it did not name. `before`: the revision of its first request. Returns the missing
    keys whose deletion a person approved, and those that one at least `confirms_after` ago did not name either. A held
    key that is still missing stays held; one that was first missing less than `confirms_after` ago waits.
    """
    here = (inbox.c.connection == connection, inbox.c.resource == resource)
    absent = set(missing)
    columns = [inbox.c[name] for name in ("key", "state", "approved", "listed", "first_enqueued_at")]
    enqueued = (inbox.c.wanted < before, inbox.c.unreadable_raw.is_(None))
    found = tx.execute(sa.select(*columns).where(*here, *enqueued).with_for_update())
    rows = [row for row in found if decides(row.key)]
    # A reply that follows soon after the one that lacked the key may have the same mistake.
    too_soon = {
        row.key: row.first_enqueued_at + confirms_after
        for row in rows
        if row.listed == MISSING and row.first_enqueued_at + confirms_after > now and row.key in absent
    }
    for due_at in set(too_soon.values()):
        keys = [key for key, at in too_soon.items() if at == due_at]
        _in_batches(tx, sa.update(inbox).values(due_at=due_at).where(*here), keys)
    kept = too_soon.keys() | {row.key for row in rows if row.state == "held" and row.key in absent}
    _in_batches(tx, sa.delete(inbox).where(*here), [row.key for row in rows if row.key not in kept])
    gone = [row for row in rows if row.key in absent - kept]
    approved = {row.key for row in gone if row.approved}
    return approved, {row.key for row in gone if row.listed == MISSING} - approved


def _in_batches(tx: Tx, statement: sa.Update | sa.Delete, keys: Sequence[str]) -> None:
    ordered = sorted(keys, key=str.encode)
    for start in range(0, len(ordered), _BATCH):
        tx.execute(statement.where(inbox.c.key.in_(ordered[start : start + _BATCH])))


def forget(tx: Tx, *, connection: str, resource: str) -> None:
    """Remove every row of a resource."""
    tx.execute(sa.delete(inbox).where(inbox.c.connection == connection, inbox.c.resource == resource))


def resource_is_retired() -> sa.ColumnElement[bool]:
    """The condition: a key's resource is no longer configured. Keys of a parked one are fetched: its listing may be
    refused while its objects are not.
    """
    return sa.exists().where(
        streams.c.connection == inbox.c.connection,
        streams.c.resource == inbox.c.resource,
        streams.c.state == "retired",
    )


def _update(tx: Tx, item: Item, **values: Any) -> bool:
    return tx.execute(sa.update(inbox).where(_unchanged(item)).values(**values)).rowcount == 1


def _reset_counts(tx: Tx, item: Item, **values: Any) -> None:
    """After an attempt, set the counts of a key that was enqueued meanwhile: `claim` has counted it as failed."""
    tx.execute(sa.update(inbox).where(_is_row(item)).values(**values))


def _unchanged(item: Item) -> sa.ColumnElement[bool]:
    return sa.and_(_is_row(item), inbox.c.wanted == item.wanted)


def _is_row(item: Item) -> sa.ColumnElement[bool]:
    return sa.and_(inbox.c.connection == item.connection, inbox.c.resource == item.resource, inbox.c.key == item.key)


def _bytewise(pair: tuple[str, str]) -> tuple[bytes, bytes]:
    return pair[0].encode(), pair[1].encode()


def _parameters(item: Item) -> dict[str, Any]:
    key = {"its_connection": item.connection, "its_resource": item.resource, "its_key": item.key}
    return {**key, "its_wanted": item.wanted}


# Parameters are not named like columns: in an UPDATE, SQLAlchemy reserves those names for the values to be set.
_UNCHANGED = (
    inbox.c.connection == sa.bindparam("its_connection"),
    inbox.c.resource == sa.bindparam("its_resource"),
    inbox.c.key == sa.bindparam("its_key"),
    inbox.c.wanted == sa.bindparam("its_wanted"),
)
_CLAIM = (
    sa.update(inbox)
    .where(*_UNCHANGED, inbox.c.state == "due", inbox.c.due_at <= sa.bindparam("now"))
    .values(
        due_at=sa.bindparam("until"),
        tried_at=sa.bindparam("now"),
        attempts=sa.bindparam("failed"),
        lone_failures=sa.bindparam("failed_alone"),
    )
)
_FINISH = sa.delete(inbox).where(*_UNCHANGED)
_DUE = (
    sa.select(*[inbox.c[name] for name in Item.__slots__])
    .where(inbox.c.connection == sa.bindparam("its_connection"), inbox.c.state == "due")
    .where(inbox.c.due_at <= sa.bindparam("now"), ~resource_is_retired())
    .order_by(inbox.c.lane, inbox.c.due_at)
    .limit(sa.bindparam("max_rows", type_=sa.Integer))
)
