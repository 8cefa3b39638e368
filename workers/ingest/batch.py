"""Fetches many keys of the inbox at once: under one lease, into their rows, where that costs fewer requests.

The connector says which objects it could read (`Client.fetch_many`). The others stay in the inbox, marked to be fetched
by themselves, so only a fetch deletes. A batch is written like a page of a listing: rows, inbox and journal in one
transaction, and a row that the database refuses is parked alone. A key that is enqueued while the batch is read stays
due, because its `wanted` is higher than the lease's revision.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from models import failpoints
from models.bookkeeping import inbox, parked, streams
from models.failpoints import Point
from models.mirror import queries
from models.values import Chunk, End, Lane
from workers.errors import VendorError
from workers.gate import gate
from workers.ingest import chunks, failures, vendor_schema
from workers.ingest.page import Page

if TYPE_CHECKING:
    from datetime import datetime

    from models.bookkeeping.inbox import Item
    from models.bookkeeping.streams import Stream
    from models.db.database import Tx
    from models.values import Batch, Cause
    from workers.connectors.contract import Resource
    from workers.context import WorkSession
    from workers.gate.gate import Lease
    from workers.ingest.page import _Proof

log = structlog.get_logger()

_SMALLEST = 50
"""Keys: a batch that failed is tried again with half as many, but no fewer than these."""


class _TooFewError(Exception):
    """A batch would cost more requests than point reads, or may not be tried now."""


def fetch(session: WorkSession, item: Item) -> bool:
    """Fetch the key in a batch with others like it. False if it has to be fetched by itself. Raises `GateClosed`."""
    context = session.context
    resource = context.resources.get(item.resource)
    if resource is None or not resource.batch_size or item.lane is not Lane.BULK:
        return False
    start = _Start(session, resource, item.cause)
    try:
        with context.database.read() as tx:
            start.choose(tx)
        with session.acquire(on_acquire=start) as lease:
            _read_and_write(session, lease, start)
    except (_TooFewError, vendor_schema.MetadataNeededError, vendor_schema.ResourceRetiredError):
        return False
    except gate.LeaseLost:
        log.warning("lease lost", connection=context.name, resource=resource.name)  # its keys are still in the inbox
    return True


class _Start:
    """Runs in the transaction that takes the lease: reads the stream, chooses the keys, counts the attempt.

    `tokens`: key -> its token in the last listing. The keys are not claimed: the lease is held alone, like that of a
    listing, and a batch that kills its worker is counted by its stream.
    """

    def __init__(self, session: WorkSession, resource: Resource, cause: Cause) -> None:
        self._session, self.resource, self.cause = session, resource, cause
        self.tokens: dict[str, str | None] = {}

    def __call__(self, tx: Tx, _revision: int, _until: datetime) -> None:
        self.choose(tx)
        streams.record_batch_attempt(tx, self.stream)

    def choose(self, tx: Tx) -> None:
        """Choose the keys that wait for the same reason. Raises `_TooFewError`."""
        resource, now = self.resource, tx.now
        self.stream: Stream = vendor_schema.stream_of(tx, self._session.context, resource)
        if not self.stream.may_batch(now):
            raise _TooFewError
        here = {"connection": self.stream.connection, "resource": resource.name}
        limit = max(min(_SMALLEST, resource.batch_size), resource.batch_size >> self.stream.batch_failures)
        self.tokens = inbox.due_together(tx, **here, cause=self.cause, now=now, limit=limit)
        if len(self.tokens) < (resource.proof_from if self.stream.batch_plan is None else resource.batch_from):
            raise _TooFewError


def _read_and_write(session: WorkSession, lease: Lease, start: _Start) -> None:
    """Read the batch and commit it, or the failure, under the lease."""
    context, resource, stream = session.context, start.resource, start.stream
    try:
        with failures.classify(context):
            batch = session.client.fetch_many(resource, list(start.tokens), stream.batch_plan)
            failpoints.hit(Point.FETCHED)
            batch = replace(batch, refusal=batch.refusal and context.redact_text(batch.refusal))
            if not (batch.snapshots or batch.alone or batch.refusal):  # else the same would be tried without end
                batch = replace(batch, alone=dict.fromkeys(start.tokens, "a batch brought nothing"))
            snapshots = [replace(each, listed=start.tokens.get(each.key) or each.listed) for each in batch.snapshots]
            for each in snapshots:
                newer = vendor_schema.refresh_for_new_fields(
                    session, resource, stream, each.raw, asked_at=lease.sent_at
                )
                if newer is not stream:
                    stream = newer
                    break
            page = _BatchPage(session, stream, resource, start.cause, batch)
            chunk = Chunk(snapshots=snapshots, end=End(""))
            page.write(lease, page.prepare(chunk, continues=False), _nothing)
    except VendorError as failure:
        failures.fail_batch(context, lease, start.stream, failure)


def _nothing() -> None:
    """What is done while the transaction waits: no other request follows."""


class _BatchPage(Page):
    """A batch, written like a page of a listing that names no other key."""

    point = True

    def __init__(self, session: WorkSession, stream: Stream, resource: Resource, cause: Cause, batch: Batch) -> None:
        super().__init__(session, stream, resource, full=False)
        self._cause, self._batch = cause, batch

    @property
    def cause(self) -> Cause:
        """Why the keys were enqueued."""
        return self._cause

    def _enqueue_all(self, tx: Tx, chunk: Chunk, revision: int) -> None:
        """Finish the keys whose objects came, and park those whose objects the database refuses."""
        here = {"connection": self.context.name, "resource": self.resource.name}
        inbox.finish_listed(tx, **here, keys=[row.key for row in chunk.snapshots], before=revision)
        parked.park_unreadable(tx, **here, unreadable=chunk.unreadable, cause=self.cause)

    def _advance(self, tx: Tx, chunk: Chunk, _proof: _Proof | None, *, continues: bool) -> None:  # noqa: ARG002 - a page's
        """Store what the connector has learned, with the last piece of the batch."""
        if chunk.end is None:
            return
        batch = self._batch
        inbox.leave_alone(tx, connection=self.context.name, resource=self.resource.name, keys=batch.alone)
        streams.finish_batch(tx, self.stream, batch)
        if batch.distrusted:
            queries.forget_tokens(tx, self.target)

    def _after_commit(self, chunk: Chunk, *, changes: int) -> None:
        """Count and log; analyze the table, which the first batches fill."""
        if changes:
            queries.analyze(self.database, self.target)
        self.session.changes += changes
        names = {"connection": self.context.name, "resource": self.resource.name}
        refusal = {"refusal": self._batch.refusal} if self._batch.refusal else {}
        log.info("fetched together", **names, objects=chunks.size(chunk), changes=changes, **refusal)
