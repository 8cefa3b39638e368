"""The way of one document: passed in through the gate once at most, to become a row, or aside with the reason.

Before the request its state says, durably, that it may arrive. Whoever finds that state behind the gate knows that the
sender died or came too late, and sends nothing: only a person may decide to send again what may have arrived.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from models import failpoints
from models.bookkeeping import documents, inbox
from models.bookkeeping.documents import State
from models.failpoints import Point
from models.mirror import apply, schema_evolution
from workers.errors import SetAside, TryLater, VendorError
from workers.gate import gate
from workers.ingest import failures, vendor_schema
from workers.ingest.unit_of_work import BackOff, UnitOfWork, proved, release, renew

if TYPE_CHECKING:
    from datetime import datetime

    from models.bookkeeping.inbox import Item
    from models.db.database import Tx
    from models.values import Change, Document, Snapshot
    from workers.connectors.contract import Resource
    from workers.context import ConnectionContext, WorkSession
    from workers.gate.gate import Lease
    from workers.ingest.unit_of_work import Proof

log = structlog.get_logger()

_TRIES = 10
"""How often, some seconds each, a locked table is waited for after the answer."""


def send(shift: WorkSession, resource: Resource, item: Item) -> None:
    """Have a document read and write what was read, or move it by the fate of the request.

    Raises `gate.Shut`, and `gate.LeaseLost` where the answer came too late to be kept.
    """
    desk, target = shift.desk, shift.desk.target(resource)

    def begin(tx: Tx, _revision: int, _until: datetime) -> None:
        nonlocal target
        target = desk.target(resource, vendor_schema.stream_of(tx, desk, resource))

    # What rests with its resource is not sent.
    with suppress(vendor_schema.Resting), shift.acquire(f"{resource.name}\n{item.key}", begin=begin) as slot:
        document = _begun(desk, slot, target, item)
        if document is not None:
            failpoints.hit(Point.DOCUMENT_SENDING)
            shift.requests += 1
            _send(shift, slot, resource, target, item=item, document=document)


def _begun(desk: ConnectionContext, slot: Lease, target: apply.Target, item: Item) -> Document | None:
    """The document, on its way from here on; None if there is nothing to send, and then the slot is given back."""
    try:
        with failures.classify(desk):
            apply.prepare(desk.database, target, [])  # a locked table is better met before anything is sent
    except VendorError as fate:
        failures.fail_key(desk, slot, item, fate)
        return None
    with desk.database.begin() as tx:
        state = documents.state(tx, item)
        if state in {State.WAITING, State.PARKED} and inbox.is_pending(tx, item):
            renew(tx, slot)
            documents.begin_sending(tx, item, now=tx.now, until=tx.now + desk.options.timeout + gate.GRACE)
            return documents.load(tx, item)
        release(tx, slot)
        if state is State.SENDING and inbox.is_pending(tx, item):
            _park(tx, desk, item, "it was sent, but its sender did not live to keep an answer")
        elif state in {State.INTERPRETED, None}:
            inbox.finish(tx, item)
    return None


def _send(
    shift: WorkSession, slot: Lease, resource: Resource, target: apply.Target, *, item: Item, document: Document
) -> None:
    desk = shift.desk
    try:
        with failures.classify(desk):
            found = replace(shift.client.interpret(resource, document), key=item.key)
            failpoints.hit(Point.DOCUMENT_INTERPRETED)
            prepared = _prepared(desk, slot, target, found)
    except VendorError as fate:
        _failed(desk, slot, item, fate)
        return
    try:
        changes = _write(slot, target, item=item, prepared=prepared)
    except sa.exc.DBAPIError as error:
        if not failures.is_refusal(error):
            raise
        _failed(desk, slot, item, SetAside(failures.refusal(error)))
        return
    shift.changes += len(changes)
    log.info("interpreted", connection=desk.name, resource=resource.name, key=item.key, changes=len(changes))


def _prepared(desk: ConnectionContext, slot: Lease, target: apply.Target, found: Snapshot) -> apply.Prepared:
    """Ready to be written. There is no asking again, so a table that somebody's query locks is waited for a while."""
    for _ in range(_TRIES):
        with suppress(schema_evolution.TableLockedError):
            return apply.prepare(desk.database, target, [found])
        with proved(slot, renew):
            pass
    return apply.prepare(desk.database, target, [found])


def _write(slot: Lease, target: apply.Target, *, item: Item, prepared: apply.Prepared) -> list[Change]:
    with UnitOfWork.under(slot, target, item.cause, journaled=Point.DOCUMENT_JOURNALED) as work:
        known = documents.answered(work.tx, item, now=work.tx.now)
        if known:  # else forgotten meanwhile, and its row with it
            work.apply(prepared, point=True)
        inbox.finish(work.tx, item)
    return work.changes


def _failed(desk: ConnectionContext, slot: Lease, item: Item, fate: VendorError) -> None:
    """Back to waiting where the vendor certainly did not take it, else aside: it may have arrived."""
    if _refused(fate):
        with proved(slot, renew) as tx:
            documents.return_to_waiting(tx, item, now=tx.now)
        failures.fail_key(desk, slot, item, fate)
        return
    log.warning("document parked", connection=desk.name, resource=item.resource, key=item.key, reason=str(fate))
    proof: Proof = release
    if isinstance(fate, TryLater) and fate.shuts_gate:  # the others need not follow it into the same failure
        proof = BackOff(str(fate), fate.after, counts=True)
    with proved(slot, proof) as tx:
        if isinstance(fate, TryLater):
            _park(tx, desk, item, f"it was sent, but: {fate}")
        else:
            documents.park(tx, item, reason=str(fate))


def _refused(fate: VendorError) -> bool:
    """Whether the vendor certainly did not take it: nobody answered the call, or it is the resource that he refuses."""
    return fate.refused if isinstance(fate, TryLater) else isinstance(fate, SetAside) and fate.whole_resource


def _park(tx: Tx, desk: ConnectionContext, item: Item, what: str) -> None:
    retry = f"erpmirror parked retry {desk.name} {item.resource} {item.key}"
    documents.park(tx, item, reason=f"{what}; it may have arrived, so only you send it again: `{retry}`")
