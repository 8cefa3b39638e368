"""The rules of Wisedat's document that a JSON Schema cannot say: what they are, and what breaks them.

Source: Wisedat API 1.3, `Note` of each `Post` and `Put`. What only the server knows, such as the current country of a
customer, is left to it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from stdnum.pt import nif

from workers.connectors.commands import Violation
from workers.connectors.wisedat.command_table import ADDRESSES, CREATE, UPDATE

if TYPE_CHECKING:
    from models.values import JsonObject

_Rule = Callable[["JsonObject"], Iterator[Violation]]

_PORTUGAL = frozenset({"PT", "PRT", "620"})
_POSTAL_CODE = re.compile("[0-9]{4}-[0-9]{3}")
_NIF = re.compile("[0-9]{9}")

_TAXED_NOTHING = frozenset({0, 4})
"""Types of taxes whose value is 0 and that need a reason: exempt, no deduction."""

_GOODS, _POSTAGE, _ADJUSTMENT, _NOTE = 1, 2, 3, 6
_DISCOUNTS = frozenset({4, 5})
_PRICED = frozenset({_POSTAGE, _ADJUSTMENT, *_DISCOUNTS})
_GOODS_ONLY = ("id", "discount", "warehouse")

DATES = "dates exist in the calendar"
ONE_ADDRESS = "a new customer has a billing address, a shipping address or both"
POSTAL_CODES = (
    "where the country is Portugal, postal_code is four digits, '-' and three digits (000 if unknown); "
    "an address without a country has that of whom it belongs to"
)
NIFS = "where the country is Portugal, tax_id is a valid NIF, nine digits"
MAIN_SUPPLIER = "main_supplier is one of suppliers, if both are given"
EXEMPTIONS = "types 0 and 4 have an exemption_reason and the value 0; no other type has the value 0"
ITEM_FIELDS = "id, discount and warehouse of an item are for type 1 only, which needs an id"
ITEM_AMOUNTS = "an item of type 1 needs a quantity, one of types 2 to 5 a price"
ITEM_TAXES = "an item of types 4 and 5 needs a tax; types 2, 3 and 6 take none"
ITEM_NOTES = "an item of type 6 needs a description"
TOTALS = "the discounts of an order are not more than its merchandise and postage"


def in_portugal(country: Any) -> bool:
    """Whether this ISO 3166-1 code means Portugal."""
    return country in _PORTUGAL


def _dates(*names: str) -> _Rule:
    def check(arguments: JsonObject) -> Iterator[Violation]:
        for name in names:
            if name in arguments and not _is_date(arguments[name]):
                yield Violation(name, "no such day in the calendar; dates are YYYY-MM-DD")

    return check


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _one_address(arguments: JsonObject) -> Iterator[Violation]:
    if not arguments.keys() & {"billing_address", "shipping_address"}:
        yield Violation("billing_address", "give a billing_address, a shipping_address or both")


def _nif(arguments: JsonObject) -> Iterator[Violation]:
    given = arguments.get("tax_id")
    if given and in_portugal(arguments.get("country")) and not (_NIF.fullmatch(given) and nif.is_valid(given)):
        yield Violation("tax_id", "not a valid NIF: nine digits, the last of which checks the others")


def _postal_codes(*places: str, needed: bool) -> _Rule:
    """Of the addresses in these fields. `needed`: one in Portugal may not be without a postal code."""

    def check(arguments: JsonObject) -> Iterator[Violation]:
        for place in places:
            address = arguments.get(place)
            if address is not None:
                country = address.get("country", {}).get("iso_3166_1", arguments.get("country"))
                yield from _postal_code(address, country, f"{place}.", needed=needed)

    return check


def _own_postal_code(*, needed: bool) -> _Rule:
    def check(arguments: JsonObject) -> Iterator[Violation]:
        yield from _postal_code(arguments, arguments.get("country", {}).get("iso_3166_1"), "", needed=needed)

    return check


def _postal_code(address: JsonObject, country: Any, place: str, *, needed: bool) -> Iterator[Violation]:
    code = address.get("postal_code")
    if not in_portugal(country) or (code is None and not needed):
        return
    if code is None:
        yield Violation(f"{place}postal_code", "mandatory in Portugal: four digits, '-', three digits (000 if unknown)")
    elif not _POSTAL_CODE.fullmatch(code):
        yield Violation(f"{place}postal_code", "in Portugal: four digits, '-', three digits (000 if unknown)")


def _main_supplier(arguments: JsonObject) -> Iterator[Violation]:
    main, listed = arguments.get("main_supplier"), arguments.get("suppliers")
    if main is not None and listed is not None and main not in {supplier["id"] for supplier in listed}:
        yield Violation("main_supplier", f"{main} is not among `suppliers`")


def _exemption(arguments: JsonObject) -> Iterator[Violation]:
    kind, value = arguments.get("type"), arguments.get("value")
    if kind is None:
        return
    if kind in _TAXED_NOTHING:
        if "exemption_reason" not in arguments:
            yield Violation("exemption_reason", f"mandatory for type {kind}; ids are in `exemptionreasons`")
        if value is not None and value != 0:
            yield Violation("value", f"has to be 0 for type {kind}")
    elif value is not None and value == 0:
        yield Violation("value", f"cannot be 0 for type {kind}; types 0 and 4 can")


def _items(arguments: JsonObject) -> Iterator[Violation]:
    for place, item in enumerate(arguments.get("items", ())):
        for name, message in _item(item):
            yield Violation(f"items.{place}.{name}", message)


def _item(item: JsonObject) -> Iterator[tuple[str, str]]:
    kind = item["type"]
    if kind == _GOODS:
        yield from ((name, "mandatory for type 1") for name in ("id", "quantity") if name not in item)
    else:
        yield from ((name, f"is for type 1, this is {kind}; leave it out") for name in _GOODS_ONLY if name in item)
    if kind in _PRICED and "price" not in item:
        yield "price", f"mandatory for type {kind}"
    if kind in _DISCOUNTS and "tax" not in item:
        yield "tax", f"mandatory for type {kind}; ids are in `taxes`"
    if kind in {_POSTAGE, _ADJUSTMENT, _NOTE} and "tax" in item:
        yield "tax", f"is ignored for type {kind}; leave it out"
    if kind == _NOTE and not item.get("description", "").strip():
        yield "description", "mandatory for type 6, which is ignored without one"


def _totals(arguments: JsonObject) -> Iterator[Violation]:
    """Checked if each item has its price: that of a product is known to the server only."""
    items = arguments.get("items", ())
    if any(item["type"] == _GOODS and "price" not in item for item in items):
        return
    signs = {_GOODS: 1, _POSTAGE: 1, **dict.fromkeys(_DISCOUNTS, -1)}
    subtotal = sum((signs.get(item["type"], 0) * _value(item) for item in items), Decimal())
    if subtotal < 0:
        yield Violation("items", f"the discounts are {-subtotal.normalize():f} more than merchandise and postage")


def _value(item: JsonObject) -> Decimal:
    price, quantity = (Decimal(str(item.get(name, default))) for name, default in (("price", 0), ("quantity", 1)))
    discount = Decimal(str(item.get("discount", 0))) if item["type"] == _GOODS else Decimal()
    return price * quantity * (100 - discount) / 100


_ITEMS = ((ITEM_FIELDS, _items), (ITEM_AMOUNTS, None), (ITEM_TAXES, None), (ITEM_NOTES, None), (TOTALS, _totals))
_LOCATIONS = ("loading_location", "unloading_location")
_CUSTOMERS_ADDRESSES = ("billing_address", "shipping_address")

_RULES: dict[tuple[str, str], tuple[tuple[str, _Rule | None], ...]] = {
    (UPDATE, "products"): ((MAIN_SUPPLIER, _main_supplier),),
    (CREATE, "customers"): (
        (ONE_ADDRESS, _one_address),
        (NIFS, _nif),
        (POSTAL_CODES, _postal_codes(*_CUSTOMERS_ADDRESSES, needed=True)),
        (DATES, _dates("birthday")),
    ),
    (UPDATE, "customers"): (
        (NIFS, _nif),
        (POSTAL_CODES, _postal_codes(*_CUSTOMERS_ADDRESSES, needed=False)),
        (DATES, _dates("birthday")),
    ),
    (CREATE, ADDRESSES): ((POSTAL_CODES, _own_postal_code(needed=True)),),
    (UPDATE, ADDRESSES): ((POSTAL_CODES, _own_postal_code(needed=False)),),
    **{
        (verb, resource): ((NIFS, _nif), (POSTAL_CODES, _postal_codes("address", needed=verb == CREATE)))
        for verb in (CREATE, UPDATE)
        for resource in ("salesmen", "suppliers")
    },
    **{
        (verb, "orders"): (
            (DATES, _dates("date", "expiration_date")),
            (POSTAL_CODES, _postal_codes(*_LOCATIONS, needed=verb == CREATE)),
            *_ITEMS,
        )
        for verb in (CREATE, UPDATE)
    },
    **{(verb, "taxes"): ((EXEMPTIONS, _exemption),) for verb in (CREATE, UPDATE)},
    **{
        (verb, "warehouses"): ((POSTAL_CODES, _postal_codes("address", needed=verb == CREATE)),)
        for verb in (CREATE, UPDATE)
    },
}
"""Sentence and function; None for a sentence that the function before it checks, too."""


def rules(verb: str, resource: str) -> tuple[str, ...]:
    """The sentences of this write's rules."""
    return tuple(sentence for sentence, _ in _RULES.get((verb, resource), ()))


def check(verb: str, resource: str, arguments: JsonObject) -> tuple[Violation, ...]:
    """All mistakes in arguments that fit the schema."""
    found = [rule(arguments) for _, rule in _RULES.get((verb, resource), ()) if rule is not None]
    return tuple(violation for violations in found for violation in violations)
