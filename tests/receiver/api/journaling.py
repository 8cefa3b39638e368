"""Entries of the journal for its readers' tests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import journal
from models.db import tables
from models.values import Cause, Change, ChangeKind

if TYPE_CHECKING:
    from models.db.database import Database

NOW = datetime(2026, 2, 1, 12, 30, tzinfo=UTC)


def write(
    database: Database,
    *keys: str,
    connection: str = "shop",
    resource: str = "catalogs.goods",
    kind: ChangeKind = ChangeKind.CREATED,
    at: datetime = NOW,
    more: dict[str, Any] | None = None,
) -> None:
    """One transaction with an entry for each key."""
    after = {} if more is None else more
    changes = [Change(key, kind, None, None if kind is ChangeKind.DELETED else {"id": key, **after}) for key in keys]
    with database.begin() as tx:
        journal.append(tx, connection, resource, changes, revision=1, cause=Cause.WEBHOOK, now=at)


def trim(database: Database, upto: int) -> None:
    """Remove the entries up to this id."""
    with database.begin() as tx:
        tx.execute(sa.delete(tables.changes).where(tables.changes.c.id <= upto))


def set_back(database: Database, *, last: int) -> None:
    """The journal as a backup from before would have it."""
    with database.begin() as tx:
        tx.execute(sa.delete(tables.changes).where(tables.changes.c.id > last))
        tx.execute(sa.update(tables.feed).values(last=last))
