"""The writes as data: which there are, what they accept and refuse, and which object each is about."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import pytest

from models.values import ObjectRef
from tests.workers.connectors.wisedat import commanding
from tests.workers.connectors.wisedat.commanding import ALL, action, changed, mistakes, options_with
from workers.connectors.wisedat import command_table, commands

if TYPE_CHECKING:
    from models.values import JsonObject

SECTIONS = [
    "products",
    "categories",
    "customers",
    "customeraddresses",
    "salesmen",
    "suppliers",
    "orders",
    "taxes",
    "units",
    "series",
    "warehouses",
]
"""Wisedat API 1.3: the sections that have Post, Put and Delete; each has all three."""

MANDATORY = {
    "create products": "description name price type",
    "update products": "id",
    "create categories": "name",
    "update categories": "id",
    "create customers": "code country name",
    "update customers": "id",
    "create customeraddresses": "city country customer street type",
    "update customeraddresses": "customer type",
    "delete customeraddresses": "customer type",
    "create salesmen": "code country name",
    "create suppliers": "code country name",
    "create orders": "customer date expiration_date series",
    "create taxes": "description id type value",
    "create units": "description id",
    "create series": "description id",
    "create warehouses": "code description",
}
"""The notes of the document. What is not listed has a mandatory id alone."""

ADDRESSED = {
    ("PUT", "products"): "product",
    ("DELETE", "products"): "product",
    ("POST", "categories"): "category",
    ("PUT", "categories"): "category",
    ("DELETE", "categories"): "category",
    ("PUT", "customers"): "customer",
}
"""Addresses that the document spells in another way than the address of the read."""


def names(pairs: list[tuple[str, str]]) -> list[str]:
    return [" ".join(pair) for pair in pairs]


def test_each_section_of_the_document_has_its_three_writes() -> None:
    listed = [(each.resource, each.name) for each in commands.actions(options_with())]
    assert [(resource, verb) for resource in SECTIONS for verb in ("create", "update", "delete")] == listed


@pytest.mark.parametrize(("verb", "resource"), ALL, ids=names(ALL))
def test_each_write_teaches_its_arguments(verb: str, resource: str) -> None:
    each = action(verb, resource)
    assert each.title
    assert each.source.startswith("Wisedat API 1.3, ")
    assert each.schema["additionalProperties"] is False
    assert [] == [name for name, field in each.schema["properties"].items() if not field.get("description")]
    assert each.example.keys() <= each.schema["properties"].keys()
    jsonschema_rs.meta.validate(each.schema)


@pytest.mark.parametrize(("verb", "resource"), ALL, ids=names(ALL))
def test_its_own_example_is_accepted(verb: str, resource: str) -> None:
    assert [] == mistakes(verb, resource, action(verb, resource).example)


@pytest.mark.parametrize(("verb", "resource"), ALL, ids=names(ALL))
def test_the_mandatory_fields_are_those_of_the_document(verb: str, resource: str) -> None:
    wanted = MANDATORY.get(f"{verb} {resource}", "id").split()
    assert wanted == sorted(action(verb, resource).schema["required"])
    assert wanted == sorted(mistakes(verb, resource, {})) or verb == "update"


@pytest.mark.parametrize(("verb", "resource"), ALL, ids=names(ALL))
def test_the_addresses_are_those_of_the_document(verb: str, resource: str) -> None:
    documented = ADDRESSED.get((command_table.METHODS[verb], resource), resource)
    assert tuple(dict.fromkeys((documented, resource))) == command_table.spellings(verb, resource)


@pytest.mark.parametrize(("verb", "resource"), ALL, ids=names(ALL))
def test_an_unknown_field_is_a_mistake(verb: str, resource: str) -> None:
    assert ["colour"] == mistakes(verb, resource, {**action(verb, resource).example, "colour": "red"})


@pytest.mark.parametrize("resource", SECTIONS)
def test_an_update_changes_something(resource: str) -> None:
    only_the_object = {
        name: value
        for name, value in action("update", resource).example.items()
        if name in action("update", resource).schema["required"]
    }
    assert ["nothing to change"] == mistakes("update", resource, only_the_object)


def test_all_mistakes_are_reported_at_once() -> None:
    order = changed(action("create", "orders").example, "date", "1 June")
    order = changed(changed(order, "items.0.quantity", 0), "items.1.type", 7)
    order = changed(changed(order, "closed", "yes"), "loading_location.country.iso_3166_1", "Portugal")
    assert ["closed", "date", "items.0.quantity", "items.1.type", "loading_location.country.iso_3166_1"] == sorted(
        mistakes("create", "orders", order)
    )


TOO_LARGE = 2**31
MISFITS: list[tuple[str, str, Any]] = [
    ("create products", "name", "AZEITE 075"),
    ("create products", "name", "AZEITE-075"),
    ("create products", "name", ""),
    ("create products", "description", ""),
    ("create products", "price", Decimal("-0.01")),
    ("create products", "price", "6.95"),
    ("create products", "type", 3),
    ("create products", "type", 0),
    ("create products", "type", True),
    ("create products", "tax", 23),
    ("create products", "warehouse", 0),
    ("create products", "warehouse", TOO_LARGE),
    ("create products", "categories.0.id", ...),
    ("create products", "categories.0.id", "11"),
    ("create products", "categories", [{"id": 1}] * 1001),
    ("update products", "id", "101"),
    ("update products", "id", Decimal("101.5")),
    ("update products", "suppliers.0.cost_price", Decimal(-1)),
    ("update products", "main_supplier", None),
    ("create categories", "id_parent", "11"),
    ("create customers", "code", "C 4711"),
    ("create customers", "country", "Portugal"),
    ("create customers", "country", "pt"),
    ("create customers", "email", "geral at example.pt"),
    ("create customers", "email", "geral@example"),
    ("create customers", "birthday", "25-04-1974"),
    ("create customers", "birthday", "1974-04-25T00:00:00"),
    ("create customers", "billing_address.street", ""),
    ("create customers", "billing_address.street", ...),
    ("create customers", "shipping_address.city", ...),
    ("create customers", "billing_address.country", "PT"),
    ("create customers", "billing_address.country.iso_3166_1", ...),
    ("update customers", "billing_address.city", ...),
    ("create customeraddresses", "type", ""),
    ("create customeraddresses", "customer", "201"),
    ("create salesmen", "commission", 101),
    ("create salesmen", "commission", Decimal("-0.5")),
    ("create salesmen", "address.street", ...),
    ("update salesmen", "commission", Decimal("100.1")),
    ("create suppliers", "code", "F/4711"),
    ("create orders", "customer", "201"),
    ("create orders", "exchange_rate", 0),
    ("create orders", "entity_discount", 101),
    ("create orders", "financial_discount", -1),
    ("create orders", "items.0.discount", 101),
    ("create orders", "items.0.price", 0),
    ("create orders", "items.0.quantity", 0),
    ("create orders", "items.0.type", ...),
    ("create orders", "items.0.type", 0),
    ("create orders", "items", [{"type": 6, "description": "x"}] * 1001),
    ("update orders", "id", 2),
    ("update orders", "id", ""),
    ("create taxes", "id", "ABC"),
    ("create taxes", "id", "A-"),
    ("create taxes", "value", 101),
    ("create taxes", "type", 5),
    ("create taxes", "type", -1),
    ("create units", "id", "GARRAF"),
    ("create units", "id", "G F"),
    ("create series", "id", "202700"),
    ("create series", "vat_cash_system", "false"),
    ("create warehouses", "code", "ARMAZEM03"),
    ("create warehouses", "code", "LOJA-3"),
    ("delete products", "id", "101"),
    ("delete orders", "id", 2),
    ("delete customeraddresses", "type", ...),
]


@pytest.mark.parametrize(
    ("write", "path", "value"), MISFITS, ids=[f"{write} {path} {str(value)[:20]}" for write, path, value in MISFITS]
)
def test_what_does_not_fit_the_schema_is_a_mistake_with_its_path(write: str, path: str, value: Any) -> None:
    verb, resource = write.split()
    assert [path] == mistakes(verb, resource, changed(action(verb, resource).example, path, value))


@pytest.mark.parametrize(
    ("write", "path", "value"),
    [
        ("create products", "name", "CAFÉ1"),
        ("create products", "price", 0),
        ("create products", "barcode", ""),
        ("create products", "categories", []),
        ("create products", "categories", [{"id": each} for each in range(1, 1001)]),
        ("update products", "warehouse", TOO_LARGE - 1),
        ("create customers", "email", ""),
        ("create customers", "shipping_address", ...),
        ("create salesmen", "commission", 100),
        ("create salesmen", "address", ...),
        ("update salesmen", "address", {"phone": "213000000"}),
        ("create orders", "items", ...),
        ("create orders", "entity_discount", Decimal("99.99")),
        ("create taxes", "id", "7"),
        ("update taxes", "id", "IVA normal"),
        ("delete series", "id", "Série A"),
        ("create warehouses", "address", ...),
        ("create warehouses", "address", {}),
    ],
)
def test_what_the_document_allows_is_accepted(write: str, path: str, value: Any) -> None:
    verb, resource = write.split()
    assert [] == mistakes(verb, resource, changed(action(verb, resource).example, path, value))


# The object.


@pytest.mark.parametrize(
    ("write", "arguments", "key"),
    [
        ("update products", {"id": 101}, "products 101"),
        ("update products", {"id": Decimal("101.0")}, "products 101"),
        ("delete products", {"id": 101}, "products 101"),
        ("update taxes", {"id": "07"}, "taxes 07"),
        ("delete series", {"id": "2026"}, "series 2026"),
        ("update orders", {"id": "ECL 2026/2"}, "orders ECL 2026/2"),
        ("update warehouses", {"id": 2}, "warehouses 2"),
        ("create customeraddresses", {"customer": 201, "type": "Obra"}, "customers 201"),
        ("update customeraddresses", {"customer": 201, "type": "Obra"}, "customers 201"),
        ("delete customeraddresses", {"customer": 201, "type": "Obra"}, "customers 201"),
    ],
)
def test_the_subject_is_the_object_under_the_mirrors_key(write: str, arguments: JsonObject, key: str) -> None:
    verb, resource = write.split()
    assert ObjectRef(*key.split(" ", 1)) == action(verb, resource).subject(arguments)


@pytest.mark.parametrize("resource", SECTIONS)
def test_a_creation_has_no_subject_unless_it_is_a_part_of_one_or_names_its_id(resource: str) -> None:
    creation = action("create", resource)
    is_part, names_its_id = resource == "customeraddresses", resource in {"taxes", "units", "series"}
    assert (is_part or names_its_id) == (creation.subject(creation.example) is not None)
    assert (None if is_part else resource) == creation.creates(creation.example)
    for verb in ("update", "delete"):
        assert action(verb, resource).creates(action(verb, resource).example) is None
        assert {} == action(verb, resource).unique


def test_an_object_whose_key_the_settings_change_has_no_key() -> None:
    by_name = {(each.name, each.resource): each for each in commands.actions(options_with(keys={"series": "row"}))}
    assert ObjectRef("series", "") == by_name["update", "series"].subject({"id": "2026"})
    assert ObjectRef("units", "UN") == by_name["update", "units"].subject({"id": "UN"})


def test_only_what_the_vendor_keeps_unique_or_free_text_finds_a_new_object() -> None:
    found = {
        resource: {
            name: (unique.path, unique.appends, unique.longest)
            for name, unique in action("create", resource).unique.get(resource, {}).items()
        }
        for resource in SECTIONS
    }
    by_code = {"code": (("code",), False, 255)}
    assert {
        "products": {"name": (("name",), False, 255), "barcode": (("barcode",), False, 255)},
        "categories": {},
        "customers": by_code,
        "customeraddresses": {},
        "salesmen": by_code,
        "suppliers": by_code,
        "orders": {"your_reference": (("your_reference",), True, 50)},
        "taxes": {"id": (("id",), False, 2)},
        "units": {"id": (("id",), False, 5)},
        "series": {"id": (("id",), False, 5)},
        "warehouses": {"code": (("code",), False, 8)},
    } == found


def test_commanding_lists_every_action() -> None:
    assert len(commanding.ALL) == 33
