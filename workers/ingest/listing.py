"""Advances a poll or full sync: requests replies to a listing and writes them, under one lease."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

import structlog

from models import failpoints
from models.bookkeeping import pending, streams
from models.failpoints import Point
from workers.errors import SetAside, VendorError
from workers.gate import gate
from workers.ingest import failures, prefetch, vendor_schema
from workers.ingest.page import Page

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime

    from models.db.database import Tx
    from workers.connectors.contract import Resource
    from workers.context import WorkSession
    from workers.gate.gate import Lease
    from workers.ingest.page import PreparedChunk

log = structlog.get_logger()

_MAX_LEASE_SECONDS = 5.0
"""For how long a full sync keeps its lease from page to page, before other work may take the gate."""


class _NotDueError(Exception):
    """Another worker has advanced it since."""


class _Start:
    """Runs in the transaction that takes the lease: reads the stream, counts the attempt, gives a full sync its run."""

    page: Page

    def __init__(self, session: WorkSession, resource: Resource, *, full: bool) -> None:
        self._session, self._resource, self._full = session, resource, full

    def __call__(self, tx: Tx, revision: int, _until: datetime) -> None:
        # A listing holds the gate alone, so no other worker moves this position until the lease ends.
        stream = vendor_schema.stream_of(tx, self._session.context, self._resource)
        if not stream.is_due(tx.now, full=self._full):
            raise _NotDueError
        self.page = Page(self._session, stream, self._resource, full=self._full)
        self.page.begin(tx, revision)


def advance(session: WorkSession, resource: Resource, *, now: datetime, full: bool) -> None:
    """Request the next page of a poll or full sync; outside opening hours postpone a full sync instead.

    `now`: by the database's clock. Raises `GateClosed`.
    """
    context = session.context
    if full and (until := context.options.closed_until(now)) is not None:
        warning = f"closed until {until:%Y-%m-%d %H:%M} UTC: the next full sync waits until then"
        with context.database.begin() as tx:
            streams.update(tx, context.name, resource.name, full_due_at=until, warning=warning)
        return
    try:
        _advance(session, resource, full=full)
    except gate.LeaseLost:
        log.warning("lease lost", connection=context.name, resource=resource.name)  # its stream is still due


def _advance(session: WorkSession, resource: Resource, *, full: bool) -> None:
    """List; if the vendor's metadata has to be fetched first, do that and try once more."""
    try:
        _list_under_lease(session, resource, full=full)
    except vendor_schema.MetadataNeededError as needed:
        on_failure = partial(failures.fail_stream, session.context, stream=needed.stream, full=full)
        if vendor_schema.fetch_metadata(session, resource, on_failure):
            _list_under_lease(session, resource, full=full)


def _list_under_lease(session: WorkSession, resource: Resource, *, full: bool) -> None:
    start = _Start(session, resource, full=full)
    with suppress(_NotDueError, vendor_schema.ResourceRetiredError), session.acquire(on_acquire=start) as lease:
        failpoints.hit(Point.LISTING_BEGUN)
        store_replies(start.page, lease)


def store_replies(page: Page, lease: Lease) -> None:
    """Write the reply, and under the same lease the following ones while no live work waits."""
    context = page.context
    try:
        with failures.classify(context), prefetch.relaxed_gc():
            prepared = replies(page, asked_at=lease.sent_at)
            with prefetch.prefetching(prepared) if page.full else prefetch.sequential(prepared) as chunks:
                for chunk in chunks:
                    page.write(lease, chunk, chunks.start_next)
                    if chunk.continues and not page.next_page():
                        chunks.close()
                        context.gate.cancel(lease)
                        return
    except VendorError as failure:
        failures.fail_stream(context, lease, page.stream, failure, full=page.full)


def replies(page: Page, *, asked_at: datetime) -> Generator[PreparedChunk, None, None]:
    """The vendor's replies, chunk by chunk, ready to be written. SetAside if a reply has no end."""
    position, continues = page.stream.position(asked_at, full=page.full), True
    may_continue = LeaseBudget(page)
    while continues:
        end = None
        for chunk in page.session.client.list(page.resource, position):
            end = chunk.end
            continues = end is not None and end.more and may_continue()
            yield page.prepare(chunk, continues=continues)
        if end is None:
            raise SetAside("the connector's listing had no end")
        position = end.cursor


class LeaseBudget:
    """Whether a full sync may request its next page under the lease that it has, while the last one is written."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._deadline = min(page.session.deadline, time.monotonic() + _MAX_LEASE_SECONDS)

    def __call__(self) -> bool:
        """True for a full sync until the time is up, live work waits or the vendor closes.

        Always False if a lease gains nothing (each request waits for a rate limit), and where the vendor's metadata
        declares the fields, because its age is checked only when a lease is taken.
        """
        page, context = self._page, self._page.context
        if (
            not page.full
            or page.resource.has_metadata
            or context.gate.is_rate_limited
            or time.monotonic() > self._deadline
        ):
            return False
        names = [context.name, *(each.name for each in context.same_account)]
        with context.database.autocommit() as tx:
            waits, now = pending.live_is_pending(tx, connections=names)
        return not waits and context.options.closed_until(now) is None
