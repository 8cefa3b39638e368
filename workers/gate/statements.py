"""The gate's SQL statements, built once: compiling them costs more than running them."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.db.tables import gates, leases, revisions
from models.db.types import Instant

if TYPE_CHECKING:
    from datetime import datetime

OF_ACCOUNT = "of_account"
"""The parameter that selects a gate or its leases."""

OF_REVISION = "of_revision"
"""The parameter that selects a lease."""

_OF_ACCOUNT = gates.c.account == sa.bindparam(OF_ACCOUNT)

LEASES = sa.select(leases.c.subject, leases.c.until).where(leases.c.account == sa.bindparam(OF_ACCOUNT))
"""The leases of an account, with those that have run out."""

INSERT_LEASE = sa.insert(leases).returning(leases.c.revision)
"""Insert a lease under a revision that was drawn before; returns the revision."""

DRAW_AND_INSERT_LEASE = INSERT_LEASE.values(revision=revisions.next_value())
"""Draw the revision in the insert, which only PostgreSQL's sequence can."""


@cache
def lock_gate(clock: sa.ColumnElement[datetime]) -> sa.Select[Any]:
    """Lock the gate's row; returns its columns and, as `now`, the clock."""
    columns = (gates.c.next_start_at, gates.c.closed_until, gates.c.closed_reason, gates.c.failures)
    locked = sa.select(*columns).where(_OF_ACCOUNT).with_for_update().subquery("locked")
    return sa.select(locked, clock.label("now"))  # outside the subquery the clock is read once the row is locked


@cache
def delay_next_start(columns: tuple[str, ...]) -> sa.Update:
    """Let the next request start at `earliest` or later, and set the columns to `new_<column>`.

    A request that waited long for its start must not let the next one follow at once.
    """
    earliest = sa.bindparam("earliest", type_=Instant)
    later = sa.case((gates.c.next_start_at > earliest, gates.c.next_start_at), else_=earliest)
    new: dict[str, Any] = {column: sa.bindparam(f"new_{column}") for column in columns}
    return sa.update(gates).where(_OF_ACCOUNT).values(next_start_at=later, **new)


@cache
def renew_lease(clock: sa.ColumnElement[datetime], has_end: bool) -> Any:  # noqa: FBT001 - the cache key
    """Renew a lease that has not run out, to `until` or by `duration`; returns the clock, or no row."""
    until = sa.bindparam("until", type_=Instant) if has_end else clock + sa.bindparam("duration", type_=sa.Interval)
    return sa.update(leases).where(*_valid(clock)).values(until=until).returning(clock)


@cache
def delete_lease(clock: sa.ColumnElement[datetime]) -> Any:
    """Delete a lease that has not run out; returns the clock, or no row."""
    return sa.delete(leases).where(*_valid(clock)).returning(clock)


def delete_expired_leases(account: str, now: datetime) -> sa.Delete:
    """Delete the account's leases that have run out, except one that is being committed: its row is locked."""
    expired = (
        sa.select(leases.c.revision)
        .where(leases.c.account == account, leases.c.until <= now)
        .with_for_update(skip_locked=True)
    )
    return sa.delete(leases).where(leases.c.revision.in_(expired))


def _valid(clock: sa.ColumnElement[datetime]) -> tuple[sa.ColumnElement[bool], ...]:
    return (leases.c.revision == sa.bindparam(OF_REVISION), leases.c.until > clock)
