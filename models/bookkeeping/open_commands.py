"""How many commands are not final: what `status` and the metrics show of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.bookkeeping.commands import State
from models.db.outgoing_tables import OPEN, commands

if TYPE_CHECKING:
    from models.db.database import Tx


@dataclass(frozen=True, slots=True)
class OpenCounts:
    """How many commands of a connection are not final.

    `not_taken`: of those that wait, how many the vendor did not take so far. `for_person`: of those that are uncertain,
    how many wait for a person.
    """

    waiting: int = 0
    not_taken: int = 0
    sending: int = 0
    uncertain: int = 0
    for_person: int = 0


def counts(tx: Tx, *, connection: str | None = None) -> dict[str, OpenCounts]:
    """By connection, for those that have any."""
    c = commands.c
    conditions = {
        "waiting": c.state == State.WAITING,
        "not_taken": (c.state == State.WAITING) & c.reason.is_not(None),
        "sending": c.state == State.SENDING,
        "uncertain": c.state == State.UNCERTAIN,
        "for_person": (c.state == State.UNCERTAIN) & c.due_at.is_(None),
    }
    each = (sa.func.sum(sa.case((condition, 1), else_=0)).label(name) for name, condition in conditions.items())
    chosen = sa.select(c.connection, *each).where(OPEN).group_by(c.connection)
    if connection is not None:
        chosen = chosen.where(c.connection == connection)
    return {name: OpenCounts(*map(int, found)) for name, *found in tx.execute(chosen)}
