from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from tests.mirroring import mirrored
from workers.connectors.interpreter import sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from models.database import Database


def test_a_day_of_papers_is_mirrored_without_a_person_and_each_is_interpreted_once(
    sqlite: Database, tmp_path: Path
) -> None:
    with mirrored(sqlite, tmp_path, interpreter={"seed": 11}) as mirror:
        people: sandbox.Sandbox = mirror.sandboxes["interpreter"]
        assert all(people.story())
        dropped = {kind: set(people.dropped[kind]) for kind in sandbox.KINDS}
        assert dropped == {kind: set(people.truth(kind)) for kind in sandbox.KINDS}
        mirror.catch_up()
        assert {} == mirror.differences()
        assert Counter([*dropped["deliverynote"], *dropped["invoice"]]) == people.calls
        assert {(0, 0)} == {(each.pending, each.parked) for each in mirror.status().values()}
