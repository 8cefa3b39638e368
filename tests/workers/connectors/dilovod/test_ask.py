"""The syntax of `erpmirror ask` for Dilovod."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from workers.connectors.dilovod import queries
from workers.connectors.dilovod import sandbox as dilovod_sandbox
from workers.connectors.dilovod.queries import Filter, Limit, Operator
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable

    from workers.connectors.dilovod.client import Client

ORDERS, UNITS = "documents.saleOrder", "catalogs.units"
MISSING = "1109100000099999"


@pytest.mark.parametrize(
    ("words", "called"),
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
def test_ask_returns_the_same_as_the_method(client: Client, words: str, called: Callable[[Client], Any]) -> None:
    answer = called(client)

    assert answer == client.ask(words.split())
    assert answer or words.startswith("getStatistic")


def test_ask_returns_the_answer_as_sent(client: Client) -> None:
    answer = client.ask(["request", UNITS, "code", "assembleLinks=false"])

    assert {"columns": ["code"], "data": [["шт"], ["кг"], ["уп"]]} == answer


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "ask only reads"),
        (["saveObject", "{}"], "ask only reads"),
        (["setDelMark", "1103600000001001"], "ask only reads"),
        (["call", "{}"], "ask only reads"),
        (["getObject"], "add id; ask as in: getObject 1100300000001001"),
        (["getObject", "1", "2"], "2 is one argument too many; remove it; ask as in: getObject"),
        (["getObject", "7", "limit=1"], "there is no limit=; choose from id=; ask as in: getObject"),
        (["request"], "add from and fields; ask as in: request catalogs.goods id,name limit=5"),
        (["request", "catalogs.goods"], "add fields; ask as in: request"),
        (["request", "catalogs.goods", ","], "name at least one field; ask as in: request"),
        (["request", "catalogs.goods", "id", "limit=many"], "limit= takes a number; ask as in: request"),
        (["request", "catalogs.goods", "id", "multilang=1"], "multilang= takes true or false; ask as in: request"),
        (["request", "catalogs.goods", "id", "filters={"], "filters= takes a list, as in"),
        (["request", "{"], "ask as in: request"),
        (["balance"], "add register; ask as in: balance goods date=2026-01-31 dimensions=good,storage"),
        (["balance", "{}", "{}"], "{} is one argument too many; remove it; ask as in: balance"),
        (["balance", "goods", "day=1"], "there is no day=; choose from register=, date=, dimensions="),
        (["turnover", "goods", "2026-01-01"], "add endDate; ask as in: turnover goods 2026-01-01 2026-01-31"),
        (["balanceAndTurnover", "goods"], "ask as in: balanceAndTurnover goods 2026-01-01 2026-01-31"),
        (["balance", "goods", "date=31.01.2026"], "31.01.2026 is not a date; write 2026-01-31, or 2026-01-31T23:59:59"),
        (["turnover", "goods", "2026-01", "2026-02"], "2026-01 is not a date"),
        (["sliceLast", "goodsPrices", "date=2026-01-31T00:00:00Z"], "2026-01-31T00:00:00Z is not a date"),
        (["getStatistic", "yesterday"], "yesterday is not a date; write 2026-01-31"),
        (["sliceLast"], "ask as in: sliceLast goodsPrices date=2026-01-31"),
        (["getStatistic", "1", "2", "3"], "ask as in: getStatistic 2026-01-01 2026-01-31 partnerAPIkey=…"),
        (["listMetadata", "uk", "ru"], "ask as in: listMetadata"),
        (["getMetadata"], "ask as in: getMetadata catalogs.goods"),
    ],
)
def test_an_invalid_query_is_refused_with_an_example(
    client: Client, sandbox: dilovod_sandbox.Sandbox, words: list[str], text: str
) -> None:
    with pytest.raises(SetAside) as raised:
        client.ask(words)

    assert text in str(raised.value)
    assert [] == sandbox.requests


_ACTIONS = "getObject request balance turnover balanceAndTurnover sliceLast getStatistic listMetadata getMetadata"


def test_an_empty_query_shows_an_example_of_every_action() -> None:
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


def _example(text: str, action: str) -> list[str]:
    (found,) = [example for example in text.removeprefix("ask as in: ").split("; ") if example.split()[0] == action]
    return found.split()


def test_errors_that_only_dilovod_can_detect_are_passed_on(client: Client) -> None:
    with pytest.raises(TryLater, match="unknown operator ~"):
        client.ask(["request", UNITS, "id", 'filters=[{"alias":"id","operator":"~","value":1}]'])
    with pytest.raises(SetAside, match=r"balanceRegisters\.saleIncomes not found; .* as in accumulationRegisters\."):
        client.ask(["turnover", "saleIncomes", "2015-01-01", "2015-06-30"])
    with pytest.raises(
        SetAside, match=r"balanceRegisters\.goods has no dimension shelf; choose from firm, storage, good"
    ):
        client.ask(["balance", "goods", "dimensions=shelf"])
