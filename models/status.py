"""The state of the mirror, resource by resource, as `erpmirror status` and the metrics show it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import omitted, unkeyed
from models.db import faults
from models.db.faults import Fault
from models.db.tables import inbox, parts, runs, streams, webhooks
from models.mirror import damages, naming

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from models.db.database import Database, Tx
    from models.settings.load import Settings


_LOCK_TIMEOUT = "1s"
"""For how long the state of all resources waits for one of their tables."""

_TABLES_AT_ONCE = 100
"""Tables that one statement counts; SQLite takes 500 terms."""

_MOST_COUNTED = 100_000
"""Where counting what is to be cleared stops."""


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """One resource of one connection.

    `state`: open, parked, or retired (no longer configured: its rows are kept, and no request is sent). `rows`: live
    objects in the mirror. `last_read`: when the last listing ended. `complete_as_of`: the mirror has every change that
    the ERP made before this, except of records without a key. `bound`: seconds within which the mirror equals the ERP
    again. `pending`: keys that are due and webhooks that wait. `parked`: parked keys, 1 for a parked resource, and 1
    for each reason why records have no key. `held`: deletions that wait for a person. `warning`: what a person should
    know, such as those reasons. `full_sync`: objects that the full sync under way has brought, None if none is. `rows`
    is None where a person's transaction locks the table. `last_error`: first of all what is wrong with the table
    itself. `unredacted_rows`, `unredacted_entries`: rows and journal entries that may hold what `omit` names since
    later. `retry_at`: when a parked resource is tried again by itself. `unbatched`: why its objects are fetched one by
    one, although its vendor can be asked for many at once.
    """

    connection: str
    system: str
    resource: str
    state: str
    rows: int | None
    last_read: datetime | None
    complete_as_of: datetime | None
    bound: int
    pending: int
    parked: int
    held: int
    last_error: str | None
    warning: str | None
    full_sync: int | None
    unredacted_rows: int = 0
    unredacted_entries: int = 0
    retry_at: datetime | None = None
    unbatched: str | None = None


def resources(database: Database, settings: Settings | None = None) -> list[ResourceStatus]:
    """Every resource that the mirror knows, configured or not. `settings` limits it to what is configured."""
    with database.read() as tx:
        inbox_counts = _count_inbox(tx)
        new_webhooks = _count_new_webhooks(tx)
        not_mirrored = _not_mirrored(tx)
        found = tx.execute(_STATEMENT.order_by(streams.c.connection, streams.c.resource)).all()
        rows = [row for row in found if settings is None or row.connection in settings.connections]
        troubles = _damages(tx)
        live = _count_live(tx, _readable_tables(tx, rows, troubles), troubles)
        return [
            _with_unredacted(tx, row.redaction, _status(row, live, troubles, inbox_counts, new_webhooks, not_mirrored))
            for row in rows
        ]


_OLDEST_REASON = (
    sa.select(inbox.c.reason)
    .where(
        inbox.c.connection == streams.c.connection,
        inbox.c.resource == streams.c.resource,
        inbox.c.reason.is_not(None),
        ~unkeyed.is_unkeyed(),
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
    "unfilled",
    "redaction",
    "retry_at",
    "unbatched",
)
_STATEMENT = sa.select(
    *(streams.c[name] for name in _COLUMNS),
    runs.c.objects.label("full_sync"),
    sa.case((streams.c.last_error.is_(None), _OLDEST_REASON)).label("oldest_reason"),
).outerjoin(runs, runs.c.id == streams.c.full_run)


def _damages(tx: Tx) -> dict[str, str]:
    """Owner -> what its tables lack, and what to do."""
    found = {damage.owner: str(damage) for damage in reversed(damages.find(tx))}
    return {owner: f"{words}; run `erpmirror migrate`, which makes it anew" for owner, words in found.items()}


def _readable_tables(tx: Tx, rows: Sequence[Any], troubles: Collection[str]) -> list[str]:
    """The tables of these resources' objects that are there and whole."""
    there = set(tx.execute(sa.select(parts.c.table_name).where(parts.c.path == "")).scalars())
    wanted = {naming.table_name(row.system, row.resource) for row in rows}
    return sorted((wanted & there) - set(troubles))


def _count_live(tx: Tx, tables: Sequence[str], troubles: dict[str, str]) -> dict[tuple[str, str], int]:
    """Connection and table -> live objects.

    A table that cannot be read now is added to `troubles`, and costs the others nothing.
    """
    if not tx.is_sqlite:
        tx.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
    found: dict[tuple[str, str], int] = {}
    for start in range(0, len(tables), _TABLES_AT_ONCE):
        some = tables[start : start + _TABLES_AT_ONCE]
        try:
            found |= _live(tx, some)
        except sa.exc.DBAPIError:  # raised again below, if it is of no single table
            found |= _live_one_by_one(tx, some, troubles)
    return found


def _live_one_by_one(tx: Tx, tables: Sequence[str], troubles: dict[str, str]) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = {}
    for table in tables:
        try:
            found |= _live(tx, [table])
        except sa.exc.DBAPIError as error:
            if faults.of(error) is Fault.AWAY:
                raise
            troubles[table] = faults.remedy(error)
    return found


def _live(tx: Tx, tables: Sequence[str]) -> dict[tuple[str, str], int]:
    """Connection and table -> live objects: all less the deleted ones, each from an index, so that none is read."""
    quoted = tx.dialect.identifier_preparer.quote
    counts = (
        f"SELECT {sign} AS sign, {number} AS number, _connection, count(*) FROM {quoted(table)} {where}"  # noqa: S608 - our own names
        for number, table in enumerate(tables)
        for sign, where in ((1, ""), (-1, "WHERE _deleted_at IS NOT NULL"))
    )
    with tx.begin_nested():
        rows = tx.exec_driver_sql(" UNION ALL ".join(f"{count} GROUP BY _connection" for count in counts)).all()
    live: Counter[tuple[str, str]] = Counter()
    for sign, number, connection, count in rows:
        live[connection, tables[number]] += sign * count
    return live


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


def _not_mirrored(tx: sa.Connection) -> dict[tuple[str, str], list[str]]:
    """Connection and resource -> the reasons why some of its records have no key, each with a count and a remedy."""
    columns = (inbox.c.connection, inbox.c.resource, inbox.c.reason)
    rows = tx.execute(sa.select(*columns).where(unkeyed.is_unkeyed()).order_by(inbox.c.key))
    reasons: dict[tuple[str, str], list[str]] = {}
    for connection, resource, reason in rows:
        reasons.setdefault((connection, resource), []).append(reason)
    return reasons


def _status(
    row: Any,
    live: dict[tuple[str, str], int],
    troubles: dict[str, str],
    inbox_counts: dict[tuple[str, str, str], int],
    new_webhooks: dict[tuple[str, str | None], int],
    not_mirrored: dict[tuple[str, str], list[str]],
) -> ResourceStatus:
    here = (row.connection, row.resource)
    owner = naming.table_name(row.system, row.resource)
    return ResourceStatus(
        connection=row.connection,
        system=row.system,
        resource=row.resource,
        state=row.state,
        rows=None if owner in troubles else live.get((row.connection, owner), 0),
        last_read=row.last_read_at,
        complete_as_of=row.complete_as_of,
        bound=row.bound,
        pending=inbox_counts.get((*here, "due"), 0) + new_webhooks.get(here, 0),
        parked=inbox_counts.get((*here, "parked"), 0) + (row.state == "parked"),
        held=inbox_counts.get((*here, "held"), 0),
        last_error=troubles.get(owner) or row.last_error or row.oldest_reason,
        warning="; ".join(filter(None, [_unfilled(row) or row.warning, *not_mirrored.get(here, ())])) or None,
        full_sync=row.full_sync,
        retry_at=row.retry_at,
        unbatched=row.unbatched,
    )


def _unfilled(row: Any) -> str | None:
    if row.unfilled is None:
        return None
    return f"its tables were made anew and are not filled yet; run `erpmirror rebuild {row.connection} {row.resource}`"


def _with_unredacted(tx: Tx, redaction: dict[str, Any] | None, status: ResourceStatus) -> ResourceStatus:
    """Count what was stored before the newest `omit` rules; a deleted row keeps its object, whatever its revision."""
    waiting = omitted.pending(redaction)
    if waiting is None or status.rows is None:
        return status
    from models.bookkeeping import journal  # noqa: PLC0415 - imports what writes it, and is rarely needed here
    from models.mirror import schema_evolution  # noqa: PLC0415 - likewise

    schema = schema_evolution.current(tx, naming.table_name(status.system, status.resource))
    if schema is None:
        return status
    c = schema.root.sql.c
    older = sa.or_(c["_revision"] < waiting.since, c["_deleted_at"].is_not(None))
    chosen = sa.select(c["_key"]).where(c["_connection"] == status.connection, older).limit(_MOST_COUNTED)
    rows = tx.execute(sa.select(sa.func.count()).select_from(chosen.subquery())).scalar_one()
    entries = journal.count_older(
        tx,
        connection=status.connection,
        resource=status.resource,
        revision=waiting.since,
        after=waiting.cleared,
        at_most=_MOST_COUNTED,
    )
    if not rows and not entries:
        return status
    warning = (
        f"`omit` names more than when up to {rows} rows and {entries} journal entries were stored, so they may still "
        f"hold it; run `erpmirror rebuild {status.connection} {status.resource}`, which removes it from both"
    )
    warning = "; ".join(filter(None, [warning, status.warning]))
    return replace(status, warning=warning, unredacted_rows=rows, unredacted_entries=entries)
