"""What is due, read for all connections at once: a few index probes while nothing is, however many there are."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import commands, subscriptions
from models.bookkeeping.streams import backoff_over
from models.db import outgoing_tables
from models.db.tables import FULLY_SYNCED, POLLED, gates, inbox, streams, wakeups, webhooks
from models.db.types import Instant
from models.values import Lane

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from models.db.database import Database, Tx

_IS_NEW = sa.text("state = 'new'")
_IS_DUE = sa.text("state = 'due'")
"""Literals, not bound values: a plan for any state cannot use a partial index over one."""


@dataclass(frozen=True, slots=True)
class DueStream:
    """A resource that is due: for a poll, or (`full`) for a full sync."""

    resource: str
    full: bool


@dataclass(frozen=True, slots=True)
class Due:
    """What was due at `now`, of all connections that have rows, configured or not.

    `with_webhooks`: connections with webhooks to move into the inbox. `with_keys`: connections with keys to fetch.
    `with_commands`: connections with commands to send or read back. `streams`: connection -> resources to sync.
    `closed`: accounts whose gate is closed. `subscriptions`: those that may be told something and that no worker
    serves. `woken`: name and queue -> when the wake-up was sent that no worker has answered yet.
    """

    now: datetime
    with_webhooks: frozenset[str] = frozenset()
    with_keys: frozenset[str] = frozenset()
    with_commands: frozenset[str] = frozenset()
    streams: Mapping[str, Sequence[DueStream]] = field(default_factory=dict)
    closed: frozenset[str] = frozenset()
    subscriptions: frozenset[str] = frozenset()
    woken: Mapping[tuple[str, str], datetime] = field(default_factory=dict)

    @property
    def connections(self) -> set[str]:
        """Connections that have something due."""
        return {*self.with_webhooks, *self.with_keys, *self.with_commands, *self.streams}


def load(database: Database) -> Due:
    """What is due now."""
    with database.read() as tx:
        now = tx.now
        with_webhooks = _names(tx, _distinct(webhooks.c.connection, _IS_NEW))
        with_keys = _with_keys(tx, now)
        with_commands = _with_commands(tx, now)
        due_streams = _streams(tx, now)
        to_tell = frozenset(subscriptions.due(tx, now=now))
        if not (with_webhooks or with_keys or with_commands or due_streams or to_tell):
            return Due(now)
        closed = _names(tx, sa.select(gates.c.account).where(gates.c.closed_until > now))
        return Due(now, with_webhooks, with_keys, with_commands, due_streams, closed, to_tell, _woken(tx))


def _distinct(column: sa.Column[str], condition: sa.TextClause) -> sa.Select[Any]:
    """The distinct values of an index's first column, by one probe each (a loose index scan): many rows share one."""
    first = sa.select(sa.func.min(column).label("value")).where(condition).cte("distinct_values", recursive=True)
    following = sa.select(sa.func.min(column)).where(condition, column > first.c.value).scalar_subquery()
    each = first.union_all(sa.select(following).where(first.c.value.is_not(None)))
    return sa.select(each.c.value).where(each.c.value.is_not(None))


def _with_keys(tx: Tx, now: datetime) -> frozenset[str]:
    """Connections with a key that is due. Keys of a retired resource are not due."""
    name = _distinct(inbox.c.connection, _IS_DUE).subquery("waiting").c.value
    mine = inbox.c.connection == name, inbox.c.lane.in_([lane.value for lane in Lane])
    found = _names(tx, sa.select(name).where(_probe(*mine, *_due(now)).is_not(None)))
    if not found:
        return found
    # A retired resource may have thousands of such keys. Where one has, each resource is probed by itself.
    retired = sa.select(streams.c.connection).where(streams.c.connection.in_(found), streams.c.state == "retired")
    partly_retired = _names(tx, retired.distinct())
    if not partly_retired:
        return found
    return (found - partly_retired) | _names(tx, _with_fetchable_keys(retired.distinct(), now))


def _with_commands(tx: Tx, now: datetime) -> frozenset[str]:
    """Connections with a command that can be sent or read back."""
    name = _distinct(outgoing_tables.commands.c.connection, outgoing_tables.OPEN).subquery("commanded").c.value
    due_one = _probe(outgoing_tables.commands.c.connection == name, *commands.is_due(sa.literal(now, Instant)))
    return _names(tx, sa.select(name).where(due_one.is_not(None)))


def _probe(*where: sa.ColumnElement[bool]) -> sa.ScalarSelect[int]:
    """1, or NULL where there is no such row. Not EXISTS, which a planner may turn into a join with all due rows."""
    return sa.select(sa.literal(1)).where(*where).limit(1).scalar_subquery()


def _due(now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return inbox.c.state == "due", inbox.c.due_at <= sa.literal(now, Instant)


def _with_fetchable_keys(names: sa.Select[Any], now: datetime) -> sa.Select[Any]:
    """Those of the connections that have a key that is due, of a resource that is not retired."""
    name, i, s = names.subquery("partly_retired").c.connection, inbox.c, streams.c
    least = sa.select(sa.func.min(i.resource))
    pair = sa.select(name, least.where(i.connection == name).scalar_subquery().label("resource"))
    first = pair.cte("pair", recursive=True)
    following = least.where(i.connection == first.c.connection, i.resource > first.c.resource).scalar_subquery()
    each = first.union_all(sa.select(first.c.connection, following).where(first.c.resource.is_not(None)))
    retired = _probe(s.connection == each.c.connection, s.resource == each.c.resource, s.state == "retired")
    due = _probe(i.connection == each.c.connection, i.resource == each.c.resource, *_due(now))
    has_due_key = sa.case((retired.is_(None), due)).is_not(None)
    return sa.select(each.c.connection).where(each.c.resource.is_not(None), has_due_key).distinct()


def _streams(tx: Tx, now: datetime) -> dict[str, list[DueStream]]:
    c = streams.c
    chosen = [
        sa.select(c.connection, c.resource, c.failures, c.tried_at, sa.literal(full).label("full")).where(
            synced, due_at <= now
        )
        for full, synced, due_at in ((False, POLLED, c.due_at), (True, FULLY_SYNCED, c.full_due_at))
    ]
    found: dict[str, list[DueStream]] = defaultdict(list)
    for name, resource, failures, tried_at, full in tx.execute(sa.union_all(*chosen)):
        if backoff_over(failures, tried_at, now):
            found[name].append(DueStream(resource, bool(full)))
    return dict(found)


def _woken(tx: Tx) -> dict[tuple[str, str], datetime]:
    c = wakeups.c
    unanswered = sa.or_(c.answered_at.is_(None), c.answered_at < c.woken_at)
    rows = tx.execute(sa.select(c.connection, c.queue, c.woken_at).where(c.woken_at.is_not(None), unanswered))
    return {(name, queue): woken_at for name, queue, woken_at in rows}


def _names(tx: Tx, statement: sa.Select[Any]) -> frozenset[str]:
    found: Iterable[str] = tx.execute(statement).scalars()
    return frozenset(found)
