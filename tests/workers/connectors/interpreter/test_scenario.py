"""Documents through the whole product: the watched folder, the vendor, the mirror."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.bookkeeping.documents import State
from models.db import tables
from tests.mirroring import mirrored
from tests.workers.connectors.interpreter.conftest import Clock, paper
from workers.connectors.interpreter import sandbox
from workers.ingest import loop

if TYPE_CHECKING:
    from pathlib import Path

    from models.db.database import Database
    from tests.mirroring import Mirror


def test_the_scenario_is_mirrored_and_each_document_interpreted_once(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, interpreter={"seed": 11}) as mirror:
        vendor: sandbox.Sandbox = mirror.sandboxes["interpreter"]
        assert all(vendor.scenario())
        dropped = {kind: set(vendor.dropped[kind]) for kind in sandbox.KINDS}
        assert dropped == {kind: set(vendor.truth(kind)) for kind in sandbox.KINDS}
        mirror.catch_up()
        assert {} == mirror.differences()
        assert Counter([*dropped["deliverynote"], *dropped["invoice"]]) == vendor.calls
        assert {(0, 0)} == {(each.pending, each.parked) for each in mirror.status().values()}


@pytest.mark.parametrize("fault", [sandbox.Fault.GATEWAY, sandbox.Fault.HTML])
def test_an_outage_parks_one_document_and_the_others_wait(
    sqlite: Database, tmp_path: Path, fault: sandbox.Fault, clock: Clock
) -> None:
    sqlite._clock = clock  # the clock stands still, so a closed gate stays closed
    with mirrored(sqlite, tmp_path, interpreter={}) as mirror:
        vendor: sandbox.Sandbox = mirror.sandboxes["interpreter"]
        dropped = [vendor.drop("deliverynote", paper(number=number).pdf()) for number in range(6)]
        vendor.faults.extend([fault] * len(dropped))
        for _ in range(3):
            loop.full_sync(mirror.context("interpreter"))
            loop.sync(mirror.context("interpreter"))
        assert 1 == len(vendor.uploads)
        assert {State.PARKED: 1, State.WAITING: 5} == _states(mirror)
        vendor.faults.clear()
        clock.advance(minutes=1)
        mirror.work()
        assert {State.PARKED: 1, State.INTERPRETED: 5} == _states(mirror)
        assert Counter(dropped) == vendor.calls


def _states(mirror: Mirror) -> Counter[State]:
    """The number of documents by state."""
    c = tables.documents.c
    with mirror.database.read() as tx:
        return Counter(State(state) for state in tx.execute(sa.select(c.state)).scalars())
