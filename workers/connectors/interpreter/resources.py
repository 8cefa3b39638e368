"""The two kinds of documents, and the columns of the purchase order that is read in either.

Types are those of the vendor's DTO tables (Interpreter API, Classes): his sample shows numbers and booleans in quotes
beside plain ones, and what it is filled with means nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from models.values import JsonObject, Kind, Notes, Shape
from workers.connectors.contract import Resource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from workers.connectors.interpreter.options import Options

_NO_FOLDER = timedelta(hours=24)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WHOLE = re.compile("-?[0-9]{1,18}")
_JAVAS_DOUBLE = re.compile(r"-?[0-9]\.[0-9]+E-?[0-9]{1,3}")


def _kinds(kind: Kind, fields: str) -> dict[str, Kind]:
    return dict.fromkeys(fields.split(), kind)


_ORDER = (
    _kinds(
        Kind.NUMBER,
        "id storeId supplierId productCount state customerOrderId productionOrderId orderValue orderValueStore",
    )
    | _kinds(
        Kind.TEXT,
        "poReference supplierName paymentTerms paymentTermsDescription deliveryTerms deliveryTermsDescription "
        "deliveryContact deliveryCompany deliveryPhone deliveryAddress deliveryAddress2 deliveryCity deliveryZip "
        "deliveryCountry contactPerson contactEmail supplierOrderId message comment deliveryNoteId "
        "externalInvoiceReference goodsMarking orderValueCurrency stateLabel",
    )
    | _kinds(Kind.INSTANT, "orderSentDate deliveryDate confirmedDeliveryDate deliveredDate")
    | _kinds(Kind.BOOLEAN, "isPickNPack")
)
_ARTICLE = (
    _kinds(
        Kind.NUMBER,
        "id orderedAmount deliveredAmount availableAmount stockWarning purchasePrice purchasePriceMisc "
        "purchasePriceShipment rate batchCount",
    )
    | _kinds(
        Kind.TEXT,
        "articleId articleName supplierArticleId barcode barcodeType description unit type orderedAmountWithUnits",
    )
    | _kinds(Kind.BOOLEAN, "stock")
)
_BATCH = (
    _kinds(Kind.TEXT, "batchId serialNr")
    | _kinds(Kind.NUMBER, "orderedAmount deliveredAmount")
    | _kinds(Kind.INSTANT, "bestBefore")
)
_UNIT = _kinds(Kind.NUMBER, "storegroupId convert unit.id") | _kinds(
    Kind.TEXT, "articleId barcode unit.externalId unit.name"
)
_SHAPE: Shape = {"": _ORDER, "articles": _ARTICLE, "articles.batches": _BATCH, "articles.units": _UNIT}

_ADDRESS = ("name", "attention", "address1", "postalCode", "city", "country", "phone")
_HINTS: Shape = {
    "": {f"{end}.{field}": Kind.TEXT for end in ("deliveryFrom", "deliveryTo") for field in _ADDRESS},
}
"""Another edition of the vendor's page documents these; which of the two is true is not known."""

_DATE = "milliseconds since 1970 at the vendor, UTC here"
_NOTES: Notes = {
    "": {
        "id": "the purchase order; whether it is stored at the vendor or only proposed is not documented",
        "poReference": "unique",
        "state": "0 new, 1 sent, 2 received, 3 finished, 4 cancelled",
        "stateLabel": "the word for state, by erpmirror; empty for a state that is not documented",
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
        "id": "of the row, by the vendor",
        "articleId": "missing: a free-text row, of which only articleName counts",
        "articleName": "of the article, or the text of a free-text row",
        "barcodeType": "EAN, CODE128, QR or UPC",
        "type": "Stock: a physical product; Service: work, without an amount in stock",
        "stock": "true: in stock; false: to be ordered from the supplier",
        "orderedAmountWithUnits": "the best choice of packages, as text",
        "batchCount": "how many batches were sent, by erpmirror; empty: the vendor sent none, which is not applicable",
    },
    "articles.batches": {
        "batchId": "this or serialNr is set",
        "serialNr": "this or batchId is set",
        "bestBefore": _DATE,
    },
    "articles.units": {"convert": "conversion coefficient between the unit and the article's base unit"},
}
"""In the vendor's words (Interpreter API, Classes), but for what is said to be ours."""

_STATES = {"0": "new", "1": "sent", "2": "received", "3": "finished", "4": "cancelled"}


def resources(options: Options) -> tuple[Resource, ...]:
    """What the connection hands in, by kind."""
    return tuple(_resource(name, options) for name in dict.fromkeys(options.resources))


def _resource(name: str, options: Options) -> Resource:
    # Nothing but a look at the folder can find a document that nobody told us of, hence the bound.
    look = _NO_FOLDER if options.inbox is None else options.every
    return Resource(
        name=name,
        key=("sha256",),
        full_every=look,
        bound=look,
        points=False,
        handed_in=True,
        shape=_SHAPE,
        hints=_HINTS,
        notes=_NOTES,
        project=project,
    )


def project(raw: JsonObject) -> JsonObject:
    """The answer as columns see it.

    Names that differ only in case from the documented ones are those. Dates become ISO text, a state gets its word,
    an article its `batchCount` (None: not applicable, 0: an empty list), a unit that is only an id an object with it.
    """
    order = _typed(raw, _ORDER, also=("articles",))
    order["articles"] = _each(order.get("articles"), _article)
    return {"stateLabel": _STATES.get(str(order.get("state")))} | order


def _article(raw: JsonObject) -> JsonObject:
    article = _typed(raw, _ARTICLE, also=("batches", "units"))
    batches = article.get("batches")
    article["batches"] = _each(batches, lambda batch: _typed(batch, _BATCH))
    article["units"] = _each(article.get("units"), _unit)
    return {"batchCount": len(batches) if isinstance(batches, list) else None} | article


def _unit(raw: JsonObject) -> JsonObject:
    connected = _typed(raw, _UNIT, also=("unit",))
    unit = connected.get("unit")
    if isinstance(unit, dict):
        connected["unit"] = _spelled(unit, ("id", "externalId", "name"))
    elif unit is not None:
        connected["unit"] = {"id": unit}
    return connected


def _each(rows: Any, shaped: Callable[[JsonObject], JsonObject]) -> Any:
    """Every object of a list; anything else as it is."""
    return [shaped(row) if isinstance(row, dict) else row for row in rows] if isinstance(rows, list) else rows


def _typed(raw: JsonObject, kinds: Mapping[str, Kind], *, also: Iterable[str] = ()) -> JsonObject:
    """A copy under the documented names, with values that columns of these kinds take."""
    found = _spelled(raw, (*kinds, *also))
    return {name: _CONVERT.get(kinds.get(name, Kind.TEXT), _as_it_is)(value) for name, value in found.items()}


def _spelled(raw: JsonObject, documented: Iterable[str]) -> JsonObject:
    """The same fields, each under its documented name where that differs only in case and is not taken."""
    names = {name.lower(): name for name in documented}
    found: JsonObject = {}
    for field, value in raw.items():
        name = names.get(field.lower(), field)
        found[field if name != field and (name in raw or name in found) else name] = value
    return found


def _as_it_is(value: Any) -> Any:
    return value


def _instant(value: Any) -> Any:
    """Milliseconds since 1970 as ISO text in UTC; ISO text, and what is no moment, as it is."""
    milliseconds = int(value) if _is_whole(value) else None
    if milliseconds is None:
        return value
    try:
        moment = _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return value
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_whole(value: Any) -> bool:
    if isinstance(value, Decimal):
        return value == value.to_integral_value() and abs(value) < Decimal(10) ** 18
    return isinstance(value, int | str) and not isinstance(value, bool) and bool(_WHOLE.fullmatch(str(value)))


def _number(value: Any) -> Any:
    """A quoted number as Java writes large and small ones (`"1.25E7"`); anything else as it is."""
    return Decimal(value) if isinstance(value, str) and _JAVAS_DOUBLE.fullmatch(value) else value


_CONVERT: dict[Kind, Callable[[Any], Any]] = {Kind.INSTANT: _instant, Kind.NUMBER: _number}
