"""The standard tests of a connector: its objects in the mirror, rebuilt and redacted."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.db import migration, tables
from models.db.database import Database
from models.mirror import queries, rebuild, schema_evolution
from models.mirror.flatten import flatten
from models.redaction import redact
from tests.mirroring import Mirror, mirrored
from tests.workers.connectors.sandbox_harness import SYSTEMS, by_resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from models.mirror.schemas import Table
    from workers.connectors.contract import Resource

# The mirror


@contextmanager
def _mirror(folder: Path, system: str, omit: Sequence[str] = ()) -> Iterator[Mirror]:
    """Mirror a sandbox after a few edits."""
    database = Database(f"sqlite:///{folder / 'mirror.db'}")
    migration.migrate(database)
    with mirrored(database, folder, **{system: {"seed": 11, "options": {"omit": list(omit)}}}) as mirror:
        random = Random(3)
        for _ in range(10):
            mirror.sandboxes[system].edit(random)
        mirror.work()
        yield mirror
    database.close()


@dataclass(frozen=True)
class Mirrors:
    """The same company mirrored completely, and with one path of each resource omitted."""

    whole: Mirror
    without: Mirror
    paths: dict[str, str]


@pytest.fixture(scope="module")
def mirrors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Mirrors]]:
    with ExitStack() as stack:

        @cache
        def of(system: str) -> Mirrors:
            whole = stack.enter_context(_mirror(tmp_path_factory.mktemp(system), system))
            resources = whole.context(system).resources.values()
            paths = {each.name: _path(each, whole.sandboxes[system].truth(each.name)) for each in resources}
            folder = tmp_path_factory.mktemp(f"{system}-without")
            return Mirrors(whole, stack.enter_context(_mirror(folder, system, sorted(set(paths.values())))), paths)

        yield of


def _together(system: str) -> pytest.MarkDecorator:
    """One process runs the tests of a system, so its mirrors are made once."""
    return pytest.mark.xdist_group(f"mirrors of {system}")


@pytest.mark.parametrize("system", [pytest.param(system, marks=_together(system)) for system in SYSTEMS])
def test_a_rebuild_keeps_the_mirror_equal(mirrors: Callable[[str], Mirrors], system: str) -> None:
    mirror = mirrors(system).whole
    context = mirror.context(system)
    for resource in context.resources.values():
        rebuild.rebuild(mirror.database, context.target(resource), progress=lambda _: None)
    assert {} == mirror.differences()


def _path(resource: Resource, truth: dict[str, Any]) -> str:
    """The path of a filled field that is not part of the key."""
    found = (path for raw in truth.values() for path in _filled(raw) if path.split(".")[-1] not in resource.key)
    path = next(found, None)
    assert path is not None, f"{resource.name} has a field beside its key"
    return path


def _filled(raw: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The paths of filled fields outside of lists."""
    for name, value in raw.items():
        path = f"{prefix}{name}"
        if isinstance(value, dict) and not any(key.isdigit() for key in value):
            yield from _filled(value, f"{path}.")
        elif value not in (None, "") and not isinstance(value, dict | list):
            yield path


def _has(raw: Any, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(raw, dict) or name not in raw:
            return False
        raw = raw[name]
    return True


@pytest.mark.parametrize(("system", "name"), by_resource(marks=_together))
def test_an_omitted_path_is_in_no_raw_no_column_and_no_journal(
    mirrors: Callable[[str], Mirrors], system: str, name: str
) -> None:
    found = mirrors(system)
    path = found.paths[name]
    for mirror, expected in ((found.whole, True), (found.without, False)):
        assert expected == any(_has(raw, path) for raw in _raws(mirror, system, name))
        assert expected == any(_has(raw, path) for raw in _journaled(mirror, name))
        assert expected == any(_column_holds(mirror, system, name, *each) for each in _columns_of(found, system, name))
    assert len(_raws(found.whole, system, name)) == len(_raws(found.without, system, name))


def _raws(mirror: Mirror, system: str, name: str) -> list[Any]:
    target = mirror.context(system).target(mirror.context(system).resources[name])
    with mirror.database.read() as tx:
        return [raw for _, _, raw in queries.export(tx, target)]


def _journaled(mirror: Mirror, name: str) -> list[Any]:
    with mirror.database.read() as tx:
        chosen = sa.select(tables.changes.c.after).where(tables.changes.c.resource == name)
        return list(tx.execute(chosen).scalars())


def _columns_of(found: Mirrors, system: str, name: str) -> set[tuple[str, str]]:
    """Part and field of each column that the omitted path fills."""
    resource = found.whole.context(system).resources[name]
    raws = _raws(found.whole, system, name)
    omit = [found.paths[name]]
    return {each for raw in raws for each in _laid_out(resource, raw) - _laid_out(resource, redact(raw, omit))}


def _laid_out(resource: Resource, raw: dict[str, Any]) -> set[tuple[str, str]]:
    flat = flatten(resource.project(raw), resource.shape)
    filled = {("", path) for path, value in flat.fields.items() if value is not None}
    return filled | {(row.part, path) for row in flat.rows for path, value in row.fields.items() if value is not None}


def _column_holds(mirror: Mirror, system: str, name: str, part: str, path: str) -> bool:
    """Whether any row has a value in the field's column or in its `__text` sibling."""
    target = mirror.context(system).target(mirror.context(system).resources[name])
    with mirror.database.read() as tx:
        schema = schema_evolution.current(tx, target.table)
        table: Table | None = schema.tables.get(part) if schema is not None else None
        if table is None:
            return False
        held = [each[path].name for each in (table.columns, table.overflows) if path in each]
        filled = [table.sql.c[column].is_not(None) for column in held]
        return bool(filled) and bool(
            tx.execute(sa.select(sa.func.count()).select_from(table.sql).where(sa.or_(*filled))).scalar_one()
        )
