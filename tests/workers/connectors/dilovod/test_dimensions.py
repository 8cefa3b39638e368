"""The setting `dimensions`, from the settings file to the mirrored tables."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.settings.load import SettingsError
from models.values import Kind
from tests.mirroring import mirrored
from tests.workers.connectors.dilovod.conftest import made_options, opened
from workers import configuration, context
from workers.connectors.dilovod.resources import resources

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from starlette.applications import Starlette

    from models.db.database import Database
    from tests.mirroring import Mirror
    from workers.connectors.dilovod.sandbox_data import Books

GOODS = "balanceRegisters.goods"
SETTING = f'dimensions."{GOODS}"'
"""The same as a table `[connections.dilovod.dimensions]`, written as a dotted key."""


def kept(mirror: Mirror) -> dict[str, dict[str, Any]]:
    """The mirrored register's live rows by key, read by SQL."""
    with mirror.database.begin() as tx:
        statement = sa.text("SELECT * FROM dilovod_balance_registers_goods WHERE _deleted_at IS NULL")
        return {row["_key"]: dict(row) for row in tx.execute(statement).mappings()}


def held(mirror: Mirror) -> dict[str, tuple[Decimal, Decimal]]:
    return {key: (Decimal(str(row["qty"])), Decimal(str(row["amount"]))) for key, row in kept(mirror).items()}


def with_setting(mirror: Mirror, folder: Path, line: str) -> Mirror:
    """The mirror, restarted with this setting."""
    file = folder / "erpmirror.toml"
    others = [each for each in file.read_text(encoding="utf-8").splitlines() if not each.startswith("dimensions")]
    file.write_text("\n".join([*others, line, ""]), encoding="utf-8")
    again = replace(mirror, settings=configuration.load(file))
    context.sync_streams(again.database, again.settings)
    return again


def summed(books: Books, places: Sequence[int]) -> dict[str, tuple[Decimal, Decimal]]:
    """(quantity, amount) by the given elements of the place, joined as a key."""
    sums: dict[str, tuple[Decimal, Decimal]] = defaultdict(lambda: (Decimal(), Decimal()))
    for each in books.movements:
        key = ":".join(each.place[place] for place in places)
        sums[key] = sums[key][0] + each.amounts[0], sums[key][1] + each.amounts[1]
    return {key: sum_ for key, sum_ in sums.items() if any(sum_)}


@pytest.mark.parametrize(
    ("dimensions", "places"),
    [(["good", "storage"], (1, 2)), (["good"], (2,)), (["firm"], (0,))],
    ids=str,
)
def test_a_register_is_mirrored_by_the_configured_dimensions(
    sqlite: Database, tmp_path: Path, dimensions: list[str], places: tuple[int, ...]
) -> None:
    with mirrored(
        sqlite, tmp_path, dilovod={"seed": 5, "options": {"resources": [GOODS], SETTING: dimensions}}
    ) as mirror:
        sandbox = mirror.sandboxes["dilovod"]
        sandbox.dimensions = {GOODS: tuple(dimensions)}
        mirror.work()
        assert summed(sandbox.books, places) == held(mirror)
        for _ in range(20):
            sandbox._move_stock(Random(4))
        for _ in range(30):
            sandbox._sell_out(Random(4))
        mirror.catch_up()

        assert summed(sandbox.books, places) == held(mirror)
        assert {} == mirror.differences()
        left_out = {"firm", "storage", "good"} - set(dimensions)
        assert set() == left_out & set(next(iter(kept(mirror).values())))


def test_changed_dimensions_start_a_full_sync_and_their_order_does_not_matter(sqlite: Database, tmp_path: Path) -> None:
    options = {"resources": [GOODS], SETTING: ["good"]}
    with mirrored(sqlite, tmp_path, dilovod={"seed": 5, "options": options}) as mirror:
        books = mirror.sandboxes["dilovod"].books
        asked = mirror.sandboxes["dilovod"].requests
        mirror.work()
        assert summed(books, (2,)) == held(mirror)

        by_two = with_setting(mirror, tmp_path, f'{SETTING} = ["good", "storage"]')
        by_two.catch_up()
        assert summed(books, (1, 2)) == held(by_two)

        count = len(asked)
        again = with_setting(by_two, tmp_path, f'{SETTING} = ["storage", "good"]')
        again.work()
        assert count == len(asked)

        by_all = with_setting(again, tmp_path, "")
        by_all.catch_up()
        assert summed(books, (0, 1, 2)) == held(by_all)
        assert {} == by_all.differences()


def test_sums_listed_among_the_resources_are_not_mirrored(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, dilovod={"seed": 5, "options": {"resources": [GOODS]}}) as mirror:
        books = mirror.sandboxes["dilovod"].books
        books.lists_sums = True
        mirror.work()

        assert summed(books, (0, 1, 2)) == held(mirror)
        assert [] == [name for name in next(iter(kept(mirror).values())) if "start" in name or "receipt" in name]


def test_an_unknown_dimension_parks_the_register_and_names_the_known_ones(sqlite: Database, tmp_path: Path) -> None:
    options = {"resources": [GOODS, "catalogs.units"], SETTING: ["good", "shelf"]}
    with mirrored(sqlite, tmp_path, dilovod={"seed": 5, "options": options}) as mirror:
        mirror.work()
        stock, units = (mirror.status()[name] for name in (GOODS, "catalogs.units"))

    assert ("parked", 0) == (stock.state, stock.rows)
    assert f"{GOODS} has no dimension shelf; choose from firm, storage, good" in str(stock.last_error)
    assert ("open", 3) == (units.state, units.rows)


def test_dimensions_of_a_register_that_is_not_configured_are_refused(sqlite: Database, tmp_path: Path) -> None:
    options = {"resources": ["catalogs.units"], SETTING: ["good"]}
    with (
        pytest.raises(SettingsError, match="is not among the resources"),
        mirrored(sqlite, tmp_path, dilovod={"options": options}),
    ):
        pass


def test_the_declared_columns_are_those_of_the_chosen_dimensions(app: Starlette) -> None:
    with opened(app, dimensions={GOODS: ["good"]}) as client:
        (stock,) = [each for each in resources(made_options()) if each.name == GOODS]
        shape = client.shape(stock)

    assert {"": {"good": Kind.TEXT, "good__pr": Kind.TEXT, "qty": Kind.NUMBER, "amount": Kind.NUMBER}} == shape


@pytest.mark.parametrize(
    ("dimensions", "selection"),
    [({}, ""), ({GOODS: ["storage", "good"]}, "dimensions=good,storage"), ({GOODS: ["good"]}, "dimensions=good")],
)
def test_the_selection_text_does_not_depend_on_the_order(dimensions: dict[str, list[str]], selection: str) -> None:
    named = {each.name: each.selection for each in resources(made_options(dimensions=dimensions))}

    assert dict.fromkeys(named, "") | {GOODS: selection} == named
