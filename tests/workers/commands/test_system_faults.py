"""Every command of every system, under everything that its sandbox can do to a write."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import pytest

from models.bookkeeping.commands import State
from tests.workers.commands import system_harness
from tests.workers.commands.system_harness import SYSTEMS, VARIANTS, Sample, Variant, faults_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from enum import StrEnum
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.commands.system_harness import Outcome, SystemHarness


class Told(Enum):
    """What the answer to a write tells."""

    NOT_TAKEN = auto()
    """That nothing was written, and that it may be sent again."""
    REFUSED = auto()
    """That nothing was written, and that it is not to be sent again."""
    NOTHING = auto()
    """Nothing: it may have been written or not."""
    PERHAPS = auto()
    """That it was written, or nothing, as the vendor answers that action."""


TOLD = {
    "BUSY": Told.NOT_TAKEN,
    "LOCKED": Told.NOT_TAKEN,
    "REFUSED": Told.REFUSED,
    "UNAVAILABLE": Told.NOTHING,
    "LOST_BEFORE": Told.NOTHING,
    "LOST_AFTER": Told.NOTHING,
    "SLOW": Told.NOTHING,
    "HALF": Told.NOTHING,
    "DOUBLED": Told.PERHAPS,
}
"""By the name of a sandbox's `WriteFault`."""

_TIMEOUT, _SLOW = timedelta(seconds=0.1), 0.3
_MANY = 12

Fate = tuple[State, int]
"""The state in which nothing more happens to a command, and how often the vendor did it."""


def allowed(harness: SystemHarness, sample: Sample, outcome: Outcome, told: Told) -> set[Fate]:
    """What may become of a command whose write met such an answer."""
    done = (State.DONE, 1)
    if told is Told.REFUSED:
        return {(State.REFUSED, 0)}
    if told is Told.NOT_TAKEN or can_be_known(harness, sample, outcome):
        return {done}
    for_a_person = (State.UNCERTAIN, int(outcome.done_then))
    return {for_a_person, done} if told is Told.PERHAPS else {for_a_person}


def can_be_known(harness: SystemHarness, sample: Sample, outcome: Outcome) -> bool:
    """Whether reads tell that it was done, or that it was not."""
    if sample.creates is not None:
        return harness.context.unique_field(sample.action, sample.creates) is not None
    return not (outcome.done_then and sample.hidden)


def outcomes(harness: SystemHarness, wanted: Iterable[Sample], faults: Any) -> list[tuple[Sample, Outcome]]:
    """Send each command while the vendor has these faults."""
    found: list[tuple[Sample, Outcome]] = []
    created: dict[str, str] = {}
    for each in wanted:
        sample = harness.about_what_there_is(each, created)
        outcome = harness.send(sample, faults)
        if sample.creates is not None and outcome.created:
            created[sample.creates] = min(outcome.created)
        found.append((sample, outcome))
    return found


def _by_fault() -> list[Any]:
    return [
        pytest.param(variant, fault, id=f"{variant.name}-{fault.name}")
        for variant in VARIANTS
        for fault in faults_of(variant.system)
        if not variant.faults or fault.name in variant.faults
    ]


@pytest.mark.parametrize("system", SYSTEMS)
def test_it_is_known_what_each_fault_tells(system: str) -> None:
    assert set() == {fault.name for fault in faults_of(system)} - TOLD.keys()


@pytest.mark.parametrize(("variant", "fault"), _by_fault())
def test_a_write_that_fails_is_done_at_most_once_and_the_mirror_follows(
    variant: Variant, fault: StrEnum, sqlite: Database, tmp_path: Path
) -> None:
    timeout = _TIMEOUT if fault.name == "SLOW" else None
    with system_harness.connected(sqlite, tmp_path, variant, timeout=timeout) as harness:
        harness.vendor.write_seconds = _SLOW
        wanted = [each for each in harness.samples() if variant.wanted(each)]
        found = outcomes(harness, wanted, [None] * variant.before_fault + [fault])
        wrong = {
            sample.name: outcome
            for sample, outcome in found
            if not outcome.met
            or (outcome.command.state, outcome.executed) not in allowed(harness, sample, outcome, TOLD[fault.name])
            or outcome.changed != bool(outcome.executed)
            or len(outcome.created) != (outcome.executed if sample.creates else 0)
        }
        assert {} == wrong
        # Only what a person decides on is not fetched. All else is, before anything is polled.
        uncertain = [each for _, each in found if each.command.state is State.UNCERTAIN]
        unknown = {key for each in uncertain for key in (each.command.key, *each.created)}
        harness.let_a_minute_pass()
        assert set() == {key for keys in harness.differences().values() for key in keys} - unknown
        if unknown:
            harness.list_all({str(each.command.resource) for each in uncertain})
            assert {} == harness.differences()


@pytest.mark.parametrize("system", SYSTEMS)
def test_what_stays_locked_is_refused_after_minutes_and_what_stays_busy_is_waited_for(
    system: str, sqlite: Database, tmp_path: Path
) -> None:
    faults = {each.name: each for each in faults_of(system)}
    created: dict[str, str] = {}
    with system_harness.connected(sqlite, tmp_path, Variant(system, "stays")) as harness:
        one_of_each = {each.action.name: each for each in reversed(harness.samples())}
        for each in one_of_each.values():
            sample = harness.about_what_there_is(each, created)
            locked = harness.send(sample, [faults["LOCKED"]] * _MANY)
            assert (State.REFUSED, 0, False) == (locked.command.state, locked.executed, locked.changed), sample.name
            assert timedelta(minutes=2) < locked.took < timedelta(minutes=10), sample.name
            busy = harness.send(sample, [faults["BUSY"]] * _MANY)
            fate = (busy.command.state, busy.executed, busy.arrived, busy.command.attempts)
            assert (State.DONE, 1, _MANY + 1, 1) == fate, sample.name
        harness.let_a_minute_pass()
        assert {} == harness.differences()
