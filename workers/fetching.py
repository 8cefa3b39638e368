"""The way of one key: from the inbox through the gate to its row, or aside with the reason."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from models import deletions, inbox, journal, records, streams
from models.values import Cause, Snapshot, Withheld
from workers import fates, gate, sending, shapes
from workers.errors import Fate, SetAside

if TYPE_CHECKING:
    from models.inbox import Item
    from models.streams import Stream
    from models.values import Change, Tombstone
    from workers.connectors.contract import Resource
    from workers.desk import Desk, Shift
    from workers.gate import Slot

log = structlog.get_logger()

_NEWER = timedelta(minutes=1)
"""How long a document of a resource that only newer settings have waits for a worker who has them."""


def fetch(shift: Shift, item: Item) -> None:
    """Fetch one key and write what came, or move its row by the fate of the request. Raises `gate.Shut`."""
    desk = shift.desk
    told = {"connection": desk.name, "resource": item.resource, "key": item.key}
    resource = desk.resources.get(item.resource)
    if resource is None:
        log.info("not configured", **told)
        with desk.database.begin() as connection:
            _not_ours(connection, desk, item)
        return
    try:
        if resource.handed_in:
            sending.send(shift, resource, item)
        elif resource.points:
            _ask(shift, resource, item)
        else:
            with desk.database.begin() as connection:
                _read_instead(connection, desk, item)
    except gate.LeaseLost:
        log.warning("lease lost", **told)  # the row is still in the inbox


def _ask(shift: Shift, resource: Resource, item: Item) -> None:
    desk = shift.desk
    stream = shapes.described(shift, resource, lambda slot, _, fate: fates.of_key(desk, slot, item, fate))
    if stream is None:
        return  # parked or postponed meanwhile
    with shift.turn(f"{resource.name}\n{item.key}") as slot:
        if _waits(desk, item):
            shift.requests += 1
            _fetch(shift, slot, resource, stream, item=item)
        else:
            desk.gate.abandon(slot)  # somebody else was quicker


def _not_ours(connection: sa.Connection, desk: Desk, item: Item) -> None:
    """Nothing here knows this resource. A document that was accepted waits: its resource is only newer than we are."""
    if item.cause is Cause.DOCUMENT:
        until = desk.database.now(connection) + _NEWER
        inbox.postpone(connection, item, until=until, reason="this worker's settings do not have it", counts=False)
    else:
        inbox.finish(connection, item)


def _waits(desk: Desk, item: Item) -> bool:
    with desk.database.read() as connection:
        return inbox.waits(connection, item)


def _read_instead(connection: sa.Connection, desk: Desk, item: Item) -> None:
    """Nobody can ask for one key of this resource: everything is read at once, and answers for the key, too."""
    now = desk.database.now(connection)
    streams.change(connection, desk.name, item.resource, full_due_at=now)
    until = now + desk.resources[item.resource].full_every
    inbox.postpone(connection, item, until=until, reason="waits for a full reading", counts=False)


def _fetch(shift: Shift, slot: Slot, resource: Resource, stream: Stream, *, item: Item) -> None:
    desk = shift.desk
    try:
        with fates.sorted_out(desk):
            found = _as_listed(_shown(shift.client.fetch(resource, item.key), item), item)
            if isinstance(found, Snapshot):
                stream = shapes.learn(shift, resource, stream, found.raw)
            target = desk.target(resource, stream)
            prepared = records.prepare(desk.database, target, [found] if isinstance(found, Snapshot) else [])
    except Fate as fate:
        fates.of_key(desk, slot, item, fate)
        return
    try:
        changes = _write(desk, slot, resource, target, item=item, found=found, prepared=prepared)
    except sa.exc.DBAPIError as error:
        if not fates.is_refusal(error):
            raise
        fates.of_key(desk, slot, item, SetAside(fates.refused(error)))
        return
    shift.changes += len(changes)
    kinds = [change.kind.value for change in changes]
    log.info("fetched", connection=desk.name, resource=resource.name, key=item.key, changes=kinds)


def _shown(found: Snapshot | Tombstone | Withheld, item: Item) -> Snapshot | Tombstone:
    """What there is to keep. SetAside where the vendor withholds the detail and no listing showed the object either."""
    if not isinstance(found, Withheld):
        return found
    if item.summary is None:
        raise SetAside("the vendor cannot show this object in detail, and no listing showed it; the next one may")
    return Snapshot(found.key, item.summary | found.mark)


def _as_listed(found: Snapshot | Tombstone, item: Item) -> Snapshot | Tombstone:
    # What the listing itself showed is what the next listing is compared with: a vendor may show more in a point read.
    return replace(found, listed=item.listed) if isinstance(found, Snapshot) and item.listed is not None else found


def _write(
    desk: Desk,
    slot: Slot,
    resource: Resource,
    target: records.Target,
    *,
    item: Item,
    found: Snapshot | Tombstone,
    prepared: records.Prepared,
) -> list[Change]:
    """The one transaction: the lease proven, row and parts, the inbox, the journal last."""
    database = desk.database
    listed = found.listed if isinstance(found, Snapshot) else item.listed
    with database.begin() as connection:
        desk.gate.leave(connection, slot)
        if not isinstance(found, Snapshot) and not _may_delete(connection, desk, resource, target, item=item):
            share = f"{desk.options.max_deletions:.0%}"
            inbox.hold(connection, item, reason=f"gone, like more than {share} of {resource.name} within a day")
            return []
        now = database.now(connection)
        changes = records.apply(
            connection,
            database,
            target,
            prepared,
            tombstones=[] if isinstance(found, Snapshot) else [item.key],
            turn=slot.turn,
            now=now,
            listed={item.key: listed} if listed is not None else {},
            point=True,
        )
        inbox.finish(connection, item)
        journal.append(
            connection, target.connection, target.resource, changes, turn=slot.turn, cause=item.cause, now=now
        )
    return changes


def _may_delete(
    connection: sa.Connection, desk: Desk, resource: Resource, target: records.Target, *, item: Item
) -> bool:
    _, deleted = records.listed_tokens(connection, desk.database, target, [item.key]).get(item.key, (None, True))
    if deleted or resource.register:
        return True
    now = desk.database.now(connection)
    if item.approved:
        if not inbox.undecided(connection, connection_name=desk.name, resource=resource.name, besides=item.key):
            deletions.approved(connection, target, now=now)
        return True
    share = desk.options.max_deletions
    return deletions.permitted(connection, desk.database, target, count=1, max_deletions=share, now=now)
