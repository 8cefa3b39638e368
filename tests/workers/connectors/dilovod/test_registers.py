"""The sums of registers, as read from the sandbox and as mirrored, against independently computed sums."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.settings import SettingsError
from models.values import Kind
from tests.mirroring import mirrored
from tests.workers.connectors.dilovod.conftest import made_options, opened, recording
from workers import configuration, desk
from workers.connectors.dilovod import sandbox as dilovod_sandbox
from workers.connectors.dilovod.queries import Filter, Limit, Operator
from workers.connectors.dilovod.resources import resources
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from starlette.applications import Starlette

    from models.database import Database
    from tests.mirroring import Mirror
    from workers.connectors.contract import Resource
    from workers.connectors.dilovod.client import Client
    from workers.connectors.dilovod.sandbox_books import Books

GOODS, PRICES, INCOMES = (
    "balanceRegisters.goods",
    "informationRegisters.goodsPrices",
    "accumulationRegisters.saleIncomes",
)
MONTH = ("2026-01-01", "2026-01-31")


def figures(rows: Any, *names: str) -> set[tuple[str, ...]]:
    """The given fields of each row."""
    found = [tuple(str(row[name]) for name in names) for row in rows]
    assert len(found) == len(set(found))
    return set(found)


# A ledger by hand: two goods, two storages, four days.


@pytest.fixture(scope="module")
def ledger() -> Iterator[tuple[Client, dilovod_sandbox.Sandbox]]:
    """A client of a ledger in which good A moves through two storages, and good B arrives and is sold out."""
    app = dilovod_sandbox.create(objects=0)
    books = app.state.sandbox.books
    for letter in ("X", "Y"):
        books.add("catalogs.storages", id_=letter, code=letter, name={"uk": letter, "ru": ""})
    for letter in ("A", "B"):
        books.add("catalogs.goods", id_=letter, code=letter, name={"uk": letter, "ru": ""})
    for date, storage, good, qty, amount in (
        ("2025-12-31 23:59:59", "X", "A", 10, 100),
        ("2026-01-15 12:00:00", "X", "A", -3, -30),
        ("2026-01-20 08:00:00", "X", "B", 2, 8),
        ("2026-01-25 08:00:00", "X", "B", -2, -8),
        ("2026-01-31 23:59:59", "Y", "A", 5, "50.55"),
        ("2026-02-01 00:00:00", "X", "A", 1, 10),
    ):
        books.move(("F", storage, good), Decimal(qty), Decimal(amount), date=date)
    with opened(app) as client:
        yield client, app.state.sandbox


@pytest.mark.parametrize(
    ("dimensions", "date", "held"),
    [
        (["good"], None, {("A", "13.000", "130.55")}),
        (["storage", "good"], None, {("X", "A", "8.000", "80.00"), ("Y", "A", "5.000", "50.55")}),
        (["good"], "2026-01-15 12:00:00", {("A", "7.000", "70.00")}),
        (["good"], "2026-01-15 11:59:59", {("A", "10.000", "100.00")}),
        (["good"], "2026-01-21", {("A", "7.000", "70.00"), ("B", "2.000", "8.00")}),
        (["storage"], "2026-01-31 23:59:59", {("X", "7.000", "70.00"), ("Y", "5.000", "50.55")}),
        (["good"], "2025-01-01", set()),
    ],
)
def test_a_balance_sums_all_movements_until_its_date_by_the_dimensions(
    ledger: tuple[Client, dilovod_sandbox.Sandbox], dimensions: list[str], date: str | None, held: set[tuple[str, ...]]
) -> None:
    rows = ledger[0].balance("goods", dimensions=dimensions, date=date)

    assert held == figures(rows, *dimensions, "qty", "amount")


@pytest.mark.parametrize(
    ("dimensions", "period", "moved"),
    [
        (["good"], MONTH, {("A", "5.000", "3.000"), ("B", "2.000", "2.000")}),
        (["storage"], MONTH, {("X", "2.000", "5.000"), ("Y", "5.000", "0.000")}),
        (["good"], ("2026-01-16", "2026-01-31 23:59:58"), {("B", "2.000", "2.000")}),
        (["good"], ("2026-02-01 00:00:00", "2026-02-01"), {("A", "1.000", "0.000")}),
        (["good"], ("2025-01-01", "2025-01-31"), set()),
    ],
)
def test_a_turnover_sums_receipts_and_expenses_in_its_period_last_second_included(
    ledger: tuple[Client, dilovod_sandbox.Sandbox],
    dimensions: list[str],
    period: tuple[str, str],
    moved: set[tuple[str, ...]],
) -> None:
    rows = ledger[0].turnover("goods", *period, dimensions=dimensions)

    assert moved == figures(rows, *dimensions, "qtyReciept", "qtyExpence")


@pytest.mark.parametrize(
    ("dimensions", "period", "moved"),
    [
        (["good"], MONTH, {("A", "10.000", "5.000", "3.000", "12.000"), ("B", "0.000", "2.000", "2.000", "0.000")}),
        (["storage"], MONTH, {("X", "10.000", "2.000", "5.000", "7.000"), ("Y", "0.000", "5.000", "0.000", "5.000")}),
        (["good"], ("2026-02-02", "2026-02-28"), {("A", "13.000", "0.000", "0.000", "13.000")}),
    ],
)
def test_a_balance_and_turnover_has_opening_and_closing_balances(
    ledger: tuple[Client, dilovod_sandbox.Sandbox],
    dimensions: list[str],
    period: tuple[str, str],
    moved: set[tuple[str, ...]],
) -> None:
    rows = ledger[0].balance_and_turnover("goods", *period, dimensions=dimensions)

    assert moved == figures(rows, *dimensions, "qtyStart", "qtyReceipt", "qtyExpense", "qtyFinal")


def test_a_request_on_a_register_returns_its_single_records(ledger: tuple[Client, dilovod_sandbox.Sandbox]) -> None:
    rows = ledger[0].request(
        GOODS,
        {"date": "date", "good.code": "code", "qty": "qty"},
        filters=[Filter("code", Operator.EQUAL, "A"), Filter("date", Operator.GREATER_OR_EQUAL, "2026-01-31")],
    )

    assert {("2026-01-31 23:59:59", "5.000"), ("2026-02-01 00:00:00", "1.000")} == figures(rows, "date", "qty")


def test_filters_paths_and_pages_work_on_registers(ledger: tuple[Client, dilovod_sandbox.Sandbox]) -> None:
    fields = {"good": "good", "good.code": "code", "storage": "storage", "qty": "qty"}
    only = [Filter("code", Operator.EQUAL, "A"), Filter("storage", Operator.IN_LIST, ["Y", "X"])]

    both = list(ledger[0].balance("goods", fields, filters=only))

    assert {("X", "8.000"), ("Y", "5.000")} == figures(both, "storage", "qty")
    assert both[1:] == list(ledger[0].balance("goods", fields, filters=only, limit=Limit(1, 5)))


# A year of random movements, summed independently.


def moved(books: Books, place: int, start: str, end: str) -> dict[str, tuple[Decimal, Decimal, Decimal]]:
    """(opening, received, spent) quantities by one element of the place."""
    sums: dict[str, list[Decimal]] = defaultdict(lambda: [Decimal(), Decimal(), Decimal()])
    for each in books.movements:
        qty = each.amounts[0]
        if each.date < start:
            sums[each.place[place]][0] += qty
        elif each.date <= end:
            sums[each.place[place]][1 if qty > 0 else 2] += abs(qty)
    return {key: (one, two, three) for key, (one, two, three) in sums.items() if one or two or three}


@pytest.mark.parametrize(("dimension", "place"), [("storage", 1), ("good", 2)])
def test_the_sums_of_a_year_equal_independently_computed_ones(dimension: str, place: int) -> None:
    clock = [datetime(2026, 1, 1, 9, tzinfo=UTC)]
    app = dilovod_sandbox.create(seed=3, now=lambda: clock[0])
    sandbox, random = app.state.sandbox, Random(3)
    for _ in range(300):
        clock[0] += timedelta(hours=29)
        sandbox._move_stock(random)
    sandbox._sell_out(random)
    with opened(app) as client:
        rows = list(client.balance_and_turnover("goods", "2026-03-01", "2026-09-30", dimensions=[dimension]))

    ours = moved(sandbox.books, place, "2026-03-01 00:00:00", "2026-09-30 23:59:59")
    assert any(spent for _, _, spent in ours.values())
    assert ours == {
        row[dimension]: tuple(Decimal(row[name]) for name in ("qtyStart", "qtyReceipt", "qtyExpense")) for row in rows
    }
    assert all(
        one + two - three == Decimal(row["qtyFinal"]) for row in rows for one, two, three in [ours[row[dimension]]]
    )


def test_the_income_of_a_period_is_the_total_of_its_orders(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    gone = sandbox.books.of("documents.saleOrder")[0]
    sandbox.books.mark(gone)
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for order in sandbox.truth("documents.saleOrder").values():
        sums[order["header"]["person"]["id"]] += Decimal(order["header"]["amountCur"])

    rows = list(client.turnover(INCOMES, "2000-01-01", "2999-12-31", dimensions=["person"]))

    assert {row["person"]: Decimal(row["amountReciept"]) for row in rows} == sums


# The names of the sums.


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not-listed"])
@pytest.mark.parametrize("spelling", [("Reciept", "Expence"), ("Receipt", "Expense")], ids="".join)
def test_both_spellings_of_the_sums_work(
    app: Starlette, sandbox: dilovod_sandbox.Sandbox, spelling: tuple[str, str], *, listed: bool
) -> None:
    sandbox.books.spelling = dict.fromkeys(("turnover", "balanceAndTurnover"), spelling)
    sandbox.books.lists_sums = listed
    recorder, packets = recording(app)
    with opened(recorder) as client:
        (turnover,) = client.turnover(GOODS, "2000-01-01", "2999-12-31", dimensions=["firm"])
        (whole,) = client.balance_and_turnover(GOODS, "2000-01-01", "2999-12-31", dimensions=["firm"])
        assert [turnover] == client.ask(["turnover", "goods", "2000-01-01", "2999-12-31", "dimensions=firm"])

    names = [f"qty{word}" for word in spelling]
    assert [turnover[name] for name in names] == [whole[name] for name in names]
    # Three requests, each with its metadata. A refused spelling costs one more request: "Reciept" is refused by the
    # one balance and turnover, "Receipt" by the two turnovers.
    refused = 0 if listed else {"Reciept": 1, "Receipt": 2}[spelling[0]]
    assert 6 + refused == len(packets)


def test_a_refusal_for_another_reason_is_not_retried(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    sandbox.books.denied = {GOODS}

    with pytest.raises(SetAside, match=r"Access to balanceRegisters\.goods denied"):
        list(client.turnover("goods", *MONTH))

    assert ["getMetadata", "request"] == sandbox.asked


# Probing.


def test_a_probe_shows_that_each_resource_can_be_read(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    results = {resource.name: client.probe(resource) for resource in resources(made_options())}

    assert f"can be read, as {next(iter(sandbox.books.of('catalogs.goods'))).id}" == results["catalogs.goods"]
    assert "can be read by firm, storage, good" == results[GOODS]
    assert "can be read by good, priceType" == results[PRICES]


def test_a_probe_of_an_empty_resource_says_so() -> None:
    app = dilovod_sandbox.create(objects=0)
    with opened(app) as client:
        results = {resource.name: client.probe(resource) for resource in resources(made_options())}

    assert "can be read; it is empty" == results["documents.saleOrder"]
    assert "can be read by firm, storage, good; it is empty" == results[GOODS]


@pytest.mark.parametrize("resource", resources(made_options()), ids=lambda each: each.name)
def test_a_probe_of_a_denied_resource_shows_dilovods_text(
    client: Client, sandbox: dilovod_sandbox.Sandbox, resource: Resource
) -> None:
    sandbox.books.denied = {resource.name}

    with pytest.raises(SetAside, match=f"Access to {resource.name} denied, check role settings") as raised:
        client.probe(resource)

    assert raised.value.whole_resource


def test_a_probe_requests_one_row(app: Starlette) -> None:
    recorder, packets = recording(app)
    with opened(recorder, dimensions={GOODS: ["good"]}) as client:
        for resource in resources(made_options()):
            client.probe(resource)

    sent = [packet["params"] for _, packet in packets if packet["action"] == "request"]
    assert [{"offset": 0, "count": 1}] * 6 == [params["limit"] for params in sent]
    assert ["good"] == sent[4]["from"]["dimensions"]


# The setting `dimensions`, from the file to the tables.

SETTING = f'dimensions."{GOODS}"'
"""The same as a table `[connections.dilovod.dimensions]`, written as a dotted key."""


def kept(mirror: Mirror) -> dict[str, dict[str, Any]]:
    """The mirrored register's live rows by key, read by SQL."""
    with mirror.database.begin() as connection:
        statement = sa.text("SELECT * FROM dilovod_balance_registers_goods WHERE _deleted_at IS NULL")
        return {row["_key"]: dict(row) for row in connection.execute(statement).mappings()}


def held(mirror: Mirror) -> dict[str, tuple[Decimal, Decimal]]:
    return {key: (Decimal(str(row["qty"])), Decimal(str(row["amount"]))) for key, row in kept(mirror).items()}


def with_setting(mirror: Mirror, folder: Path, line: str) -> Mirror:
    """The mirror, restarted with this setting."""
    file = folder / "erpmirror.toml"
    others = [each for each in file.read_text(encoding="utf-8").splitlines() if not each.startswith("dimensions")]
    file.write_text("\n".join([*others, line, ""]), encoding="utf-8")
    again = replace(mirror, settings=configuration.load(file))
    desk.align(again.database, again.settings)
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
        asked = mirror.sandboxes["dilovod"].asked
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
        books.tells_sums = True
        mirror.work()

        assert summed(books, (0, 1, 2)) == held(mirror)
        assert [] == [name for name in next(iter(kept(mirror).values())) if "start" in name or "receipt" in name]


def test_an_unknown_dimension_parks_the_register_and_names_the_known_ones(sqlite: Database, tmp_path: Path) -> None:
    options = {"resources": [GOODS, "catalogs.units"], SETTING: ["good", "shelf"]}
    with mirrored(sqlite, tmp_path, dilovod={"seed": 5, "options": options}) as mirror:
        mirror.work()
        stock, units = (mirror.status()[name] for name in (GOODS, "catalogs.units"))

    assert ("parked", 0) == (stock.state, stock.rows)
    assert f"{GOODS} has no dimension shelf; it has firm, storage, good" in str(stock.last_error)
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
