"""The sandbox's details, and `truth`, which equals what the details show."""

from __future__ import annotations

import base64
import hashlib
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from models import exact
from tests.workers.connectors.wisedat.conftest import LOGIN, NOON
from workers.connectors.wisedat import sandbox as sandbox_module
from workers.connectors.wisedat import table

if TYPE_CHECKING:
    from tests.workers.connectors.wisedat.conftest import Caller

PAGED = [row for row in table.TABLE if row.paged]
BARE = [row for row in table.TABLE if not row.paged and not row.single]


# Details.


@pytest.mark.parametrize("row", [row for row in PAGED if row.detail], ids=lambda row: row.name)
def test_a_detail_shows_more_than_its_line(caller: Caller, row: table.Row) -> None:
    line = caller.listed(row.name)[0]
    detail = caller.read(row.name, id=line["id"], limit="ignored", page="ignored")

    assert "pagination" not in detail
    assert line["id"] == detail["id"]
    assert set(line) - {"image"} < set(detail)


def test_a_categorys_line_equals_its_detail(caller: Caller) -> None:
    line = caller.listed("categories")[0]

    assert line == caller.read("categories", id=line["id"])


def test_an_orders_line_has_no_items_and_a_short_customer(caller: Caller) -> None:
    line = caller.listed("orders")[0]

    assert not {"items", "hash", "notes", "salesman", "loading_location"} & set(line)
    assert {"id", "code", "name", "tax_id", "active"} == set(line["customer"])


def test_an_orders_totals_are_computed_from_its_items(caller: Caller) -> None:
    for order in caller.sandbox.truth("orders").values():
        assert order["merchandise"] + order["postage"] - order["discounts"] == order["subtotal"]
        assert order["subtotal"] + order["taxes"] - order["adjustment"] == order["total"]
        assert {1, 2, 6} == {item["type"] for item in order["items"]}


@pytest.mark.parametrize("name", ["products", "categories", "customers", "salesmen", "suppliers"])
@pytest.mark.parametrize("id_", ["x", "", "1.5"])
def test_an_id_that_is_not_a_number_is_400(caller: Caller, name: str, id_: str) -> None:
    answer = caller.get(name, id=id_)

    assert (400, {"errors": ["Parameter id must be numeric"]}) == (answer.status_code, answer.json())


@pytest.mark.parametrize("row", [*PAGED, *BARE], ids=lambda row: row.name)
def test_an_unknown_id_is_404(caller: Caller, row: table.Row) -> None:
    assert 404 == caller.get(row.name, id="999999").status_code


def test_an_orders_id_is_text_with_slash_and_space(caller: Caller) -> None:
    id_ = caller.sandbox.books.new_order(id_="ECL 2026/A&B 50% nº+#/77").data["id"]

    assert id_ == caller.read("orders", id=id_)["id"]
    assert all(" " in key and "/" in key for key in caller.sandbox.truth("orders"))


def test_an_order_that_was_edited_elsewhere_is_listed_and_its_detail_409(caller: Caller) -> None:
    id_ = caller.thing("orders").data["id"]
    caller.sandbox.books.withheld.add(id_)

    assert 409 == caller.get("orders", id=id_).status_code
    (line,) = [line for line in caller.listed("orders") if line["id"] == id_]
    assert line | {"detail_unavailable": True} == caller.sandbox.truth("orders")[id_]


def test_an_open_order_is_deleted_and_a_closed_one_canceled(caller: Caller) -> None:
    closed, open_ = caller.thing("orders", 0), caller.thing("orders", 1)
    for order in (closed, open_):
        caller.sandbox.books.cancel(order)

    assert caller.read("orders", id=closed.data["id"])["canceled"] is True
    assert 404 == caller.get("orders", id=open_.data["id"]).status_code


def test_a_customers_addresses_are_listed_by_customer_and_type(caller: Caller) -> None:
    customer = caller.thing("customers", 2)
    id_ = customer.data["id"]

    listed = caller.read("customeraddresses", customer=id_)

    assert ["Empresa", "Entrega", "Obra Nova"] == [address["type"] for address in listed]
    assert listed[1:2] == caller.read("customeraddresses", customer=id_, type="Entrega")
    detail = caller.read("customers", id=id_)
    assert [address["street"] for address in listed] == [
        detail["billing_address"]["street"],
        detail["shipping_address"]["street"],
        detail["other_addresses"][0]["street"],
    ]


def test_a_customers_addresses_may_be_wrapped(caller: Caller) -> None:
    id_ = caller.thing("customers").data["id"]
    bare = caller.read("customeraddresses", customer=id_)
    caller.sandbox.addresses_wrapped = True

    assert {"addresses": bare} == caller.read("customeraddresses", customer=id_)


@pytest.mark.parametrize(("params", "status"), [({}, 400), ({"customer": "x"}, 400), ({"customer": "999999"}, 404)])
def test_addresses_of_an_unknown_customer_are_refused(caller: Caller, params: dict[str, str], status: int) -> None:
    assert status == caller.get("customeraddresses", **params).status_code


# The truth.


def _as_mirrored(resource: str, detail: Any, caller: Caller) -> Any:
    """The detail in the form of the mirror: digests for images, customers with their addresses."""
    if resource == "customers":
        detail["addresses"] = caller.read("customeraddresses", customer=detail["id"])
    if "images" in detail:
        detail["images"] = [_digest(image) for image in detail["images"]]
    if "image" in detail:
        detail["image"] = _digest(detail["image"])
    return detail


def _digest(image: str) -> Any:
    content = base64.b64decode(image)
    return {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)} if content else image


@pytest.mark.parametrize("row", [*PAGED, *BARE], ids=lambda row: row.name)
def test_the_truth_equals_the_details(caller: Caller, row: table.Row) -> None:
    truth = caller.sandbox.truth(row.name)

    assert truth
    for key, true in truth.items():
        shown = _as_mirrored(row.name, caller.read(row.name, id=key), caller)
        assert exact.canonical(true) == exact.canonical(shown)


def test_some_products_have_images_and_some_have_none(caller: Caller) -> None:
    counts = {len(product["images"]) for product in caller.sandbox.truth("products").values()}

    assert {0, 1, 2} == counts


def test_numbers_are_exact_and_tax_ids_have_their_control_digit(caller: Caller) -> None:
    product = caller.read("products", id=caller.thing("products").data["id"])
    assert isinstance(product["price"], Decimal)
    for customer in caller.sandbox.truth("customers").values():
        digits = [int(digit) for digit in customer["tax_id"]]
        rest = sum(digit * (9 - place) for place, digit in enumerate(digits[:8])) % 11
        assert (0 if rest < 2 else 11 - rest) == digits[8]


def test_the_same_seed_creates_the_same_company() -> None:
    first, second, other = (
        sandbox_module.create(seed=seed, now=lambda: NOON).state.sandbox.truth("customers") for seed in (4, 4, 5)
    )

    assert first == second
    assert first != other


def test_the_settings_have_every_resource(caller: Caller) -> None:
    settings = caller.sandbox.settings()

    assert "wisedat" == settings["system"]
    assert sorted(table.NAMES) == sorted(settings["resources"])
    assert LOGIN == ";".join(settings[name] for name in ("api_key", "user", "password"))
