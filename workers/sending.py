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

from models import columns, documents, faults, inbox, journal, records
from models.documents import State
from models.faults import Point
from workers import fates, gate, shapes
from workers.errors import Fate, SetAside, TryLater

if TYPE_CHECKING:
    from models.database import Tx
    from models.inbox import Item
    from models.values import Change, Document, Snapshot
    from workers.connectors.contract import Resource
    from workers.desk import Desk, Shift
    from workers.gate import Slot

log = structlog.get_logger()

_TRIES = 10
"""How often, some seconds each, a locked table is waited for after the answer."""


def send(shift: Shift, resource: Resource, item: Item) -> None:
    """Have a document read and write what was read, or move it by the fate of the request.

    Raises `gate.Shut`, and `gate.LeaseLost` where the answer came too late to be kept.
    """
    desk = shift.desk
    stream, _ = shapes.current(desk, resource)
    if stream is not None and stream.state != "open":
        return  # it rests with its resource
    target = desk.target(resource, stream)
    with shift.turn(f"{resource.name}\n{item.key}") as slot:
        document = _begun(desk, slot, target, item)
        if document is not None:
            faults.reach(Point.DOCUMENT_SENDING)
            shift.requests += 1
            _send(shift, slot, resource, target, item=item, document=document)


def _begun(desk: Desk, slot: Slot, target: records.Target, item: Item) -> Document | None:
    """The document, on its way from here on; None if there is nothing to send, and then the slot is given back."""
    try:
        with fates.sorted_out(desk):
            records.prepare(desk.database, target, [])  # a locked table is better met before anything is sent
    except Fate as fate:
        fates.of_key(desk, slot, item, fate)
        return None
    with desk.database.begin() as tx:
        state = documents.state(tx, item)
        if state in {State.WAITING, State.PARKED} and inbox.waits(tx, item):
            desk.gate.keep(tx, slot)
            now = tx.now
            documents.begin_sending(tx, item, now=now, until=now + desk.options.timeout + gate.GRACE)
            return documents.load(tx, item)
        desk.gate.leave(tx, slot)
        if state is State.SENDING and inbox.waits(tx, item):
            _set_aside(tx, desk, item, "it was sent, but its sender did not live to keep an answer")
        elif state in {State.INTERPRETED, None}:
            inbox.finish(tx, item)
    return None


def _send(
    shift: Shift, slot: Slot, resource: Resource, target: records.Target, *, item: Item, document: Document
) -> None:
    desk = shift.desk
    try:
        with fates.sorted_out(desk):
            found = replace(shift.client.interpret(resource, document), key=item.key)
            faults.reach(Point.DOCUMENT_INTERPRETED)
            prepared = _prepared(desk, slot, target, found)
    except Fate as fate:
        _failed(desk, slot, item, fate)
        return
    try:
        changes = _write(desk, slot, target, item=item, prepared=prepared)
    except sa.exc.DBAPIError as error:
        if not fates.is_refusal(error):
            raise
        _failed(desk, slot, item, SetAside(fates.refused(error)))
        return
    shift.changes += len(changes)
    log.info("interpreted", connection=desk.name, resource=resource.name, key=item.key, changes=len(changes))


def _prepared(desk: Desk, slot: Slot, target: records.Target, found: Snapshot) -> records.Prepared:
    """Ready to be written. There is no asking again, so a table that somebody's query locks is waited for a while."""
    for _ in range(_TRIES):
        with suppress(columns.Locked):
            return records.prepare(desk.database, target, [found])
        with desk.database.begin() as tx:
            desk.gate.keep(tx, slot)
    return records.prepare(desk.database, target, [found])


def _write(desk: Desk, slot: Slot, target: records.Target, *, item: Item, prepared: records.Prepared) -> list[Change]:
    """The one transaction: the lease proven, the document, row and parts, the inbox, the journal last."""
    database = desk.database
    with database.begin() as tx:
        desk.gate.leave(tx, slot)
        now = tx.now
        if not documents.answered(tx, item, now=now):
            inbox.finish(tx, item)  # forgotten meanwhile, and its row with it
            return []
        changes = records.apply(tx, target, prepared, turn=slot.turn, now=now, point=True)
        inbox.finish(tx, item)
        journal.append(tx, target.connection, target.resource, changes, turn=slot.turn, cause=item.cause, now=now)
        faults.reach(Point.DOCUMENT_JOURNALED)
    return changes


def _failed(desk: Desk, slot: Slot, item: Item, fate: Fate) -> None:
    """Back to waiting where the vendor certainly did not take it, else aside: it may have arrived."""
    if _refused(fate):
        with desk.database.begin() as tx:
            desk.gate.keep(tx, slot)
            documents.returned(tx, item, now=tx.now)
        fates.of_key(desk, slot, item, fate)
        return
    log.warning("document parked", connection=desk.name, resource=item.resource, key=item.key, reason=str(fate))
    with desk.database.begin() as tx:
        if isinstance(fate, TryLater):
            if fate.shuts_gate:  # the others need not follow it into the same hole
                desk.gate.leave_shut(tx, slot, reason=str(fate), after=fate.after, counts=True)
            else:
                desk.gate.leave(tx, slot)
            _set_aside(tx, desk, item, f"it was sent, but: {fate}")
        else:
            desk.gate.leave(tx, slot)
            documents.park(tx, item, reason=str(fate))


def _refused(fate: Fate) -> bool:
    """Whether the vendor certainly did not take it: nobody answered the call, or it is the resource that he refuses."""
    return fate.refused if isinstance(fate, TryLater) else isinstance(fate, SetAside) and fate.whole_resource


def _set_aside(tx: Tx, desk: Desk, item: Item, what: str) -> None:
    retry = f"erpmirror parked retry {desk.name} {item.resource} {item.key}"
    documents.park(tx, item, reason=f"{what}; it may have arrived, so only you send it again: `{retry}`")
