from __future__ import annotations

from datetime import date, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from models.mirror import queries
from models.values import Snapshot, Tombstone
from tests.mirroring import mirrored
from tests.workers.connectors.directo.conftest import Account, options
from workers import configuration
from workers.connectors.directo import answers, resources
from workers.connectors.directo.sandbox import CalculatedFilter
from workers.errors import SetAside, TimedOutError

if TYPE_CHECKING:
    from pathlib import Path

    from models.db.database import Database
    from models.values import JsonObject
    from tests.mirroring import Mirror

BOTH = {"resources": ["customers", "orders"]}


def filtered(**wanted: Any) -> dict[str, Any]:
    return {"filter": wanted}


@pytest.mark.parametrize(
    ("wanted", "complaint"),
    [
        ({"products": {"a": 1}}, 'Directo has no resource "products"'),
        ({"itmes": {"a": 1}}, 'Directo has no resource "itmes"; did you mean "items"\\? it has '),
        ({"items": {"closed": 0}}, "items is not among `resources`; add it there, or remove its filter"),
        (
            {"customers": {"ts": ">2025-01-01"}},
            "customers.ts: the mirror itself filters by `ts` to find changes; remove",
        ),
        ({"customers": {"TS": ">2025-01-01"}}, "customers.TS: the mirror itself filters by `ts`"),
        ({"customers": {"ts> ": "2025-01-01"}}, "customers.ts> : the mirror itself filters by `ts`"),
        ({"customers": {"country! ": "EE"}}, "customers.country! : write the operator before the value, as in country"),
        ({"customers": {"code": ">CUST001"}}, "customers.code: it identifies the object, .*list its exact values"),
        ({"customers": {"a b": "x"}}, "customers.a b: a field's name has letters, digits"),
        ({"customers": {"full_address": "%Tallinn%"}}, "full_address is a field that Directo calculates"),
        ({"orders": {"row_line_total": ">5"}}, "row_line_total is a field that Directo calculates"),
        ({"customers": {"name": "!Tamm, OÜ"}}, "customers.name: a comma is an operator"),
        ({"customers": {"country": ["EE", "!LV"]}}, "customers.country: put an operator before each value"),
        ({"orders": {"date": [">2026-01-01", "<2025-01-01"]}}, "orders.date: nothing lies between the bounds"),
        ({"orders": {"number2": [">5", "<5"]}}, "orders.number2: nothing lies between the bounds"),
        (
            {"customers": {"country": "", "name": "x%"}},
            "customers.country: .* empty.*; customers.name: % is an operator",
        ),
        ({"customers": 5}, "valid dictionary"),
    ],
)
def test_an_invalid_filter_is_refused_with_a_remedy(wanted: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        options("http://localhost", **BOTH, filter=wanted)


def test_a_configured_key_field_can_only_be_filtered_by_exact_values() -> None:
    with pytest.raises(ValidationError, match=r"customers\.regno: it identifies the object"):
        options("http://localhost", **BOTH, keys={"customers": ["regno"]}, filter={"customers": {"regno": "!1"}})


def test_deletions_cannot_be_filtered() -> None:
    with pytest.raises(ValidationError, match="the mirror needs all deletions; remove this filter"):
        options("http://localhost", resources=["items", "deleted"], filter={"deleted": {"resource": "items"}})


def test_the_error_for_a_filter_does_not_contain_its_value() -> None:
    with pytest.raises(ValidationError) as raised:
        options("http://localhost", **BOTH, filter={"customers": {"name": "!Tamm, OÜ"}})
    assert "Tamm" not in str(raised.value)


def test_a_settings_file_may_hold_filters_of_every_kind(tmp_path: Path) -> None:
    file = tmp_path / "erpmirror.toml"
    file.write_text(
        """
        [connections.books]
        system = "directo"
        api_key = "k"
        resources = ["items", "orders"]
        [connections.books.filter]
        items = { warehouse = "AALTR,AIPM", closed = 0, price = 12.5, IS_WEIGHT = [0, 1], stocked = true }
        orders = { date = [">2024-01-01", "<2025-01-01"], row_quantity = ">5", shipped = 2024-05-01, status = "!NEW" }
        """,
        encoding="utf-8",
    )
    made = {each.name: each.selection for each in resources.resources(configuration.load(file).connections["books"])}  # type: ignore[arg-type]
    assert "IS_WEIGHT=0,1&closed=0&price=12.5&stocked=1&warehouse=AALTR,AIPM" == made["items"]
    assert (
        "date=<2025-01-01T00:00:00&date=>2024-01-01T00:00:00&row_quantity=>5&shipped=2024-05-01T00:00:00&status=!NEW"
        == made["orders"]
    )
    assert made["deleted"] == ""


ESTONIA = filtered(customers={"country": "EE"}, orders={"date": [">2018-01-01", "<2023-01-01"]})


@pytest.mark.parametrize("account", [ESTONIA], indirect=True)
def test_every_request_carries_the_filter(account: Account) -> None:
    cursor = account.list_all("customers").end.cursor
    account.list_all("customers", cursor)
    account.fetch("customers", "CUST001")
    account.client.probe(account.resource("customers"))
    assert [
        "customers?country=EE",
        "customers?country=EE&ts=%3E2026-05-31T14%3A55%3A00",
        "customers?code=CUST001&country=EE",
        "customers?country=EE&ts=%3E2999-12-31T00%3A00%3A00",
    ] == account.sandbox.requests


@pytest.mark.parametrize("account", [ESTONIA], indirect=True)
def test_an_object_that_does_not_pass_the_filter_is_gone(account: Account) -> None:
    truth = account.sandbox.truth("customers")
    foreign = next(key for key, each in truth.items() if each["country"] != "EE")
    assert {key for key, each in truth.items() if each["country"] == "EE"} == set(account.list_all("customers").objects)
    assert Tombstone(foreign) == account.fetch("customers", foreign)
    account.sandbox.books.touch(_record(account.sandbox, foreign), country="EE")
    assert Snapshot(foreign, account.sandbox.truth("customers")[foreign]) == account.fetch("customers", foreign)


def _record(sandbox: Any, code: str) -> JsonObject:
    found: JsonObject = next(each for each in sandbox.books.tables["customers"] if each["code"] == code)
    return found


@pytest.mark.parametrize("account", [ESTONIA], indirect=True)
def test_an_ignored_filter_is_detected_by_each_kind_of_request(account: Account) -> None:
    cursor = account.list_all("customers").end.cursor
    for customer in account.sandbox.books.tables["customers"]:
        account.sandbox.books.touch(customer)
    account.sandbox.ignored.add("country")
    for ask in (
        lambda: account.list_all("customers"),
        lambda: account.list_all("customers", cursor),
        lambda: account.fetch("customers", "CUST003"),
    ):
        with pytest.raises(SetAside, match="ignores the filter country=EE of customers") as raised:
            ask()
        assert raised.value.whole_resource


@pytest.mark.parametrize("account", [filtered(items={"misspelt": "1"})], indirect=True)
def test_a_filter_by_a_field_that_no_object_has_is_reported(account: Account) -> None:
    listing = account.list_all("items")
    assert "no object of items has the field misspelt" in str(listing.end.warning)
    account.sandbox.books.tables["items"].clear()
    assert account.list_all("items").end.warning is None


@pytest.mark.parametrize("account", [filtered(items={"salesprice": ">1"})], indirect=True)
def test_a_probe_shows_the_filter_or_directos_refusal_of_it(account: Account) -> None:
    assert "can be read, filtered by salesprice=>1" == account.client.probe(account.resource("items"))
    account.sandbox.calculated["salesprice"] = CalculatedFilter.REFUSED
    with pytest.raises(SetAside, match="Filtering by calculated field salesprice"):
        account.client.probe(account.resource("items"))


def test_a_probe_reports_an_ignored_ts_for_polled_resources_only(account: Account) -> None:
    account.sandbox.ignored.add("ts")
    assert "can be read, but its `ts` is ignored" == account.client.probe(account.resource("orders"))
    assert "can be read" == account.client.probe(account.resource("stocklevels"))


FAST = {"timeout": timedelta(seconds=1), "since": "2016-01-01"}


@pytest.mark.parametrize("account", [ESTONIA | FAST], indirect=True)
def test_windows_stay_within_a_filter_by_date(account: Account) -> None:
    account.sandbox.slow_above = 3
    listing = account.list_all("orders")
    truth = account.sandbox.truth("orders")
    inside = {key: each for key, each in truth.items() if "2018-01-01T00:00:00" < each["date"] < "2023-01-01T00:00:00"}
    assert 3 < len(inside) < len(truth)
    assert inside == listing.objects
    assert listing.end.complete
    asked = [query.replace("%3A", ":").replace("%3E", ">").replace("%3C", "<") for query in account.sandbox.requests]
    assert all(query.count("date=>") == query.count("date=<") == 1 for query in asked)
    parts = [part for query in asked for part in query.partition("?")[2].split("&")]
    bounds = [part[6:] for part in parts if part.startswith("date=")]  # the others are windows of ts
    assert ("2018-01-01T00:00:00", "2023-01-01T00:00:00") == (min(bounds), max(bounds))


@pytest.mark.parametrize(
    "account",
    [FAST | filtered(orders={"date": date(2020, 1, 1)}), FAST | filtered(orders={"date": "2020-01-01,2020-01-02"})],
    indirect=True,
)
def test_a_filter_that_lists_single_days_is_not_split_into_windows(account: Account) -> None:
    account.sandbox.books.tables["orders"] = [
        {"number": each, "date": "2020-01-01T00:00:00" if each < 3 else "2020-01-01"} for each in range(6)
    ]
    account.sandbox.slow_above = 2
    with pytest.raises(TimedOutError):
        account.list_all("orders")
    assert 1 == len(account.sandbox.requests)


def alive(database: Database, mirror: Mirror, resource: str) -> dict[str, JsonObject]:
    context = mirror.context("directo")
    with database.read() as tx:
        rows = list(queries.export(tx, context.target(context.resources[resource], None)))
    return {key: raw for key, gone, raw in rows if gone is None}


def estonian(mirror: Mirror) -> dict[str, JsonObject]:
    truth = mirror.sandboxes["directo"].truth("customers")
    return {key: each for key, each in truth.items() if each["country"] == "EE"}


ONLY_ESTONIA = {"filter.customers.country": "EE"}


def test_the_mirror_holds_exactly_the_objects_that_pass_after_many_edits(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, directo={"seed": 4, "options": ONLY_ESTONIA}) as mirror:
        mirror.work()
        assert 0 < len(estonian(mirror)) < len(mirror.sandboxes["directo"].truth("customers"))
        assert estonian(mirror) == alive(sqlite, mirror, "customers")
        random = Random(4)
        for number in range(30):
            mirror.sandboxes["directo"].edit(random)
            if number % 10 == 9:
                mirror.catch_up()
                assert estonian(mirror) == alive(sqlite, mirror, "customers")
        assert {"customers"} == set(mirror.differences()), "resources without a filter are mirrored whole"


def test_a_filter_on_a_field_of_the_key_mirrors_the_objects_with_these_values(sqlite: Database, tmp_path: Path) -> None:
    one_warehouse = {"resources": ["stocklevels"], "filter.stocklevels.warehouse": "aaltr"}
    with mirrored(sqlite, tmp_path, directo={"seed": 4, "options": {"resources": ["stocklevels"]}}) as mirror:
        mirror.work()
        truth = mirror.sandboxes["directo"].truth("stocklevels")
        assert truth == alive(sqlite, mirror, "stocklevels")
    there = {key: each for key, each in truth.items() if each["warehouse"] == "AALTR"}
    assert 0 < len(there) < len(truth)
    with mirrored(sqlite, tmp_path, directo={"seed": 4, "options": one_warehouse}) as mirror:
        mirror.work()
        assert there == alive(sqlite, mirror, "stocklevels")
        mirror.sandboxes["directo"].books.move_stock(Random(1))
        mirror.catch_up()
        now = mirror.sandboxes["directo"].truth("stocklevels")
        assert {key: now[key] for key in now if now[key]["warehouse"] == "AALTR"} == alive(
            sqlite, mirror, "stocklevels"
        )


def test_an_object_edited_out_of_the_filter_is_deleted_until_edited_back(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, directo={"seed": 4, "options": ONLY_ESTONIA}) as mirror:
        mirror.work()
        books = mirror.sandboxes["directo"].books
        customer = _record(mirror.sandboxes["directo"], "CUST001")
        for country, expected in (("LV", False), ("EE", True)):
            books.touch(customer, country=country)
            mirror.catch_up()
            assert expected is ("CUST001" in alive(sqlite, mirror, "customers"))
            assert estonian(mirror) == alive(sqlite, mirror, "customers")


def test_a_changed_filter_starts_a_full_sync(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, directo={"seed": 4, "options": ONLY_ESTONIA}) as mirror:
        mirror.work()
    baltic = {"filter.customers.country": ["EE", "LV"]}
    with mirrored(sqlite, tmp_path, directo={"seed": 4, "options": baltic}) as mirror:
        mirror.work()
        truth = mirror.sandboxes["directo"].truth("customers")
        assert {key for key, each in truth.items() if each["country"] != "FI"} == set(
            alive(sqlite, mirror, "customers")
        )


def test_a_resource_whose_filter_is_ignored_is_parked_with_the_reason(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, directo={"seed": 4, "options": ONLY_ESTONIA}) as mirror:
        mirror.sandboxes["directo"].ignored.add("country")
        mirror.work()
        status = mirror.status()["customers"]
        assert ("parked", 0) == (status.state, status.rows)
        assert "Directo ignores the filter country=EE of customers" in str(status.last_error)
        assert "open" == mirror.status()["items"].state


@pytest.mark.parametrize("account", [filtered(items={"salesprice": ">12"})], indirect=True)
@pytest.mark.parametrize("price", ["1.25E+1", " 12,5 ", "12.50", "4 705,21", "4.705,21", "4,705", "012.5", "", "free"])
def test_a_price_in_another_notation_that_passes_or_may_pass_is_no_ignored_filter(account: Account, price: str) -> None:
    assert not _is_refused(account, price)


@pytest.mark.parametrize("account", [filtered(items={"salesprice": ">12"})], indirect=True)
@pytest.mark.parametrize("price", ["1.19E+1", ".5", "11,9", "011.5", "-4 705,21"])
def test_a_price_in_another_notation_that_cannot_pass_shows_that_the_filter_is_ignored(
    account: Account, price: str
) -> None:
    assert _is_refused(account, price)


def _is_refused(account: Account, price: str) -> bool:
    checker = answers.FilterChecker("items", account.options.selection("items"))
    try:
        checker.check({"code": "1", "salesprice": price})
    except SetAside:
        return True
    return False
