"""One dirty set for every door: a row for each (connection, resource, key) that needs a fresh look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models.db import bulk
from models.db.database import Tx
from models.db.tables import inbox, revisions, streams, webhooks
from models.exact import storable, storable_text
from models.values import Cause, Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from models.values import JsonObject, ObjectRef

_BATCH = 500

MISSING = ""
"""In place of a token: the last listing lacked the key, and only the next one can say whether it is gone."""


@dataclass(frozen=True, slots=True)
class Item:
    """A row of the inbox as a fetch takes it. `wanted` was read before the fetch takes its turn."""

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
    """Ask for a fresh look at each key; returns how many keys that were.

    A key that is already there gets a new `wanted`, so that a fetch under way does not finish it; news also wakes what
    was parked or held. `tokens`: key -> what stands for the listing's line; `summaries`: key -> the line itself, after
    redaction. `unless_known`: leave rows that are already there alone (a key that is still missing is no news).
    `after`: not before so much time has passed.
    """
    distinct = sorted({(ref.resource, storable_text(ref.key)) for ref in refs}, key=_bytewise)
    if not distinct:
        return 0
    if len(distinct) == 1 and not (tokens or summaries or unless_known or after):
        _enqueue_one(tx, (connection, *distinct[0]), lane=lane, cause=cause)
        return 1
    wanted, now = tx.draw_now()
    listed = {storable_text(key): token for key, token in (tokens or {}).items()}
    shown = {storable_text(key): storable(line) for key, line in (summaries or {}).items()}
    for start in range(0, len(distinct), _BATCH):
        rows = [
            {
                "connection": connection,
                "resource": resource,
                "key": key,
                "wanted": wanted,
                "lane": lane,
                "cause": cause,
                "state": "due",
                "due_at": now + after,
                "first_at": now,
                "attempts": 0,
                "approved": False,
                "listed": listed.get(key),
                "summary": shown.get(key),
            }
            for resource, key in distinct[start : start + _BATCH]
        ]
        if unless_known:
            tx.execute(tx.insert(inbox).values(rows).on_conflict_do_nothing())
        else:
            tx.execute(_upsert(tx.insert(inbox).values(rows)))
    return len(distinct)


def _enqueue_one(tx: Tx, key: tuple[str, str, str], *, lane: Lane, cause: Cause) -> None:
    """What a webhook does, in one statement that was spelt before."""
    clock = tx.clock_sql()
    row: dict[str, Any] = {
        **dict(zip(("connection", "resource", "key"), key, strict=True)),
        "lane": lane,
        "cause": cause,
    }
    if tx.is_sqlite:
        row["wanted"] = tx.draw()
    tx.execute(_upsert_one(clock.expression, tx.is_sqlite), {**row, **clock.params})


def _upsert(insert: Any) -> Any:
    new = insert.excluded
    asleep = inbox.c.state != "due"
    return insert.on_conflict_do_update(
        index_elements=[inbox.c.connection, inbox.c.resource, inbox.c.key],
        set_={
            "wanted": new.wanted,
            "lane": sa.case((new.lane < inbox.c.lane, new.lane), else_=inbox.c.lane),
            "state": "due",
            # What is due already keeps its place: a key that changes all the time would never come first.
            "due_at": sa.case((sa.and_(~asleep, inbox.c.due_at < new.due_at), inbox.c.due_at), else_=new.due_at),
            "attempts": sa.case((asleep, 0), else_=inbox.c.attempts),
            "lone_failures": sa.case((asleep, 0), else_=inbox.c.lone_failures),
            "listed": sa.func.coalesce(new.listed, inbox.c.listed),
            "summary": sa.func.coalesce(new.summary, inbox.c.summary),
        },
    )


@cache
def _upsert_one(clock: sa.ColumnElement[datetime], is_sqlite: bool) -> Any:  # noqa: FBT001 - what it is remembered by
    """The statement for a single row: spelling it takes longer than executing it."""
    given = {"state": "due", "due_at": clock, "first_at": clock, "attempts": 0, "approved": False}
    if is_sqlite:
        return _upsert(sqlite.insert(inbox).values(given))
    return _upsert(postgresql.insert(inbox).values(**given, wanted=revisions.next_value()))


def due(tx: Tx, *, connection: str, now: datetime, limit: int = 1) -> list[Item]:
    """The next rows to fetch: live before bulk, then the longest waiting. Keys of a parked resource rest with it."""
    found = tx.execute(_DUE, {"its_connection": connection, "now": now, "most": limit})
    return [
        Item(**{**row._mapping, "lane": Lane(row.lane), "cause": Cause(row.cause)})  # noqa: SLF001 - SQLAlchemy's public name
        for row in found
    ]


def live_is_pending(tx: Tx, *, connections: Sequence[str]) -> tuple[bool, datetime]:
    """Whether a notice or a live key of any of these connections waits for the gate, and the clock.

    What failed holds up nobody.
    """
    clock = tx.database.clock_sql(steady=True)
    pending, now = tx.execute(sa.select(live_work(connections, clock.expression), clock.expression), clock.params).one()
    return bool(pending), now


def live_work(connections: Any, clock: sa.ColumnElement[datetime]) -> sa.ColumnElement[bool]:
    """The condition: a webhook or a live key of any of these connections waits, and has not failed yet."""
    unfolded = sa.exists().where(webhooks.c.connection.in_(connections), webhooks.c.state == "new")
    live = sa.exists().where(
        inbox.c.connection.in_(connections),
        inbox.c.state == "due",
        inbox.c.lane == Lane.LIVE,
        inbox.c.due_at <= clock,
        inbox.c.attempts == 0,
        ~resource_not_open(),  # what waits with its resource must not hold up the others
    )
    return sa.or_(unfolded, live)


def tokens(tx: Tx, *, connection: str, resource: str, keys: Sequence[str]) -> dict[str, str]:
    """What the last listing showed of keys that still wait here."""
    statement = sa.select(inbox.c.key, inbox.c.listed).where(
        inbox.c.connection == connection,
        inbox.c.resource == resource,
        inbox.c.key.in_(keys),
        inbox.c.listed.is_not(None),
    )
    return {row.key: row.listed for row in tx.execute(statement)}


def is_pending(tx: Tx, item: Item) -> bool:
    """Whether the row still waits as it was read: nobody has finished or moved it meanwhile."""
    return tx.execute(sa.select(sa.exists().where(_unchanged(item), inbox.c.state == "due"))).scalar_one()


def claim(tx: Tx, item: Item, *, now: datetime, until: datetime) -> bool:
    """Somebody asks for it: it rests until then, when he has an answer or is dead. False if it no longer waits.

    The attempt counts from here on, so that one which no worker survives counts, too.
    """
    tried = {"now": now, "its_end": until, "its_attempts": item.attempts + 1, "times_alone": item.lone_failures + 1}
    return tx.execute(_CLAIM, _bound(item) | tried).rowcount == 1


def finish_listed(tx: Tx, *, connection: str, resource: str, keys: Sequence[str], before: int) -> None:
    """A listing brought these objects as they are now: what was mentioned before it was asked for is done."""
    for start in range(0, len(keys), bulk.MOST):
        named = [storable_text(key) for key in keys[start : start + bulk.MOST]]
        tx.execute(
            sa.delete(inbox).where(
                inbox.c.connection == connection,
                inbox.c.resource == resource,
                bulk.among(tx, inbox.c.key, named),
                inbox.c.wanted < before,
            )
        )


def lock(tx: Tx, *, connection: str) -> None:
    """Before a transaction writes many rows of a connection in several statements: one such writer at a time.

    Each statement goes through its rows in the order of their keys; two statements of one transaction cannot.
    """
    if not tx.is_sqlite:
        name = f"erpmirror inbox {connection}"
        tx.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


def finish(tx: Tx, item: Item) -> bool:
    """The fetch is written. False when the key was mentioned meanwhile: then the row stays for another look.

    A person's approval was of what this fetch found: it is used up either way.
    """
    finished = tx.execute(_FINISH, _bound(item)).rowcount == 1
    if not finished:
        _reset_counts(tx, item, approved=False, attempts=0, lone_failures=0)
    return finished


def postpone(tx: Tx, item: Item, *, until: datetime, reason: str | None, counts: bool, lone: bool = False) -> None:
    """Try again then. A mention that came meanwhile is news and keeps its own time, but forgets no failure.

    `counts`: as an attempt. `alone`: others were answered since the last one.
    """
    failures = {"attempts": item.attempts + counts, "lone_failures": item.lone_failures + lone}
    if not _update(tx, item, due_at=until, reason=reason, **failures):
        _reset_counts(tx, item, **failures)


def defer_all(tx: Tx, *, connection: str, resource: str, now: datetime, until: datetime) -> int:
    """Everything of a resource is asked for at once: what is due of it rests until then. Returns how many keys."""
    here = (inbox.c.connection == connection, inbox.c.resource == resource, inbox.c.state == "due")
    values = {"due_at": until, "reason": "waits for a full reading"}
    return tx.execute(sa.update(inbox).where(*here, inbox.c.due_at <= now).values(**values)).rowcount


def park(tx: Tx, item: Item, *, reason: str) -> None:
    """Set aside for a person. News that came meanwhile is looked at first, with all its attempts."""
    if not _update(tx, item, state="parked", reason=reason):
        _reset_counts(tx, item, attempts=0, lone_failures=0)


def hold(tx: Tx, item: Item, *, reason: str) -> None:
    """A deletion that waits for a person's approval. News likewise."""
    if not _update(tx, item, state="held", reason=reason):
        _reset_counts(tx, item, attempts=0, lone_failures=0)


def finish_all(
    tx: Tx,
    *,
    connection: str,
    resource: str,
    missing: Sequence[str],
    before: int,
    now: datetime,
    confirms_after: timedelta,
) -> tuple[set[str], set[str]]:
    """A complete reply has answered what waited here before it was asked for.

    Returns which of the `missing` keys a person approved, and which a reply lacked `confirms_after` ago, too. For
    resources whose keys cannot be fetched. What is held and still missing goes on waiting for a person.
    """
    here = (inbox.c.connection == connection, inbox.c.resource == resource)
    absent = set(missing)
    chosen: sa.Select[Any] = sa.select(*[inbox.c[name] for name in ("key", "state", "approved", "listed", "first_at")])
    waiting = chosen.where(*here, inbox.c.wanted < before, inbox.c.material.is_(None)).with_for_update()
    rows = tx.execute(waiting).all()
    # A reply that follows hard upon the one that lacked the key may have the same mistake.
    young = [row for row in rows if row.listed == MISSING and row.first_at + confirms_after > now and row.key in absent]
    for moment in {row.first_at for row in young}:
        again = [row.key for row in young if row.first_at == moment]
        _each_batch(tx, sa.update(inbox).values(due_at=moment + confirms_after).where(*here), again)
    waits = {row.key for row in young} | {row.key for row in rows if row.state == "held" and row.key in absent}
    _each_batch(tx, sa.delete(inbox).where(*here), [row.key for row in rows if row.key not in waits])
    gone = [row for row in rows if row.key in absent - waits]
    approved = {row.key for row in gone if row.approved}
    return approved, {row.key for row in gone if row.listed == MISSING} - approved


def _each_batch(tx: Tx, statement: sa.Update | sa.Delete, keys: Sequence[str]) -> None:
    ordered = sorted(keys, key=str.encode)
    for start in range(0, len(ordered), _BATCH):
        tx.execute(statement.where(inbox.c.key.in_(ordered[start : start + _BATCH])))


def forget(tx: Tx, *, connection: str, resource: str) -> None:
    """Remove every row of a resource."""
    tx.execute(sa.delete(inbox).where(inbox.c.connection == connection, inbox.c.resource == resource))


def resource_not_open() -> sa.ColumnElement[bool]:
    """The condition: a key's resource is parked or retired."""
    return sa.exists().where(
        streams.c.connection == inbox.c.connection,
        streams.c.resource == inbox.c.resource,
        streams.c.state != "open",
    )


def _update(tx: Tx, item: Item, **values: Any) -> bool:
    return tx.execute(sa.update(inbox).where(_unchanged(item)).values(**values)).rowcount == 1


def _reset_counts(tx: Tx, item: Item, **values: Any) -> None:
    """What the attempt that just ended says of the key, whatever was mentioned meanwhile: `begin` took it for lost."""
    tx.execute(sa.update(inbox).where(_of_key(item)).values(**values))


def _unchanged(item: Item) -> sa.ColumnElement[bool]:
    return sa.and_(_of_key(item), inbox.c.wanted == item.wanted)


def _of_key(item: Item) -> sa.ColumnElement[bool]:
    return sa.and_(inbox.c.connection == item.connection, inbox.c.resource == item.resource, inbox.c.key == item.key)


def _bytewise(pair: tuple[str, str]) -> tuple[bytes, bytes]:
    return pair[0].encode(), pair[1].encode()


def _bound(item: Item) -> dict[str, Any]:
    named = {"its_connection": item.connection, "its_resource": item.resource, "its_key": item.key}
    return {**named, "its_wanted": item.wanted}


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
        due_at=sa.bindparam("its_end"),
        tried_at=sa.bindparam("now"),
        attempts=sa.bindparam("its_attempts"),
        lone_failures=sa.bindparam("times_alone"),
    )
)
_FINISH = sa.delete(inbox).where(*_UNCHANGED)
_DUE = (
    sa.select(*[inbox.c[name] for name in Item.__slots__])
    .where(inbox.c.connection == sa.bindparam("its_connection"), inbox.c.state == "due")
    .where(inbox.c.due_at <= sa.bindparam("now"), ~resource_not_open())
    .order_by(inbox.c.lane, inbox.c.due_at)
    .limit(sa.bindparam("most", type_=sa.Integer))
)
