"""The vendor's query language, each word of it held against what the sandbox's books say."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.workers.connectors.dilovod.conftest import opened
from workers.connectors.dilovod import queries
from workers.connectors.dilovod import sandbox as stand_in
from workers.connectors.dilovod.queries import Filter, Limit, Operator
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.applications import Starlette

    from models.values import JsonObject
    from workers.connectors.dilovod.client import Client

ORDERS, UNITS = "documents.saleOrder", "catalogs.units"
MISSING = "1109100000099999"


def test_an_object_is_got_whole_by_its_id(client: Client, sandbox: stand_in.Sandbox) -> None:
    key, shown = next(iter(sandbox.truth(ORDERS).items()))

    assert shown == client.get_object(key)
    with pytest.raises(SetAside, match=f"object with id {MISSING} not found"):
        client.get_object(MISSING)


def test_a_request_follows_links_and_takes_both_languages(client: Client, sandbox: stand_in.Sandbox) -> None:
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


def test_the_rows_of_a_part_know_their_owner(client: Client, sandbox: stand_in.Sandbox) -> None:
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
    """Goods 1 > 2 > 3, the first two groups, and 10 beside them; their ids by `@code`."""
    app = stand_in.create(objects=0)
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
def test_every_filter_operator_selects(
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


def test_a_filter_needs_its_alias_among_the_fields() -> None:
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
def people() -> Iterator[tuple[Client, stand_in.Sandbox]]:
    """Twelve orders: one each of a group, a group in it and a person in that; one of exactly 500."""
    app = stand_in.create(seed=7)
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
def test_what_an_operator_selects_is_what_is_true_of_the_objects(
    people: tuple[Client, stand_in.Sandbox],
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


def test_no_operator_of_the_vendor_is_missing() -> None:
    documented = "= != > >= < <= % !% IL IH !IH ILH !ILH IPL"

    assert documented.split() == [operator.value for operator in Operator]


def test_a_page_has_its_offset_beside_its_count(client: Client, sandbox: stand_in.Sandbox) -> None:
    fields = {"id": "id"}
    everything = [row["id"] for row in client.request(ORDERS, fields)]

    assert list(sandbox.truth(ORDERS)) == everything
    assert everything[3:7] == [row["id"] for row in client.request(ORDERS, fields, limit=Limit(3, 4))]


def test_metadata_is_had_by_name_or_by_the_id_that_the_list_shows(client: Client) -> None:
    listed = client.list_metadata()

    assert client.get_metadata(UNITS) == client.get_metadata(listed[UNITS]["id"])
    assert UNITS == client.get_metadata(UNITS, "ru")["name"]


def test_a_statistic_counts_requests_and_errors_by_day_and_kind(app: Starlette, sandbox: stand_in.Sandbox) -> None:
    key = sandbox.books.of(UNITS)[0].id
    with opened(app, client_id="mirror") as client:
        for _ in range(3):
            client.get_object(key)
        with pytest.raises(SetAside):
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


def test_a_partners_key_is_never_repeated(client: Client) -> None:
    with pytest.raises(SetAside, match=r"bad partnerAPIkey \*\*\*") as raised:
        client.get_statistic(partner_key="s3cret-of-a-partner")

    assert "s3cret-of-a-partner" not in str(raised.value)


# What a person asks.


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("listMetadata", lambda client: client.list_metadata()),
        ("listMetadata ru", lambda client: client.list_metadata("ru")),
        ("getMetadata catalogs.goods", lambda client: client.get_metadata("catalogs.goods")),
        ("getMetadata catalogs.goods lang=ru", lambda client: client.get_metadata("catalogs.goods", "ru")),
        ("getObject 1103600000001001", lambda client: client.get_object("1103600000001001")),
        ('getObject {"id":"1103600000001001"}', lambda client: client.get_object("1103600000001001")),
        ("getStatistic 2001-01-01 2001-01-31 partnerAPIkey=partner-key", lambda _: []),
        (
            "request catalogs.goods id,parent.name:group limit=5",
            lambda client: client.request("catalogs.goods", {"id": "id", "parent.name": "group"}, limit=Limit(0, 5)),
        ),
        ("getMetadata 1000000000001200", lambda client: client.get_metadata("catalogs.goods")),
        (
            "request catalogs.goods id offset=2",
            lambda client: client.request("catalogs.goods", {"id": "id"}, limit=Limit(2, 500)),
        ),
        (
            "request catalogs.goods id limit=5 offset=2 assembleLinks=true",
            lambda client: client.request("catalogs.goods", {"id": "id"}, limit=Limit(2, 5)),
        ),
        (
            'request catalogs.units name,code multilang=true filters=[{"alias":"code","operator":"=","value":"кг"}]',
            lambda client: client.request(
                UNITS, {"name": "name", "code": "code"}, multilang=True, filters=[Filter("code", Operator.EQUAL, "кг")]
            ),
        ),
        (
            'request {"from":"catalogs.units","fields":{"id":"id"}}',
            lambda client: client.request(UNITS, {"id": "id"}),
        ),
        ("balance goods", lambda client: list(client.balance("goods"))),
        (
            "balance goods date=2999-01-31 dimensions=good,storage",
            lambda client: list(client.balance("goods", dimensions=["good", "storage"], date="2999-01-31")),
        ),
        (
            "balance balanceRegisters.goods fields=good.code:code,qty dimensions=good limit=2",
            lambda client: list(
                client.balance("goods", {"good.code": "code", "qty": "qty"}, dimensions=["good"], limit=Limit(0, 2))
            ),
        ),
        (
            "turnover goods 2000-01-01 2999-12-31 dimensions=good",
            lambda client: list(client.turnover("goods", "2000-01-01", "2999-12-31", dimensions=["good"])),
        ),
        (
            "turnover accumulationRegisters.saleIncomes startDate=2000-01-01T00:00:00 endDate=2999-12-31",
            lambda client: list(client.turnover("accumulationRegisters.saleIncomes", "2000-01-01", "2999-12-31")),
        ),
        (
            "balanceAndTurnover goods 2000-01-01 2999-12-31",
            lambda client: list(client.balance_and_turnover("goods", "2000-01-01", "2999-12-31")),
        ),
        ("sliceLast goodsPrices", lambda client: list(client.slice_last("goodsPrices"))),
        (
            "sliceLast goodsPrices date=2999-01-31 fields=good,price",
            lambda client: list(
                client.slice_last("goodsPrices", {"good": "good", "price": "price"}, date="2999-01-31")
            ),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_ask_answers_as_the_method_does(client: Client, words: str, asked: Callable[[Client], Any]) -> None:
    answer = asked(client)

    assert answer == client.ask(words.split())
    assert answer or words.startswith("getStatistic")


def test_ask_gives_the_answer_in_the_form_in_which_it_came(client: Client) -> None:
    answer = client.ask(["request", UNITS, "code", "assembleLinks=false"])

    assert {"columns": ["code"], "data": [["шт"], ["кг"], ["уп"]]} == answer


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "only reading is allowed"),
        (["saveObject", "{}"], "only reading is allowed"),
        (["setDelMark", "1103600000001001"], "only reading is allowed"),
        (["call", "{}"], "only reading is allowed"),
        (["getObject"], "id missing; ask as in: getObject 1100300000001001"),
        (["getObject", "1", "2"], "a word too many; ask as in: getObject"),
        (["getObject", "7", "limit=1"], "there is no limit=, but id=; ask as in: getObject"),
        (["request"], "from and fields missing; ask as in: request catalogs.goods id,name limit=5"),
        (["request", "catalogs.goods"], "fields missing; ask as in: request"),
        (["request", "catalogs.goods", ","], "no field is named; ask as in: request"),
        (["request", "catalogs.goods", "id", "limit=many"], "limit= takes a number; ask as in: request"),
        (["request", "catalogs.goods", "id", "multilang=1"], "multilang= takes true or false; ask as in: request"),
        (["request", "catalogs.goods", "id", "filters={"], "filters= takes a list, as in"),
        (["request", "{"], "ask as in: request"),
        (["balance"], "register missing; ask as in: balance goods date=2026-01-31 dimensions=good,storage"),
        (["balance", "{}", "{}"], "a word too many; ask as in: balance"),
        (["balance", "goods", "day=1"], "there is no day=, but register=, date=, dimensions="),
        (["turnover", "goods", "2026-01-01"], "endDate missing; ask as in: turnover goods 2026-01-01 2026-01-31"),
        (["balanceAndTurnover", "goods"], "ask as in: balanceAndTurnover goods 2026-01-01 2026-01-31"),
        (["balance", "goods", "date=31.01.2026"], "31.01.2026 is no moment; write 2026-01-31, or 2026-01-31T23:59:59"),
        (["turnover", "goods", "2026-01", "2026-02"], "2026-01 is no moment"),
        (["sliceLast", "goodsPrices", "date=2026-01-31T00:00:00Z"], "2026-01-31T00:00:00Z is no moment"),
        (["getStatistic", "yesterday"], "yesterday is no moment; write 2026-01-31"),
        (["sliceLast"], "ask as in: sliceLast goodsPrices date=2026-01-31"),
        (["getStatistic", "1", "2", "3"], "ask as in: getStatistic 2026-01-01 2026-01-31 partnerAPIkey=…"),
        (["listMetadata", "uk", "ru"], "ask as in: listMetadata"),
        (["getMetadata"], "ask as in: getMetadata catalogs.goods"),
    ],
)
def test_a_question_that_cannot_be_put_is_answered_with_an_example(
    client: Client, sandbox: stand_in.Sandbox, words: list[str], said: str
) -> None:
    with pytest.raises(SetAside) as raised:
        client.ask(words)

    assert said in str(raised.value)
    assert [] == sandbox.asked


_ACTIONS = "getObject request balance turnover balanceAndTurnover sliceLast getStatistic listMetadata getMetadata"


def test_whoever_asks_nothing_is_shown_an_example_of_everything() -> None:
    with pytest.raises(SetAside) as raised:
        queries.parse_query([])

    for action in [
        "getObject",
        "request",
        "balance",
        "turnover",
        "balanceAndTurnover",
        "sliceLast",
        "getStatistic",
        "listMetadata",
    ]:
        assert f"{action} " in str(raised.value)
        assert queries.parse_query(_example(str(raised.value), action)).params


def _example(said: str, action: str) -> list[str]:
    (found,) = [example for example in said.removeprefix("ask as in: ").split("; ") if example.split()[0] == action]
    return found.split()


def test_the_vendor_himself_refuses_what_only_he_can_know(client: Client) -> None:
    with pytest.raises(SetAside, match="unknown operator ~"):
        client.ask(["request", UNITS, "id", 'filters=[{"alias":"id","operator":"~","value":1}]'])
    with pytest.raises(SetAside, match=r"balanceRegisters\.saleIncomes not found; .* as in accumulationRegisters\."):
        client.ask(["turnover", "saleIncomes", "2015-01-01", "2015-06-30"])
    with pytest.raises(SetAside, match=r"balanceRegisters\.goods has no dimension shelf; it has firm, storage, good"):
        client.ask(["balance", "goods", "dimensions=shelf"])
