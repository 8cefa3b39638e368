"""Every attempt to deliver a change to a subscription, and what came of it. Kept for `keep_deliveries`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.db.outgoing_tables import deliveries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from models.db.database import Tx

DELIVERED, FAILED = "delivered", "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt. `attempt`: its number, from 1. `seconds`: until the answer. `answer`: its first 1,024 bytes."""

    change: int
    attempt: int
    outcome: str
    at: datetime
    seconds: float
    status: int | None = None
    error: str | None = None
    answer: str | None = None


def record(tx: Tx, subscription: str, attempts: Sequence[Attempt]) -> None:
    """Add them."""
    if attempts:
        tx.execute(sa.insert(deliveries), [asdict(each) | {"subscription": subscription} for each in attempts])


def recent(tx: Tx, subscription: str, *, change: int | None = None, limit: int) -> list[Attempt]:
    """The latest attempts, the newest first; of one change, if it is named."""
    d = deliveries.c
    chosen = sa.select(deliveries).where(d.subscription == subscription)
    if change is not None:
        chosen = chosen.where(d.change == change)
    return [_attempt(row) for row in tx.execute(chosen.order_by(d.id.desc()).limit(limit))]


def trim(tx: Tx, *, before: datetime, limit: int) -> int:
    """Delete at most `limit` attempts that are older; returns how many."""
    d = deliveries.c
    old = sa.select(d.id).where(d.at < before).order_by(d.at).limit(limit)
    return tx.execute(sa.delete(deliveries).where(d.id.in_(old))).rowcount


def _attempt(row: Any) -> Attempt:
    return Attempt(row.change, row.attempt, row.outcome, row.at, row.seconds, row.status, row.error, row.answer)
