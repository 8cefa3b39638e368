"""The two kinds of documents, and the columns of the purchase order that the vendor reads in either.

Types are from the vendor's DTO tables (Interpreter API, Classes), not from its sample response, which quotes some
numbers and booleans and has meaningless values.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from models.values import JsonObject, Kind, Notes, Shape
from workers.connectors import objects
from workers.connectors.contract import Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from workers.connectors.interpreter.options import Options

_SCAN_WITHOUT_FOLDER = timedelta(hours=24)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INTEGER = re.compile("-?[0-9]{1,18}")


def _fields_of(kind: Kind, fields: str) -> dict[str, Kind]:
    return dict.fromkeys(fields.split(), kind)


_ORDER = (
    _fields_of(
        Kind.NUMBER,
        "id storeId supplierId productCount state customerOrderId productionOrderId orderValue orderValueStore",
    )
    | _fields_of(
        Kind.TEXT,
        "poReference supplierName paymentTerms paymentTermsDescription deliveryTerms deliveryTermsDescription "
        "deliveryContact deliveryCompany deliveryPhone deliveryAddress deliveryAddress2 deliveryCity deliveryZip "
        "deliveryCountry contactPerson contactEmail supplierOrderId message comment deliveryNoteId "
        "externalInvoiceReference goodsMarking orderValueCurrency stateLabel",
    )
    | _fields_of(Kind.INSTANT, "orderSentDate deliveryDate confirmedDeliveryDate deliveredDate")
    | _fields_of(Kind.BOOLEAN, "isPickNPack")
)
_ARTICLE = (
    _fields_of(
        Kind.NUMBER,
        "id orderedAmount deliveredAmount availableAmount stockWarning purchasePrice purchasePriceMisc "
        "purchasePriceShipment rate batchCount",
    )
    | _fields_of(
        Kind.TEXT,
        "articleId articleName supplierArticleId barcode barcodeType description unit type orderedAmountWithUnits",
    )
    | _fields_of(Kind.BOOLEAN, "stock")
)
_BATCH = (
    _fields_of(Kind.TEXT, "batchId serialNr")
    | _fields_of(Kind.NUMBER, "orderedAmount deliveredAmount")
    | _fields_of(Kind.INSTANT, "bestBefore")
)
_UNIT = _fields_of(Kind.NUMBER, "storegroupId convert unit.id") | _fields_of(
    Kind.TEXT, "articleId barcode unit.externalId unit.name"
)
_SHAPE: Shape = {"": _ORDER, "articles": _ARTICLE, "articles.batches": _BATCH, "articles.units": _UNIT}

_ADDRESS = ("name", "attention", "address1", "postalCode", "city", "country", "phone")
_HINTS: Shape = {
    "": {f"{end}.{field}": Kind.TEXT for end in ("deliveryFrom", "deliveryTo") for field in _ADDRESS},
}
"""Documented in another edition of the vendor's page; it is not known which edition is correct."""

_DATE = "milliseconds since 1970 at the vendor, UTC here"
_NOTES: Notes = {
    "": {
        "id": "the purchase order; whether it is stored at the vendor or only proposed is not documented",
        "poReference": "unique",
        "state": "0 new, 1 sent, 2 received, 3 finished, 4 cancelled",
        "stateLabel": "the name of the state, by erpmirror; empty for a state that is not documented",
        "orderSentDate": _DATE,
        "deliveryDate": _DATE,
        "confirmedDeliveryDate": _DATE,
        "deliveredDate": _DATE,
        "paymentTerms": "code",
        "deliveryTerms": "code",
        "orderValue": "in the supplier's currency",
        "orderValueCurrency": "the supplier's currency",
        "orderValueStore": "in the store's currency",
    },
    "articles": {
        "id": "the vendor's id of the row",
        "articleId": "missing: a free-text row with nothing but articleName",
        "articleName": "of the article, or the text of a free-text row",
        "barcodeType": "EAN, CODE128, QR or UPC",
        "type": "Stock: a physical product; Service: work, without an amount in stock",
        "stock": "true: in stock; false: to be ordered from the supplier",
        "orderedAmountWithUnits": "the best choice of packages, as text",
        "batchCount": "number of batches, by erpmirror; empty: no list was sent, so batches do not apply",
    },
    "articles.batches": {
        "batchId": "this or serialNr is set",
        "serialNr": "this or batchId is set",
        "bestBefore": _DATE,
    },
    "articles.units": {"convert": "conversion coefficient between the unit and the article's base unit"},
}
"""After Interpreter API, Classes, except where a note says by erpmirror."""

_STATES = {"0": "new", "1": "sent", "2": "received", "3": "finished", "4": "cancelled"}


def resources(options: Options) -> tuple[Resource, ...]:
    """The configured kinds of documents."""
    return tuple(_resource(name, options) for name in dict.fromkeys(options.resources))


def _resource(name: str, options: Options) -> Resource:
    # Only a scan of the folder finds a new document in it, so the time between scans is the bound.
    scan_every = _SCAN_WITHOUT_FOLDER if options.inbox is None else options.every
    return Resource(
        name=name,
        key=("sha256",),
        full_every=scan_every,
        bound=scan_every,
        fetchable=False,
        handed_in=True,
        shape=_SHAPE,
        hints=_HINTS,
        notes=_NOTES,
        project=project,
    )


def project(raw: JsonObject) -> JsonObject:
    """The answer in the form that columns are made from.

    Field names take the documented case. Dates become ISO text, `stateLabel` names the state, each article gets a
    `batchCount` (None: no list, 0: an empty list), and a unit that is only an id becomes an object.
    """
    order = _typed(raw, _ORDER, other=("articles",))
    order["articles"] = _each(order.get("articles"), _article)
    return {"stateLabel": _STATES.get(str(order.get("state")))} | order


def _article(raw: JsonObject) -> JsonObject:
    article = _typed(raw, _ARTICLE, other=("batches", "units"))
    batches = article.get("batches")
    article["batches"] = _each(batches, lambda batch: _typed(batch, _BATCH))
    article["units"] = _each(article.get("units"), _unit)
    return {"batchCount": len(batches) if isinstance(batches, list) else None} | article


def _unit(raw: JsonObject) -> JsonObject:
    unit_row = _typed(raw, _UNIT, other=("unit",))
    unit = unit_row.get("unit")
    if isinstance(unit, dict):
        unit_row["unit"] = objects.with_documented_names(unit, ("id", "externalId", "name"))
    elif unit is not None:
        unit_row["unit"] = {"id": unit}
    return unit_row


def _each(rows: Any, convert: Callable[[JsonObject], JsonObject]) -> Any:
    """Convert every object of a list; anything else stays unchanged."""
    return [convert(row) if isinstance(row, dict) else row for row in rows] if isinstance(rows, list) else rows


def _typed(raw: JsonObject, kinds: Mapping[str, Kind], *, other: Iterable[str] = ()) -> JsonObject:
    """A copy with the documented names, and with dates as ISO text; columns read the other types as they are."""
    result = objects.with_documented_names(raw, (*kinds, *other))
    return {name: _instant(value) if kinds.get(name) is Kind.INSTANT else value for name, value in result.items()}


def _instant(value: Any) -> Any:
    """Convert milliseconds since 1970 to ISO text in UTC; anything else stays unchanged."""
    milliseconds = int(value) if _is_integer(value) else None
    if milliseconds is None:
        return value
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return value
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_integer(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value == value.to_integral_value() and abs(value) < Decimal(10) ** 18
    return isinstance(value, int | str) and not isinstance(value, bool) and bool(_INTEGER.fullmatch(str(value)))
