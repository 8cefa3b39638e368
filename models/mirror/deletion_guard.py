"""The limit on deletions: more of them than `max_deletions` allows are held for a person."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.bookkeeping import streams
from models.db.tables import changes
from models.db.tables import streams as streams_table
from models.mirror import queries
from models.mirror.target import Target
from models.values import ChangeKind

if TYPE_CHECKING:
    from datetime import datetime

    from models.db.database import Tx

WINDOW = timedelta(hours=24)
"""Deletions are counted over this window, so that a mass deletion cannot pass one key at a time."""

FLOOR = 10
"""Deletions in a window that are always allowed: a share of a few objects would allow none."""


def permits(
    tx: Tx,
    target: Target,
    *,
    count: int,
    max_deletions: float,
    now: datetime,
) -> bool:
    """Whether `count` more deletions, with those in the window, stay within the limit.

    `max_deletions`: the limit as a share (0 to 1) of the objects that were live when the window began.
    """
    recent = _recent_deletions(tx, target, now)
    if recent + count <= FLOOR:
        return True
    enough = math.ceil((recent + count) / max_deletions) + 1 if max_deletions else 0
    live = queries.count_live(tx, target, at_most=enough)
    return recent + count <= max_deletions * (live + recent)


def record_approval(tx: Tx, target: Target, *, now: datetime) -> None:
    """Record a person's approval: deletions until now no longer count towards the limit."""
    streams.update(tx, target.connection, target.resource, deletions_approved_at=now)


def _recent_deletions(tx: Tx, target: Target, now: datetime) -> int:
    after = tx.execute(
        sa.select(streams_table.c.deletions_approved_at).where(
            streams_table.c.connection == target.connection, streams_table.c.resource == target.resource
        )
    ).scalar()
    since = max(now - WINDOW, after) if after is not None else now - WINDOW
    return tx.execute(
        sa.select(sa.func.count())
        .select_from(changes)
        .where(
            changes.c.connection == target.connection,
            changes.c.resource == target.resource,
            changes.c.kind == ChangeKind.DELETED.value,
            changes.c.at > since,
        )
    ).scalar_one()
