"""A person's own question to a vendor, through the gate like everybody's."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from workers import fates, gate
from workers.errors import TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from workers.connectors.contract import Client
    from workers.desk import Desk, Shift

_PATIENCE = 60.0
"""Seconds that a person waits for a turn."""


def ask(desk: Desk, words: Sequence[str]) -> Any:
    """One read request in the vendor's own terms; its decoded answer. Raises `errors.Fate`, `gate.Shut`."""
    return _asked(desk, lambda client: client.ask(words))


def check(desk: Desk) -> str:
    """Prove address and login; a line for a person. Raises `errors.Fate`, `gate.Shut`."""
    return str(_asked(desk, lambda client: client.check()))


def _asked(desk: Desk, question: Callable[[Client], Any]) -> Any:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            with desk.shift() as shift, shift.turn(f"asked by a person for {desk.name}") as slot:
                return _answer(shift, slot, question)
        except gate.Shut:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.25)


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
