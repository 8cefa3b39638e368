"""The sums of registers, as the client reads them, against independently computed sums."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.workers.connectors.dilovod.conftest import made_options, opened, recording
from workers.connectors.dilovod import sandbox as dilovod_sandbox
from workers.connectors.dilovod.queries import Filter, Limit, Operator
from workers.connectors.dilovod.resources import resources
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette

    from workers.connectors.contract import Resource
    from workers.connectors.dilovod.client import Client
    from workers.connectors.dilovod.sandbox_data import Books

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
    for code in ("X", "Y"):
        books.add("catalogs.storages", id_=code, code=code, name={"uk": code, "ru": ""})
    for code in ("A", "B"):
        books.add("catalogs.goods", id_=code, code=code, name={"uk": code, "ru": ""})
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

    assert ["getMetadata", "request"] == sandbox.requests


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
