"""One dirty set for every door: a row for each (connection, resource, key) that needs a fresh look."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.exact import storable, storable_text
from models.tables import inbox, notices, streams
from models.values import Cause, Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from models.database import Database
    from models.values import JsonObject, Mention, Unreadable

_BATCH = 500


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
    approved: bool
    listed: str | None
    summary: JsonObject | None
    due_at: datetime


def mention(
    connection: sa.Connection,
    database: Database,
    *,
    connection_name: str,
    mentions: Iterable[Mention],
    lane: Lane,
    cause: Cause,
    tokens: Mapping[str, str] | None = None,
    summaries: Mapping[str, JsonObject] | None = None,
    unless_known: bool = False,
) -> int:
    """Ask for a fresh look at each key; returns how many keys that were.

    A key that is already there gets a new `wanted`, so that a fetch under way does not finish it; news also wakes what
    was parked or held. `tokens`: key -> what stands for the listing's line; `summaries`: key -> the line itself, after
    redaction. `unless_known`: leave rows that are already there alone (a key that is still missing is no news).
    """
    distinct = sorted({(mention.resource, storable_text(mention.key)) for mention in mentions}, key=_bytewise)
    if not distinct:
        return 0
    wanted, now = database.draw(connection), database.now(connection)
    listed = {storable_text(key): token for key, token in (tokens or {}).items()}
    shown = {storable_text(key): storable(line) for key, line in (summaries or {}).items()}
    for start in range(0, len(distinct), _BATCH):
        rows = [
            {
                "connection": connection_name,
                "resource": resource,
                "key": key,
                "wanted": wanted,
                "lane": lane,
                "cause": cause,
                "state": "due",
                "due_at": now,
                "first_at": now,
                "attempts": 0,
                "approved": False,
                "listed": listed.get(key),
                "summary": shown.get(key),
            }
            for resource, key in distinct[start : start + _BATCH]
        ]
        insert = database.insert(inbox).values(rows)
        if unless_known:
            connection.execute(insert.on_conflict_do_nothing())
            continue
        new = insert.excluded
        asleep = inbox.c.state != "due"
        connection.execute(
            insert.on_conflict_do_update(
                index_elements=[inbox.c.connection, inbox.c.resource, inbox.c.key],
                set_={
                    "wanted": new.wanted,
                    "lane": sa.case((new.lane < inbox.c.lane, new.lane), else_=inbox.c.lane),
                    "state": "due",
                    # What is due already keeps its place: a key that changes all the time would never come first.
                    "due_at": sa.case(
                        (sa.and_(~asleep, inbox.c.due_at < new.due_at), inbox.c.due_at), else_=new.due_at
                    ),
                    "attempts": sa.case((asleep, 0), else_=inbox.c.attempts),
                    "listed": sa.func.coalesce(new.listed, inbox.c.listed),
                    "summary": sa.func.coalesce(new.summary, inbox.c.summary),
                },
            )
        )
    return len(distinct)


def due(
    connection: sa.Connection, *, connection_name: str, now: datetime, lane: Lane | None = None, limit: int = 1
) -> list[Item]:
    """The next rows to fetch: live before bulk, then the longest waiting. Keys of a parked resource rest with it."""
    statement = (
        sa.select(
            inbox.c.connection,
            inbox.c.resource,
            inbox.c.key,
            inbox.c.wanted,
            inbox.c.lane,
            inbox.c.cause,
            inbox.c.attempts,
            inbox.c.approved,
            inbox.c.listed,
            inbox.c.summary,
            inbox.c.due_at,
        )
        .where(inbox.c.connection == connection_name, inbox.c.state == "due", inbox.c.due_at <= now)
        .where(~_resting_resource())
        .order_by(inbox.c.lane, inbox.c.due_at)
        .limit(limit)
    )
    if lane is not None:
        statement = statement.where(inbox.c.lane == lane)
    return [
        Item(**{**row._mapping, "lane": Lane(row.lane), "cause": Cause(row.cause)})  # noqa: SLF001 - SQLAlchemy's public name
        for row in connection.execute(statement)
    ]


def live_waits(connection: sa.Connection, *, connections: Sequence[str], now: datetime) -> bool:
    """Whether a notice or a live key of any of these connections waits for the gate."""
    unfolded = sa.exists().where(notices.c.connection.in_(connections), notices.c.state == "new")
    live = sa.exists().where(
        inbox.c.connection.in_(connections),
        inbox.c.state == "due",
        inbox.c.lane == Lane.LIVE,
        inbox.c.due_at <= now,
        ~_resting_resource(),  # what waits with its resource must not hold up the others
    )
    return bool(connection.execute(sa.select(sa.or_(unfolded, live))).scalar_one())


def tokens(connection: sa.Connection, *, connection_name: str, resource: str, keys: Sequence[str]) -> dict[str, str]:
    """What the last listing showed of keys that still wait here."""
    statement = sa.select(inbox.c.key, inbox.c.listed).where(
        inbox.c.connection == connection_name,
        inbox.c.resource == resource,
        inbox.c.key.in_(keys),
        inbox.c.listed.is_not(None),
    )
    return {row.key: row.listed for row in connection.execute(statement)}


def waits(connection: sa.Connection, item: Item) -> bool:
    """Whether the row still waits as it was read: nobody has finished or moved it meanwhile."""
    return connection.execute(sa.select(sa.exists().where(_unchanged(item), inbox.c.state == "due"))).scalar_one()


def answered(
    connection: sa.Connection, *, connection_name: str, resource: str, keys: Sequence[str], before: int
) -> None:
    """A listing brought these objects as they are now: what was mentioned before it was asked for is done."""
    for start in range(0, len(keys), _BATCH):
        named = [storable_text(key) for key in keys[start : start + _BATCH]]
        connection.execute(
            sa.delete(inbox).where(
                inbox.c.connection == connection_name,
                inbox.c.resource == resource,
                inbox.c.key.in_(named),
                inbox.c.wanted < before,
            )
        )


def undecided(connection: sa.Connection, *, connection_name: str, resource: str, besides: str) -> bool:
    """Whether another deletion of this resource still waits for a person, or was approved and not looked at yet."""
    other = sa.exists().where(
        inbox.c.connection == connection_name,
        inbox.c.resource == resource,
        inbox.c.key != besides,
        sa.or_(inbox.c.state == "held", inbox.c.approved),
    )
    return bool(connection.execute(sa.select(other)).scalar_one())


def lock(connection: sa.Connection, database: Database, *, connection_name: str) -> None:
    """Before a transaction writes many rows of a connection in several statements: one such writer at a time.

    Each statement goes through its rows in the order of their keys; two statements of one transaction cannot.
    """
    if not database.is_sqlite:
        name = f"erpmirror inbox {connection_name}"
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtextextended(name, 0))))


def finish(connection: sa.Connection, item: Item) -> bool:
    """The fetch is written. False when the key was mentioned meanwhile: then the row stays for another look.

    A person's approval was of what this fetch found: it is used up either way.
    """
    finished = connection.execute(sa.delete(inbox).where(_unchanged(item))).rowcount == 1
    if not finished:
        here = (inbox.c.connection == item.connection, inbox.c.resource == item.resource, inbox.c.key == item.key)
        connection.execute(sa.update(inbox).where(*here).values(approved=False))
    return finished


def postpone(connection: sa.Connection, item: Item, *, until: datetime, reason: str, counts: bool) -> None:
    """Try again then. A mention that came meanwhile is news and keeps its own time."""
    _update(connection, item, due_at=until, reason=reason, attempts=item.attempts + counts)


def park(connection: sa.Connection, item: Item, *, reason: str) -> None:
    """Set aside for a person."""
    _update(connection, item, state="parked", reason=reason)


def hold(connection: sa.Connection, item: Item, *, reason: str) -> None:
    """A deletion that waits for a person's approval."""
    _update(connection, item, state="held", reason=reason)


def hold_missing(
    connection: sa.Connection,
    database: Database,
    *,
    connection_name: str,
    resource: str,
    keys: Sequence[str],
    cause: Cause,
    reason: str,
) -> None:
    """Hold deletions that came without a mention: keys that a complete reply did not name."""
    _put_aside(
        connection,
        database,
        connection_name=connection_name,
        resource=resource,
        rows=[{"key": key, "state": "held", "cause": cause, "reason": reason, "material": None} for key in keys],
    )


def park_unreadable(
    connection: sa.Connection,
    database: Database,
    *,
    connection_name: str,
    resource: str,
    unreadable: Sequence[Unreadable],
    cause: Cause,
) -> None:
    """Park rows that nobody understands, raw and all. One with an empty raw has a key to look at again."""
    rows = {
        key: {"key": key, "state": "parked", "cause": cause, "reason": storable_text(row.reason), "material": material}
        for row in unreadable
        for key, material in [(storable_text(row.key), storable(row.raw) or None)]
    }
    _put_aside(
        connection,
        database,
        connection_name=connection_name,
        resource=resource,
        rows=[rows[key] for key in sorted(rows, key=str.encode)],
    )


def _put_aside(
    connection: sa.Connection,
    database: Database,
    *,
    connection_name: str,
    resource: str,
    rows: Sequence[dict[str, Any]],
) -> None:
    if not rows:
        return
    wanted, now = database.draw(connection), database.now(connection)
    common = {
        "connection": connection_name,
        "resource": resource,
        "wanted": wanted,
        "lane": Lane.BULK,
        "due_at": now,
        "first_at": now,
        "attempts": 0,
        "approved": False,
    }
    insert = database.insert(inbox)
    connection.execute(
        insert.on_conflict_do_update(
            index_elements=[inbox.c.connection, inbox.c.resource, inbox.c.key],
            set_={name: insert.excluded[name] for name in ("state", "reason", "material")},
        ),
        [common | row for row in rows],
    )


def answer_all(
    connection: sa.Connection, *, connection_name: str, resource: str, missing: Sequence[str], before: int
) -> set[str]:
    """A complete reply has answered what waited here before it was asked for; the approved keys among the `missing`.

    For resources whose keys cannot be fetched. What is held and still missing goes on waiting for a person.
    """
    here = (inbox.c.connection == connection_name, inbox.c.resource == resource)
    absent = set(missing)
    rows = connection.execute(
        sa.select(inbox.c.key, inbox.c.state, inbox.c.approved)
        .where(*here, inbox.c.wanted < before, inbox.c.material.is_(None))
        .with_for_update()
    ).all()
    answered = sorted(row.key for row in rows if row.key not in absent or row.state != "held")
    for start in range(0, len(answered), _BATCH):
        connection.execute(sa.delete(inbox).where(*here, inbox.c.key.in_(answered[start : start + _BATCH])))
    return {row.key for row in rows if row.key in absent and row.approved}


def aside(connection: sa.Connection, *, connection_name: str | None = None) -> list[sa.Row[Any]]:
    """What is parked or held: connection, resource, key, state, reason, first_at, material."""
    statement = (
        sa.select(
            inbox.c.connection,
            inbox.c.resource,
            inbox.c.key,
            inbox.c.state,
            inbox.c.reason,
            inbox.c.first_at,
            inbox.c.material,
        )
        .where(inbox.c.state != "due")
        .order_by(inbox.c.connection, inbox.c.resource, inbox.c.key)
    )
    if connection_name is not None:
        statement = statement.where(inbox.c.connection == connection_name)
    return list(connection.execute(statement))


def retry(
    connection: sa.Connection,
    database: Database,
    *,
    connection_name: str,
    resource: str | None = None,
    key: str | None = None,
) -> int:
    """Look again at what is parked; for what is held this is a person's approval of exactly these deletions."""
    statement = (
        sa.update(inbox)
        .where(_aside(connection_name, resource, key), inbox.c.material.is_(None))
        .values(
            state="due",
            due_at=database.now(connection),
            attempts=0,
            wanted=database.draw(connection),
            approved=sa.or_(inbox.c.approved, inbox.c.state == "held"),
        )
    )
    return connection.execute(statement).rowcount


def drop(
    connection: sa.Connection, *, connection_name: str, resource: str | None = None, key: str | None = None
) -> int:
    """Forget what is parked or held. The mirror's rows stay as they are."""
    return connection.execute(sa.delete(inbox).where(_aside(connection_name, resource, key))).rowcount


def forget(connection: sa.Connection, *, connection_name: str, resource: str) -> None:
    """Remove every row of a resource."""
    connection.execute(sa.delete(inbox).where(inbox.c.connection == connection_name, inbox.c.resource == resource))


def _resting_resource() -> sa.ColumnElement[bool]:
    return sa.exists().where(
        streams.c.connection == inbox.c.connection,
        streams.c.resource == inbox.c.resource,
        streams.c.state != "open",
    )


def _aside(connection_name: str, resource: str | None, key: str | None) -> sa.ColumnElement[bool]:
    conditions = [inbox.c.connection == connection_name, inbox.c.state != "due"]
    if resource is not None:
        conditions.append(inbox.c.resource == resource)
    if key is not None:
        conditions.append(inbox.c.key == key)
    return sa.and_(*conditions)


def _update(connection: sa.Connection, item: Item, **values: Any) -> None:
    connection.execute(sa.update(inbox).where(_unchanged(item)).values(**values))


def _unchanged(item: Item) -> sa.ColumnElement[bool]:
    return sa.and_(
        inbox.c.connection == item.connection,
        inbox.c.resource == item.resource,
        inbox.c.key == item.key,
        inbox.c.wanted == item.wanted,
    )


def _bytewise(pair: tuple[str, str]) -> tuple[bytes, bytes]:
    return pair[0].encode(), pair[1].encode()
