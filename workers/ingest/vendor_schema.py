"""The shape that a vendor's metadata declares for a resource: refreshed once a day, and when a new field appears."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from models import exact
from models.bookkeeping import streams
from models.mirror import queries
from workers.errors import SetAside, TryLater, VendorError
from workers.ingest import failures
from workers.ingest.unit_of_work import under_lease

if TYPE_CHECKING:
    from datetime import datetime

    from models.bookkeeping.streams import Stream
    from models.db.database import Tx
    from models.values import JsonObject, Shape
    from workers.connectors.contract import Resource
    from workers.context import ConnectionContext, WorkSession
    from workers.gate.gate import Lease

_MAX_AGE = timedelta(hours=24)
"""A shape of this age is fetched again before the resource is read."""

_MIN_AGE = timedelta(seconds=5)
"""A younger shape is not fetched again for a new field. A field that gets no column, as in a full table, stays new."""

_EMPTY: tuple[object, ...] = (None, "", [], {})
"""Values that need no column."""


class ResourceRetiredError(Exception):
    """The resource is retired or unknown: nothing is requested for it."""


class OnFailure(Protocol):
    """What to do with the work that needs the metadata, when the request for it has failed; releases the lease."""

    def __call__(self, *, lease: Lease, failure: VendorError) -> None:
        """Postpone or park the work."""


class MetadataNeededError(Exception):
    """The vendor's metadata has to be fetched before this stream can be read."""

    def __init__(self, stream: Stream) -> None:
        super().__init__()
        self.stream = stream


def stream_of(tx: Tx, context: ConnectionContext, resource: Resource) -> Stream:
    """The resource's stream with its shape, read in the transaction that takes the lease.

    Raises `ResourceRetiredError`, and `MetadataNeededError` if the shape is missing or old.
    """
    stream = streams.get(tx, context.name, resource.name)
    if stream is None or stream.state == "retired":
        raise ResourceRetiredError
    if resource.has_metadata and (stream.metadata_read_at is None or stream.metadata_read_at <= tx.now - _MAX_AGE):
        raise MetadataNeededError(stream)
    return stream


def fetch_metadata(session: WorkSession, resource: Resource, on_failure: OnFailure) -> bool:
    """Fetch the resource's metadata, under a lease of its own; False if that failed.

    `on_failure` is called for a failure. Raises `GateClosed`.
    """
    context = session.context
    with session.acquire(f"{resource.name}\nmetadata") as lease:
        try:
            with failures.classify(context):
                shape = _declared_shape(session, resource)
        except VendorError as failure:
            on_failure(lease=lease, failure=failure)
            return False
        with under_lease(lease) as tx:
            streams.record_metadata(tx, context.name, resource.name, shape)
    return True


def refresh_for_new_fields(
    session: WorkSession, resource: Resource, stream: Stream, raw: JsonObject, *, asked_at: datetime
) -> Stream:
    """The stream, with its shape fetched again if this object has a field that is neither declared nor a column.

    So a new custom field has its declared type from its first value on, and one that is never declared costs one
    request. Uses the lease that the caller holds. `asked_at`: when the object was requested. Raises `VendorError`.
    """
    context = session.context
    if not resource.has_metadata or stream.declared_fields is None:
        return stream
    seen = {name for name, value in resource.project(raw).items() if value not in _EMPTY}
    new = seen - _declared(stream.declared_fields)
    if not new or new <= queries.fields(context.database, context.target(resource, stream)):
        return stream
    if stream.metadata_read_at is not None and stream.metadata_read_at > asked_at - _MIN_AGE:
        return stream
    shape = _declared_shape(session, resource)
    with context.database.begin() as tx:
        streams.record_metadata(tx, context.name, resource.name, shape)
    return replace(stream, declared_fields=shape)


def _declared_shape(session: WorkSession, resource: Resource) -> Shape | None:
    """What the vendor's metadata declares, its field names escaped like those of the objects.

    Metadata that cannot be decoded is requested again: no key or resource is to blame for it.
    """
    try:
        shape: Shape | None = exact.storable(session.client.shape(resource))
    except SetAside as failure:
        if failure.whole_resource:
            raise
        raise TryLater(str(failure), closes_gate=False) from failure
    return shape


def _declared(shape: Shape) -> set[str]:
    return {path.partition(".")[0] for path in (*shape.get("", {}), *shape) if path}
