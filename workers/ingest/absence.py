"""Handles the keys that a complete full sync did not name. Absence from a listing alone deletes nothing.

- A key that can be fetched is enqueued, and its fetch decides.
- One that cannot, because the vendor has no point reads or they cannot ask for this key, is deleted if two complete
  full syncs did not name it. Above `max_deletions` the keys are held for a person.
- In pages without point reads: nothing. Pages shift while data changes, so a key missing from them may exist.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from models.bookkeeping import inbox, parked
from models.mirror import deletion_guard, queries
from models.values import Lane, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from workers.connectors.contract import Resource
    from workers.context import ConnectionContext
    from workers.ingest.unit_of_work import UnitOfWork


def settle_missing(
    work: UnitOfWork, context: ConnectionContext, resource: Resource, *, first_revision: int, proven: bool
) -> None:
    """Enqueue, delete or hold what a complete full sync, whose first request had `first_revision`, did not name.

    `proven`: it named all that exists. Otherwise only fetches decide.
    """
    missing = list(queries.keys_absent(work.tx, work.target, before_revision=first_revision))
    # A key that already waits, or is held, is left as it is.
    _enqueue(work, [key for key in missing if resource.fetches(key)])
    if resource.absence_deletes and proven:
        undecided = [key for key in missing if not resource.fetches(key)]
        _delete_confirmed(work, context, resource, undecided, first_revision=first_revision)


def _delete_confirmed(
    work: UnitOfWork,
    context: ConnectionContext,
    resource: Resource,
    missing: Sequence[str],
    *,
    first_revision: int,
) -> None:
    """Delete the keys that were missing before or whose deletion a person approved; have the others confirmed."""
    tx, name = work.tx, context.name
    approved, missing_before = inbox.finish_absent(
        tx,
        connection=name,
        resource=resource.name,
        decides=lambda key: not resource.fetches(key),
        missing=missing,
        before=first_revision,
        now=tx.now,
        confirms_after=resource.confirms_after,
    )
    if approved and not parked.any_other_deletion_held(tx, connection=name, resource=resource.name, key=""):
        deletion_guard.record_approval(tx, work.target, now=tx.now)
    new = [key for key in missing if key not in approved and key not in missing_before]
    _enqueue(work, new, tokens=dict.fromkeys(new, inbox.MISSING), after=resource.confirms_after)
    confirmed = [key for key in missing if key in missing_before]
    if _may_delete(work, context, resource, confirmed):
        work.delete([*approved, *confirmed], point=False)
        return
    reason = f"missing, one of {len(confirmed)} at once"
    parked.hold_missing(tx, connection=name, resource=resource.name, keys=confirmed, cause=work.cause, reason=reason)
    work.delete(sorted(approved), point=False)


def _may_delete(work: UnitOfWork, context: ConnectionContext, resource: Resource, keys: Collection[str]) -> bool:
    """Whether the deletions stay within `max_deletions`; registers are exempt."""
    share = context.options.max_deletions
    return resource.register or deletion_guard.permits(
        work.tx, work.target, count=len(keys), max_deletions=share, now=work.tx.now
    )


def _enqueue(
    work: UnitOfWork,
    keys: Sequence[str],
    *,
    tokens: dict[str, str] | None = None,
    after: timedelta = timedelta(0),
) -> None:
    """Enqueue the keys that do not wait yet, to be fetched or confirmed after a delay."""
    inbox.enqueue(
        work.tx,
        connection=work.target.connection,
        refs=[ObjectRef(work.target.resource, key) for key in keys],
        lane=Lane.BULK,
        cause=work.cause,
        tokens=tokens,
        unless_known=True,
        after=after,
    )
