"""A person's own question to a vendor, through the gate like everybody's."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from workers.errors import TryLater
from workers.gate import gate, timing
from workers.ingest import failures

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workers.connectors.contract import Client, Resource
    from workers.context import ConnectionContext, WorkSession

_PATIENCE = timedelta(minutes=1)
"""How long a person waits for a turn."""

_PART_OF_A_SECOND = timedelta(seconds=1)
"""What a `Date` header leaves out."""


@dataclass(frozen=True, slots=True)
class Handshake:
    """What a vendor said when we knocked. `ahead`: how far his clock is before this machine's; None if he shows none.

    Zero as long as his clock may be right: he read it at some moment between our question and his answer.
    """

    says: str
    ahead: timedelta | None


def ask(context: ConnectionContext, words: Sequence[str]) -> Any:
    """One read request in the vendor's own terms; its decoded answer. Raises `errors.Fate`, `gate.Shut`."""
    return _send(context, lambda client: client.ask(words))


def _this_machine() -> datetime:
    return datetime.now(UTC)


def check(context: ConnectionContext, *, now: Callable[[], datetime] = _this_machine) -> Handshake:
    """Prove address and login, and compare the clocks. `now`: aware. Raises `errors.Fate`, `gate.Shut`."""

    def meet(client: Client) -> Handshake:
        knocked = now()
        greeting = client.check()
        answered = now()
        clock = greeting.clock
        return Handshake(greeting.summary, None if clock is None else _ahead(clock, knocked, answered))

    met: Handshake = _send(context, meet)
    return met


def probe(context: ConnectionContext, resource: Resource) -> str:
    """Prove that this resource can be read; a few words for a person. Raises `errors.Fate`, `gate.Shut`."""
    return str(_send(context, lambda client: client.probe(resource)))


def _ahead(clock: datetime, knocked: datetime, answered: datetime) -> timedelta:
    """How far the clock lies outside of what it can have been, as a signed duration."""
    if clock > answered:
        return clock - answered
    return min(clock + _PART_OF_A_SECOND - knocked, timedelta(0))


def _send(context: ConnectionContext, question: Callable[[Client], Any]) -> Any:
    deadline = time.monotonic() + _PATIENCE.total_seconds()
    while True:
        try:
            with context.work_session() as session, session.acquire(f"asked by a person for {context.name}") as lease:
                return _answer(session, lease, question)
        except gate.GateClosed as shut:
            if time.monotonic() > deadline or _is_hopeless(context, shut):
                raise
            time.sleep(0.25)


def _is_hopeless(context: ConnectionContext, shut: gate.GateClosed) -> bool:
    """Whether the gate is shut for longer than a person waits. Who is asking may leave long before his lease ends."""
    return shut.until - context.now() > max(_PATIENCE, context.options.timeout + timing.GRACE + timing.MOMENT)


def _answer(session: WorkSession, lease: gate.Lease, question: Callable[[Client], Any]) -> Any:
    context = session.context
    try:
        with failures.classify(context):
            answer = question(session.client)
    except TryLater as late:
        if late.closes_gate:
            with suppress(gate.LeaseLost), context.database.begin() as tx:
                context.gate.release_and_back_off(tx, lease, reason=str(late), after=late.after, counts=True)
        raise
    with suppress(gate.LeaseLost), context.database.begin() as tx:
        context.gate.release(tx, lease)  # lost or not: nothing is written of this answer
    return answer
