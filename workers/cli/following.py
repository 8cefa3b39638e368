"""Do what is due for a connection here and now, and show how far it is, until nothing is due any more.

The gate keeps order between us and the workers: whoever gets the slot asks, and both see the same tables.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from models import inbox, streams, tables
from workers import ingest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rich.console import Console

    from workers.desk import Desk

_BUDGET = timedelta(seconds=1)
_PATIENCE = timedelta(seconds=60)
"""A gate that stays shut for longer is not waited for: the work is due, and the workers do it then."""

_POLL = 0.2
_MANY = 1000


@dataclass(frozen=True, slots=True)
class Progressed:
    """How far one resource is. `read`: objects of the full reading under way; `known`: objects in the mirror."""

    resource: str
    read: int | None
    error: str | None
    state: str


def until_done(
    at: Desk, names: Sequence[str], console: Console, *, rows: Callable[[], dict[str, int]]
) -> tuple[list[Progressed], bool]:
    """Work until these resources were read, and what was then due is done; how each stands, and whether it is done.

    At a busy ERP something is always due: what came later is the workers'. `rows`: resource -> objects in the mirror.
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


def _work(at: Desk, names: Sequence[str], show: Callable[[], None]) -> bool:
    began, read_at = at.now(), None
    while True:
        if read_at is None and not _readings_due(at, names, began):
            read_at = at.now()
        if read_at is not None and not _keys_due(at, names, read_at):
            return True
        asked = ingest.look(at, budget=_BUDGET).requests + ingest.read(at, budget=_BUDGET).requests
        show()
        if not asked:
            if _shut_for(at) > _PATIENCE:
                return False
            time.sleep(_POLL)


def _readings_due(at: Desk, names: Sequence[str], began: datetime) -> bool:
    """Whether a reading that was due in the beginning has not been done yet."""
    with at.database.read() as connection:
        rows = streams.open_ones(connection, connection_name=at.name)
    return any(_due(at, row, began) for row in rows if row.resource in names)


def _due(at: Desk, row: streams.Stream, began: datetime) -> bool:
    ticks = at.resources[row.resource].every is not None
    return row.full_due_at <= began or (ticks and row.cursor is not None and row.due_at <= began)


def _keys_due(at: Desk, names: Sequence[str], until: datetime) -> bool:
    """Whether keys wait that were due by then. (Keys of a parked resource wait with it.)"""
    with at.database.read() as connection:
        keys = inbox.due(connection, connection_name=at.name, now=until, limit=_MANY)
    return any(item.resource in names for item in keys)


def _shut_for(at: Desk) -> timedelta:
    with at.database.read() as connection:
        until = connection.execute(
            sa.select(tables.gates.c.shut_until).where(tables.gates.c.account == at.gate.account)
        ).scalar()
        return until - at.database.now(connection) if until is not None else timedelta(0)


def progress(at: Desk, names: Sequence[str]) -> list[Progressed]:
    """How far each of these resources is, one cheap query."""
    row = tables.streams.c
    statement = (
        sa.select(row.resource, tables.runs.c.objects, row.last_error, row.state)
        .select_from(tables.streams.outerjoin(tables.runs, tables.runs.c.id == row.full_run))
        .where(row.connection == at.name, row.resource.in_(names))
        .order_by(row.resource)
    )
    with at.database.read() as connection:
        return [Progressed(*found) for found in connection.execute(statement)]
