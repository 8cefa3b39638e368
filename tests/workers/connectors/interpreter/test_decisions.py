"""Our decisions where the vendor's page is incomplete or contradicts itself, one test each."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from models import exact
from models.mirror import column_types, flatten
from models.values import JsonObject, Kind
from tests.workers.connectors.interpreter.conftest import SAMPLES, Store, document, options, resource
from workers.connectors.interpreter import resources
from workers.connectors.interpreter.sandbox import Fault
from workers.errors import SetAside, TryLater


def documented() -> JsonObject:
    """The sample response of the vendor's page."""
    found: JsonObject = exact.loads((SAMPLES / "delivery_note_as_documented.json").read_bytes())
    return found


def articles(raw: JsonObject) -> Any:
    return resources.project(raw)["articles"]


def test_the_url_has_a_default_because_the_page_has_none_and_can_be_set() -> None:
    assert resource().name in {"deliverynote", "invoice"}
    assert options(url=None).url == "https://capi.lagerkoll.com/v1/interpreter"
    assert options("http://proxy.local/v1/interpreter/").url == "http://proxy.local/v1/interpreter"


def test_documents_are_sent_as_multipart_although_json_is_the_documented_content_type(store: Store) -> None:
    store.interpret()
    (upload,) = store.sandbox.uploads
    assert upload.type.startswith("multipart/form-data; boundary=")
    assert upload.type == store.recorder.headers()["content-type"]
    assert "application/json" == store.recorder.headers()["accept"]


def test_the_parameter_file_is_documented_twice_and_sent_once(store: Store) -> None:
    store.interpret(document(name="följesedel 7.pdf"))
    (upload,) = store.sandbox.uploads  # the sandbox refuses two
    assert ("följesedel 7.pdf", document().sha256) == (upload.name, upload.sha256)


def test_numbers_and_booleans_in_quotes_are_numbers_and_booleans() -> None:
    (article,) = articles(documented())
    assert ("0", False) == (article["deliveredAmount"], article["stock"])
    assert Decimal(0) == column_types.coerce(
        resource().shape["articles"]["deliveredAmount"], article["deliveredAmount"]
    )
    assert column_types.coerce(resource().shape[""]["isPickNPack"], documented()["isPickNPack"]) is False


def test_a_number_in_quotes_may_be_in_javas_notation() -> None:
    sent = resources.project({"orderValue": "1.2345678E7", "comment": "1.2345678E7"})
    kinds = resource().shape[""]
    assert Decimal(12_345_678) == column_types.coerce(kinds["orderValue"], sent["orderValue"])
    assert "1.2345678E7" == column_types.coerce(kinds["comment"], sent["comment"])


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        (1767103347340, "2025-12-30T14:02:27.340Z"),
        ("1767103347340", "2025-12-30T14:02:27.340Z"),
        (Decimal("1767103347340.0"), "2025-12-30T14:02:27.340Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        ("2025-12-30T14:02:27Z", "2025-12-30T14:02:27Z"),
        ("30 december", "30 december"),
        (Decimal("0.5"), Decimal("0.5")),
        (10**17, 10**17),
        (10**30, 10**30),
        (True, True),
        (None, None),
    ],
)
def test_a_date_is_milliseconds_since_1970_or_iso_text_and_other_values_stay(sent: Any, shown: Any) -> None:
    assert shown == resources.project({"deliveryDate": sent})["deliveryDate"]


def test_the_samples_meaningless_best_before_is_converted_like_any_date() -> None:
    ((batch,),) = (article["batches"] for article in articles(documented()))
    assert "1970-01-01T00:00:09.079Z" == batch["bestBefore"]


@pytest.mark.parametrize(
    ("state", "label"),
    [
        (0, "new"),
        (1, "sent"),
        ("2", "received"),
        (3, "finished"),
        (4, "cancelled"),
        (5, None),
        (1501, None),
        (7685, None),
        (None, None),
        (True, None),
    ],
)
def test_a_state_keeps_its_number_and_has_a_label_only_if_it_is_documented(state: Any, label: str | None) -> None:
    shown = resources.project({"state": state})
    assert (state, label) == (shown["state"], shown["stateLabel"])


@pytest.mark.parametrize("status", [200, 400, 429, 500])
def test_status_429_and_code_900429_both_honour_retry_after(store: Store, status: int) -> None:
    store.sandbox.error_status = status
    store.sandbox.faults.append(Fault.LIMIT_CODE)
    with pytest.raises(TryLater) as raised:
        store.interpret()
    assert (timedelta(seconds=7), True) == (raised.value.after, raised.value.refused)


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ({"id": 7, "name": "kartong"}, {"id": 7, "name": "kartong"}),
        ({"ID": 7, "externalid": "KRT"}, {"id": 7, "externalId": "KRT"}),
        (7, {"id": 7}),
        ("7", {"id": "7"}),
        (None, None),
    ],
)
def test_an_articles_unit_is_an_object_or_an_id(sent: Any, shown: Any) -> None:
    (article,) = articles({"articles": [{"units": [{"unit": sent}]}]})
    assert shown == article["units"][0]["unit"]


@pytest.mark.parametrize("spelling", ["storegroupId", "storeGroupId", "STOREGROUPID"])
def test_names_that_differ_only_in_case_are_the_same_field(spelling: str) -> None:
    (article,) = articles({"Articles": [{"UNITS": [{spelling: 12}]}]})
    assert [{"storegroupId": 12}] == article["units"]


def test_two_spellings_of_a_field_are_both_kept() -> None:
    shown = resources.project({"STOREID": 1, "storeId": 2, "StoreId": 3})
    assert {"STOREID": 1, "storeId": 2, "StoreId": 3}.items() <= shown.items()


def test_an_order_id_is_sent_with_a_delivery_note(store: Store) -> None:
    store.interpret(document(order_id="1003"))
    store.interpret(document(number=2))
    assert ["1003", None] == [upload.order for upload in store.sandbox.uploads]


def test_an_invoice_with_an_order_id_is_set_aside_without_a_request(store: Store) -> None:
    with pytest.raises(SetAside, match="only a deliverynote can have an order; this invoice has order 1003"):
        store.interpret(document("invoice", order_id="1003"), "invoice")
    assert [] == store.recorder.scopes


def test_the_key_is_the_files_hash_and_the_vendors_own_ids_are_columns(store: Store) -> None:
    snapshot = store.interpret(document())
    assert document().sha256 == snapshot.key
    assert (3546, 1003) == (snapshot.raw["storeId"], snapshot.raw["id"])
    assert {Kind.NUMBER} == {resource().shape[""][field] for field in ("id", "storeId")}


def test_every_field_of_the_documented_answer_is_declared() -> None:
    shape = resource().shape
    flat = flatten.flatten(resources.project(documented()), shape)
    seen = {("", path) for path in flat.fields} | {(row.part, path) for row in flat.rows for path in row.fields}
    assert {(part, path) for part, fields in shape.items() for path in fields} == seen


def test_the_raw_object_is_exactly_as_sent(store: Store) -> None:
    raw = store.interpret().raw
    before = json.dumps(raw, default=str)
    resources.project(raw)
    assert before == json.dumps(raw, default=str)
    assert {document().sha256: raw} == store.sandbox.truth("deliverynote")


def test_an_answer_in_the_other_edition_is_accepted(store: Store) -> None:
    store.sandbox.other_edition = True
    raw = store.interpret().raw
    assert {"deliveryFrom", "deliveryTo", "orderNumber"} == set(raw)
    assert Kind.TEXT == resource().hints[""]["deliveryFrom.postalCode"]
