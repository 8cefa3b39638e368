"""Fetches one key of the inbox: under a lease, into its row; or parks it with the reason."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from models import failpoints
from models.bookkeeping import inbox, parked, streams
from models.failpoints import Point
from models.mirror import deletion_guard, prepare, queries
from models.mirror.rows import Prepared
from models.mirror.target import Target
from models.values import Cause, Snapshot, Withheld, backoff
from workers.errors import SetAside, VendorError
from workers.gate import gate
from workers.ingest import document, failures, vendor_schema
from workers.ingest.unit_of_work import UnitOfWork

if TYPE_CHECKING:
    from datetime import datetime

    from models.bookkeeping.inbox import Item
    from models.bookkeeping.streams import Stream
    from models.db.database import Tx
    from models.values import Change, Tombstone
    from workers.connectors.contract import Resource
    from workers.context import ConnectionContext, WorkSession
    from workers.gate.gate import Lease

log = structlog.get_logger()

_WAIT_FOR_NEWER_SETTINGS = timedelta(minutes=1)
"""How long a document waits for a worker with newer settings if this worker's do not have its resource."""


class AlreadyClaimedError(Exception):
    """Another worker fetches this key, or has finished it."""


def fetch(session: WorkSession, item: Item) -> None:
    """Fetch one key and write the answer; after a failure postpone or park the key. Raises `GateClosed`."""
    context = session.context
    names = {"connection": context.name, "resource": item.resource, "key": item.key}
    resource = context.resources.get(item.resource)
    if resource is None:
        log.info("resource not configured", **names)
        with context.database.begin() as tx:
            _settle_unconfigured(tx, item)
        return
    try:
        if resource.handed_in:
            document.send(session, resource, item)
        elif resource.fetches(item.key):
            _fetch_under_lease(session, resource, item)
        else:
            with context.database.begin() as tx:
                _full_sync_instead(tx, context, item)
    except gate.LeaseLost:
        log.warning("lease lost", **names)  # the key is still in the inbox


class _Claim:
    """Runs in the transaction that takes the lease: reads the stream, and claims the key.

    The claim ends with the lease, or later if attempts have failed before.
    """

    stream: Stream

    def __init__(self, context: ConnectionContext, resource: Resource, item: Item) -> None:
        self._context, self._resource, self._item = context, resource, item

    def __call__(self, tx: Tx, _revision: int, until: datetime) -> None:
        self.stream = vendor_schema.stream_of(tx, self._context, self._resource)
        item = self._item
        # Longer with each attempt: a key that kills its worker must not come first as soon as the lease has ended.
        if not inbox.claim(tx, item, now=tx.now, until=until + backoff(item.attempts)):
            raise AlreadyClaimedError


def _fetch_under_lease(session: WorkSession, resource: Resource, item: Item) -> None:
    """Fetch a key under a lease of its own, after the vendor's metadata if that has to be fetched first."""
    context = session.context
    if item.lone_failures >= failures.MAX_ATTEMPTS:
        reason = f"{item.lone_failures} attempts broke off without an answer; the workers' log may say why"
        with context.database.begin() as tx:
            inbox.park(tx, item, reason=reason)
        return
    claim = _Claim(context, resource, item)
    try:
        with (
            suppress(AlreadyClaimedError, vendor_schema.ResourceRetiredError),
            session.acquire(f"{resource.name}\n{item.key}", on_acquire=claim) as lease,
        ):
            _fetch_and_write(session, lease, resource, claim.stream, item=item)
    except vendor_schema.MetadataNeededError:
        on_failure = partial(failures.fail_key, context, item=item, of_key=False)
        if vendor_schema.fetch_metadata(session, resource, on_failure):
            _fetch_under_lease(session, resource, item)


def _settle_unconfigured(tx: Tx, item: Item) -> None:
    """The resource is not configured: drop the key. An accepted document waits, for a worker with newer settings."""
    if item.cause is Cause.DOCUMENT:
        until = tx.now + _WAIT_FOR_NEWER_SETTINGS
        inbox.postpone(tx, item, until=until, reason="this worker's settings do not have it", counts=False)
    else:
        inbox.finish(tx, item)


def _full_sync_instead(tx: Tx, context: ConnectionContext, item: Item) -> None:
    """No point read can ask for this key: request a full sync now, which settles all such keys of the resource."""
    now, resource = tx.now, context.resources[item.resource]
    inbox.lock(tx, connection=context.name)
    if inbox.defer_all(
        tx,
        connection=context.name,
        resource=resource.name,
        chosen=lambda key: not resource.fetches(key),
        now=now,
        until=now + resource.full_every,
    ):
        streams.request_full_sync(tx, context.name, item.resource)


def _fetch_and_write(session: WorkSession, lease: Lease, resource: Resource, stream: Stream, *, item: Item) -> None:
    """Request the object and commit the answer, or the failure, under the lease."""
    context = session.context
    try:
        with failures.classify(context):
            found = _with_listed_token(visible_snapshot(session.client.fetch(resource, item.key), item), item)
            failpoints.hit(Point.FETCHED)
            if isinstance(found, Snapshot):
                stream = vendor_schema.refresh_for_new_fields(
                    session, resource, stream, found.raw, asked_at=lease.sent_at
                )
            target = context.target(resource, stream)
            prepared = prepare.prepare(context.database, target, [found] if isinstance(found, Snapshot) else [])
            failpoints.hit(Point.ROW_PREPARED)
    except VendorError as failure:
        failures.fail_key(context, lease, item, failure)
        return
    try:
        changes = _write(context, lease, target, stream, item=item, found=found, prepared=prepared)
    except sa.exc.DBAPIError as error:
        failures.fail_key(context, lease, item, failures.of_database(context, error))
        return
    session.changes += len(changes)
    kinds = [change.kind.value for change in changes]
    log.info("fetched", connection=context.name, resource=resource.name, key=item.key, changes=kinds)


def visible_snapshot(found: Snapshot | Tombstone | Withheld, item: Item) -> Snapshot | Tombstone:
    """The answer to store. For a withheld detail it is the summary that a listing showed; SetAside if none did."""
    if not isinstance(found, Withheld):
        return found
    if item.summary is None:
        raise SetAside("the vendor withholds this object's detail, and no listing showed it yet")
    return Snapshot(found.key, item.summary | found.mark)


def _with_listed_token(found: Snapshot | Tombstone, item: Item) -> Snapshot | Tombstone:
    # The next listing is compared with the token of the last one, because a point read may show another token.
    return replace(found, listed=item.listed) if isinstance(found, Snapshot) and item.listed is not None else found


def _write(
    context: ConnectionContext,
    lease: Lease,
    target: Target,
    stream: Stream,
    *,
    item: Item,
    found: Snapshot | Tombstone,
    prepared: Prepared,
) -> list[Change]:
    token = found.listed if isinstance(found, Snapshot) else item.listed
    listed = {item.key: token} if token is not None else {}
    with UnitOfWork.under(lease, target, item.cause, failpoint=Point.KEY_JOURNALED) as work:
        if isinstance(found, Snapshot):
            work.apply(prepared, listed=listed, point=True)
        elif _may_delete(work, context, item):
            work.delete([item.key], listed=listed, point=True)
        else:
            share = f"{context.options.max_deletions:.0%}"
            inbox.hold(work.tx, item, reason=f"gone, like more than {share} of {item.resource} within a day")
            return []
        failpoints.hit(Point.ROW_APPLIED)
        streams.reopen_fetched(work.tx, stream)
        inbox.finish(work.tx, item)
        failpoints.hit(Point.KEY_FINISHED)
    failpoints.hit(Point.KEY_COMMITTED)
    return work.changes


def _may_delete(work: UnitOfWork, context: ConnectionContext, item: Item) -> bool:
    """Whether the deletion stays within `max_deletions`, or a person has approved it; registers are exempt."""
    tx, target = work.tx, work.target
    _, deleted = queries.listed_tokens(tx, target, [item.key]).get(item.key, (None, True))
    if deleted or context.resources[item.resource].register:
        return True
    if item.approved:
        if not parked.any_other_deletion_held(tx, connection=context.name, resource=item.resource, key=item.key):
            deletion_guard.record_approval(tx, target, now=tx.now)
        return True
    return deletion_guard.permits(tx, target, count=1, max_deletions=context.options.max_deletions, now=tx.now)
