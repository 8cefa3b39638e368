"""Wisedat's replies decoded: refusals, pages, objects, images."""

from __future__ import annotations

import base64
import hashlib
from datetime import timedelta
from typing import Any

import pytest

from workers.connectors.contract import Resource
from workers.connectors.http import Reply
from workers.connectors.wisedat import answers, table
from workers.errors import SetAside, TryLater

PRODUCTS, ORDERS, SUPPLIERS, TAXES = (table.ROWS[name] for name in ("products", "orders", "suppliers", "taxes"))
COUNTRIES, COMPANY = table.ROWS["countries"], table.ROWS["company"]


def reply(status: int, body: str) -> Reply:
    return Reply(status, body.encode(), None)


def refused(status: int, body: str) -> SetAside:
    with pytest.raises(SetAside) as raised:
        answers.decode(reply(status, body))
    return raised.value


def test_a_refusal_quotes_the_vendors_messages() -> None:
    assert "HTTP 400 Price must be numeric; Barcode must be unique" == str(
        refused(400, '{"errors":["Price must be numeric","Barcode must be unique"]}')
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("Parameter id must be numeric", "HTTP 400 Parameter id must be numeric"),
        ('{"errors":"one"}', "HTTP 400 one"),
        (f'{{"errors":["{"x" * 500}"]}}', f"HTTP 400 {'x' * 200}"),
    ],
)
def test_a_refusal_is_one_line_whatever_its_body(body: str, message: str) -> None:
    assert message == str(refused(400, body))


@pytest.mark.parametrize(("status", "whole"), [(400, False), (401, True), (403, True), (405, False), (204, False)])
def test_only_refusals_of_the_whole_resource_set_it_aside(status: int, whole: bool) -> None:  # noqa: FBT001
    assert whole == refused(status, '{"errors": ["no"]}').whole_resource


@pytest.mark.parametrize("status", [400, 401, 403, 405, 204])
@pytest.mark.parametrize("body", ["", "<html><h1>Forbidden</h1></html>", "Forbidden", "{}", '{"errors":[]}', '["one"]'])
def test_a_status_that_wisedat_did_not_write_refuses_nothing(status: int, body: str) -> None:
    with pytest.raises(TryLater) as raised:
        answers.decode(reply(status, body))
    assert not raised.value.closes_gate


@pytest.mark.parametrize("body", ["", "Conflict", "{}", '{"errors":["The order was edited by another application"]}'])
def test_a_409_withholds_the_detail_whatever_its_words(body: str) -> None:
    with pytest.raises(answers.DetailWithheldError, match="HTTP 409"):
        answers.decode(reply(409, body))


def test_a_409_that_is_a_page_withholds_nothing() -> None:
    with pytest.raises(TryLater, match="HTTP 409"):
        answers.decode(reply(409, "<html><h1>Conflict</h1></html>"))


@pytest.mark.parametrize(
    ("body", "certain"),
    [
        ("", False),
        ("Not Found", False),
        ("Product from parameter id doesn't exist", True),
        ('{"Message":"no"}', True),
        ("  \r\n<!DOCTYPE html><html>404 - File or directory not found.</html>", False),
    ],
)
def test_not_found_is_certain_only_if_wisedat_wrote_it(body: str, certain: bool) -> None:  # noqa: FBT001
    with pytest.raises(answers.NotFoundError if certain else answers.MaybeGoneError, match="HTTP 404"):
        answers.decode(reply(404, body))


def test_a_cut_answer_is_tried_later() -> None:
    with pytest.raises(TryLater):
        answers.decode(reply(200, '{"id": 1'))


def test_numbers_are_exact() -> None:
    assert "0.1" == str(answers.decode(reply(200, '{"price":0.10}'))["price"])


CONTENT = b"\x89PNG not really"
DIGEST = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "size": len(CONTENT)}
BASE64 = base64.b64encode(CONTENT).decode()


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ({"image": BASE64}, {"image": DIGEST}),
        ({"images": [BASE64, ""]}, {"images": [DIGEST, ""]}),
        ({"image": f"{BASE64[:8]}\r\n{BASE64[8:]}"}, {"image": DIGEST}),
        ({"products": [{"image": BASE64}]}, {"products": [{"image": DIGEST}]}),
        ({"image": ""}, {"image": ""}),
        ({"image": None, "images": []}, {"image": None, "images": []}),
        ({"images": None}, {"images": None}),
        ({"name": BASE64}, {"name": BASE64}),
    ],
)
def test_images_become_the_hash_and_size_of_their_decoded_bytes(sent: Any, stored: Any) -> None:
    assert stored == answers.with_image_digests(sent)


@pytest.mark.parametrize("text", ["no Base64!", "abc", "imagem.png", "ção", "\ud800"])
def test_an_image_that_is_not_base64_is_hashed_as_text(text: str) -> None:
    content = text.encode(errors="surrogatepass")
    expected = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    assert {"image": expected} == answers.with_image_digests({"image": text})


def test_images_are_kept_on_request() -> None:
    assert {"image": BASE64} == answers.decode(reply(200, f'{{"image":"{BASE64}"}}'), keep_images=True)


def pagination(**fields: Any) -> dict[str, Any]:
    return {"limit": 2, "page": 1, "number_pages": 2, "number_items": 3} | fields


def test_a_page_has_the_totals_of_its_listing() -> None:
    found = answers.parse_page(PRODUCTS, {"pagination": pagination(), "products": [{"id": 1}, {"id": 2}]})
    assert answers.Page([{"id": 1}, {"id": 2}], number=1, pages=2, items=3) == found


def test_quoted_numbers_are_numbers() -> None:
    pages = pagination(limit="2", page="1", number_pages="2", number_items="3")
    assert 3 == answers.parse_page(PRODUCTS, {"pagination": pages, "products": []}).items


def test_a_number_of_items_that_does_not_fit_the_pages_is_no_total() -> None:
    assert None is answers.parse_page(PRODUCTS, {"pagination": pagination(number_items=2), "products": []}).items


@pytest.mark.parametrize("missing", [{"number_items": None}, {"limit": None}, {"limit": None, "number_items": None}])
def test_a_number_of_items_that_is_missing_is_no_total(missing: dict[str, Any]) -> None:
    found = answers.parse_page(PRODUCTS, {"pagination": pagination(**missing), "products": [{"id": 1}]})
    assert answers.Page([{"id": 1}], number=1, pages=2, items=None) == found


@pytest.mark.parametrize("answer", [{"products": None}, {}])
def test_an_empty_listing_may_have_null_instead_of_a_list(answer: dict[str, Any]) -> None:
    nothing = {"pagination": pagination(number_pages=0, number_items=0)} | answer
    assert [] == answers.parse_page(PRODUCTS, nothing).rows


@pytest.mark.parametrize(
    "answer",
    [
        [],
        7,
        None,
        {},
        {"products": []},
        {"pagination": [], "products": []},
        {"pagination": {}, "products": []},
        {"pagination": pagination(number_pages="many"), "products": []},
        {"pagination": pagination(page=True), "products": []},
        {"pagination": pagination(number_items=-1), "products": []},
        {"pagination": pagination()},
        {"pagination": pagination(number_items=None)},
        {"pagination": pagination(), "products": {}},
        {"pagination": pagination(), "salesmen": []},
    ],
)
def test_an_answer_that_is_not_a_page_is_tried_later(answer: Any) -> None:
    with pytest.raises(TryLater, match="malformed"):
        answers.parse_page(PRODUCTS, answer)


@pytest.mark.parametrize("answer", [{"taxes": []}, 7, None, "x"])
def test_an_answer_that_is_not_a_bare_list_is_tried_later(answer: Any) -> None:
    with pytest.raises(TryLater, match="malformed"):
        answers.parse_list(TAXES, answer)


def test_the_company_is_a_list_of_one() -> None:
    assert [{"id": "1"}] == answers.parse_list(COMPANY, {"id": "1"})
    with pytest.raises(TryLater, match="malformed"):
        answers.parse_list(COMPANY, [{"id": "1"}])


@pytest.mark.parametrize(
    "answer",
    [
        [{"id": 5}],
        {"pagination": {}, "products": [{"id": 5}]},
        {"pagination": {}, "id": 5},
        {"products": {"id": 5}},
        {"id": 6},
        {"id": None},
        {"id": [5]},
        {},
        5,
    ],
)
def test_an_answer_with_another_object_is_tried_later(answer: Any) -> None:
    with pytest.raises(TryLater, match="malformed"):
        answers.parse_object(PRODUCTS, answer, "5")


def test_an_error_about_a_malformed_answer_repeats_no_values() -> None:
    with pytest.raises(TryLater) as raised:
        answers.parse_object(PRODUCTS, {"name": "confidential"}, "5")
    assert "confidential" not in str(raised.value)


@pytest.mark.parametrize(
    ("row", "found", "key"),
    [
        (PRODUCTS, {"id": 5}, "5"),
        (PRODUCTS, {"id": "5"}, "5"),
        (PRODUCTS, {"id": 0}, "0"),
        (ORDERS, {"id": "ECL 2024/7"}, "ECL 2024/7"),
        (COUNTRIES, {"iso_3166_1": "PT", "name": "Portugal"}, "PT"),
        (COUNTRIES, {"id": "PT"}, None),
        (PRODUCTS, {"id": ""}, None),
        (PRODUCTS, {"id": None}, None),
        (PRODUCTS, {"id": True}, None),
        (PRODUCTS, {"id": {"id": 5}}, None),
    ],
)
def test_a_key_is_the_id_as_text(row: table.Row, found: dict[str, Any], key: str | None) -> None:
    assert key == answers.key_of(row, found)


def test_rows_without_a_usable_key_are_reported_with_a_reason() -> None:
    products = Resource("products", full_every=timedelta(days=1), bound=timedelta(days=1))
    found, unreadable = answers.by_key(products, [{"id": 1}, {"name": "no id"}, "text", {"id": 1}, {"id": 1, "x": 2}])
    assert {"1": {"id": 1}} == found
    assert [{"name": "no id"}, {"value": "text"}, {"id": 1, "x": 2}] == [row.raw for row in unreadable]
    assert "different products with the same id" == unreadable[2].reason


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ([{"type": "Obra"}], [{"type": "Obra"}]),
        ({"addresses": [{"type": "Obra"}], "x": 1}, [{"type": "Obra"}]),
        ([], []),
    ],
)
def test_addresses_come_as_a_list_or_wrapped(answer: Any, expected: Any) -> None:
    assert expected == answers.parse_addresses(answer)


@pytest.mark.parametrize("answer", [{}, {"a": [], "b": []}, None, 7, {"street": "Rua"}])
def test_an_answer_without_addresses_is_tried_later(answer: Any) -> None:
    with pytest.raises(TryLater, match="malformed"):
        answers.parse_addresses(answer)
