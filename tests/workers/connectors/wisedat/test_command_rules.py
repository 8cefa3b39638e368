"""The rules of the document that a schema cannot say: each is found with its path, and only where it is broken."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from tests.workers.connectors.wisedat.commanding import ALL, action, changed, mistakes

if TYPE_CHECKING:
    from models.values import JsonObject

GOODS = {"type": 1, "id": 101, "quantity": 1}


def broken(write: str, changes: dict[str, Any]) -> list[str]:
    """The mistakes of a write's example with these values."""
    verb, resource = write.split()
    arguments = action(verb, resource).example
    for path, value in changes.items():
        arguments = changed(arguments, path, value)
    return mistakes(verb, resource, arguments)


def with_items(*items: JsonObject) -> list[str]:
    return mistakes("create", "orders", {**action("create", "orders").example, "items": list(items)})


@pytest.mark.parametrize(
    ("write", "changes", "paths"),
    [
        # Dates.
        ("create customers", {"birthday": "1974-02-30"}, ["birthday"]),
        ("create customers", {"birthday": "1976-02-29"}, []),
        ("create orders", {"date": "2026-13-01", "expiration_date": "2026-06-31"}, ["date", "expiration_date"]),
        ("update orders", {"date": "2026-00-10"}, ["date"]),
        # NIF.
        ("create customers", {"tax_id": "501442601"}, ["tax_id"]),
        ("create customers", {"tax_id": "501 442 600"}, ["tax_id"]),
        ("create customers", {"tax_id": "PT501442600"}, ["tax_id"]),
        ("create customers", {"tax_id": "123"}, ["tax_id"]),
        ("create customers", {"tax_id": ""}, []),
        ("create customers", {"tax_id": "B-12345678", "country": "ES"}, []),
        ("create customers", {"tax_id": "123", "country": "PRT"}, ["tax_id"]),
        ("update customers", {"tax_id": "501442601"}, ["tax_id"]),
        ("update customers", {"tax_id": "501442601", "country": ...}, []),
        ("create salesmen", {"tax_id": "501442601"}, ["tax_id"]),
        ("create suppliers", {"tax_id": "501442601"}, ["tax_id"]),
        ("update salesmen", {"tax_id": "501442601"}, ["tax_id"]),
        ("update suppliers", {"tax_id": "501442601"}, ["tax_id"]),
        # Postal codes.
        ("create customers", {"billing_address.postal_code": "1100053"}, ["billing_address.postal_code"]),
        ("create customers", {"billing_address.postal_code": "1100-05"}, ["billing_address.postal_code"]),
        ("create customers", {"shipping_address.postal_code": ...}, ["shipping_address.postal_code"]),
        ("create customers", {"billing_address.postal_code": "4490-000"}, []),
        (
            "create customers",
            {"billing_address.country": ..., "billing_address.postal_code": "1100"},
            ["billing_address.postal_code"],
        ),
        (
            "create customers",
            {"billing_address.country.iso_3166_1": "ES", "billing_address.postal_code": "28013"},
            [],
        ),
        (
            "create customers",
            {"country": "ES", "tax_id": "", "billing_address.country": ..., "billing_address.postal_code": ...},
            [],
        ),
        ("update customers", {"billing_address.postal_code": "1100"}, ["billing_address.postal_code"]),
        ("update customers", {"billing_address.postal_code": ...}, []),
        ("create customeraddresses", {"postal_code": "1100"}, ["postal_code"]),
        ("create customeraddresses", {"postal_code": ...}, ["postal_code"]),
        ("create customeraddresses", {"country.iso_3166_1": "FR", "postal_code": "75001"}, []),
        ("update customeraddresses", {"postal_code": "1100"}, ["postal_code"]),
        ("update customeraddresses", {"postal_code": ...}, []),
        ("update customeraddresses", {"postal_code": "1100", "country": ...}, []),
        ("create salesmen", {"address.postal_code": "1"}, ["address.postal_code"]),
        ("update suppliers", {"address.postal_code": "1", "address.country": ...}, ["address.postal_code"]),
        ("create warehouses", {"address.postal_code": "1"}, ["address.postal_code"]),
        ("create warehouses", {"address.postal_code": "1", "address.country": ...}, []),
        ("update warehouses", {"address.postal_code": "1"}, ["address.postal_code"]),
        (
            "create orders",
            {"loading_location.postal_code": "1", "unloading_location.postal_code": ...},
            ["loading_location.postal_code", "unloading_location.postal_code"],
        ),
        ("update orders", {"unloading_location.postal_code": "1"}, ["unloading_location.postal_code"]),
        # One of the addresses.
        ("create customers", {"billing_address": ..., "shipping_address": ...}, ["billing_address"]),
        ("create customers", {"billing_address": ...}, []),
        ("update customers", {"billing_address": ..., "shipping_address": ...}, []),
        # The main supplier.
        ("update products", {"main_supplier": 33}, ["main_supplier"]),
        ("update products", {"main_supplier": 32}, []),
        ("update products", {"main_supplier": 33, "suppliers": ...}, []),
        ("update products", {"suppliers": []}, ["main_supplier"]),
        # Exemptions.
        ("create taxes", {"exemption_reason": ...}, ["exemption_reason"]),
        ("create taxes", {"value": 6}, ["value"]),
        ("create taxes", {"type": 4}, []),
        ("create taxes", {"type": 4, "value": 6, "exemption_reason": ...}, ["exemption_reason", "value"]),
        ("create taxes", {"type": 3, "exemption_reason": ...}, ["value"]),
        ("create taxes", {"type": 3, "value": Decimal("0.0"), "exemption_reason": ...}, ["value"]),
        ("create taxes", {"type": 3, "value": 23, "exemption_reason": ...}, []),
        ("update taxes", {"type": 0, "value": ...}, ["exemption_reason"]),
        ("update taxes", {"type": 1, "value": 0}, ["value"]),
        ("update taxes", {"type": ..., "value": 0}, []),
        ("update taxes", {"type": 2, "value": ...}, []),
    ],
)
def test_a_broken_rule_is_a_mistake_with_its_path(write: str, changes: dict[str, Any], paths: list[str]) -> None:
    assert paths == sorted(broken(write, changes))


@pytest.mark.parametrize(
    ("item", "paths"),
    [
        (GOODS, []),
        ({"type": 1}, ["id", "quantity"]),
        ({"type": 1, "id": 101}, ["quantity"]),
        ({**GOODS, "discount": 100, "warehouse": 1, "tax": "NO", "price": 1}, []),
        ({"type": 2, "price": 4}, []),
        ({"type": 2}, ["price"]),
        ({"type": 2, "price": 4, "tax": "NO"}, ["tax"]),
        ({"type": 2, "price": 4, "id": 101, "discount": 0, "warehouse": 1}, ["discount", "id", "warehouse"]),
        ({"type": 3, "price": 1}, []),
        ({"type": 3}, ["price"]),
        ({"type": 3, "price": 1, "tax": "NO"}, ["tax"]),
        ({"type": 4}, ["price", "tax"]),
        ({"type": 5, "price": 1}, ["tax"]),
        ({"type": 5, "tax": "NO"}, ["price"]),
        ({"type": 6, "description": "Entregar de manhã"}, []),
        ({"type": 6}, ["description"]),
        ({"type": 6, "description": "  "}, ["description"]),
        ({"type": 6, "description": "x", "tax": "NO", "id": 1}, ["id", "tax"]),
    ],
)
def test_an_item_needs_what_its_type_needs_and_no_more(item: JsonObject, paths: list[str]) -> None:
    assert [f"items.1.{path}" for path in paths] == sorted(with_items(GOODS, item))


@pytest.mark.parametrize(
    ("items", "paths"),
    [
        ([{**GOODS, "price": 10}, {"type": 4, "price": 10, "tax": "NO"}], []),
        ([{**GOODS, "price": 10}, {"type": 4, "price": Decimal("10.01"), "tax": "NO"}], ["items"]),
        ([{**GOODS, "price": 10, "discount": 50}, {"type": 5, "price": 6, "tax": "NO"}], ["items"]),
        ([{**GOODS, "price": 5, "quantity": 2}, {"type": 2, "price": 1}, {"type": 5, "price": 11, "tax": "NO"}], []),
        ([GOODS, {"type": 4, "price": 1_000_000, "tax": "NO"}], []),
        ([{"type": 4, "price": 1, "tax": "NO"}], ["items"]),
        ([], []),
    ],
)
def test_discounts_are_not_more_than_what_they_are_on(items: list[JsonObject], paths: list[str]) -> None:
    """An item without a price has its product's, which only the server knows."""
    assert paths == with_items(*items)


def test_each_mistake_of_several_rules_is_reported() -> None:
    found = broken(
        "create customers",
        {
            "tax_id": "1",
            "birthday": "1974-02-30",
            "billing_address.postal_code": "1",
            "shipping_address.postal_code": ...,
        },
    )
    assert ["billing_address.postal_code", "birthday", "shipping_address.postal_code", "tax_id"] == sorted(found)


@pytest.mark.parametrize(("verb", "resource"), ALL)
def test_each_mistake_says_what_is_wrong_and_each_rule_is_a_sentence(verb: str, resource: str) -> None:
    each = action(verb, resource)
    assert all(len(rule.split()) > 3 for rule in each.rules)
    assert bool(each.rules) == (
        (verb != "delete" and resource not in {"products", "categories", "units", "series"})
        or (verb, resource) == ("update", "products")
    )
    assert () == each.check(each.example)
