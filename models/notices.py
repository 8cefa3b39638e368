"""The letterbox: webhooks as they were received, kept before they are answered and folded into the inbox later."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models import inbox
from models.exact import storable_text
from models.tables import notices
from models.values import Cause, Lane, Mention

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from models.database import Database


KEPT = timedelta(days=30)
"""How long a notice is kept after it was folded or ignored."""


@dataclass(frozen=True, slots=True)
class Letter:
    """One webhook. `packet`: its text as received. Either `resource` and `key`, or the `reason` why it is ignored."""

    connection: str
    packet: str
    resource: str | None = None
    key: str | None = None
    reason: str | None = None


def append(connection: sa.Connection, database: Database, letters: Iterable[Letter]) -> None:
    """Keep letters: one insert for all of them."""
    now = database.now(connection)
    rows = [
        {
            "at": now,
            "connection": letter.connection,
            "state": "new" if letter.reason is None else "ignored",
            "resource": _storable(letter.resource),
            "key": _storable(letter.key),
            "packet": storable_text(letter.packet),
            "reason": _storable(letter.reason),
        }
        for letter in letters
    ]
    if rows:
        connection.execute(sa.insert(notices), rows)


def fold(connection: sa.Connection, database: Database, *, connection_name: str, limit: int) -> int:
    """Turn up to `limit` new notices, oldest first, into mentions; returns how many notices that were.

    Notices that another worker is folding are left to it.
    """
    # A CTE that locks rows is evaluated once; a plain subquery could be evaluated again and lock more than the limit.
    taken = (
        sa.select(notices.c.id)
        .where(notices.c.connection == connection_name, notices.c.state == "new")
        .order_by(notices.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
        .cte("taken")
    )
    folded = connection.execute(
        sa.update(notices)
        .where(notices.c.id.in_(sa.select(taken.c.id)))
        .values(state="folded")
        .returning(notices.c.resource, notices.c.key)
    ).all()
    inbox.lock(connection, database, connection_name=connection_name)
    inbox.mention(
        connection,
        database,
        connection_name=connection_name,
        mentions={Mention(resource, key) for resource, key in folded},
        lane=Lane.LIVE,
        cause=Cause.NOTICE,
    )
    return len(folded)


def waiting(connection: sa.Connection, *, connection_name: str) -> bool:
    """Whether a notice of this connection waits to be folded."""
    new = sa.exists().where(notices.c.connection == connection_name, notices.c.state == "new")
    return bool(connection.execute(sa.select(new)).scalar_one())


def trim(connection: sa.Connection, before: datetime) -> int:
    """Remove notices received before then, except those not folded yet; returns how many."""
    return connection.execute(sa.delete(notices).where(notices.c.at < before, notices.c.state != "new")).rowcount


def _storable(text: str | None) -> str | None:
    return None if text is None else storable_text(text)
