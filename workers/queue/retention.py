"""Retention: deletes old rows in batches, so that no table grows without bound and no lock is held for long."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.bookkeeping import commands, deliveries, full_syncs, journal, seen_keys, subscriptions, webhooks
from models.db.tables import gates, leases, wakeups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from models.db.database import Database, Tx
    from models.settings.load import Settings

    Step = Callable[[Tx], int]

BATCH_SIZE = 1000
"""The most rows that one transaction deletes."""

TIME_LIMIT = 5.0
"""Seconds after which a run stops: the scheduler has wake-ups to send, and runs it again."""


def prune(database: Database, settings: Settings, *, batch_size: int = BATCH_SIZE) -> None:
    """Delete what is older than the settings say, `batch_size` rows a transaction."""
    end = time.monotonic() + TIME_LIMIT
    with database.read() as tx:
        now = tx.now
    for step in _steps(settings, now, batch_size):
        began = time.monotonic()
        while _run(database, step) >= batch_size and time.monotonic() < end:
            time.sleep(time.monotonic() - began)  # as long again: whoever waits for SQLite's one lock polls for it
            began = time.monotonic()


def _run(database: Database, step: Step) -> int:
    """Delete one batch; returns how many rows."""
    with database.begin() as tx:
        return step(tx)


def _steps(settings: Settings, now: datetime, batch_size: int) -> Iterator[Step]:
    keep = settings.database
    old = now - keep.keep_webhooks
    yield partial(webhooks.trim, before=old, limit=batch_size)
    yield partial(full_syncs.trim, before=old, limit=batch_size)
    yield partial(seen_keys.trim, before=old, limit=batch_size)
    yield partial(commands.trim, before=now - keep.keep_commands, limit=batch_size)
    yield partial(deliveries.trim, before=now - keep.keep_deliveries, limit=batch_size)
    yield partial(subscriptions.trim, before=now - keep.keep_deliveries, limit=batch_size)
    if keep.keep_changes is not None:
        yield partial(journal.trim, before=now - keep.keep_changes, limit=batch_size)
    yield partial(_prune_gates, before=old)
    yield partial(_prune_wakeups, before=old, configured=[*settings.connections, *settings.subscriptions])


def _prune_gates(tx: Tx, *, before: datetime) -> int:
    """Delete gates and leases of accounts without requests for so long: their address or login has changed."""
    tx.execute(sa.delete(leases).where(leases.c.until < before))
    unused = gates.c.next_start_at < before
    opened = sa.or_(gates.c.closed_until.is_(None), gates.c.closed_until < before)
    has_lease = sa.exists().where(leases.c.account == gates.c.account)
    tx.execute(sa.delete(gates).where(unused, opened, ~has_lease))
    return 0  # few rows: one batch is enough


def _prune_wakeups(tx: Tx, *, before: datetime, configured: list[str]) -> int:
    """Delete wake-ups of connections and subscriptions that are no longer configured."""
    unused = sa.func.coalesce(wakeups.c.answered_at, wakeups.c.woken_at) < before
    tx.execute(sa.delete(wakeups).where(wakeups.c.connection.not_in(configured), unused))
    return 0
