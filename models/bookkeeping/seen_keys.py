"""The keys that a full sync under way has listed, so that its end finds those that are missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.db.tables import seen_keys, streams
from models.exact import storable_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from models.db.database import Tx


def record(tx: Tx, *, connection: str, resource: str, keys: Sequence[str]) -> None:
    """Record that the full sync under way listed these keys."""
    if keys:
        storable = [storable_text(key) for key in keys]
        tx.execute(sa.insert(seen_keys).values(connection=connection, resource=resource, keys=storable))


def forget(tx: Tx, connection: str, resource: str) -> None:
    """Remove a resource's keys: before the first page of a full sync and after the last."""
    tx.execute(sa.delete(seen_keys).where(seen_keys.c.connection == connection, seen_keys.c.resource == resource))


def trim(tx: Tx, *, before: datetime, limit: int) -> int:
    """Remove at most `limit` lists of resources that are no longer configured; returns how many.

    A full sync that started after `before` keeps its keys: a worker with older settings may still run it.
    """
    needed = sa.exists().where(
        streams.c.connection == seen_keys.c.connection,
        streams.c.resource == seen_keys.c.resource,
        sa.or_(streams.c.state != "retired", streams.c.full_started_at >= before),
    )
    old = sa.select(seen_keys.c.id).where(~needed).limit(limit)
    return tx.execute(sa.delete(seen_keys).where(seen_keys.c.id.in_(old))).rowcount
