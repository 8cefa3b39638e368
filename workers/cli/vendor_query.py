"""Single read requests to a vendor on behalf of a user, through the account's gate."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from workers.errors import TryLater
from workers.gate import gate, timing
from workers.ingest import failures
from workers.ingest.unit_of_work import BackOff, release, under_lease

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workers.connectors.contract import Client, Resource
    from workers.context import ConnectionContext, WorkSession
    from workers.ingest.unit_of_work import LeaseStep

T = TypeVar("T")

_LONGEST_WAIT = timedelta(minutes=1)
"""How long a request waits for a lease."""

_DATE_RESOLUTION = timedelta(seconds=1)
"""A `Date` header has whole seconds."""

_RETRY_INTERVAL = 0.25
"""Seconds between two attempts to take a lease."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """The result of a login check.

    `clock_ahead`: how far the vendor's clock is ahead of this machine's; None if it sends no time. Zero if that time
    lies between our request and its reply.
    """

    summary: str
    clock_ahead: timedelta | None


def ask(context: ConnectionContext, words: Sequence[str]) -> Any:
    """Send one read request in the vendor's own terms; its decoded reply. Raises `VendorError`, `GateClosed`."""
    return _send(context, lambda client: client.ask(words))


def _local_now() -> datetime:
    return datetime.now(UTC)


def check(context: ConnectionContext, *, now: Callable[[], datetime] = _local_now) -> Handshake:
    """Prove address and login, and compare the clocks. `now`: aware. Raises `VendorError`, `GateClosed`."""

    def check_login(client: Client) -> Handshake:
        sent_at = now()
        result = client.check()
        received_at = now()
        clock = result.clock
        return Handshake(result.summary, None if clock is None else _ahead(clock, sent_at, received_at))

    return _send(context, check_login)


def probe(context: ConnectionContext, resource: Resource) -> str:
    """Prove that this resource can be read; a few words on the reply. Raises `VendorError`, `GateClosed`."""
    return _send(context, lambda client: client.probe(resource))


def _ahead(clock: datetime, sent_at: datetime, received_at: datetime) -> timedelta:
    """How far the vendor's time lies after the reply (positive) or before the request (negative)."""
    if clock > received_at:
        return clock - received_at
    return min(clock + _DATE_RESOLUTION - sent_at, timedelta(0))


def _send(context: ConnectionContext, request: Callable[[Client], T]) -> T:
    """Make the request as soon as a lease is free. Raises `VendorError`, `GateClosed`."""
    deadline = time.monotonic() + _LONGEST_WAIT.total_seconds()
    while True:
        try:
            with context.work_session() as session, session.acquire(f"a request by a user of {context.name}") as lease:
                return _reply(session, lease, request)
        except gate.GateClosed as closed:
            if time.monotonic() > deadline or _outlasts_wait(context, closed):
                raise
            time.sleep(_RETRY_INTERVAL)


def _outlasts_wait(context: ConnectionContext, closed: gate.GateClosed) -> bool:
    """Whether the gate stays closed for longer than we wait. A lease held by another request is waited for."""
    return closed.until - context.now() > max(
        _LONGEST_WAIT, context.options.timeout + timing.GRACE + timing.LONGEST_SLEEP
    )


def _reply(session: WorkSession, lease: gate.Lease, request: Callable[[Client], T]) -> T:
    """Make the request and release the lease. A failure that closes the gate backs off the whole account."""
    try:
        with failures.classify(session.context):
            reply = request(session.client)
    except TryLater as failure:
        if failure.closes_gate:
            _end_lease(lease, BackOff(str(failure), failure.after, counts=True))
        raise
    except gate.LeaseLost:
        raise TryLater("interrupted for so long that another request may be in progress", closes_gate=False) from None
    _end_lease(lease, release)
    return reply


def _end_lease(lease: gate.Lease, lease_step: LeaseStep) -> None:
    """A lost lease is harmless: nothing is written under it."""
    with suppress(gate.LeaseLost), under_lease(lease, lease_step):
        pass
