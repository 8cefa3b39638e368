"""A day at each vendor with everything that mirrors get wrong; at its end the mirror equals the ERP."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.db import tables
from models.mirror import queries
from models.mirror.target import Target
from tests.mirroring import mirrored
from tests.slow_params import slow_except
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from _pytest.mark import ParameterSet

    from models.db.database import Database

QUICK = {"dilovod": "sqlite", "directo": "postgresql", "interpreter": "sqlite"}
"""System -> the kind of database on which the plain run plays its day."""

SYSTEMS = [name for name, system in discovery.systems().items() if system.has_sandbox]


def replayed(database: Database, resource: str) -> dict[str, Any]:
    """The live objects after replaying the journal from its first entry."""
    with database.read() as tx:
        entries = tx.execute(
            sa.select(tables.changes.c.key, tables.changes.c.after)
            .where(tables.changes.c.resource == resource)
            .order_by(tables.changes.c.id)
        ).all()
    state = dict(entries)
    return {key: after for key, after in state.items() if after is not None}


def alive(database: Database, target: Target) -> dict[str, Any]:
    with database.read() as tx:
        return {key: raw for key, gone, raw in queries.export(tx, target) if gone is None}


def days() -> Iterator[ParameterSet]:
    """Each system on each kind of database; the plain run plays those of `QUICK`."""
    for system in SYSTEMS:
        for kind in ("sqlite", "postgresql", "icu"):
            marks = [] if kind == "sqlite" else [pytest.mark.postgresql]
            marks += [] if kind == QUICK.get(system) else [pytest.mark.slow]
            yield pytest.param(kind, system, marks=marks)


@pytest.mark.parametrize(("empty_url", "system"), list(days()), indirect=["empty_url"])
def test_after_each_step_of_the_scenario_the_mirror_equals_the_vendor(
    database: Database, tmp_path: Path, system: str
) -> None:
    with mirrored(database, tmp_path, **{system: {"seed": 3}}) as mirror:
        mirror.work()
        assert {} == mirror.differences(), "the first load"
        for sentence in mirror.sandboxes[system].scenario():
            mirror.catch_up()
            assert {} == mirror.differences(), sentence
        for resource in mirror.context(system).resources.values():
            target = mirror.context(system).target(resource, None)
            assert alive(database, target) == replayed(database, resource.name)


@pytest.mark.parametrize("system", slow_except(SYSTEMS, quick="dilovod"))
def test_the_mirror_catches_up_with_a_hundred_random_edits(sqlite: Database, tmp_path: Path, system: str) -> None:
    with mirrored(sqlite, tmp_path, **{system: {"seed": 5}}) as mirror:
        mirror.work()
        random = Random(5)
        for number in range(100):
            sentence = mirror.sandboxes[system].edit(random)
            if number % 10 == 9:
                mirror.catch_up()
                assert {} == mirror.differences(), sentence


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_second_full_sync_of_a_quiet_vendor_changes_and_journals_nothing(
    sqlite: Database, tmp_path: Path, system: str
) -> None:
    with mirrored(sqlite, tmp_path, **{system: {"seed": 7}}) as mirror:
        mirror.work()
        count = sa.select(sa.func.count()).select_from(tables.changes)
        with sqlite.read() as tx:
            before = tx.execute(count).scalar_one()
        mirror.catch_up()
        with sqlite.read() as tx:
            assert before == tx.execute(count).scalar_one()
