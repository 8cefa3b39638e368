"""Wisedat's resources as an account has them, with every field that the vendor documents and what its values mean.

Fields, their meaning and their enumerations: Wisedat API 1.3, the `Get` of each section, its richest answer.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from models.values import Kind, Notes, Shape
from workers.connectors.contract import Resource
from workers.connectors.wisedat import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.connectors.wisedat.options import Options

KEEP = "keep"
"""The value of the setting `images` under which Base64 texts are mirrored as sent; else their digest and size are."""

_SMALL_LIST_EVERY = timedelta(hours=1)

_Fields = dict[str, tuple[Kind, str]]
"""Dotted path -> kind and note; no note is the empty text."""


def resources(options: Options) -> tuple[Resource, ...]:
    """The configured resources, in the order of the settings."""
    return tuple(_resource(table.ROWS[name], options) for name in dict.fromkeys(options.resources))


def _resource(row: table.Row, options: Options) -> Resource:
    parts = _parts(row.name, keep_images=options.images == KEEP)
    # Short lists have no "since": each look reads them whole, though they hardly ever change. Once an hour is seldom
    # enough for a server that answers one request at a time, and often enough for a tax rate.
    full_every = options.full_every if row.paged else min(options.full_every, max(options.every, _SMALL_LIST_EVERY))
    return Resource(
        name=row.name,
        key=row.key,
        every=options.every if row.paged else None,
        full_every=full_every,
        # A hard deletion shows in a full listing alone, and some changes not even there: only in the detail, which the
        # first listing after `details_every` asks for.
        bound=full_every + options.details_every if row.detail else full_every,
        points=row.paged,
        summaries=row.detail,
        unpaged=not row.paged,
        selection=f"images={options.images}" if row.name in _WITH_IMAGES else "",
        shape=_shape(parts),
        notes=_notes(parts),
    )


def _shape(parts: Mapping[str, _Fields]) -> Shape:
    return {part: {path: kind for path, (kind, _) in fields.items()} for part, fields in parts.items()}


def _notes(parts: Mapping[str, _Fields]) -> Notes:
    noted = {part: {path: note for path, (_, note) in fields.items() if note} for part, fields in parts.items()}
    return {part: notes for part, notes in noted.items() if notes}


def _parts(name: str, *, keep_images: bool) -> dict[str, _Fields]:
    """Part -> its fields, "" for the object itself."""
    parts = _PARTS[name]
    if name in _WITH_IMAGES:
        pictures = _WITH_IMAGES[name](keep_images)
        parts = parts | {part: parts.get(part, {}) | fields for part, fields in pictures.items()}
    return parts


def _of(kind: Kind, names: str) -> _Fields:
    return dict.fromkeys(names.split(), (kind, ""))


def _text(names: str) -> _Fields:
    return _of(Kind.TEXT, names)


def _number(names: str) -> _Fields:
    return _of(Kind.NUMBER, names)


def _yes_or_no(names: str) -> _Fields:
    return _of(Kind.BOOLEAN, names)


def _noted(fields: _Fields, /, **notes: str) -> _Fields:
    return fields | {name: (fields[name][0], note) for name, note in notes.items()}


def _under(name: str, fields: _Fields) -> _Fields:
    return {f"{name}.{path}": field for path, field in fields.items()}


# What several resources have in common.

_ACTIVE = _noted(_yes_or_no("active"), active="false: hidden in the vendor's lists by default")
_UNIQUE_CODE = _noted(_text("code"), code="unique")
_PERCENT = "percent, 0 to 100"
_DESCRIBED = _text("id description")
_COUNTRY = _noted(_text("iso_3166_1 name"), iso_3166_1="ISO 3166-1 code")
_PLACE = _noted(
    _text("street city postal_code postal_code_location"),
    postal_code="in Portugal four digits, '-', three digits (000 if unknown)",
) | _under("country", _COUNTRY)
_SITE = _PLACE | _text("phone fax")
_ADDRESS = _SITE | _text("region")
_TYPED_ADDRESS = _ADDRESS | _noted(
    _text("type"), type="unique for the customer; Empresa: the billing address, Entrega: the shipping address"
)
_TAX_ID = _noted(_text("tax_id"), tax_id="in Portugal the NIF")
_PARTNER = _number("id") | _text("code name") | _TAX_ID | _ACTIVE
_SALESMAN = _PARTNER | _noted(_number("commission"), commission=_PERCENT)
_CURRENCY = _DESCRIBED | _text("symbol") | _number("decimal_cases")
_PRODUCT_TYPE = _noted(_number("type"), type="1 merchandise, 2 service")
_TAX = (
    _DESCRIBED
    | _noted(
        _number("value type"),
        value=f"{_PERCENT}; 0 if and only if the type is 0 or 4",
        type="0 exempt, 1 reduced, 2 intermediate, 3 normal, 4 no deduction",
    )
    | _under("exemption_reason", _DESCRIBED)
)
_SERIES = (
    _DESCRIBED
    | _noted(_yes_or_no("vat_cash_system"), vat_cash_system="whether the series is under “Regime de IVA de caixa”")
    | _yes_or_no("active")
)
_SALES_DOCUMENT = (
    _DESCRIBED
    | _noted(_text("default_series"), default_series="id of a series")
    | _noted(
        _number("document_type saft_invoice_type"),
        document_type="0 quotation request (work), 1 quotation, 2 order, 3 stock or transfer (mov), 4 financial (inv)",
        saft_invoice_type=(
            "-1 no SAF-T; else by document_type: 0 and 1: 0 conference document; 3: 0 GR goods delivery, "
            "1 GT transport document, 2 GA transport document for own fixed assets, 3 GC consignment guide, "
            "4 GD return note from customer; 4: 0 FT invoice, 1 ND debit note, 2 NC credit note, 3 VD sale for cash, "
            "4 TV sales ticket, 5 TD devolution ticket, 6 FS simplified invoice, 7 FR invoice-receipt"
        ),
    )
    | _yes_or_no("active")
)
_PARENT = _noted(_number("id_parent"), id_parent="the category that it is in")
_CATEGORY = _number("id") | _PARENT | _text("name short_name")
_PERSON = _UNIQUE_CODE | _text("email phone notes") | _under("country", _COUNTRY)

# The resources.

_COMPANY = (
    _text("id name")
    | _TAX_ID
    | _under("address", _ADDRESS)
    | _under("currency", _CURRENCY)
    | _under("alt_currency", _CURRENCY)
)
_PRODUCT = (
    _number("id price current_stock net_weight gross_weight volume delivery_time")
    | _noted(_text("name barcode"), name="unique", barcode="unique")
    | _text("description brief_description commercial_description notes")
    | _PRODUCT_TYPE
    | _ACTIVE
    | _under("tax", _TAX)
    | _under("unit", _DESCRIBED)
    | _under("main_supplier", _PARTNER)
)
_CUSTOMER = (
    _PARTNER
    | _PERSON
    | _text("website")
    | {"birthday": (Kind.DATE, "a UTC date")}
    | _under("payment_method", _DESCRIBED)
    | _under("payment_condition", _DESCRIBED)
    | _under("delivery_method", _DESCRIBED)
    | _under("currency", _CURRENCY)
    | _under("salesman", _SALESMAN)
    | _under("billing_address", _ADDRESS)
    | _under("shipping_address", _ADDRESS)
)
_ORDER_AMOUNTS = _noted(
    _number(
        "exchange_rate merchandise postage discounts subtotal taxes adjustment total entity_discount financial_discount"
    ),
    exchange_rate="of a currency that is not the company's",
    merchandise="total of the items of type 1",
    postage="total of the items of type 2",
    adjustment="total of the items of type 3",
    discounts="total of the items of types 4 and 5",
    subtotal="merchandise + postage - discounts",
    taxes="total of the items' taxes; every type but 3 and 6 has them",
    total="subtotal + taxes - adjustment",
    entity_discount=_PERCENT,
    financial_discount=_PERCENT,
)
_ORDER_CUSTOMER = (
    _PARTNER
    | _text("email phone")
    | _under("country", _COUNTRY)
    | _under("billing_address", _ADDRESS)
    | _under("shipping_address", _ADDRESS)
)
_ORDER = (
    _text("id your_reference notes vehicle_plate hash hash_control")
    | _noted(
        _text("alternate_billing_address alternate_shipping_address"),
        alternate_billing_address="type of the customer's address that is billed instead",
        alternate_shipping_address="type of the customer's address that is delivered to instead",
    )
    | _noted(_of(Kind.DATE, "date expiration_date"), date="a UTC date", expiration_date="a UTC date")
    | _noted(
        _yes_or_no("canceled closed"),
        canceled="a closed order is canceled; an open one is deleted",
        closed="true: can no longer be modified, only canceled",
    )
    | _noted(
        _yes_or_no("detail_unavailable"),
        detail_unavailable="true: another application edited the order into a form that the API cannot show; "
        "these are the fields of the list. Set by the mirror",
    )
    | _ORDER_AMOUNTS
    | _under("customer", _ORDER_CUSTOMER)
    | _under("series", _SERIES)
    | _under("salesman", _SALESMAN)
    | _under("delivery_method", _DESCRIBED)
    | _under("payment_condition", _DESCRIBED)
    | _under("payment_method", _DESCRIBED)
    | _under("sales_document", _SALES_DOCUMENT)
    | _under("currency", _CURRENCY)
    | _under("loading_location", _PLACE)
    | _under("unloading_location", _PLACE)
)
_ITEM = (
    _number("price quantity")
    | _text("description")
    | _noted(
        _number("discount warehouse type"),
        discount=f"{_PERCENT}; of type 1 only",
        warehouse="id of the warehouse; of type 1 only",
        type="1 merchandise or service, 2 postage, 3 adjustment, 4 value discount on merchandise or service, "
        "5 other value discount, 6 note",
    )
    # The document calls the product's name an int; it is the same name as the product's own.
    | _under("product", _number("id") | _text("name barcode") | _PRODUCT_TYPE | _under("unit", _DESCRIBED))
    | _under("tax", _TAX)
)

_PARTS: dict[str, dict[str, _Fields]] = {
    "company": {"": _COMPANY},
    "products": {
        "": _PRODUCT,
        "categories": _noted(_CATEGORY, id="the first category is the main one"),
        "stocks": _noted(
            _number("id_warehouse id_location id_lot current_stock reserved_stock"), id_warehouse="id of the warehouse"
        ),
        "suppliers": _number("id cost_price") | _under("unit", _DESCRIBED),
    },
    "categories": {"": _CATEGORY},
    "customers": {
        "": _CUSTOMER,
        "other_addresses": _TYPED_ADDRESS,
        # /customeraddresses, whose answer is not documented: the fields that may be written there.
        "addresses": _number("customer") | _TYPED_ADDRESS,
    },
    "salesmen": {"": _SALESMAN | _PERSON | _under("address", _ADDRESS)},
    "suppliers": {"": _PARTNER | _PERSON | _under("address", _ADDRESS)},
    "orders": {"": _ORDER, "items": _ITEM},
    "taxes": {"": _TAX},
    "units": {"": _DESCRIBED},
    "series": {"": _SERIES},
    "warehouses": {"": _number("id") | _UNIQUE_CODE | _text("description") | _under("address", _SITE)},
    "currencies": {"": _CURRENCY},
    "countries": {"": _COUNTRY},
    "deliverymethods": {"": _DESCRIBED},
    "exemptionreasons": {"": _DESCRIBED},
    "paymentconditions": {"": _DESCRIBED},
    "paymentmethods": {"": _DESCRIBED},
    "salesdocuments": {"": _SALES_DOCUMENT},
}

_DIGEST = _noted(_text("sha256"), sha256="of the image, in lower-case hex") | _noted(_number("size"), size="bytes")


def _product_images(keep: bool) -> dict[str, _Fields]:  # noqa: FBT001 - called through the table below
    return {"": {"images": (Kind.JSON, "Base64")}} if keep else {"images": _DIGEST}


def _category_image(keep: bool) -> dict[str, _Fields]:  # noqa: FBT001 - likewise
    return {"": {"image": (Kind.TEXT, "Base64")} if keep else _under("image", _DIGEST)}


_WITH_IMAGES = {"products": _product_images, "categories": _category_image}
