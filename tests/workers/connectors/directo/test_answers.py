from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from tests.serving import served
from tests.workers.connectors.directo.conftest import Account, client
from workers.errors import SetAside, TryLater, VendorError


def asked(body: str, status: int = 200) -> Any:
    """What `Client.ask` returns for this reply."""
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
        ('{"items":[{"code":"1"}],"count":1}', [{"code": "1"}]),
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
        # Lists within a container, and roots that are names of errors elsewhere.
        ("<results><items><item><code>1</code></item></items></results>", [{"code": "1"}]),
        ('<results><items><item code="1"/><item code="2"/></items></results>', [{"code": "1"}, {"code": "2"}]),
        ('<response><data><items><item code="1"/></items></data></response>', [{"code": "1"}]),
        ("<results><item><code>1</code></item></results>", [{"code": "1"}]),
        ("<results><result><code>1</code><name>a</name></result></results>", [{"code": "1", "name": "a"}]),
        ("<results><count>1</count><items><item><code>1</code></item></items></results>", [{"code": "1"}]),
        ("<results/>", []),
        ("<results><items/></results>", []),
        ("<transport><items></items></transport>", []),
        ("<item><code>1</code></item>", [{"code": "1"}]),
        (
            "<transport><item><code>1</code><rows><row rn='1'/></rows></item></transport>",
            [{"code": "1", "rows": [{"rn": "1"}]}],
        ),
        ("<x><order><rows><row rn='1'/><row rn='2'/></rows></order></x>", [{"rows": [{"rn": "1"}, {"rn": "2"}]}]),
        # Parts without their container, or within one more.
        ("<items><item><row rn='1'/><code>1</code></item></items>", [{"rows": [{"rn": "1"}], "code": "1"}]),
        ("<items><item><rows><rows><row rn='1'/></rows></rows></item></items>", [{"rows": [{"rn": "1"}]}]),
        ("<items><item><rows/><datafields></datafields></item></items>", [{"rows": [], "datafields": []}]),
        # Character data, empty elements, namespaces, attributes beside elements.
        (
            "<items><item><code>1</code><name><![CDATA[<a> & b]]></name></item></items>",
            [{"code": "1", "name": "<a> & b"}],
        ),
        (
            (
                "<items xmlns='urn:directo' xmlns:i='http://www.w3.org/2001/XMLSchema-instance'>"
                "<item i:type='x'><code>1</code><date i:nil='true'/></item></items>"
            ),
            [{"type": "x", "code": "1", "date": None}],
        ),
        ("<items><item code='1'><code>1</code><name>a</name></item></items>", [{"code": "1", "name": "a"}]),
        ("<items><item code='1'><code>2</code></item></items>", [{"code": ["1", "2"]}]),
    ],
)
def test_a_list_decodes_to_the_same_shape_in_json_and_xml(body: str, records: list[Any]) -> None:
    assert records == asked(body)


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        ("<err>token required</err>", SetAside, "token required"),
        ('<results><Result Type="5" Desc="Unauthorized"/></results>', SetAside, "5 Unauthorized"),
        ("<results><result><type>5</type><desc>Unauthorized</desc></result></results>", SetAside, "5.*Unauthorized"),
        ("<error><code>5</code><message>Unauthorized</message></error>", SetAside, "Unauthorized"),
        ("<message>Server busy</message>", TryLater, "not a list of objects: <message> holds no elements"),
        ("<items><code>secret</code></items>", TryLater, "<items> holds <code>"),
        ('{"error":{"code":"X","message":"API not enabled"}}', SetAside, "X: API not enabled"),
        ('{"message":"no, sandbox-key"}', TryLater, r"no, \.\.\."),
        ('"ok"', TryLater, "the answer is not a list: 4 bytes of what begins like JSON"),
        ("null", TryLater, "not a list"),
        ("<html><title>Hooldus</title></html>", TryLater, "a web page"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><items/>', TryLater, "document type"),
        ("Service unavailable", TryLater, "19 bytes of text"),
        ('[{"code":"1"},', TryLater, "incomplete"),
        ("<items><item", TryLater, "incomplete"),
    ],
)
def test_a_reply_that_is_not_a_list_raises_the_right_error_with_its_text(
    body: str, error: type[VendorError], text: str
) -> None:
    with pytest.raises(error, match=text):
        asked(body)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
@pytest.mark.parametrize("body", ["", "<html><h1>403 Forbidden</h1></html>", "busy", "{}", "[]", "Not found"])
def test_a_status_that_directo_did_not_write_refuses_nothing(status: int, body: str) -> None:
    with pytest.raises(TryLater, match=f"HTTP {status}, not in the vendor's own words") as raised:
        asked(body, status)
    assert not raised.value.closes_gate


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (401, '{"error": {"code": "INVALID_API_KEY", "message": "expired"}}'),
        (403, '{"message": "no"}'),
        (400, "API not enabled"),
        (403, "<err>permission denied</err>"),
        (200, "<err>token required</err>"),
    ],
)
def test_directos_own_words_refuse_the_resource(status: int, body: str) -> None:
    with pytest.raises(SetAside) as raised:
        asked(body, status)
    assert raised.value.whole_resource


@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_no_refusal_contains_the_key(status: int) -> None:
    with pytest.raises(VendorError, match=r"unauthorized key (\.\.\.|\*\*\*)") as raised:
        asked("unauthorized key sandbox-key", status)
    assert "sandbox-key" not in str(raised.value)
    with pytest.raises(VendorError) as unknown:
        asked("bad key sandbox-key", status)
    assert "sandbox-key" not in str(unknown.value)


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
def test_the_sandbox_applies_the_documented_filters(account: Account, filters: list[str], numbers: list[int]) -> None:
    account.sandbox.books.tables["orders"] = [
        {"number": 1, "status": "NEW", "date": "", "rows": [{"rn": 1, "item": "A"}, {"rn": 2, "item": "B"}]},
        {"number": 2, "status": "NEW", "name": "Tamm", "datafields": [{"code": "VENSAFE", "content": "1"}]},
        {"number": 3, "status": "OLD", "name": None, "date": "2026-01-01T00:00:00"},
        {"number": 4, "date": "2026-01-01T00:40:00"},
    ]
    assert numbers == [order["number"] for order in account.client.ask(["orders", *filters])]
