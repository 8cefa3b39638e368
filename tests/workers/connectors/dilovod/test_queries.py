"""Dilovod's read actions and filters, against the sandbox's data."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.workers.connectors.dilovod.conftest import opened
from workers.connectors.dilovod import queries
from workers.connectors.dilovod import sandbox as dilovod_sandbox
from workers.connectors.dilovod.queries import Filter, Limit, Operator
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.applications import Starlette

    from models.values import JsonObject
    from workers.connectors.dilovod.client import Client

ORDERS, UNITS = "documents.saleOrder", "catalogs.units"
MISSING = "1109100000099999"


def test_an_object_is_read_whole_by_its_id(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    key, result = next(iter(sandbox.truth(ORDERS).items()))

    assert result == client.get_object(key)
    with pytest.raises(SetAside, match=f"object with id {MISSING} not found"):
        client.get_object(MISSING)


def test_a_request_follows_links_and_returns_both_languages(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    good = next(thing for thing in sandbox.books.of("catalogs.goods") if thing.header["parent"] != "0")
    fields = {"id": "good", "parent.name": "group", "name": "name"}
    named = sandbox.books.presentation(good)
    group = sandbox.books.presentation(sandbox.books.things[good.header["parent"]])

    (plain,) = client.request("catalogs.goods", fields, filters=[Filter("good", Operator.EQUAL, good.id)])
    (both,) = client.request(
        "catalogs.goods", fields, filters=[Filter("good", Operator.EQUAL, good.id)], multilang=True
    )

    assert {"good": good.id, "good__pr": named, "group": group, "name": named} == plain
    assert {"group__uk": group, "group__ru": group, "name__uk": named, "name__ru": named} == {
        name: text for name, text in both.items() if not name.startswith("good")
    }


def test_a_request_without_links_is_decoded_to_the_same_rows(client: Client) -> None:
    fields = {"id": "id", "number": "number", "person": "person"}

    assembled = client.request("documents.saleOrder", fields, limit=Limit(2, 3))
    plain = client.request("documents.saleOrder", fields, limit=Limit(2, 3), assemble_links=False)

    assert [{name: row[name] for name in fields} for row in assembled] == plain
    assert len(plain) == 3


def test_the_rows_of_a_part_have_their_owner(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    order = sandbox.books.of("documents.saleOrder")[0]
    rows = client.request(
        "documents.saleOrder.tpGoods",
        {"owner": "order", "owner.number": "number", "good": "good", "qty": "qty"},
        filters=[Filter("order", Operator.EQUAL, order.id)],
    )

    assert [row["good"] for row in order.parts["tpGoods"]] == [row["good"] for row in rows]
    assert {order.header["number"]} == {row["number"] for row in rows}


@pytest.fixture(scope="module")
def tree() -> Iterator[tuple[Client, dict[str, str]]]:
    """Goods 1 > 2 > 3, of which 1 and 2 are groups, and 10 outside them. Returns `@code` -> id."""
    app = dilovod_sandbox.create(objects=0)
    books = app.state.sandbox.books
    for good in books.of("catalogs.goods"):
        books.remove(good)
    top = books.add("catalogs.goods", code="1", isGroup="1", name={"ru": "", "uk": "Група"})
    inner = books.add("catalogs.goods", code="2", isGroup="1", parent=top.id, name={"ru": "", "uk": "Розарій, роза"})
    leaf = books.add("catalogs.goods", code="3", parent=inner.id, name={"ru": "", "uk": "Туя"})
    books.add("catalogs.goods", code="10", name={"ru": "", "uk": "Лопата"})
    with opened(app) as client:
        yield client, {"@1": top.id, "@2": inner.id, "@3": leaf.id}


@pytest.mark.parametrize(
    ("alias", "operator", "value", "codes"),
    [
        ("code", Operator.EQUAL, "2", {"2"}),
        ("code", Operator.NOT_EQUAL, "2", {"1", "3", "10"}),
        ("code", Operator.GREATER, 2, {"3", "10"}),
        ("code", Operator.GREATER_OR_EQUAL, 2, {"2", "3", "10"}),
        ("code", Operator.LESS, "3", {"1", "2"}),
        ("code", Operator.LESS_OR_EQUAL, "3", {"1", "2", "3"}),
        ("name", Operator.CONTAINS, "роза", {"2"}),
        ("name", Operator.CONTAINS_NOT, "роза", {"1", "3", "10"}),
        ("code", Operator.IN_LIST, ["1", "10"], {"1", "10"}),
        ("group", Operator.EQUAL, False, {"3", "10"}),
        ("id", Operator.IN_HIERARCHY, "@1", {"2", "3"}),
        ("id", Operator.NOT_IN_HIERARCHY, "@1", {"1", "10"}),
        ("id", Operator.IN_HIERARCHY_OF_LIST, ["@2"], {"3"}),
        ("id", Operator.NOT_IN_HIERARCHY_OF_LIST, ["@2"], {"1", "2", "10"}),
        ("id", Operator.PARENT_IN_LIST, ["@3"], {"1", "2"}),
    ],
)
def test_every_filter_operator_selects_the_expected_objects(
    tree: tuple[Client, dict[str, str]], alias: str, operator: Operator, value: Any, codes: set[str]
) -> None:
    client, ids = tree
    asked = [ids.get(item, item) for item in value] if isinstance(value, list) else ids.get(str(value), value)
    rows = client.request(
        "catalogs.goods",
        {"id": "id", "code": "code", "name": "name", "isGroup": "group"},
        filters=[Filter(alias, operator, asked)],
    )

    assert codes == {row["code"] for row in rows}


def test_a_filter_on_an_alias_that_is_not_in_the_fields_is_refused() -> None:
    with pytest.raises(ValueError, match="number"):
        queries.request_params("catalogs.goods", {"id": "id"}, filters=[Filter("number", Operator.EQUAL, "1")])


GROUP, INNER, LEAF = "1100100000009001", "1100100000009002", "1100100000009003"
FIRST, THIRD = "1109100000001001", "1109100000001003"
AMOUNT = Decimal(500)


def person(order: JsonObject) -> str:
    return str(order["person"]["id"])


def amount(order: JsonObject) -> Decimal:
    return Decimal(order["amountCur"])


@pytest.fixture(scope="module")
def people() -> Iterator[tuple[Client, dilovod_sandbox.Sandbox]]:
    """Twelve orders: of a group, of a group in it and of a person in that; one has exactly 500 as its amount."""
    app = dilovod_sandbox.create(seed=7)
    books = app.state.sandbox.books
    for key, parent in ((GROUP, "0"), (INNER, GROUP), (LEAF, INNER)):
        books.add("catalogs.persons", id_=key, parent=parent, name={"ru": "", "uk": key})
    orders = books.of(ORDERS)
    for order, key in zip(orders, (GROUP, INNER, LEAF), strict=False):
        order.header["person"] = key
    orders[4].header["amountCur"] = "500.00"
    with opened(app) as client:
        yield client, app.state.sandbox


@pytest.mark.parametrize(
    ("alias", "operator", "value", "holds"),
    [
        ("id", Operator.EQUAL, FIRST, lambda order: order["id"]["id"] == FIRST),
        ("id", Operator.NOT_EQUAL, FIRST, lambda order: order["id"]["id"] != FIRST),
        ("amount", Operator.EQUAL, AMOUNT, lambda order: amount(order) == AMOUNT),
        ("amount", Operator.GREATER, AMOUNT, lambda order: amount(order) > AMOUNT),
        ("amount", Operator.GREATER_OR_EQUAL, AMOUNT, lambda order: amount(order) >= AMOUNT),
        ("amount", Operator.LESS, AMOUNT, lambda order: amount(order) < AMOUNT),
        ("amount", Operator.LESS_OR_EQUAL, AMOUNT, lambda order: amount(order) <= AMOUNT),
        ("number", Operator.CONTAINS, "Р0000101", lambda order: "Р0000101" in order["number"]),
        ("number", Operator.CONTAINS_NOT, "Р0000101", lambda order: "Р0000101" not in order["number"]),
        ("id", Operator.IN_LIST, [FIRST, THIRD], lambda order: order["id"]["id"] in {FIRST, THIRD}),
        ("person", Operator.IN_HIERARCHY, GROUP, lambda order: person(order) in {INNER, LEAF}),
        ("person", Operator.NOT_IN_HIERARCHY, GROUP, lambda order: person(order) not in {INNER, LEAF}),
        ("person", Operator.IN_HIERARCHY_OF_LIST, [INNER], lambda order: person(order) == LEAF),
        ("person", Operator.NOT_IN_HIERARCHY_OF_LIST, [INNER], lambda order: person(order) != LEAF),
        ("person", Operator.PARENT_IN_LIST, [LEAF], lambda order: person(order) in {GROUP, INNER}),
    ],
    ids=lambda value: value.name if isinstance(value, Operator) else "",
)
def test_an_operator_selects_exactly_the_matching_objects(
    people: tuple[Client, dilovod_sandbox.Sandbox],
    alias: str,
    operator: Operator,
    value: Any,
    holds: Callable[[JsonObject], bool],
) -> None:
    client, sandbox = people
    fields = {"id": "id", "amountCur": "amount", "number": "number", "person": "person"}

    rows = client.request(ORDERS, fields, filters=[Filter(alias, operator, value)])

    truth = sandbox.truth(ORDERS)
    expected = {key for key, raw in truth.items() if holds(raw["header"])}
    assert expected == {row["id"] for row in rows}
    assert 0 < len(expected) < len(truth)


def test_every_documented_operator_is_supported() -> None:
    documented = "= != > >= < <= % !% IL IH !IH ILH !ILH IPL"

    assert documented.split() == [operator.value for operator in Operator]


def test_the_offset_is_sent_together_with_the_count(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    fields = {"id": "id"}
    everything = [row["id"] for row in client.request(ORDERS, fields)]

    assert list(sandbox.truth(ORDERS)) == everything
    assert everything[3:7] == [row["id"] for row in client.request(ORDERS, fields, limit=Limit(3, 4))]


def test_metadata_is_read_by_name_or_by_listed_id(client: Client) -> None:
    listed = client.list_metadata()

    assert client.get_metadata(UNITS) == client.get_metadata(listed[UNITS]["id"])
    assert UNITS == client.get_metadata(UNITS, "ru")["name"]


def test_a_statistic_counts_requests_and_errors_by_day_and_kind(
    app: Starlette, sandbox: dilovod_sandbox.Sandbox
) -> None:
    key = sandbox.books.of(UNITS)[0].id
    with opened(app, client_id="mirror") as client:
        for _ in range(3):
            client.get_object(key)
        with pytest.raises(TryLater, match="unknown field"):
            client.request(UNITS, {"nothing": "nothing"})
        day = sandbox.books.wall_clock()[:10]
        rows = client.get_statistic(day, day, partner_key="partner-key")
        assert [] == client.get_statistic("2001-01-01", "2001-01-02")

    about = {"date": day, "clientID": "mirror", "apiVersion": "0.25", "dbObject": UNITS}
    wanted = [
        about | {"method": "getObject", "counter": "3", "errorCounter": "0"},
        about | {"method": "request", "counter": "1", "errorCounter": "1"},
    ]
    assert wanted == [{name: text for name, text in row.items() if name != "partnerIntegrationCode"} for row in rows]


def test_an_error_never_contains_a_partners_key(client: Client) -> None:
    with pytest.raises(TryLater, match=r"bad partnerAPIkey \*\*\*") as raised:
        client.get_statistic(partner_key="s3cret-of-a-partner")

    assert "s3cret-of-a-partner" not in str(raised.value)
