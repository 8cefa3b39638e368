"""Sends one document to be interpreted, at most once, and writes the answer into its row; or parks it with the reason.

The state `sending` is committed before the request. A worker that holds the lease and finds that state knows that the
sender died or was too late, and parks the document: only a person may send again what may have arrived.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from models import failpoints
from models.bookkeeping import documents, inbox, streams
from models.bookkeeping.documents import State
from models.db import faults
from models.db.faults import Fault
from models.failpoints import Point
from models.mirror import damages, prepare, schema_evolution
from models.mirror.rows import Prepared
from models.mirror.target import Target
from workers.errors import SetAside, TryLater, VendorError
from workers.gate import timing
from workers.ingest import failures, vendor_schema
from workers.ingest.unit_of_work import BackOff, UnitOfWork, release, renew, under_lease

if TYPE_CHECKING:
    from datetime import datetime

    from models.bookkeeping.inbox import Item
    from models.bookkeeping.streams import Stream
    from models.db.database import Tx
    from models.values import Change, Document, Snapshot
    from workers.connectors.contract import Resource
    from workers.context import ConnectionContext, WorkSession
    from workers.gate.gate import Lease
    from workers.ingest.unit_of_work import LeaseStep

log = structlog.get_logger()

_LOCKED_TABLE_TRIES = 10
"""How often to wait for a locked table, some seconds each, once the answer is there."""


def send(session: WorkSession, resource: Resource, item: Item) -> None:
    """Have the vendor interpret a document and write the answer; after a failure postpone or park it.

    Raises `GateClosed`, and `LeaseLost` if the answer came too late to be kept.
    """
    context, start = session.context, _Start(session.context, resource)
    with (
        suppress(vendor_schema.ResourceRetiredError),
        session.acquire(f"{resource.name}\n{item.key}", on_acquire=start) as lease,
    ):
        target = context.target(resource, start.stream)
        document = _begin_sending(context, lease, target, item)
        if document is not None:
            failpoints.hit(Point.DOCUMENT_SENDING)
            _interpret(session, lease, start.stream, item=item, document=document)


class _Start:
    """Runs in the transaction that takes the lease: reads the stream."""

    stream: Stream

    def __init__(self, context: ConnectionContext, resource: Resource) -> None:
        self._context, self._resource = context, resource

    def __call__(self, tx: Tx, _revision: int, _until: datetime) -> None:
        self.stream = vendor_schema.stream_of(tx, self._context, self._resource)


def _begin_sending(context: ConnectionContext, lease: Lease, target: Target, item: Item) -> Document | None:
    """Mark the document as being sent; None if there is nothing to send, and then the lease is released."""
    try:
        with failures.classify(context):
            _require_tables(context, target)
    except VendorError as failure:
        failures.fail_key(context, lease, item, failure)
        return None
    with context.database.begin() as tx:
        # Read before the lease step: the state decides whether the lease is renewed or released.
        state = documents.state(tx, item)
        if state in {State.WAITING, State.PARKED} and inbox.is_pending(tx, item):
            renew(tx, lease)
            documents.begin_sending(tx, item, now=tx.now, until=tx.now + context.options.timeout + timing.GRACE)
            return documents.load(tx, item)
        release(tx, lease)
        if state is State.SENDING and inbox.is_pending(tx, item):
            _park(tx, context, item, "it was sent, but the worker that sent it died before the answer was kept")
        elif state in {State.INTERPRETED, None}:
            inbox.finish(tx, item)
    return None


def _require_tables(context: ConnectionContext, target: Target) -> None:
    """Find a locked or missing table before the document is sent, because it is sent only once."""
    prepare.prepare(context.database, target, [])
    with context.database.read() as tx:
        found = damages.find(tx, target.table)
    if found:
        raise failures.TableError(f"{found[0]}; run `erpmirror migrate`, which makes it anew")


def _interpret(session: WorkSession, lease: Lease, stream: Stream, *, item: Item, document: Document) -> None:
    """Send the document, and commit the answer, or the failure, under the lease."""
    context = session.context
    resource = context.resources[item.resource]
    target = context.target(resource, stream)
    try:
        with failures.classify(context):
            found = replace(session.client.interpret(resource, document), key=item.key)
            failpoints.hit(Point.DOCUMENT_INTERPRETED)
            prepared = _prepared(context, lease, target, found)
    except VendorError as failure:
        _handle_failure(context, lease, item, failure)
        return
    try:
        changes = _write(lease, target, stream, item=item, prepared=prepared)
    except sa.exc.DBAPIError as error:
        _handle_failure(context, lease, item, failures.of_database(context, error))
        return
    session.changes += len(changes)
    log.info("interpreted", connection=context.name, resource=item.resource, key=item.key, changes=len(changes))


def _prepared(context: ConnectionContext, lease: Lease, target: Target, found: Snapshot) -> Prepared:
    """The answer, ready to be written. It cannot be requested again, so wait for a while if a query locks the table."""
    for _ in range(_LOCKED_TABLE_TRIES):
        with suppress(schema_evolution.TableLockedError):
            return prepare.prepare(context.database, target, [found])
        with under_lease(lease, renew):
            pass
    return prepare.prepare(context.database, target, [found])


def _write(lease: Lease, target: Target, stream: Stream, *, item: Item, prepared: Prepared) -> list[Change]:
    """Write the answer. It cannot be requested again, so wait for a while if a transaction locks the table."""
    for _ in range(_LOCKED_TABLE_TRIES):
        try:
            return _write_once(lease, target, stream, item=item, prepared=prepared)
        except sa.exc.DBAPIError as error:
            if faults.of(error) is not Fault.LOCKED:
                raise
        with under_lease(lease, renew):
            pass
    return _write_once(lease, target, stream, item=item, prepared=prepared)


def _write_once(lease: Lease, target: Target, stream: Stream, *, item: Item, prepared: Prepared) -> list[Change]:
    with UnitOfWork.under(lease, target, item.cause, failpoint=Point.DOCUMENT_JOURNALED) as work:
        is_stored = documents.mark_interpreted(work.tx, item, now=work.tx.now)
        if is_stored:  # a document that was forgotten meanwhile gets no row
            work.apply(prepared, point=True)
        streams.reopen_fetched(work.tx, stream)
        inbox.finish(work.tx, item)
    return work.changes


def _handle_failure(context: ConnectionContext, lease: Lease, item: Item, failure: VendorError) -> None:
    """Have the document sent again if the vendor certainly did not process it; else park it, as it may have arrived."""
    if _certainly_not_processed(failure):
        with under_lease(lease, renew) as tx:
            documents.return_to_waiting(tx, item, now=tx.now)
        failures.fail_key(context, lease, item, failure)
        return
    log.warning("document parked", connection=context.name, resource=item.resource, key=item.key, reason=str(failure))
    lease_step: LeaseStep = release
    if isinstance(failure, TryLater) and failure.closes_gate:  # other documents would fail alike
        lease_step = BackOff(str(failure), failure.after, counts=True)
    with under_lease(lease, lease_step) as tx:
        if isinstance(failure, TryLater):
            _park(tx, context, item, f"it was sent, but: {failure}")
        else:
            documents.park(tx, item, reason=str(failure))


def _certainly_not_processed(failure: VendorError) -> bool:
    """Whether there was no connection, or the vendor refused the request before it read the document."""
    return (
        failure.refused if isinstance(failure, TryLater) else isinstance(failure, SetAside) and failure.whole_resource
    )


def _park(tx: Tx, context: ConnectionContext, item: Item, reason: str) -> None:
    retry = f"erpmirror parked retry {context.name} {item.resource} {item.key}"
    documents.park(tx, item, reason=f"{reason}; it may have arrived, so only you send it again: `{retry}`")
