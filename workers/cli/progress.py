"""Does the due work of a connection in this process, with progress bars.

Workers may do the same work at the same time: the gate grants each lease to one of them, and the tables are shared.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from models.bookkeeping import inbox, streams
from models.db import tables
from workers.ingest import loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console, RenderableType

    from workers.context import ConnectionContext

_BUDGET = timedelta(seconds=1)
"""How long to work between two updates of the bars."""

_LONGEST_WAIT = timedelta(seconds=60)
"""If the gate stays closed for longer, the work is left to the workers."""

_POLL_INTERVAL = 0.2
"""Seconds between two checks of what is due, while workers do it."""

_MAX_KEYS = 1000
"""Due keys that are read at once, of all the connection's resources."""


@dataclass(frozen=True, slots=True)
class ResourceProgress:
    """The progress of one resource. `objects_read`: by the running full sync; None if none runs."""

    resource: str
    objects_read: int | None
    error: str | None
    state: str


class Bars(Progress):
    """Progress bars, and below them the last error of each task, one line each. A task has the field `error`."""

    def get_renderables(self) -> Iterator[RenderableType]:
        """The bars, then the errors."""
        yield from super().get_renderables()
        for task in self.tasks:
            if task.fields["error"]:
                line = f"{task.description}: {' '.join(task.fields['error'].split())}"
                yield Text(line, style="red", no_wrap=True, overflow="ellipsis")


def until_done(
    context: ConnectionContext, names: Sequence[str], console: Console, *, rows: Callable[[], dict[str, int]]
) -> tuple[list[ResourceProgress], bool]:
    """Work until these resources are synced and the keys that were due by then are fetched.

    Returns their progress, and whether all of that is done. Keys that become due later are left to the workers: at a
    busy ERP some always are. `rows`: resource -> objects in the mirror.
    """
    rows_before = rows()
    bars = Bars(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} objects"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    with bars:
        ids = {name: bars.add_task(name, total=rows_before.get(name) or None, error=None) for name in names}

        def report() -> None:
            for each in progress(context, names):
                bars.update(ids[each.resource], error=each.error)
                if each.objects_read is not None:
                    bars.update(ids[each.resource], completed=each.objects_read)

        done = _work(context, names, report)
        for name, count in rows().items():
            bars.update(ids[name], completed=count, total=count or 1, error=None)
    return progress(context, names), done


def _work(context: ConnectionContext, names: Sequence[str], report: Callable[[], None]) -> bool:
    started_at, synced_at = context.now(), None
    while True:
        if synced_at is None and not _streams_due(context, names, started_at):
            synced_at = context.now()
        if synced_at is not None and not _keys_due(context, names, synced_at):
            return True
        requests = loop.sync(context, budget=_BUDGET).requests + loop.full_sync(context, budget=_BUDGET).requests
        report()
        if not requests:
            if _closed_for(context) > _LONGEST_WAIT:
                return False
            time.sleep(_POLL_INTERVAL)


def _streams_due(context: ConnectionContext, names: Sequence[str], started_at: datetime) -> bool:
    """Whether a poll or full sync that was due at the start is not done yet."""
    with context.database.read() as tx:
        rows = streams.open_streams(tx, connection=context.name)
    return any(_due(context, row, started_at) for row in rows if row.resource in names)


def _due(context: ConnectionContext, row: streams.Stream, started_at: datetime) -> bool:
    is_polled = context.resources[row.resource].every is not None
    return row.full_due_at <= started_at or (is_polled and row.cursor is not None and row.due_at <= started_at)


def _keys_due(context: ConnectionContext, names: Sequence[str], until: datetime) -> bool:
    """Whether keys are pending that were due by then. Keys of a parked resource do not count."""
    with context.database.read() as tx:
        keys = inbox.due(tx, connection=context.name, now=until, limit=_MAX_KEYS)
    return any(item.resource in names for item in keys)


def _closed_for(context: ConnectionContext) -> timedelta:
    """How long the account's gate stays closed."""
    with context.database.read() as tx:
        until = context.gate.closed_until(tx)
        return until - context.database.now(tx) if until is not None else timedelta(0)


def progress(context: ConnectionContext, names: Sequence[str]) -> list[ResourceProgress]:
    """The progress of each of these resources, by one query."""
    row = tables.streams.c
    statement = (
        sa.select(row.resource, tables.runs.c.objects, row.last_error, row.state)
        .select_from(tables.streams.outerjoin(tables.runs, tables.runs.c.id == row.full_run))
        .where(row.connection == context.name, row.resource.in_(names))
        .order_by(row.resource)
    )
    with context.database.read() as tx:
        return [ResourceProgress(*found) for found in tx.execute(statement)]
