"""How the mirror stands, resource by resource: what `erpmirror status` and the metrics show."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models import records
from models.tables import inbox, notices, runs, streams

if TYPE_CHECKING:
    from models.database import Database
    from models.settings import Settings


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """One resource of one connection.

    `rows`: live objects in the mirror. `bound`: seconds within which the mirror equals the ERP again. `pending`,
    `parked`, `held`: rows of the inbox (a parked resource counts as one parked). `state`: open, parked, or retired (no
    longer configured: not touched and not asked). `reading`: objects that the full reading under way has brought, None
    if none is.
    """

    connection: str
    system: str
    resource: str
    state: str
    rows: int
    last_look: datetime | None
    complete_as_of: datetime | None
    bound: int
    pending: int
    parked: int
    held: int
    last_error: str | None
    warning: str | None
    reading: int | None


def resources(database: Database, settings: Settings | None = None) -> list[ResourceStatus]:
    """Every resource that the mirror knows, configured or not. `settings` limits it to what is configured."""
    with database.read() as connection:
        waiting = _waiting(connection)
        unfolded = _unfolded(connection)
        rows = connection.execute(
            sa.select(streams, runs.c.objects.label("reading"))
            .outerjoin(runs, runs.c.id == streams.c.full_run)
            .order_by(streams.c.connection, streams.c.resource)
        ).all()
        return [
            _status(connection, database, row, waiting, unfolded)
            for row in rows
            if settings is None or row.connection in settings.connections
        ]


def _waiting(connection: sa.Connection) -> dict[tuple[str, str, str], int]:
    counted = connection.execute(
        sa.select(inbox.c.connection, inbox.c.resource, inbox.c.state, sa.func.count()).group_by(
            inbox.c.connection, inbox.c.resource, inbox.c.state
        )
    )
    return {(row[0], row[1], row[2]): row[3] for row in counted}


def _unfolded(connection: sa.Connection) -> dict[tuple[str, str | None], int]:
    counted = connection.execute(
        sa.select(notices.c.connection, notices.c.resource, sa.func.count())
        .where(notices.c.state == "new")
        .group_by(notices.c.connection, notices.c.resource)
    )
    return {(row[0], row[1]): row[2] for row in counted}


def _status(
    connection: sa.Connection,
    database: Database,
    row: sa.Row[tuple[object, ...]],
    waiting: dict[tuple[str, str, str], int],
    unfolded: dict[tuple[str, str | None], int],
) -> ResourceStatus:
    here = (row.connection, row.resource)
    target = records.Target(connection=row.connection, system=row.system, resource=row.resource)
    return ResourceStatus(
        connection=row.connection,
        system=row.system,
        resource=row.resource,
        state=row.state,
        rows=records.count_live(connection, database, target),
        last_look=row.last_look_at,
        complete_as_of=row.complete_as_of,
        bound=row.bound,
        pending=waiting.get((*here, "due"), 0) + unfolded.get(here, 0),
        parked=waiting.get((*here, "parked"), 0) + (row.state == "parked"),
        held=waiting.get((*here, "held"), 0),
        last_error=row.last_error or _parked_words(connection, *here),
        warning=row.warning,
        reading=row.reading,
    )


def _parked_words(connection: sa.Connection, connection_name: str, resource: str) -> str | None:
    """The reason of what waits longest, in the vendor's own words."""
    return connection.execute(
        sa.select(inbox.c.reason)
        .where(inbox.c.connection == connection_name, inbox.c.resource == resource, inbox.c.reason.is_not(None))
        .order_by(inbox.c.first_at)
        .limit(1)
    ).scalar()
