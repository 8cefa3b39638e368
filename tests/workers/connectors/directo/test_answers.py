from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from tests.serving import served
from tests.workers.connectors.directo.conftest import Account, client
from workers.errors import Fate, SetAside, TryLater


def asked(body: str, status: int = 200) -> Any:
    """What a client makes of this answer."""
    app = Starlette(routes=[Route("/v1/items", lambda _: Response(body.encode(), status))])
    with served(app) as url:
        opened = client(url)
        try:
            return opened.ask(["items"])
        finally:
            opened.close()


@pytest.mark.parametrize(
    ("body", "records"),
    [
        ("[]", []),
        ("\ufeff \n[]", []),
        (
            '[{"price":80.0000,"number":12345678901234567890}]',
            [{"price": Decimal("80.0000"), "number": 12345678901234567890}],
        ),
        ("<items/>", []),
        ('<?xml version="1.0"?><items><item code="1"><datafields/></item></items>', [{"code": "1", "datafields": []}]),
        (
            '<items><item code="1"><supplieritems><supplieritem supplier="A"/></supplieritems></item></items>',
            [{"code": "1", "supplieritems": [{"supplier": "A"}]}],
        ),
        (
            "<items><item><code>1</code><name/><note a='b'>x</note></item></items>",
            [{"code": "1", "name": "", "note": {"a": "b", "text": "x"}}],
        ),
        (
            "<items><item><tag>1</tag><tag>2</tag><tag>3</tag><code>1</code></item></items>",
            [{"tag": ["1", "2", "3"], "code": "1"}],
        ),
    ],
)
def test_a_list_is_read_in_one_shape_whatever_its_format(body: str, records: list[Any]) -> None:
    assert records == asked(body)


@pytest.mark.parametrize(
    ("body", "fate", "words"),
    [
        ("<err>token required</err>", SetAside, "token required"),
        ('<results><Result Type="5" Desc="Unauthorized"/></results>', SetAside, "5 Unauthorized"),
        ('{"error":{"code":"X","message":"API not enabled"}}', SetAside, "X: API not enabled"),
        ('{"message":"no, sandbox-key"}', SetAside, r"no, \.\.\."),
        ('"ok"', SetAside, "the answer is no list: ok"),
        ("null", SetAside, "no list"),
        ("<html><body>Hooldus</body></html>", TryLater, "Hooldus"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><items/>', TryLater, "no XML"),
        ("Service unavailable", TryLater, "Service unavailable"),
        ('[{"code":"1"},', TryLater, "breaks off"),
        ('[{"code":NaN}]', TryLater, "no JSON"),
        ("<items><item", TryLater, "breaks off"),
    ],
)
def test_what_is_no_list_is_sorted_by_fate_with_the_vendors_words(body: str, fate: type[Fate], words: str) -> None:
    with pytest.raises(fate, match=words):
        asked(body)


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_no_refusal_repeats_the_key(status: int) -> None:
    with pytest.raises(Fate, match=r"bad key (\.\.\.|\*\*\*)") as raised:
        asked("bad key sandbox-key", status)
    assert "sandbox-key" not in str(raised.value)


@pytest.mark.parametrize(
    ("filters", "numbers"),
    [
        (["number=>2"], [3, 4]),
        (["number=<3", "number=>1"], [2]),
        (["status=NEW,OLD"], [1, 2, 3]),
        (["status=!NEW"], [3, 4]),
        (["name=%AM%"], [2]),
        (["date=>2026-01-01"], [4]),
        (["date=>2025-12-31T22:30:00Z"], [4]),
        (["row_item=A"], [1]),
        (["VENSAFE=1"], [2]),
        (["misspelt=1"], [1, 2, 3, 4]),
    ],
)
def test_the_sandbox_filters_as_the_vendor_does(account: Account, filters: list[str], numbers: list[int]) -> None:
    account.sandbox.books.tables["orders"] = [
        {"number": 1, "status": "NEW", "date": "", "rows": [{"rn": 1, "item": "A"}, {"rn": 2, "item": "B"}]},
        {"number": 2, "status": "NEW", "name": "Tamm", "datafields": [{"code": "VENSAFE", "content": "1"}]},
        {"number": 3, "status": "OLD", "name": None, "date": "2026-01-01T00:00:00"},
        {"number": 4, "date": "2026-01-01T00:40:00"},
    ]
    assert numbers == [order["number"] for order in account.client.ask(["orders", *filters])]
