"""The keys of the inbox that wait because the vendor refused to fetch any key of their resource."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.bookkeeping import inbox
from models.db.tables import inbox as rows

if TYPE_CHECKING:
    from datetime import datetime

    from models.bookkeeping.inbox import Item
    from models.db.database import Tx

_REFUSED = "waits until the vendor lets the resource be read again"
"""The reason of keys that wait because the vendor refused to fetch any key of their resource."""


def wait_until_allowed(tx: Tx, item: Item, *, until: datetime) -> None:
    """Have this key and all that are due of its resource wait, because the vendor refused the resource.

    One that is enqueued later is still tried at once: a webhook says that something is there to be read. Call
    `inbox.lock` first.
    """
    inbox.postpone(tx, item, until=until, reason=_REFUSED, counts=False)
    here = (rows.c.connection == item.connection, rows.c.resource == item.resource, rows.c.state == "due")
    values = {"due_at": until, "reason": _REFUSED}
    tx.execute(sa.update(rows).where(*here, rows.c.due_at <= tx.now).values(**values))


def resume(tx: Tx, *, connection: str, resource: str | None = None) -> None:
    """Make the keys due that wait because their resource was refused. Call `inbox.lock` first."""
    mine = [rows.c.connection == connection, rows.c.state == "due", rows.c.reason == _REFUSED]
    if resource is not None:
        mine.append(rows.c.resource == resource)
    tx.execute(sa.update(rows).where(*mine).values(due_at=tx.now, reason=None))
