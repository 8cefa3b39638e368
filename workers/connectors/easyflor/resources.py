"""The resources of an EasyFlor account, and the documented fields of a debtor.

Source of the fields: the table and the sample of EasyFlor API v1, Debtors. The two differ, so all fields but `Id` are
optional. No field of any other resource is documented.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from models.values import JsonObject, Kind, Notes
from workers.connectors import objects
from workers.connectors.contract import ROW, Resource
from workers.connectors.easyflor import table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workers.connectors.easyflor.options import Options

_Fields = dict[str, tuple[Kind, str]]
"""Dotted path -> (kind, note); "" without a note."""

_SPAN = re.compile(r"(-?)(?:([0-9]{1,6})\.)?([0-9]{2}):([0-9]{2}):([0-9]{2})")
_SECONDS = "Seconds"


def resources(options: Options) -> tuple[Resource, ...]:
    """The configured resources, including those in the setting `own`."""
    rows = catalogue(options)
    return tuple(_resource(rows[name], options) for name in dict.fromkeys((*options.resources, *options.own)))


def catalogue(options: Options) -> dict[str, table.Row]:
    """Every resource with a known address, by name; `own` and `keys` take precedence over the table."""
    own = {name: each.row(name) for name, each in options.own.items()}
    if table.DEBTOR.name in own:
        own[table.DEBTOR.name] = table.debtor(own[table.DEBTOR.name].key)
    rows = table.ROWS | own
    keys = {name: key for name, key in options.keys.items() if not isinstance(key, str)}
    return rows | {name: replace(rows[name], key=key) for name, key in keys.items()}


def _resource(row: table.Row, options: Options) -> Resource:
    parts = _debtor(keep_personal=options.keep_personal) if row.name == table.DEBTOR.name else _undocumented(row)
    by_row = options.keys.get(row.name) == ROW
    return Resource(
        name=row.name,
        key=row.key,
        optional_key=row.key[1:] if row.name in options.keys else (),
        keyed_by_row=by_row,
        # A poll brings the row that replaced another, but not that the other is gone.
        every=options.every if row.since and not by_row else None,
        full_every=options.full_every,
        # Only a full sync finds a deletion, and it may have to wait for the opening hours.
        bound=options.full_every + options.longest_closed,
        fetchable=row.point is not None,
        can_fetch_key=None if row.point is None else _fits_an_address,
        unpaged=row.point is None and row.path is not None,
        register=by_row,
        selection=_selection(row, options),
        shape={part: {path: kind for path, (kind, _) in fields.items()} for part, fields in parts.items()},
        notes=_notes(parts),
        project=_project_debtor if row.name == table.DEBTOR.name else _as_sent,
    )


_UNSAFE_IN_ADDRESSES = re.compile(r"[<>*%&:?#/\\\\]|[. ]$|^[. ]")
_MAX_ENCODED = 200
"""Characters of a percent-encoded key: ASP.NET refuses addresses above 260 (`maxUrlLength`)."""


def _fits_an_address(key: str) -> bool:
    """Whether an address that ends in this key reaches the object, however the key is encoded.

    Web servers decode an address before they divide it, so `%2F` and `..` name another one, and they refuse or cut off
    other characters (ASP.NET, `requestPathInvalidCharacters`).
    """
    return key.isprintable() and not _UNSAFE_IN_ADDRESSES.search(key) and len(quote(key, safe="")) <= _MAX_ENCODED


def _selection(row: table.Row, options: Options) -> str:
    chosen = ["keep_personal"] if options.keep_personal else []
    if row.path is None:
        chosen.append(f"since={options.since}")
    if row.name in options.keys:
        chosen.append(f"keys={options.keys[row.name]}")
    return " ".join(chosen)


def _notes(parts: Mapping[str, _Fields]) -> Notes:
    noted = {part: {path: note for path, (_, note) in fields.items() if note} for part, fields in parts.items()}
    return {part: notes for part, notes in noted.items() if notes}


def seconds(span: Any) -> int | None:
    """A TimeSpan in seconds from the start of the day it refers to; None if it is not a TimeSpan.

    `((-)dd.)HH:mm:ss`: `-01.13:50:01` is "minus one day, at 13:50:01" (EasyFlor API v1, TimeSpan), so the sign applies
    to the days only. The document's sample has a one-digit day: `-1.15:30:00`.
    """
    return _seconds_of_text(span) if isinstance(span, str) else None


@lru_cache(maxsize=1000)
def _seconds_of_text(span: str) -> int | None:
    match = _SPAN.fullmatch(span)
    if match is None:
        return None
    sign = -1 if match[1] else 1
    time = int(match[3]) * 3600 + int(match[4]) * 60 + int(match[5])
    return sign * time if match[2] is None else sign * int(match[2]) * 86_400 + time


def _as_sent(raw: JsonObject) -> JsonObject:
    return raw


def _project_debtor(raw: JsonObject) -> JsonObject:
    """A debtor as columns see it: documented names, null lists are empty, TimeSpans have their seconds beside them."""
    projected = objects.with_documented_names(raw, _DEBTOR_NAMES)
    for name in _LISTS:
        if projected.get(name, ()) is None:
            projected[name] = []
    if projected.get("CurrencyISOCode") in (None, "") and "Currency" in projected:
        projected["CurrencyISOCode"] = projected["Currency"]
    if _are_objects(projected.get("OrderDays")):
        projected["OrderDays"] = [_with_seconds(day) for day in projected["OrderDays"]]
    return projected


def _with_seconds(raw: JsonObject) -> JsonObject:
    item = objects.with_documented_names(raw, _DAY)
    for name, computed in _SPANS.items():
        if name in item:
            item.setdefault(computed, seconds(item[name]))
    if _are_objects(item.get("Lists")):
        item["Lists"] = [_with_seconds(each) for each in item["Lists"]]
    return item


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


# The documented fields.


def _fields(kind: Kind, names: str) -> _Fields:
    return dict.fromkeys(names.split(), (kind, ""))


def _with_notes(kind: Kind, **notes: str) -> _Fields:
    return {name: (kind, note) for name, note in notes.items()}


_SPANS = {name: f"{name}{_SECONDS}" for name in ("MaxDefaultOrderTime", "MaxOrderTime", "MinOrderTime")}
"""Each TimeSpan, and the field of its seconds."""

_DAY = (*_SPANS, "Lists")
_SPAN_NOTE = "((-)dd.)HH:mm:ss; -1.15:30:00 is the day before, at 15:30"
_SECONDS_NOTE = "seconds from the start of the day itself; computed by the mirror"
_MAIL = _fields(Kind.TEXT, "Category Value")


def _span(name: str) -> _Fields:
    return {name: (Kind.TEXT, _SPAN_NOTE), f"{name}{_SECONDS}": (Kind.NUMBER, _SECONDS_NOTE)}


_TEXTS = _fields(Kind.TEXT, "Name TransporterCode TransporterName") | _with_notes(
    Kind.TEXT,
    Code="references the debtor, for easier searching",
    ParentDebtorCode="code of the debtor that this one is a subdebtor of",
    Administration="each debtor belongs to one",
    SecondName="a second name",
    Category="name of the category that the debtor belongs to",
    Country="country code of three letters",
    Currency="deprecated: equals CurrencyISOCode, which is the one to use",
    CurrencyISOCode="the debtor's currency; taken from Currency where only that is sent",
    Language="name of the language, or its code, as in nl",
    TransportRegion="name of the region, for transport",
    InvoiceCreditTemplate="template of credit invoices",
    InvoiceDebetTemplate="template of debet invoices",
    InvoiceCSVTemplate="template of debet CSV invoices",
    Price="name of the default price settings",
    DistributionPackagingVATRate="code of the VAT rate for packaging (NL: fust)",
    DistributionTrolleyVATRate="code of the VAT rate for trolleys (NL: karren)",
    DistributionSellingLocation="the location whose stock the items go to that are sold to this debtor",
)
_SCALAR_LISTS = _fields(Kind.JSON, "Locations") | _with_notes(
    Kind.JSON,
    Employees="who may place orders for this debtor",
    OrderDayNames="ids of the order days: when the debtor may order from the webshop",
    ToInvoice="ids of the debtors that this one is invoiced for",
    InvoiceEventsTodo="events that must be done for an invoice after its creation",
    MarkupCategories="ids of the markup categories that prices are calculated with",
)
_LISTS = frozenset(_SCALAR_LISTS)
_DEBTOR = (
    _with_notes(Kind.NUMBER, Id="int part of the debtor's id", ParentId="int part of the parent debtor's id")
    | _TEXTS
    | _SCALAR_LISTS
    | _with_notes(
        Kind.BOOLEAN,
        Block="true: may not purchase in the webshop",
        PaysVAT="true: VAT is added to the invoice",
        PriceUseMarkupCategories="whether markup categories are used to calculate prices",
        PriceUseOriginalPrice="whether the buying price is used when markup categories are applied",
    )
    | _with_notes(Kind.INSTANT, CreatedOn="when the debtor was created")
    | _fields(Kind.TEXT, "Config.Id Config.DebtorId")
    | _fields(Kind.BOOLEAN, "Config.DirectPay")
)
_DEBTOR_NAMES = (*_DEBTOR, "OrderDays")
_CONTACT = _fields(Kind.TEXT, "Initials FirstName MiddleName LastName PlaceOfBirth Function")
_PERSONAL = _fields(Kind.INSTANT, "DateOfBirth") | _fields(Kind.TEXT, "Gender Nationality")


def _debtor(*, keep_personal: bool) -> dict[str, _Fields]:
    """Part -> fields. Addresses, Numbers and SalesUnits are not documented: their columns follow from the values."""
    return {
        "": _DEBTOR,
        "MailAddresses": _MAIL,
        "Contacts": _CONTACT | (_PERSONAL if keep_personal else {}),
        "Contacts.MailAddresses": _MAIL,
        "Contacts.Users": _fields(Kind.TEXT, "Username") | _fields(Kind.BOOLEAN, "CanOrder"),
        "OrderDays": _fields(Kind.TEXT, "Id Name") | _fields(Kind.NUMBER, "Day") | _span("MaxDefaultOrderTime"),
        "OrderDays.Lists": _fields(Kind.NUMBER, "Id") | _span("MaxOrderTime") | _span("MinOrderTime"),
    }


def _undocumented(row: table.Row) -> dict[str, _Fields]:
    """The key fields, as text: article ids once changed from number to text (EasyFlor API v1, changelog 1.0.1)."""
    note = "" if row.confirmed else "unconfirmed: the vendor documents neither this resource nor its fields"
    return {"": dict.fromkeys(row.key, (Kind.TEXT, note))}
