from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from tests.workers.connectors.directo.conftest import client
from workers.connectors.directo import queries
from workers.connectors.directo.sandbox import CalculatedFilter
from workers.connectors.directo.sandbox_data import CALCULATED
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.values import JsonObject
    from tests.workers.connectors.directo.conftest import Account
    from workers.connectors.directo.queries import Filter

TALLINN = ZoneInfo("Europe/Tallinn")
NOON = datetime(2020, 1, 1, 12)  # noqa: DTZ001 - Directo's wall clock

country, number, dated = queries.field("country"), queries.field("number"), queries.field("date")


@pytest.mark.parametrize(
    ("made", "pairs"),
    [
        (country.equals("EE"), [("country", "EE")]),
        (queries.field("closed").equals(value=False), [("closed", "0")]),
        (queries.field("price").equals(Decimal("12.50")), [("price", "12.50")]),
        (queries.field("price").equals(12.5), [("price", "12.5")]),
        (queries.field("price").equals(Decimal("1E+3")), [("price", "1000")]),
        (dated.equals(date(2026, 2, 1)), [("date", "2026-02-01T00:00:00")]),
        (country.is_one_of("EE", "LV"), [("country", "EE,LV")]),
        (country.is_not("EE"), [("country", "!EE")]),
        (country.is_not("EE", "LV"), [("country", "!EE"), ("country", "!LV")]),
        (queries.field("name").contains("john"), [("name", "%john%")]),
        (number.above(5), [("number", ">5")]),
        (number.below(Decimal("5.5")), [("number", "<5.5")]),
        (number.between(5, 9), [("number", ">5"), ("number", "<9")]),
        (dated.above("2025-11-01"), [("date", ">2025-11-01T00:00:00")]),
        (dated.above("2025-11-01T08:11:05.129Z"), [("date", ">2025-11-01T08:11:05Z")]),
        (dated.below("2025-11-01T08:11:05.129Z"), [("date", "<2025-11-01T08:11:06Z")]),
        (dated.below(NOON.replace(microsecond=1)), [("date", "<2020-01-01T12:00:01")]),
        (dated.above(NOON), [("date", ">2020-01-01T12:00:00")]),
        (dated.above(NOON.replace(tzinfo=TALLINN)), [("date", ">2020-01-01T10:00:00Z")]),
        (queries.row("quantity").above(5000), [("row_quantity", ">5000")]),
        (queries.datafield("LISANIMI").equals("Sweet"), [("LISANIMI", "Sweet")]),
    ],
)
def test_each_operator_is_sent_in_directos_syntax(made: Filter, pairs: list[tuple[str, str]]) -> None:
    assert pairs == made.params


@pytest.mark.parametrize(
    ("setting", "pairs"),
    [
        ("EE", [("x", "EE")]),
        ("EE, LV", [("x", "EE,LV")]),
        ("!EE", [("x", "!EE")]),
        (">5", [("x", ">5")]),
        ("> 5", [("x", ">5")]),
        ("! EE", [("x", "!EE")]),
        ("> 2024-01-01", [("x", ">2024-01-01T00:00:00")]),
        ("<2024-01-01", [("x", "<2024-01-01T00:00:00")]),
        ("%john%", [("x", "%john%")]),
        (7, [("x", "7")]),
        (True, [("x", "1")]),
        (date(2024, 1, 1), [("x", "2024-01-01T00:00:00")]),
        (datetime(2024, 1, 1, 8, tzinfo=UTC), [("x", "2024-01-01T08:00:00Z")]),
        ([1, "EE"], [("x", "1,EE")]),
        ([">5", "<9"], [("x", ">5"), ("x", "<9")]),
        (["!EE", "!LV"], [("x", "!EE"), ("x", "!LV")]),
    ],
)
def test_filters_in_settings_use_directos_syntax(setting: Any, pairs: list[tuple[str, str]]) -> None:
    assert pairs == queries.parse("x", setting).params


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("", "must not be empty"),
        ("!", "must not be empty"),
        (">", "must not be empty"),
        ("EE,", "must not be empty"),
        ("%%", "must not be empty"),
        ("!EE,LV", r'a comma is an operator.*, write a list: \["!EE", "!LV"\]'),
        (">5,6", "a comma is an operator"),
        ("%Tamm, OÜ%", "a comma is an operator"),
        ("%john", "% is an operator"),
        ("50%", "% is an operator"),
        (">=5", 'remove the "=" before the value; Directo also writes "at least" as ">100"'),
        ("=>5", 'remove the "=" before the value'),
        ("!>5", '">" before a value is an operator'),
        ("EE,!LV", '"!" before a value is an operator'),
        (">2024-13-01", "write a date as"),
        ([], "an empty list"),
        (["EE", "!LV"], "before each value of a list"),
        ({"a": 1}, "a value is a text, a number"),
        (float("nan"), "a value is a text, a number"),
    ],
)
def test_a_filter_that_directos_syntax_cannot_express_is_refused(setting: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        queries.parse("x", setting)


@pytest.mark.parametrize("name", [*CALCULATED, "total_weight", "calculated_x", "display_name", "row_line_total"])
def test_a_calculated_field_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is a field that Directo calculates"):
        queries.field(name)


@pytest.mark.parametrize("name", ["country!", "price>", "ts> ", "weight<="])
def test_an_operator_in_the_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="write the operator before the value"):
        queries.field(name)


def lines(order: JsonObject) -> list[JsonObject]:
    found: list[JsonObject] = order["rows"]
    return found


def custom(record: JsonObject, code: str) -> list[str]:
    return [each["content"] for each in record["datafields"] if each["code"] == code]


TRUTHS: list[tuple[str, list[Filter], Callable[[JsonObject], bool]]] = [
    ("customers", [country.equals("EE")], lambda each: each["country"] == "EE"),
    ("customers", [country.is_one_of("EE", "FI")], lambda each: each["country"] in {"EE", "FI"}),
    ("customers", [country.is_not("EE")], lambda each: each["country"] != "EE"),
    ("customers", [country.is_not("EE", "LV")], lambda each: each["country"] == "FI"),
    ("customers", [queries.field("name").contains("jõe")], lambda each: "Jõe" in each["name"]),
    ("customers", [queries.field("closed").equals(value=True)], lambda each: each["closed"] == 1),
    ("customers", [queries.field("creditlimit").above(30_000)], lambda each: each["creditlimit"] > 30_000),
    ("customers", [queries.field("creditlimit").below(30_000)], lambda each: each["creditlimit"] < 30_000),
    (
        "customers",
        [country.equals("EE"), queries.field("closed").equals(0)],
        lambda each: each["country"] == "EE" and each["closed"] == 0,
    ),
    ("orders", [number.between(1003, 1007)], lambda each: 1003 < each["number"] < 1007),
    ("orders", [dated.above(NOON)], lambda each: each["date"] > "2020-01-01T12:00:00"),
    ("orders", [dated.below(NOON)], lambda each: "" < each["date"] < "2020-01-01T12:00:00"),
    (
        "orders",
        [dated.between(date(2018, 1, 1), date(2022, 1, 1))],
        lambda each: "2018-01-01T00:00:00" < each["date"] < "2022-01-01T00:00:00",
    ),
    ("orders", [queries.row("quantity").above(12)], lambda each: any(line["quantity"] > 12 for line in lines(each))),
    ("orders", [queries.row("item").equals("1012")], lambda each: any(line["item"] == "1012" for line in lines(each))),
    (
        "orders",
        [queries.row("quantity").between(5, 9)],
        lambda each: (
            any(line["quantity"] > 5 for line in lines(each)) and any(li["quantity"] < 9 for li in lines(each))
        ),
    ),
    ("items", [queries.datafield("IS_WEIGHT").equals(1)], lambda each: custom(each, "IS_WEIGHT") == ["1"]),
    ("items", [queries.datafield("IS_WEIGHT").is_not("1")], lambda each: custom(each, "IS_WEIGHT") != ["1"]),
    ("items", [queries.field("misspelt").equals("1")], lambda _: True),
]


@pytest.mark.parametrize("account", [{}, {"format": "xml"}], indirect=True, ids=["json", "xml"])
@pytest.mark.parametrize(
    ("resource", "filters", "passes"), TRUTHS, ids=["&".join(map(str, filters)) for _, filters, _ in TRUTHS]
)
def test_each_operator_selects_the_matching_objects(
    account: Account, resource: str, filters: list[Filter], passes: Callable[[JsonObject], bool]
) -> None:
    key = "number" if resource == "orders" else "code"
    truth = account.sandbox.truth(resource).values()
    expected = sorted(str(each[key]) for each in truth if passes(each))
    assert 0 < len(expected), "a filter that selects nothing proves nothing"
    assert expected == sorted(str(each[key]) for each in account.client.read(resource, *filters))
    assert len(expected) == len(
        account.client.ask([resource, *(f"{n}={v}" for each in filters for n, v in each.params)])
    )


@pytest.mark.parametrize("inclusive", [False, True])
def test_a_value_on_a_bound_never_counts_as_an_ignored_filter(account: Account, *, inclusive: bool) -> None:
    account.sandbox.inclusive = inclusive
    found = [each["number"] for each in account.client.read("orders", number.between(1003, 1006))]
    assert ([1003, 1004, 1005, 1006] if inclusive else [1004, 1005]) == found


def test_read_yields_whole_objects_as_sent(account: Account) -> None:
    assert list(account.sandbox.truth("orders").values()) == list(account.client.read("orders"))


def test_deletions_can_be_read_and_filtered(account: Account) -> None:
    books = account.sandbox.books
    books.remove("orders", books.tables["orders"][0])
    account.clock.advance(hours=1)
    books.remove("orders", books.tables["orders"][0])
    later = queries.field("ts").above(datetime(2026, 6, 1, 15, 30))  # noqa: DTZ001
    assert [1001, 1002] == [each["number"] for each in account.client.read("deleted")]
    assert [1002] == [each["number"] for each in account.client.read("deleted", later)]


def test_a_client_works_without_a_database(account: Account) -> None:
    opened = client(account.url)
    assert len(account.sandbox.truth("items")) == len(list(opened.read("items")))
    opened.close()


def test_an_unknown_resource_is_refused_without_a_request(account: Account) -> None:
    with pytest.raises(SetAside, match='no resource "products"; it has accounts'):
        list(account.client.read("products"))
    assert [] == account.sandbox.requests


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (country.equals("EE"), {"country": "LV"}),
        (country.is_one_of("EE", "FI"), {"country": "LV"}),
        (country.is_not("EE"), {"country": "EE"}),
        (number.is_not(7), {"number": Decimal("7.0")}),
        (number.above(5), {"number": 4}),
        (number.above(5), {"number": "4"}),
        (number.below(5), {"number": Decimal("5.1")}),
        (dated.above("2025-01-01"), {"date": "2024-12-30T00:00:00"}),
        (dated.below("2025-01-01"), {"date": "2025-02-01 00:00:00"}),
        (dated.equals(date(2025, 1, 1)), {"date": "2025-01-03T00:00:00"}),
        (queries.field("closed").equals(value=False), {"closed": True}),
        (queries.field("closed").equals(value=False), {"closed": "True"}),
        (queries.field("name").equals("Kalev"), {"name": "Kommid"}),
        (number.equals(1), {"number": "12"}),
        (queries.row("item").equals("A"), {"rows": [{"item": "B"}, {"item": "C"}]}),
        (queries.row("quantity").above(5), {"rows": [{"quantity": 1}, {"quantity": 2}]}),
        (queries.datafield("X").equals("1"), {"datafields": [{"code": "X", "content": "0"}]}),
    ],
)
def test_an_object_that_cannot_have_passed_proves_an_ignored_filter(
    account: Account, wanted: Filter, shown: JsonObject
) -> None:
    account.sandbox.books.tables["items"] = [{"code": "1"} | shown]
    account.sandbox.ignored.add(wanted.name)
    with pytest.raises(SetAside) as raised:
        list(account.client.read("items", wanted))
    assert f"ignores the filter {wanted.name}={wanted.conditions[0].text} of items" in str(raised.value)
    assert raised.value.whole_resource


@pytest.mark.parametrize(
    ("wanted", "shown"),
    [
        (country.equals("EE"), {}),
        (country.equals("EE"), {"country": None}),
        (country.equals("EE"), {"country": ""}),
        (country.equals("EE"), {"country": "ee "}),
        (country.equals("0"), {"country": Decimal("0.00")}),
        (country.equals("TEAM1"), {"country": "TEAM1, E001"}),
        (country.is_not("EE"), {"country": "ee"}),
        (country.is_not("7"), {"country": "007"}),
        (country.above("B"), {"country": "A"}),
        (country.below(9), {"country": "10"}),
        (queries.field("name").contains("oe"), {"name": "Jõe Talu"}),
        (number.above(5), {"number": 5}),
        (number.above(5), {"number": "many"}),
        (dated.above("2025-01-01"), {"date": "2024-12-31T22:00:00Z"}),
        (dated.below("2025-01-01"), {"date": "2025-01-01T10:00:00"}),
        (dated.equals(date(2025, 1, 1)), {"date": "2025-01-01T10:00:00"}),
        (dated.above("2025-01-01"), {"date": "0000-00-00 00:00:00"}),
        (queries.field("name").equals("Kalev"), {"name": "Kommid Kalev"}),
        (queries.field("closed").equals(value=False), {"closed": "false"}),
        (queries.field("answer").equals("true"), {"answer": True}),
        (queries.row("item").equals("A"), {"rows": [{"item": "B"}, {"item": "A"}]}),
        (queries.row("item").equals("A"), {"rows": [{"item": "B"}, {}]}),
        (queries.row("item").equals("A"), {"rows": []}),
        (queries.datafield("X").equals("1"), {"datafields": []}),
    ],
)
def test_an_object_that_may_have_passed_is_kept(account: Account, wanted: Filter, shown: JsonObject) -> None:
    account.sandbox.books.tables["items"] = [{"code": "1"} | shown]
    account.sandbox.ignored.add(wanted.name)
    assert 1 == len(list(account.client.read("items", wanted)))


@pytest.mark.parametrize("outcome", CalculatedFilter)
def test_a_calculated_field_is_refused_ignored_or_finds_nothing(account: Account, outcome: CalculatedFilter) -> None:
    account.sandbox.calculated["totalamount"] = outcome
    wanted = queries.field("totalamount").above(1)
    account.sandbox.books.tables["orders"] = [{"number": 1, "totalamount": 0}, {"number": 2, "totalamount": 2}]
    if outcome is CalculatedFilter.EMPTY:
        assert [] == list(account.client.read("orders", wanted))
        return
    reason = (
        "400: BAD_REQUEST: Filtering by calculated" if outcome is CalculatedFilter.REFUSED else "ignores the filter"
    )
    with pytest.raises(SetAside, match=reason):
        list(account.client.read("orders", wanted))


def test_two_spellings_of_a_selection_have_the_same_text() -> None:
    one = queries.Selection((queries.parse("a", "X,Y"), queries.parse("b", [">1", "<5"])), TALLINN)
    other = queries.Selection((queries.parse("b", ["<5", ">1"]), queries.parse("a", ["Y", "X", "X"])), TALLINN)
    assert one.text == other.text == "a=X,Y&b=<5&b=>1"


@pytest.mark.parametrize(
    ("setting", "after", "before", "asked"),
    [
        ([], 1, 5, [">01", "<05"]),
        ([">2026-01-03"], 1, 5, [">03", "<05"]),
        (["<2026-01-03"], 1, 5, [">01", "<03"]),
        ([">2026-01-02", "<2026-01-03"], 1, 5, [">02", "<03"]),
        ([">2025-01-01", "<2027-01-01"], 1, 5, [">01", "<05"]),
        ([">2026-01-05"], 1, 5, None),
        (["<2026-01-01"], 1, 5, None),
        (["<2026-01-03"], None, 5, ["<03"]),
        ([">2026-01-03"], 1, None, [">03"]),
        (["!2026-01-02"], 1, 5, ["!2026-01-02", ">01", "<05"]),
    ],
)
def test_a_window_and_a_date_filter_are_sent_as_one_range(
    setting: list[str], after: int | None, before: int | None, asked: list[str] | None
) -> None:
    selection = queries.Selection((queries.parse("date", setting),) if setting else (), TALLINN)
    start, end = (datetime(2026, 1, day) if day else None for day in (after, before))  # noqa: DTZ001
    params = selection.params_between(start, end)
    shortened = None if params is None else [value for _, value in params]
    expected = (
        None
        if asked is None
        else [f"{value[0]}2026-01-{value[1:]}T00:00:00" if value[0] in "<>" else value for value in asked]
    )
    assert expected == shortened
