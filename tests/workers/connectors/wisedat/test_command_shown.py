"""How a lost answer is resolved: what is expected of an update equals what a read shows after it, and only then."""

from __future__ import annotations

from copy import deepcopy
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.workers.connectors.wisedat.commanding import action, changed
from workers.connectors.commands import GONE, GoneType

if TYPE_CHECKING:
    from models.values import JsonObject

PRODUCT: JsonObject = {
    "id": 101,
    "description": "Azeite",
    "barcode": None,
    "price": Decimal("6.95"),
    "type": 1,
    "tax": {"id": "RE", "value": 6},
    "notes": "a\r\nb ",
    "categories": [{"id": 11, "name": "x"}, {"id": 13}, {"id": 12}],
    "suppliers": [{"id": 32, "cost_price": 4, "unit": {"id": "CX"}}, {"id": 31, "cost_price": 1, "unit": {"id": "UN"}}],
    "main_supplier": {"id": 31, "code": "F1"},
}
ORDER: JsonObject = {
    "id": "ECL 2026/2",
    "customer": {"id": 201},
    "date": "2026-06-01T00:00:00",
    "closed": False,
    "exchange_rate": Decimal("1.0"),
    "total": 99,
    "loading_location": {"street": "Rua A", "city": "Lisboa", "country": {"iso_3166_1": "PT", "name": "Portugal"}},
    "items": [
        {
            "type": 1,
            "product": {"id": 101, "name": "A"},
            "tax": {"id": "NO"},
            "price": Decimal("6.950"),
            "quantity": 12,
            "discount": 0,
            "description": "Azeite",
            "warehouse": 1,
        },
        {"type": 6, "product": None, "tax": None, "price": 0, "quantity": 1, "description": "Nota", "warehouse": None},
    ],
}


def arrived(resource: str, arguments: JsonObject, found: JsonObject, verb: str = "update") -> bool:
    update = action(verb, resource)
    assert update.expected is not None
    assert update.shown is not None
    before = deepcopy((arguments, found))
    expected, shown = update.expected(arguments), update.shown(arguments, found)
    assert before == (arguments, found)
    assert not isinstance(expected, GoneType)
    assert expected.keys() == shown.keys()
    return expected == shown


@pytest.mark.parametrize(
    ("given", "equal"),
    [
        ({"description": "Azeite"}, True),
        ({"description": "  Azeite "}, True),
        ({"description": "azeite"}, False),
        ({"barcode": ""}, True),
        ({"barcode": "560"}, False),
        ({"price": Decimal("6.9500")}, True),
        ({"price": Decimal("6.951")}, False),
        ({"type": 1}, True),
        ({"type": 2}, False),
        ({"tax": "RE"}, True),
        ({"tax": "NO"}, False),
        ({"notes": "a\nb"}, True),
        ({"notes": "ab"}, False),
        ({"categories": [{"id": 11}, {"id": 12}, {"id": 13}]}, True),
        ({"categories": [{"id": 12}, {"id": 11}, {"id": 13}]}, False),
        ({"categories": [{"id": 11}, {"id": 12}]}, False),
        ({"categories": []}, False),
        ({"suppliers": [{"id": 31}, {"id": 32}]}, True),
        ({"suppliers": [{"id": 31}]}, False),
        ({"suppliers": [{"id": 31, "cost_price": 1}, {"id": 32, "unit": "CX"}]}, True),
        ({"suppliers": [{"id": 31, "cost_price": 2}, {"id": 32}]}, False),
        ({"suppliers": [{"id": 31}, {"id": 32, "unit": "UN"}]}, False),
        ({"main_supplier": 31}, True),
        ({"main_supplier": 32}, False),
        ({"description": "Azeite", "warehouse": 2}, False),
        ({"warehouse": 2}, False),
    ],
)
def test_a_product_is_compared_by_what_reads_show_of_it(given: JsonObject, equal: bool) -> None:  # noqa: FBT001
    assert equal == arrived("products", {"id": 101, **given}, PRODUCT)


@pytest.mark.parametrize(
    ("path", "value", "equal"),
    [
        ("customer", 201, True),
        ("customer", 202, False),
        ("date", "2026-06-01", True),
        ("date", "2026-06-02", False),
        ("closed", False, True),
        ("closed", True, False),
        ("exchange_rate", 1, True),
        ("loading_location", {"street": "Rua A", "country": {"iso_3166_1": "PT"}}, True),
        ("loading_location", {"street": "Rua A", "country": {"iso_3166_1": "ES"}}, False),
        ("loading_location", {"street": "Rua B"}, False),
        ("unloading_location", {"street": "Rua A"}, False),
        ("salesman", 21, False),
        ("items", [{"type": 1, "id": 101, "quantity": 12}, {"type": 6, "description": "Nota"}], True),
        ("items", [{"type": 6, "description": "Nota"}, {"type": 1, "id": 101, "quantity": 12}], False),
        ("items", [{"type": 1, "id": 101, "quantity": 12}], False),
        ("items", [], False),
        ("items.0.quantity", 11, False),
        ("items.0.price", Decimal("6.95"), True),
        ("items.0.price", 7, False),
        ("items.0.id", 102, False),
        ("items.0.tax", "NO", True),
        ("items.0.tax", "RE", False),
        ("items.0.discount", 5, False),
        ("items.0.warehouse", 2, False),
        ("items.0.description", "Azeite ", True),
        ("items.1.description", "Outra", False),
    ],
)
def test_an_order_is_compared_item_by_item_and_without_its_totals(path: str, value: Any, equal: bool) -> None:  # noqa: FBT001
    items = [{"type": 1, "id": 101, "quantity": 12}, {"type": 6, "description": "Nota"}]
    arguments = {"id": "ECL 2026/2"} | ({"items": items} if path.startswith("items.") else {})
    assert equal == arrived("orders", changed(arguments, path, value), ORDER)


def test_numbers_may_come_as_text() -> None:
    assert arrived(
        "products",
        {"id": 101, "price": Decimal("6.5"), "main_supplier": 31},
        {"price": "6.50", "main_supplier": {"id": "31"}},
    )


@pytest.mark.parametrize(
    ("existing", "sent", "equal"),
    [
        ("", "501442600", False),
        (None, "501442600", False),
        ("501442600", "501442600", True),
        ("999999990", "501442600", True),
    ],
)
def test_a_tax_id_is_ignored_where_there_is_another(existing: str | None, sent: str, equal: bool) -> None:  # noqa: FBT001
    """Wisedat API 1.3, Customers, Put: then it says nothing about whether the update arrived."""
    arguments = {"id": 201, "name": "A", "tax_id": sent}
    assert equal == arrived("customers", arguments, {"name": "A", "tax_id": existing})
    assert not arrived("customers", arguments, {"name": "B", "tax_id": existing})


CUSTOMER = {
    "id": 201,
    "addresses": [{"type": "Empresa", "street": "Rua A", "city": "Lisboa", "country": {"iso_3166_1": "PT"}}],
}


@pytest.mark.parametrize("verb", ["create", "update"])
@pytest.mark.parametrize(
    ("given", "equal"),
    [
        ({"type": "Empresa", "street": "Rua A"}, True),
        ({"type": "Empresa", "street": "Rua A", "country": {"iso_3166_1": "PT"}}, True),
        ({"type": "Empresa", "street": "Rua B"}, False),
        ({"type": "Entrega", "street": "Rua A"}, False),
    ],
)
def test_an_address_is_compared_inside_its_customer(verb: str, given: JsonObject, equal: bool) -> None:  # noqa: FBT001
    assert equal == arrived("customeraddresses", {"customer": 201, **given}, CUSTOMER, verb)
    assert not arrived("customeraddresses", {"customer": 201, **given}, {"id": 201, "addresses": []}, verb)


def test_a_deleted_address_is_no_longer_in_its_customer() -> None:
    assert not arrived("customeraddresses", {"customer": 201, "type": "Empresa"}, CUSTOMER, "delete")
    assert arrived("customeraddresses", {"customer": 201, "type": "Entrega"}, CUSTOMER, "delete")


def test_a_deleted_object_is_gone() -> None:
    for resource in ("products", "orders", "taxes"):
        deletion = action("delete", resource)
        assert deletion.expected is not None
        assert GONE is deletion.expected(deletion.example)
        assert deletion.shown is None


def test_a_creation_is_not_compared() -> None:
    assert (None, None) == (action("create", "orders").expected, action("create", "orders").shown)


def test_an_object_of_an_unexpected_form_is_different_and_no_error() -> None:
    for resource in ("products", "customers", "orders", "taxes", "warehouses", "customeraddresses"):
        each = action("update", resource)
        assert not arrived(resource, each.example, {})
        assert not arrived(resource, each.example, {name: [1] for name in each.example} | {"addresses": "none"})
