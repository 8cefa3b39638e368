"""The state of the mirror, resource by resource, as `erpmirror status` and the metrics show it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.db.tables import inbox, runs, streams, webhooks
from models.mirror import naming, schema_evolution

if TYPE_CHECKING:
    from models.db.database import Database, Tx
    from models.settings.load import Settings


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """One resource of one connection.

    `state`: open, parked, or retired (no longer configured: its rows are kept, and no request is sent). `rows`: live
    objects in the mirror. `last_read`: when the last listing ended. `complete_as_of`: the mirror has every change that
    the ERP made before this. `bound`: seconds within which the mirror equals the ERP again. `pending`: keys that are
    due and webhooks that wait. `parked`: parked keys, and 1 for a parked resource. `held`: deletions that wait for a
    person. `full_sync`: objects that the full sync under way has brought, None if none is.
    """

    connection: str
    system: str
    resource: str
    state: str
    rows: int
    last_read: datetime | None
    complete_as_of: datetime | None
    bound: int
    pending: int
    parked: int
    held: int
    last_error: str | None
    warning: str | None
    full_sync: int | None


def resources(database: Database, settings: Settings | None = None) -> list[ResourceStatus]:
    """Every resource that the mirror knows, configured or not. `settings` limits it to what is configured."""
    with database.read() as tx:
        inbox_counts = _count_inbox(tx)
        new_webhooks = _count_new_webhooks(tx)
        found = tx.execute(_STATEMENT.order_by(streams.c.connection, streams.c.resource)).all()
        rows = [row for row in found if settings is None or row.connection in settings.connections]
        live = _count_live(tx, {(row.system, row.resource) for row in rows})
        return [_status(row, live, inbox_counts, new_webhooks) for row in rows]


_OLDEST_REASON = (
    sa.select(inbox.c.reason)
    .where(
        inbox.c.connection == streams.c.connection,
        inbox.c.resource == streams.c.resource,
        inbox.c.reason.is_not(None),
    )
    .order_by(inbox.c.first_enqueued_at)
    .limit(1)
    .scalar_subquery()
)
"""The reason of the row that has waited longest, in the vendor's own words."""

_COLUMNS = (
    "connection",
    "system",
    "resource",
    "state",
    "last_read_at",
    "complete_as_of",
    "bound",
    "last_error",
    "warning",
)
_STATEMENT = sa.select(
    *(streams.c[name] for name in _COLUMNS),
    runs.c.objects.label("full_sync"),
    sa.case((streams.c.last_error.is_(None), _OLDEST_REASON)).label("oldest_reason"),
).outerjoin(runs, runs.c.id == streams.c.full_run)


def _count_live(tx: Tx, resources_of_systems: set[tuple[str, str]]) -> dict[tuple[str, str, str], int]:
    """Connection, system and resource -> live objects. One count for each table, which a system's connections share."""
    found = {}
    for system, resource in sorted(resources_of_systems):
        schema = schema_evolution.current(tx, naming.table_name(system, resource))
        if schema is None:
            continue
        c = schema.root.sql.c
        counted = sa.select(c["_connection"], sa.func.count()).where(c["_deleted_at"].is_(None))
        for name, count in tx.execute(counted.group_by(c["_connection"])):
            found[name, system, resource] = count
    return found


def _count_inbox(tx: sa.Connection) -> dict[tuple[str, str, str], int]:
    """Connection, resource and state -> keys."""
    counted = tx.execute(
        sa.select(inbox.c.connection, inbox.c.resource, inbox.c.state, sa.func.count()).group_by(
            inbox.c.connection, inbox.c.resource, inbox.c.state
        )
    )
    return {(row[0], row[1], row[2]): row[3] for row in counted}


def _count_new_webhooks(tx: sa.Connection) -> dict[tuple[str, str | None], int]:
    """Connection and resource -> webhooks that wait to be moved into the inbox."""
    counted = tx.execute(
        sa.select(webhooks.c.connection, webhooks.c.resource, sa.func.count())
        .where(webhooks.c.state == "new")
        .group_by(webhooks.c.connection, webhooks.c.resource)
    )
    return {(row[0], row[1]): row[2] for row in counted}


def _status(
    row: Any,
    live: dict[tuple[str, str, str], int],
    inbox_counts: dict[tuple[str, str, str], int],
    new_webhooks: dict[tuple[str, str | None], int],
) -> ResourceStatus:
    here = (row.connection, row.resource)
    return ResourceStatus(
        connection=row.connection,
        system=row.system,
        resource=row.resource,
        state=row.state,
        rows=live.get((row.connection, row.system, row.resource), 0),
        last_read=row.last_read_at,
        complete_as_of=row.complete_as_of,
        bound=row.bound,
        pending=inbox_counts.get((*here, "due"), 0) + new_webhooks.get(here, 0),
        parked=inbox_counts.get((*here, "parked"), 0) + (row.state == "parked"),
        held=inbox_counts.get((*here, "held"), 0),
        last_error=row.last_error or row.oldest_reason,
        warning=row.warning,
        full_sync=row.full_sync,
    )
