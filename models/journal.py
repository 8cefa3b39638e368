"""The journal of changes: ids without gaps, in the order of the commits, so that `id > last` never misses an entry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import bulk
from models.tables import changes as entries
from models.tables import feed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from models.values import Cause, Change


def append(
    connection: sa.Connection,
    connection_name: str,
    resource: str,
    changes: Sequence[Change],
    *,
    turn: int,
    cause: Cause,
    now: datetime,
) -> None:
    """Write entries as the LAST statements of the transaction.

    The row of `feed` is the one lock: whoever holds it commits before the next id is given out. An id handed out by a
    sequence could commit after a higher one, and a reader by id would miss it.
    """
    if not changes:
        return
    last = connection.execute(
        sa.update(feed).values(last=feed.c.last + len(changes)).returning(feed.c.last)
    ).scalar_one()
    columns = {
        "id": range(last - len(changes) + 1, last + 1),
        "key": [change.key for change in changes],
        "kind": [change.kind.value for change in changes],
        "before": [change.before for change in changes],
        "after": [change.after for change in changes],
    }
    same = {"at": now, "connection": connection_name, "resource": resource, "turn": turn, "cause": cause.value}
    texts = {"after": [change.text for change in changes]}
    bulk.insert(connection, entries, columns, same=same, lines=lambda: bulk.spell(entries, columns, texts))


def read(
    connection: sa.Connection,
    *,
    after: int,
    limit: int,
    connection_name: str | None = None,
    resource: str | None = None,
) -> Sequence[sa.Row[Any]]:
    """At most `limit` entries with an id above `after`, oldest first."""
    chosen = sa.select(entries).where(entries.c.id > after)
    if connection_name is not None:
        chosen = chosen.where(entries.c.connection == connection_name)
    if resource is not None:
        chosen = chosen.where(entries.c.resource == resource)
    return connection.execute(chosen.order_by(entries.c.id).limit(limit)).all()


def bounds(connection: sa.Connection) -> tuple[int, int, str]:
    """The oldest id that is kept (the next one, if none is), the last id given out, and the feed's name."""
    oldest = sa.select(sa.func.min(entries.c.id)).scalar_subquery()
    row = connection.execute(sa.select(sa.func.coalesce(oldest, feed.c.last + 1), feed.c.last, feed.c.name)).one()
    return (row[0], row[1], row[2])


def trim(connection: sa.Connection, before: datetime, *, limit: int = 1000) -> int:
    """Forget at most `limit` entries older than `before`, from the oldest on without a hole. How many."""
    oldest = sa.select(entries.c.id, entries.c.at).order_by(entries.c.id).limit(limit).subquery()
    kept = sa.select(sa.func.min(oldest.c.id)).where(oldest.c.at >= before).scalar_subquery()
    ended = sa.select(sa.func.max(oldest.c.id) + 1).scalar_subquery()
    return connection.execute(sa.delete(entries).where(entries.c.id < sa.func.coalesce(kept, ended))).rowcount
