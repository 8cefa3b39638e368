"""What a vendor's metadata declares of a resource: asked for once a day, and when an undeclared field shows up."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from models import exact, records, streams
from workers import fates
from workers.errors import Fate, SetAside

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from models.streams import Stream
    from models.values import JsonObject, Shape
    from workers.connectors.contract import Resource
    from workers.desk import Desk, Shift
    from workers.gate import Slot

_AGE = timedelta(hours=24)
_YOUNG = timedelta(seconds=5)
"""So often at most an undeclared field makes us ask again: in a table that takes no more columns it stays new."""


_EMPTY: tuple[object, ...] = (None, "", [], {})
"""What makes no column of its own."""


def current(desk: Desk, resource: Resource) -> tuple[Stream | None, datetime]:
    """The resource's stream and the database's clock."""
    with desk.database.alone() as tx:
        return streams.get_now(tx, desk.name, resource.name)


def described(shift: Shift, resource: Resource, failed: Callable[[Slot, Stream, Fate], None]) -> Stream | None:
    """The resource's stream with its shape; None if it is parked or retired, or if the vendor did not tell just now.

    `failed` moves the work that needs it. Raises `gate.Shut` where the vendor cannot be asked now.
    """
    desk = shift.desk
    stream, now = current(desk, resource)
    if stream is None or stream.state != "open":
        return None
    if not resource.described or (stream.shape_at is not None and stream.shape_at > now - _AGE):
        return stream
    with shift.turn(f"{resource.name}\nmetadata") as slot:
        shift.requests += 1
        try:
            with fates.sorted_out(desk):
                shape = exact.storable(shift.client.shape(resource))  # as the objects' names are
        except SetAside as refused:
            fates.of_stream(desk, slot, stream, refused, full=True)  # without it no key of the resource can be kept
            return None
        except Fate as fate:
            failed(slot, stream, fate)
            return None
        with desk.database.begin() as tx:
            desk.gate.leave(tx, slot)
            streams.change(tx, desk.name, resource.name, shape=shape, shape_at=tx.now)
    return replace(stream, shape=shape)


def learn(shift: Shift, resource: Resource, stream: Stream, raw: JsonObject) -> Stream:
    """The stream with a shape that knows the fields of this object, asked for again under the slot in hand if need be.

    A new custom field so gets its declared type with its first value; one that is never declared is asked about once.
    Raises the families of `workers.errors`.
    """
    desk = shift.desk
    if not resource.described or stream.shape is None:
        return stream
    seen = {name for name, value in resource.project(raw).items() if value not in _EMPTY}
    new = seen - _declared(stream.shape)
    if not new or new <= records.fields(desk.database, desk.target(resource, stream)):
        return stream
    if stream.shape_at is not None and stream.shape_at > desk.now() - _YOUNG:
        return stream
    shift.requests += 1
    shape = exact.storable(shift.client.shape(resource))
    with desk.database.begin() as tx:
        streams.change(tx, desk.name, resource.name, shape=shape, shape_at=tx.now)
    return replace(stream, shape=shape)


def _declared(shape: Shape) -> set[str]:
    return {path.partition(".")[0] for path in (*shape.get("", {}), *shape) if path}
