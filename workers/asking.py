"""A person's own question to a vendor, through the gate like everybody's."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from workers import fates, gate
from workers.errors import TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workers.connectors.contract import Client, Resource
    from workers.desk import Desk, Shift

_PATIENCE = timedelta(minutes=1)
"""How long a person waits for a turn."""

_PART_OF_A_SECOND = timedelta(seconds=1)
"""What a `Date` header leaves out."""


@dataclass(frozen=True, slots=True)
class Met:
    """What a vendor said when we knocked. `ahead`: how far his clock is before this machine's; None if he shows none.

    Zero as long as his clock may be right: he read it at some moment between our question and his answer.
    """

    says: str
    ahead: timedelta | None


def ask(desk: Desk, words: Sequence[str]) -> Any:
    """One read request in the vendor's own terms; its decoded answer. Raises `errors.Fate`, `gate.Shut`."""
    return _asked(desk, lambda client: client.ask(words))


def _this_machine() -> datetime:
    return datetime.now(UTC)


def check(desk: Desk, *, now: Callable[[], datetime] = _this_machine) -> Met:
    """Prove address and login, and compare the clocks. `now`: aware. Raises `errors.Fate`, `gate.Shut`."""

    def meet(client: Client) -> Met:
        knocked = now()
        greeting = client.check()
        answered = now()
        clock = greeting.clock
        return Met(greeting.says, None if clock is None else _ahead(clock, knocked, answered))

    met: Met = _asked(desk, meet)
    return met


def probe(desk: Desk, resource: Resource) -> str:
    """Prove that this resource can be read; a few words for a person. Raises `errors.Fate`, `gate.Shut`."""
    return str(_asked(desk, lambda client: client.probe(resource)))


def _ahead(clock: datetime, knocked: datetime, answered: datetime) -> timedelta:
    """How far the clock lies outside of what it can have been, as a signed duration."""
    if clock > answered:
        return clock - answered
    return min(clock + _PART_OF_A_SECOND - knocked, timedelta(0))


def _asked(desk: Desk, question: Callable[[Client], Any]) -> Any:
    deadline = time.monotonic() + _PATIENCE.total_seconds()
    while True:
        try:
            with desk.shift() as shift, shift.turn(f"asked by a person for {desk.name}") as slot:
                return _answer(shift, slot, question)
        except gate.Shut as shut:
            if time.monotonic() > deadline or _is_hopeless(desk, shut):
                raise
            time.sleep(0.25)


def _is_hopeless(desk: Desk, shut: gate.Shut) -> bool:
    """Whether the gate is shut for longer than a person waits. Who is asking may leave long before his lease ends."""
    return shut.until - desk.now() > max(_PATIENCE, desk.options.timeout + gate.GRACE + gate.MOMENT)


def _answer(shift: Shift, slot: gate.Slot, question: Callable[[Client], Any]) -> Any:
    desk = shift.desk
    try:
        with fates.sorted_out(desk):
            answer = question(shift.client)
    except TryLater as late:
        if late.shuts_gate:
            with suppress(gate.LeaseLost), desk.database.begin() as connection:
                desk.gate.leave_shut(connection, slot, reason=str(late), after=late.after, counts=True)
        raise
    with suppress(gate.LeaseLost), desk.database.begin() as connection:
        desk.gate.leave(connection, slot)  # lost or not: nothing is written of this answer
    return answer
