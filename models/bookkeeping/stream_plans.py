"""The configured resources: brings `erpmirror_streams` in line with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import inbox, omitted, refused_keys, streams
from models.db.tables import streams as table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import timedelta

    from models.db.database import Tx


@dataclass(frozen=True, slots=True)
class Plan:
    """A resource as configured.

    `bound`: the time within which the mirror equals the ERP again. `selection`: which of the vendor's objects are
    synced. `omit`: the rules that say what is never stored. `settings`: a keyed hash of the connection's settings, by
    which corrected ones are noticed.
    """

    resource: str
    bound: timedelta
    polls: bool
    selection: str = ""
    omit: Sequence[str] = ()
    settings: str = ""


_PLANNED = ("bound", "polls", "selection", "redaction", "refused_settings")
"""The columns that a `Plan` is compared with."""


def matching(tx: Tx, plans: Mapping[str, Sequence[Plan]]) -> set[str]:
    """Those of the connections whose rows match their plans already. One statement for all: there may be thousands."""
    columns = (table.c[name] for name in ("connection", "resource", "state", *_PLANNED))
    rows: dict[str, dict[str, sa.Row[Any]]] = {name: {} for name in plans}
    for row in tx.execute(sa.select(*columns)):
        if row.connection in rows and row.state != "retired":
            rows[row.connection][row.resource] = row
    return {
        name
        for name, planned in plans.items()
        if rows[name].keys() == {plan.resource for plan in planned}
        and all(_matches(rows[name][plan.resource], plan) for plan in planned)
    }


def _matches(row: sa.Row[Any], plan: Plan) -> bool:
    """Whether `_sync_one` would change nothing of a row that is not retired."""
    return (
        omitted.has_rules(row.redaction, plan.omit)
        and (row.selection or "") == plan.selection
        and (row.state != "parked" or row.refused_settings == plan.settings)
        and (row.bound, row.polls) == (_seconds(plan.bound), plan.polls)
    )


def _seconds(bound: timedelta) -> int:
    return int(bound.total_seconds())


def sync(tx: Tx, *, connection: str, system: str, plans: Sequence[Plan]) -> None:
    """Make the rows match the configuration. Resources that left it are retired; those that came back start again."""
    inbox.lock(tx, connection=connection)
    columns = (table.c[name] for name in ("resource", "state", "full_due_at", *_PLANNED))
    rows = tx.execute(sa.select(*columns).where(table.c.connection == connection))
    known = {row.resource: row for row in rows}
    for plan in sorted(plans, key=lambda plan: plan.resource.encode()):
        _sync_one(tx, connection, system, plan, known.get(plan.resource))
    configured = {plan.resource for plan in plans}
    for resource, row in known.items():
        if resource not in configured and row.state != "retired":
            streams.update(tx, connection, resource, state="retired")


def _sync_one(tx: Tx, connection: str, system: str, plan: Plan, row: sa.Row[Any] | None) -> None:
    """Make one row match its plan. `row`: as it is now, None for a new resource."""
    now, bound = tx.now, _seconds(plan.bound)
    values = {"system": system, "bound": bound, "polls": plan.polls, "selection": plan.selection}
    from_the_start = {**values, **streams.NOT_READ, **streams.OPEN, "due_at": now, "full_due_at": now}
    if row is None:
        new = {"connection": connection, "resource": plan.resource, "full_requested": False, **from_the_start}
        new["redaction"] = omitted.followed(plan.omit)
        tx.execute(tx.insert(table).values(**new).on_conflict_do_nothing())
        return
    if (redaction := omitted.with_rules(tx, row.redaction, plan.omit)) != row.redaction:
        streams.update(tx, connection, plan.resource, redaction=redaction)
    if (row.selection or "") != plan.selection:
        # The earlier selection may have been complete; nothing is known of the new one.
        streams.update(tx, connection, plan.resource, **from_the_start, **streams.NOT_COMPLETE)
        refused_keys.resume(tx, connection=connection, resource=plan.resource)
    elif row.state == "retired":
        streams.update(tx, connection, plan.resource, **from_the_start)
    elif row.state == "parked" and row.refused_settings != plan.settings:
        # Refused under other settings: a key or a password may have been corrected.
        streams.update(tx, connection, plan.resource, **values, **streams.OPEN, full_due_at=now)
        refused_keys.resume(tx, connection=connection, resource=plan.resource)
    elif (row.bound, row.polls) != (bound, plan.polls):
        # A shorter schedule applies at once; a longer one after the next full sync.
        streams.update(tx, connection, plan.resource, **values, full_due_at=min(row.full_due_at, now + plan.bound))


def retire(tx: Tx, *, configured: Iterable[str]) -> None:
    """Retire the streams of connections that are no longer configured."""
    tx.execute(
        sa.update(table)
        .where(table.c.connection.not_in(list(configured)), table.c.state != "retired")
        .values(state="retired")
    )
