"""The resources of a Wisedat connection: intervals, and all documented fields with their types and meanings.

Source of the fields, their meanings and enumerations: Wisedat API 1.3, the `Get` of each section.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from models.values import Kind, Notes, Shape
from workers.connectors.contract import ROW, Resource
from workers.connectors.wisedat import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.connectors.wisedat.options import Options

_SMALL_LIST_EVERY = timedelta(hours=1)

_Fields = dict[str, tuple[Kind, str]]
"""Dotted path -> type and note; an empty text for no note."""


def resources(options: Options) -> tuple[Resource, ...]:
    """The configured resources, in the order of the settings."""
    return tuple(_resource(table.ROWS[name], options) for name in dict.fromkeys(options.resources))


def _resource(row: table.Row, options: Options) -> Resource:
    parts = _parts(row.name, keep_images=options.keeps_images)
    # Unpaged lists cannot be filtered by modification time, so each sync reads them completely, and they hardly ever
    # change. Once an hour keeps the load low on a server that handles one request at a time, and is fine for tax rates.
    full_every = options.full_every if row.paged else min(options.full_every, max(options.every, _SMALL_LIST_EVERY))
    key = options.keys.get(row.name, row.key)
    selection = [f"images={options.images}"] if row.name in _WITH_IMAGES else []
    selection += [f"keys={key}"] if row.name in options.keys else []
    return Resource(
        name=row.name,
        key=row.key if isinstance(key, str) else key,
        optional_key=() if isinstance(key, str) else key[1:],
        keyed_by_row=key == ROW,
        register=key == ROW,
        every=options.every if row.paged else None,
        full_every=full_every,
        # Only a full sync finds hard deletions. Some changes are only in the detail, which the first full sync after
        # `details_every` fetches.
        bound=full_every + options.details_every if row.detail else full_every,
        fetchable=row.paged,
        summaries=row.detail,
        unpaged=not row.paged,
        selection=" ".join(selection),
        shape=_shape(parts),
        notes=_notes(parts),
    )


def _shape(parts: Mapping[str, _Fields]) -> Shape:
    return {part: {path: kind for path, (kind, _) in fields.items()} for part, fields in parts.items()}


def _notes(parts: Mapping[str, _Fields]) -> Notes:
    by_part = {part: {path: note for path, (_, note) in fields.items() if note} for part, fields in parts.items()}
    return {part: notes for part, notes in by_part.items() if notes}


def _parts(name: str, *, keep_images: bool) -> dict[str, _Fields]:
    """The fields by part; "" is the object itself."""
    parts = _PARTS[name]
    if name in _WITH_IMAGES:
        image_fields = _WITH_IMAGES[name](keep_images)
        parts = parts | {part: parts.get(part, {}) | fields for part, fields in image_fields.items()}
    return parts


def _fields(kind: Kind, names: str) -> _Fields:
    return dict.fromkeys(names.split(), (kind, ""))


def _text(names: str) -> _Fields:
    return _fields(Kind.TEXT, names)


def _number(names: str) -> _Fields:
    return _fields(Kind.NUMBER, names)


def _boolean(names: str) -> _Fields:
    return _fields(Kind.BOOLEAN, names)


def _with_notes(fields: _Fields, /, **notes: str) -> _Fields:
    return fields | {name: (fields[name][0], note) for name, note in notes.items()}


def _nested(name: str, fields: _Fields) -> _Fields:
    return {f"{name}.{path}": field for path, field in fields.items()}


# Fields that several resources share.

_ACTIVE = _with_notes(_boolean("active"), active="false: hidden in the vendor's lists by default")
_UNIQUE_CODE = _with_notes(_text("code"), code="unique")
_PERCENT = "percent, 0 to 100"
_CODE_LIST_ROW = _text("id description")
_COUNTRY = _with_notes(_text("iso_3166_1 name"), iso_3166_1="ISO 3166-1 code")
_PLACE = _with_notes(
    _text("street city postal_code postal_code_location"),
    postal_code="in Portugal four digits, '-', three digits (000 if unknown)",
) | _nested("country", _COUNTRY)
_SITE = _PLACE | _text("phone fax")
_ADDRESS = _SITE | _text("region")
_TYPED_ADDRESS = _ADDRESS | _with_notes(
    _text("type"), type="unique for the customer; Empresa: the billing address, Entrega: the shipping address"
)
_TAX_ID = _with_notes(_text("tax_id"), tax_id="in Portugal the NIF")
_PARTNER = _number("id") | _text("code name") | _TAX_ID | _ACTIVE
_SALESMAN = _PARTNER | _with_notes(_number("commission"), commission=_PERCENT)
_CURRENCY = _CODE_LIST_ROW | _text("symbol") | _number("decimal_cases")
_PRODUCT_TYPE = _with_notes(_number("type"), type="1 merchandise, 2 service")
_TAX = (
    _CODE_LIST_ROW
    | _with_notes(
        _number("value type"),
        value=f"{_PERCENT}; 0 if and only if the type is 0 or 4",
        type="0 exempt, 1 reduced, 2 intermediate, 3 normal, 4 no deduction",
    )
    | _nested("exemption_reason", _CODE_LIST_ROW)
)
_SERIES = (
    _CODE_LIST_ROW
    | _with_notes(_boolean("vat_cash_system"), vat_cash_system="whether the series is under “Regime de IVA de caixa”")
    | _boolean("active")
)
_SALES_DOCUMENT = (
    _CODE_LIST_ROW
    | _with_notes(_text("default_series"), default_series="id of a series")
    | _with_notes(
        _number("document_type saft_invoice_type"),
        document_type="0 quotation request (work), 1 quotation, 2 order, 3 stock or transfer (mov), 4 financial (inv)",
        saft_invoice_type=(
            "-1 no SAF-T; else by document_type: 0 and 1: 0 conference document; 3: 0 GR goods delivery, "
            "1 GT transport document, 2 GA transport document for own fixed assets, 3 GC consignment guide, "
            "4 GD return note from customer; 4: 0 FT invoice, 1 ND debit note, 2 NC credit note, 3 VD sale for cash, "
            "4 TV sales ticket, 5 TD devolution ticket, 6 FS simplified invoice, 7 FR invoice-receipt"
        ),
    )
    | _boolean("active")
)
_PARENT = _with_notes(_number("id_parent"), id_parent="id of the parent category")
_CATEGORY = _number("id") | _PARENT | _text("name short_name")
_PERSON = _UNIQUE_CODE | _text("email phone notes") | _nested("country", _COUNTRY)

# The resources.

_COMPANY = (
    _text("id name")
    | _TAX_ID
    | _nested("address", _ADDRESS)
    | _nested("currency", _CURRENCY)
    | _nested("alt_currency", _CURRENCY)
)
_PRODUCT = (
    _number("id price current_stock net_weight gross_weight volume delivery_time")
    | _with_notes(_text("name barcode"), name="unique", barcode="unique")
    | _text("description brief_description commercial_description notes")
    | _PRODUCT_TYPE
    | _ACTIVE
    | _nested("tax", _TAX)
    | _nested("unit", _CODE_LIST_ROW)
    | _nested("main_supplier", _PARTNER)
)
_CUSTOMER = (
    _PARTNER
    | _PERSON
    | _text("website")
    | {"birthday": (Kind.DATE, "a UTC date")}
    | _nested("payment_method", _CODE_LIST_ROW)
    | _nested("payment_condition", _CODE_LIST_ROW)
    | _nested("delivery_method", _CODE_LIST_ROW)
    | _nested("currency", _CURRENCY)
    | _nested("salesman", _SALESMAN)
    | _nested("billing_address", _ADDRESS)
    | _nested("shipping_address", _ADDRESS)
)
_ORDER_AMOUNTS = _with_notes(
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
    | _nested("country", _COUNTRY)
    | _nested("billing_address", _ADDRESS)
    | _nested("shipping_address", _ADDRESS)
)
_ORDER = (
    _text("id your_reference notes vehicle_plate hash hash_control")
    | _with_notes(
        _text("alternate_billing_address alternate_shipping_address"),
        alternate_billing_address="type of the customer's address that is billed instead",
        alternate_shipping_address="type of the customer's address that is delivered to instead",
    )
    | _with_notes(_fields(Kind.DATE, "date expiration_date"), date="a UTC date", expiration_date="a UTC date")
    | _with_notes(
        _boolean("canceled closed"),
        canceled="a closed order is canceled; an open one is deleted",
        closed="true: can no longer be modified, only canceled",
    )
    | _with_notes(
        _boolean("detail_unavailable"),
        detail_unavailable="true: another application edited the order into a form that the API cannot show; "
        "these are the fields of the list. Set by the mirror",
    )
    | _ORDER_AMOUNTS
    | _nested("customer", _ORDER_CUSTOMER)
    | _nested("series", _SERIES)
    | _nested("salesman", _SALESMAN)
    | _nested("delivery_method", _CODE_LIST_ROW)
    | _nested("payment_condition", _CODE_LIST_ROW)
    | _nested("payment_method", _CODE_LIST_ROW)
    | _nested("sales_document", _SALES_DOCUMENT)
    | _nested("currency", _CURRENCY)
    | _nested("loading_location", _PLACE)
    | _nested("unloading_location", _PLACE)
)
_ITEM = (
    _number("price quantity")
    | _text("description")
    | _with_notes(
        _number("discount warehouse type"),
        discount=f"{_PERCENT}; of type 1 only",
        warehouse="id of the warehouse; of type 1 only",
        type="1 merchandise or service, 2 postage, 3 adjustment, 4 value discount on merchandise or service, "
        "5 other value discount, 6 note",
    )
    # The document declares the product's name as int here, but it is the product's text name.
    | _nested("product", _number("id") | _text("name barcode") | _PRODUCT_TYPE | _nested("unit", _CODE_LIST_ROW))
    | _nested("tax", _TAX)
)

_PARTS: dict[str, dict[str, _Fields]] = {
    "company": {"": _COMPANY},
    "products": {
        "": _PRODUCT,
        "categories": _with_notes(_CATEGORY, id="the first category is the main one"),
        "stocks": _with_notes(
            _number("id_warehouse id_location id_lot current_stock reserved_stock"), id_warehouse="id of the warehouse"
        ),
        "suppliers": _number("id cost_price") | _nested("unit", _CODE_LIST_ROW),
    },
    "categories": {"": _CATEGORY},
    "customers": {
        "": _CUSTOMER,
        "other_addresses": _TYPED_ADDRESS,
        # The reply of /customeraddresses is not documented, so these are the fields that can be written there.
        "addresses": _number("customer") | _TYPED_ADDRESS,
    },
    "salesmen": {"": _SALESMAN | _PERSON | _nested("address", _ADDRESS)},
    "suppliers": {"": _PARTNER | _PERSON | _nested("address", _ADDRESS)},
    "orders": {"": _ORDER, "items": _ITEM},
    "taxes": {"": _TAX},
    "units": {"": _CODE_LIST_ROW},
    "series": {"": _SERIES},
    "warehouses": {"": _number("id") | _UNIQUE_CODE | _text("description") | _nested("address", _SITE)},
    "currencies": {"": _CURRENCY},
    "countries": {"": _COUNTRY},
    "deliverymethods": {"": _CODE_LIST_ROW},
    "exemptionreasons": {"": _CODE_LIST_ROW},
    "paymentconditions": {"": _CODE_LIST_ROW},
    "paymentmethods": {"": _CODE_LIST_ROW},
    "salesdocuments": {"": _SALES_DOCUMENT},
}

_DIGEST = _with_notes(_text("sha256"), sha256="of the image, in lower-case hex") | _with_notes(
    _number("size"), size="bytes"
)


def _product_images(keep: bool) -> dict[str, _Fields]:  # noqa: FBT001 - called through _WITH_IMAGES
    return {"": {"images": (Kind.JSON, "Base64")}} if keep else {"images": _DIGEST}


def _category_image(keep: bool) -> dict[str, _Fields]:  # noqa: FBT001 - called through _WITH_IMAGES
    return {"": {"image": (Kind.TEXT, "Base64")} if keep else _nested("image", _DIGEST)}


_WITH_IMAGES = {"products": _product_images, "categories": _category_image}
