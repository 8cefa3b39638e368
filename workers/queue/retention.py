"""What is old is cleared away in portions, so that nothing grows without bound and no lock is held for long."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.bookkeeping import journal, streams, webhooks
from models.db.tables import gates, leases, wakeups

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from models.db.database import Database, Tx
    from models.settings.load import Settings

    Clear = Callable[[sa.Connection], int]

BATCH_SIZE = 1000
"""Rows that one transaction removes at most."""

_PATIENCE = 5.0
"""Seconds that one clearing-away takes at most: whoever does it has something else to do, and comes again."""


def prune(database: Database, settings: Settings, *, batch_size: int = BATCH_SIZE) -> None:
    """Clear away what is older than the settings say, `portion` rows a transaction."""
    end = time.monotonic() + _PATIENCE
    with database.read() as tx:
        now = tx.now
    for clear in _everything(settings, now, batch_size):
        while _cleared(database, clear) >= batch_size and time.monotonic() < end:
            pass


def _cleared(database: Database, clear: Clear) -> int:
    with database.begin() as tx:
        return clear(tx)


def _everything(settings: Settings, now: datetime, portion: int) -> Iterator[Clear]:
    kept = settings.database
    old = now - kept.keep_webhooks
    yield partial(webhooks.trim, before=old, limit=portion)
    yield partial(streams.trim_runs, before=old, limit=portion)
    yield partial(streams.trim_sightings, before=old, limit=portion)
    if kept.keep_changes is not None:
        yield partial(journal.trim, before=now - kept.keep_changes, limit=portion)
    yield partial(_forget_accounts, before=old)
    yield partial(_forget_wakeups, before=old, configured=list(settings.connections))


def _forget_accounts(tx: Tx, *, before: datetime) -> int:
    """Gates and leases of accounts that nobody has asked for so long: their address or login is another one now."""
    tx.execute(sa.delete(leases).where(leases.c.until < before))
    unused = gates.c.next_start_at < before
    unshut = sa.or_(gates.c.closed_until.is_(None), gates.c.closed_until < before)
    asking = sa.exists().where(leases.c.account == gates.c.account)
    tx.execute(sa.delete(gates).where(unused, unshut, ~asking))
    return 0  # a handful: never another portion


def _forget_wakeups(tx: Tx, *, before: datetime, configured: list[str]) -> int:
    """Bells of connections that are gone."""
    silent = sa.func.coalesce(wakeups.c.answered_at, wakeups.c.woken_at) < before
    tx.execute(sa.delete(wakeups).where(wakeups.c.connection.not_in(configured), silent))
    return 0
