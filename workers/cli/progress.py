"""Do what is due for a connection in this process, with progress, until nothing is due any more.

Workers may do the same at the same time: the gate decides who gets the lease, and all see the same tables.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from models.bookkeeping import inbox, streams
from models.db import tables
from workers.ingest import loop

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from workers.context import ConnectionContext

_BUDGET = timedelta(seconds=1)
_PATIENCE = timedelta(seconds=60)
"""A gate that stays closed for longer is not waited for: the work stays due, and the workers do it then."""

_POLL = 0.2
_MANY = 1000


@dataclass(frozen=True, slots=True)
class Progressed:
    """The progress of one resource. `read`: objects that the running full sync has read."""

    resource: str
    read: int | None
    error: str | None
    state: str


def until_done(
    at: ConnectionContext, names: Sequence[str], console: Console, *, rows: Callable[[], dict[str, int]]
) -> tuple[list[Progressed], bool]:
    """Work until these resources are synced and what was due then is done; their progress, and whether all is done.

    At a busy ERP something is always due: what came later is left to the workers. `rows`: resource -> objects in the
    mirror.
    """
    known = rows()
    bars = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} objects"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bars:
        ids = {name: bars.add_task(name, total=known.get(name) or None) for name in names}

        def show() -> None:
            for each in progress(at, names):
                if each.read is not None:
                    bars.update(ids[each.resource], completed=each.read)

        done = _work(at, names, show)
        for name, count in rows().items():
            bars.update(ids[name], completed=count, total=count or 1)
    return progress(at, names), done


def _work(at: ConnectionContext, names: Sequence[str], show: Callable[[], None]) -> bool:
    began, synced_at = at.now(), None
    while True:
        if synced_at is None and not _streams_due(at, names, began):
            synced_at = at.now()
        if synced_at is not None and not _keys_due(at, names, synced_at):
            return True
        asked = loop.sync(at, budget=_BUDGET).requests + loop.full_sync(at, budget=_BUDGET).requests
        show()
        if not asked:
            if _closed_for(at) > _PATIENCE:
                return False
            time.sleep(_POLL)


def _streams_due(at: ConnectionContext, names: Sequence[str], began: datetime) -> bool:
    """Whether a poll or full sync that was due at the beginning is still to be done."""
    with at.database.read() as tx:
        rows = streams.open_streams(tx, connection=at.name)
    return any(_due(at, row, began) for row in rows if row.resource in names)


def _due(at: ConnectionContext, row: streams.Stream, began: datetime) -> bool:
    is_polled = at.resources[row.resource].every is not None
    return row.full_due_at <= began or (is_polled and row.cursor is not None and row.due_at <= began)


def _keys_due(at: ConnectionContext, names: Sequence[str], until: datetime) -> bool:
    """Whether keys are pending that were due by then. (Keys of a parked resource wait with it.)"""
    with at.database.read() as tx:
        keys = inbox.due(tx, connection=at.name, now=until, limit=_MANY)
    return any(item.resource in names for item in keys)


def _closed_for(at: ConnectionContext) -> timedelta:
    with at.database.read() as tx:
        until = tx.execute(
            sa.select(tables.gates.c.closed_until).where(tables.gates.c.account == at.gate.account)
        ).scalar()
        return until - at.database.now(tx) if until is not None else timedelta(0)


def progress(at: ConnectionContext, names: Sequence[str]) -> list[Progressed]:
    """The progress of each of these resources, by one cheap query."""
    row = tables.streams.c
    statement = (
        sa.select(row.resource, tables.runs.c.objects, row.last_error, row.state)
        .select_from(tables.streams.outerjoin(tables.runs, tables.runs.c.id == row.full_run))
        .where(row.connection == at.name, row.resource.in_(names))
        .order_by(row.resource)
    )
    with at.database.read() as tx:
        return [Progressed(*found) for found in tx.execute(statement)]
