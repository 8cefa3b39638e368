"""Wisedat's resources: intervals, declared fields and their types, notes."""

from __future__ import annotations

import re
from datetime import timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from models.mirror import column_types, flatten
from models.values import Kind
from workers.connectors.wisedat import resources as declared
from workers.connectors.wisedat import sandbox as sandbox_module
from workers.connectors.wisedat import table
from workers.connectors.wisedat.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workers.connectors.contract import Resource
    from workers.connectors.wisedat.sandbox import Sandbox


def made_options(**settings: Any) -> Options:
    login = {"api_key": "k", "user": "u", "password": "p"}
    return Options.model_validate({"name": "loja", "system": "wisedat", "url": "http://vendor"} | login | settings)


def resource(name: str, **settings: Any) -> Resource:
    return {each.name: each for each in declared.resources(made_options(**settings))}[name]


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    """A company large enough to have every field filled, with one order that the API cannot show."""
    made: Sandbox = sandbox_module.create(seed=2, objects=40).state.sandbox
    made.books.withheld.add(made.books.tables["orders"][0].data["id"])
    return made


def test_everything_is_mirrored_by_default() -> None:
    assert table.NAMES == tuple(each.name for each in declared.resources(made_options()))


def test_the_configured_resources_are_mirrored_in_their_order() -> None:
    names = ("orders", "taxes", "company")

    assert names == tuple(each.name for each in declared.resources(made_options(resources=names)))


@pytest.mark.parametrize("row", table.TABLE, ids=lambda row: row.name)
def test_paged_resources_can_be_polled_and_fetched_and_others_are_unpaged(row: table.Row) -> None:
    found = resource(row.name, every="7m")

    assert row.key == found.key
    assert (row.paged, not row.paged) == (found.fetchable, found.unpaged)
    assert (timedelta(minutes=7) if row.paged else None) == found.every


def test_full_every_of_paged_resources_is_as_configured() -> None:
    assert timedelta(hours=6) == resource("orders", full_every="6h").full_every


@pytest.mark.parametrize(
    ("every", "full_every", "expected"),
    [
        ("5m", "24h", timedelta(hours=1)),
        ("2h", "24h", timedelta(hours=2)),
        ("2s", "8s", timedelta(seconds=8)),
        ("30m", "30m", timedelta(minutes=30)),
    ],
)
def test_unpaged_lists_are_read_once_an_hour_unless_the_intervals_are_longer_or_shorter(
    every: str, full_every: str, expected: timedelta
) -> None:
    found = resource("taxes", every=every, full_every=full_every)

    assert (expected, expected) == (found.full_every, found.bound)


@pytest.mark.parametrize(
    ("name", "expected"), [("products", timedelta(days=3, hours=2)), ("categories", timedelta(hours=2))]
)
def test_the_bound_includes_details_every_where_changes_are_only_in_the_detail(name: str, expected: timedelta) -> None:
    assert expected == resource(name, full_every="2h", details_every="3d").bound


def test_changing_images_starts_a_full_sync_of_resources_with_images() -> None:
    for name in table.NAMES:
        differs = resource(name, images="keep").selection != resource(name, images="hash").selection
        assert (name in {"products", "categories"}) == differs


# Shapes.


def _fields_shown(sandbox: Sandbox, found: Resource) -> Iterator[tuple[str, str, Any]]:
    """Part, path and value of every field of the resource's objects."""
    for raw in sandbox.truth(found.name).values():
        flat = flatten.flatten(found.project(raw), found.shape)
        rows = [("", flat.fields), *((row.part, row.fields) for row in flat.rows)]
        for part, fields in rows:
            yield from ((part, path, value) for path, value in fields.items())


def _has_declared_children(found: Resource, part: str, path: str) -> bool:
    """Whether the path itself is not a field: declared fields or a declared part are below it."""
    below = any(other.startswith(f"{path}.") for other in found.shape.get(part, {}))
    return below or (f"{part}.{path}" if part else path) in found.shape


@pytest.mark.parametrize("name", table.NAMES)
def test_every_field_that_the_vendor_shows_is_declared(sandbox: Sandbox, name: str) -> None:
    found = resource(name)

    undeclared = {
        (part, path)
        for part, path, value in _fields_shown(sandbox, found)
        if path not in found.shape.get(part, {})
        and not (value in (None, "", []) and _has_declared_children(found, part, path))
    }

    assert set() == undeclared


@pytest.mark.parametrize("name", table.NAMES)
def test_every_declared_field_exists_at_the_vendor(sandbox: Sandbox, name: str) -> None:
    found = resource(name)
    shown = {(part, path) for part, path, _ in _fields_shown(sandbox, found)}
    # It can be written to /customeraddresses; whether reads return it is not documented.
    shown |= {("addresses", "customer")} if name == "customers" else set()

    assert {(part, path) for part, fields in found.shape.items() for path in fields} <= shown


@pytest.mark.parametrize("name", table.NAMES)
def test_every_value_fits_its_declared_kind(sandbox: Sandbox, name: str) -> None:
    found = resource(name)

    misfits = {
        (part, path, value)
        for part, path, value in _fields_shown(sandbox, found)
        if (kind := found.shape.get(part, {}).get(path)) is not None
        and column_types.coerce(kind, value) is column_types.DOES_NOT_FIT
    }

    assert set() == misfits


@pytest.mark.parametrize("name", ["products", "categories"])
def test_images_that_are_kept_are_declared_as_sent(sandbox: Sandbox, name: str) -> None:
    found = resource(name, images="keep")
    books = sandbox.books

    for thing in books.tables[name]:
        flat = flatten.flatten(books.detail(name, thing), found.shape)
        assert "images" not in {row.part for row in flat.rows}
        for path in {"images", "image"} & set(flat.fields):
            assert column_types.DOES_NOT_FIT is not column_types.coerce(found.shape[""][path], flat.fields[path])
    assert {"products": Kind.JSON, "categories": Kind.TEXT}[name] in found.shape[""].values()


def test_key_fields_are_declared() -> None:
    for found in declared.resources(made_options()):
        assert set(found.key) <= set(found.shape[""])


@pytest.mark.parametrize(
    ("name", "part", "path", "kind"),
    [
        ("products", "", "id", Kind.NUMBER),
        ("products", "", "barcode", Kind.TEXT),
        ("products", "", "tax.exemption_reason.id", Kind.TEXT),
        ("products", "suppliers", "unit.id", Kind.TEXT),
        ("products", "images", "sha256", Kind.TEXT),
        ("products", "images", "size", Kind.NUMBER),
        ("categories", "", "image.sha256", Kind.TEXT),
        ("categories", "", "image.size", Kind.NUMBER),
        ("customers", "", "birthday", Kind.DATE),
        ("customers", "", "tax_id", Kind.TEXT),
        ("customers", "", "payment_method.description", Kind.TEXT),
        ("customers", "addresses", "country.iso_3166_1", Kind.TEXT),
        ("customers", "other_addresses", "type", Kind.TEXT),
        ("orders", "", "id", Kind.TEXT),
        ("orders", "", "date", Kind.DATE),
        ("orders", "", "expiration_date", Kind.DATE),
        ("orders", "", "closed", Kind.BOOLEAN),
        ("orders", "", "detail_unavailable", Kind.BOOLEAN),
        ("orders", "", "customer.shipping_address.country.name", Kind.TEXT),
        ("orders", "items", "product.name", Kind.TEXT),
        ("orders", "items", "quantity", Kind.NUMBER),
        ("countries", "", "iso_3166_1", Kind.TEXT),
        ("salesdocuments", "", "saft_invoice_type", Kind.NUMBER),
    ],
)
def test_a_field_has_the_documented_type(name: str, part: str, path: str, kind: Kind) -> None:
    assert kind == resource(name).shape[part][path]


# Notes.

_PRODUCT_TYPES = {1: "merchandise", 2: "service"}
_TAX_TYPES = {0: "exempt", 1: "reduced", 2: "intermediate", 3: "normal", 4: "no deduction"}
_DOCUMENT_TYPES = {0: "quotation request", 1: "quotation", 2: "order", 3: "stock", 4: "financial"}
_SAFT_TYPES = {
    -1: "no SAF-T",
    0: "FT invoice",
    1: "ND debit note",
    2: "NC credit note",
    3: "VD sale for cash",
    4: "TV sales ticket",
    5: "TD devolution ticket",
    6: "FS simplified invoice",
    7: "FR invoice-receipt",
}
_TRANSPORT_TYPES = {
    0: "GR goods delivery",
    1: "GT transport document",
    2: "GA transport document for own fixed assets",
    3: "GC consignment guide",
    4: "GD return note from customer",
}
_ITEM_TYPES = {
    1: "merchandise or service",
    2: "postage",
    3: "adjustment",
    4: "value discount on merchandise or service",
    5: "other value discount",
    6: "note",
}


@pytest.mark.parametrize(
    ("name", "part", "path", "values"),
    [
        ("products", "", "type", _PRODUCT_TYPES),
        ("products", "", "tax.type", _TAX_TYPES),
        ("taxes", "", "type", _TAX_TYPES),
        ("orders", "items", "type", _ITEM_TYPES),
        ("orders", "items", "product.type", _PRODUCT_TYPES),
        ("orders", "items", "tax.type", _TAX_TYPES),
        ("orders", "", "sales_document.document_type", _DOCUMENT_TYPES),
        ("orders", "", "sales_document.saft_invoice_type", _SAFT_TYPES),
        ("salesdocuments", "", "document_type", _DOCUMENT_TYPES),
        ("salesdocuments", "", "saft_invoice_type", _SAFT_TYPES),
        ("salesdocuments", "", "saft_invoice_type", _TRANSPORT_TYPES),
    ],
)
def test_the_note_of_an_enumeration_has_each_value(name: str, part: str, path: str, values: dict[int, str]) -> None:
    note = resource(name).notes[part][path]

    assert [] == [value for value, meaning in values.items() if not re.search(rf"(^|\W){value} {meaning}", note)]


@pytest.mark.parametrize("name", table.NAMES)
def test_every_numeric_field_named_type_has_a_note(name: str) -> None:
    found = resource(name)
    types = {
        (part, path)
        for part, fields in found.shape.items()
        for path, kind in fields.items()
        if kind == Kind.NUMBER and path.endswith("type")
    }

    assert set() == {(part, path) for part, path in types if path not in found.notes.get(part, {})}


@pytest.mark.parametrize(
    ("name", "part", "path", "word"),
    [
        ("salesmen", "", "commission", "percent"),
        ("customers", "", "salesman.commission", "percent"),
        ("customers", "", "birthday", "UTC"),
        ("customers", "addresses", "type", "Empresa"),
        ("series", "", "vat_cash_system", "Regime de IVA de caixa"),
        ("orders", "", "entity_discount", "percent"),
        ("orders", "", "subtotal", "merchandise"),
        ("orders", "", "canceled", "closed"),
        ("orders", "", "detail_unavailable", "mirror"),
        ("orders", "", "customer.country.iso_3166_1", "ISO 3166-1"),
        ("products", "categories", "id", "main"),
        ("customers", "", "code", "unique"),
    ],
)
def test_documented_units_and_meanings_are_in_notes(name: str, part: str, path: str, word: str) -> None:
    assert word in resource(name).notes[part][path]


def test_only_codes_that_are_unique_are_noted_so() -> None:
    assert "code" in resource("suppliers").notes[""]
    assert "main_supplier.code" not in resource("products").notes[""]
    assert "customer.code" not in resource("orders").notes[""]


@pytest.mark.parametrize("images", ["hash", "keep"])
def test_notes_belong_to_declared_fields_and_fit_a_column_comment(images: str) -> None:
    for found in declared.resources(made_options(images=images)):
        for part, notes in found.notes.items():
            assert set(notes) <= set(found.shape[part])
            assert all(0 < len(note) <= 500 for note in notes.values())


def test_everyday_edits_use_only_declared_fields() -> None:
    made: Sandbox = sandbox_module.create(seed=3).state.sandbox
    random = Random(3)
    for _ in range(60):
        made.edit(random)

    for found in declared.resources(made_options()):
        declared_paths = {(part, path) for part, fields in found.shape.items() for path in fields}
        shown = {(part, path) for part, path, value in _fields_shown(made, found) if value not in (None, "", [])}
        assert set() == shown - declared_paths
