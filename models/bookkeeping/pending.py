"""What one connection has to do next, read in at most two statements, however much waits."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import commands, inbox, streams
from models.bookkeeping.commands import Command
from models.bookkeeping.inbox import Item
from models.bookkeeping.streams import Stream
from models.db.outgoing_tables import commands as commands_table
from models.db.tables import FULLY_SYNCED, POLLED, gates, webhooks
from models.db.tables import inbox as inbox_table
from models.db.tables import streams as streams_table
from models.values import Cause, Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.db.clock import Clock
    from models.db.database import Tx

_LIVE_FIRST, _OLDEST_LIVE, _OLDEST_BULK = range(3)


@dataclass(frozen=True, slots=True)
class Pending:
    """What was due at `now`.

    `unfolded`: webhooks wait to be moved into the inbox. `others_wait`: live work of another connection at the same
    account is due. `completable`: a resource can be marked as complete. `live_item`: the live key to fetch before
    anything else; while the account fails, only a key that has not failed itself. `oldest_item`: the longest overdue
    key of either lane. `command`: the one to send or read back next. `streams`: the longest overdue first.
    """

    now: datetime
    unfolded: bool
    others_wait: bool
    completable: bool
    live_item: Item | None
    oldest_item: Item | None
    command: Command | None
    streams: Sequence[Stream]


def load(tx: Tx, *, connection: str, account: str, same_account: Sequence[str], full: bool) -> Pending:
    """What is due for a connection. `account`: its gate's key. `same_account`: the other connections to it.

    `full`: streams for a full sync, else for a poll. Polls are left out while there is a `live_item`.
    """
    clock = tx.database.clock_sql(steady=True)
    given = {"its_connection": connection, "account": account, "same_account": list(same_account)}
    rows = tx.execute(_next(clock.expression, bool(same_account)), {**given, **clock.params}).all()
    first = rows[0]
    found = {row.which: _item(row) for row in rows if row.which is not None}
    oldest = [found[which] for which in (_OLDEST_LIVE, _OLDEST_BULK) if which in found]
    is_live = _LIVE_FIRST in found
    tx.now = first.now
    return Pending(
        now=first.now,
        unfolded=bool(first.unfolded),
        others_wait=bool(first.others_wait),
        completable=bool(first.completable),
        live_item=found.get(_LIVE_FIRST),
        oldest_item=min(oldest, key=lambda item: item.due_at, default=None),
        command=commands.next_due(tx, connection=connection, now=first.now) if first.commands else None,
        streams=[] if is_live and not (full or first.commands) else _streams(tx, connection, clock, full=full),
    )


def _item(row: sa.Row[Any]) -> Item:
    values = {name: getattr(row, name) for name in Item.__slots__}
    return Item(**{**values, "lane": Lane(values["lane"]), "cause": Cause(values["cause"])})


def _streams(tx: Tx, connection: str, clock: Clock, *, full: bool) -> list[Stream]:
    rows = tx.execute(_due_streams(clock.expression, full), {"its_connection": connection, **clock.params})
    due = [stream for row in rows if (stream := Stream(*row)).is_due(tx.now, full=full)]
    # The longest overdue first: a resource that is always due must not starve the others.
    return sorted(due, key=lambda stream: stream.full_due_at if full else stream.due_at)


@cache
def _next(clock: sa.ColumnElement[datetime], shared: bool) -> sa.Select[Any]:  # noqa: FBT001 - the cache key
    """The clock and three flags, repeated beside each key that may come first: one statement for all."""
    name: sa.BindParameter[str] = sa.bindparam("its_connection")
    others = live_work(sa.bindparam("same_account", expanding=True), clock) if shared else sa.false()
    flags = sa.select(
        clock.label("now"),
        sa.exists().where(webhooks.c.connection == name, webhooks.c.state == "new").label("unfolded"),
        sa.type_coerce(others, sa.Boolean).label("others_wait"),
        sa.exists().where(*streams.is_completable(name)).label("completable"),
        sa.exists().where(commands_table.c.connection == name, *commands.is_due(clock)).label("commands"),
    ).subquery("flags")
    failing = sa.exists().where(gates.c.account == sa.bindparam("account"), gates.c.failures > 0)
    keys = sa.union_all(
        _first(_LIVE_FIRST, Lane.LIVE, clock, sa.or_(inbox_table.c.attempts == 0, ~failing)),
        _first(_OLDEST_LIVE, Lane.LIVE, clock),
        _first(_OLDEST_BULK, Lane.BULK, clock),
    ).subquery("keys")
    return sa.select(flags, keys).select_from(flags.outerjoin(keys, sa.true()))


def _first(which: int, lane: Lane, clock: sa.ColumnElement[datetime], *also: sa.ColumnElement[bool]) -> sa.Select[Any]:
    """The longest overdue key of a lane. Keys of a retired resource are left out."""
    c = inbox_table.c
    mine = (c.connection == sa.bindparam("its_connection"), c.state == "due", c.lane == lane, c.due_at <= clock)
    fetchable = ~inbox.resource_is_retired()
    chosen = (sa.literal(which).label("which"), *(c[name] for name in Item.__slots__))
    first = sa.select(*chosen).where(*mine, fetchable, *also)
    return sa.select(first.order_by(c.due_at).limit(1).subquery())


@cache
def _due_streams(clock: sa.ColumnElement[datetime], full: bool) -> sa.Select[Any]:  # noqa: FBT001 - the cache key
    c = streams_table.c
    synced, due_at = (FULLY_SYNCED, c.full_due_at) if full else (POLLED, c.due_at)
    mine = (c.connection == sa.bindparam("its_connection"), synced, due_at <= clock)
    return sa.select(*(c[name] for name in Stream.__slots__)).where(*mine)


def live_is_pending(tx: Tx, *, connections: Sequence[str]) -> tuple[bool, datetime]:
    """Whether a webhook, a live key or a command of any of these connections waits for the gate; the database's time.

    What has failed does not count.
    """
    clock = tx.database.clock_sql(steady=True)
    pending, now = tx.execute(sa.select(live_work(connections, clock.expression), clock.expression), clock.params).one()
    return bool(pending), now


def live_work(connections: Any, clock: sa.ColumnElement[datetime]) -> sa.ColumnElement[bool]:
    """The condition: a webhook, a live key or a command of any of these connections waits, and has not failed yet."""
    unfolded = sa.exists().where(webhooks.c.connection.in_(connections), webhooks.c.state == "new")
    live = sa.exists().where(
        inbox_table.c.connection.in_(connections),
        inbox_table.c.state == "due",
        inbox_table.c.lane == Lane.LIVE,
        inbox_table.c.due_at <= clock,
        inbox_table.c.attempts == 0,
        ~inbox.resource_is_retired(),  # a key that cannot be fetched must not stop bulk work
    )
    c = commands_table.c
    command = sa.exists().where(c.connection.in_(connections), c.failures == 0, *commands.is_due(clock))
    return sa.or_(unfolded, live, command)
