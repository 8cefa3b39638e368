"""How it is known that an update or a deletion has arrived: what Wisedat then shows of what it was sent.

Both sides are brought to one form: numbers as text, links as their id, texts trimmed with an empty one for null. What
the server computes is not compared. What it does not show (a product's warehouse) never is as expected: if all else
changed, a person decides; if nothing did, the update is sent again, which does no harm.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from models import exact, notation
from workers.connectors import objects
from workers.connectors.commands import GONE, GoneType
from workers.connectors.wisedat.command_table import ADDRESSES, CREATE, DELETE

if TYPE_CHECKING:
    from models.values import JsonObject

_TOWARDS = frozenset({"id", "customer", "type"})
_GOODS, _DISCOUNTS = 1, frozenset({4, 5})
_DATE_LENGTH = len("YYYY-MM-DD")


def text(value: Any) -> str:
    """Trimmed, with one kind of line end; "" for null."""
    return "" if value is None else "\n".join(str(value).strip().splitlines())


def number(value: Any) -> str | None:
    """The same text for 7, "7" and 7.0; None if it is no number."""
    found = notation.number(value) if isinstance(value, str) else value
    if found is None or isinstance(found, bool | dict | list):
        return None
    return str(exact.number(f"{found}"))


def flag(value: Any) -> bool | None:
    """True or false, also from text; None if it is neither."""
    if isinstance(value, bool):
        return value
    return notation.boolean(value) if isinstance(value, str) else None


def day(value: Any) -> str:
    """The date of a date or a timestamp."""
    return text(value)[:_DATE_LENGTH]


def link(value: Any) -> str:
    """The id of a link, which reads show as an object; "" for none."""
    if isinstance(value, dict):
        value = objects.field(value, "id") if "iso_3166_1" not in value else value["iso_3166_1"]
    return text(value) if isinstance(value, str) or value is None else number(value) or ""


def address(value: Any, *, like: Any) -> JsonObject | None:
    """The fields of an address that `like` has."""
    if not isinstance(value, dict):
        return None
    return {name: (link if name == "country" else text)(objects.field(value, name)) for name in like}


def categories(value: Any, *, like: Any) -> list[str]:  # noqa: ARG001 - called like the others
    """Their ids: the main one first, the others in any order."""
    ids = [link(each) for each in _listed(value)]
    return [*ids[:1], *sorted(ids[1:])]


def suppliers(value: Any, *, like: Any) -> list[JsonObject]:
    """By id, with the fields that `like` has for each."""
    named = {link(each): each for each in _listed(like)}
    shown = [
        {"id": link(each)}
        | ({"cost_price": number(each.get("cost_price"))} if "cost_price" in named.get(link(each), {}) else {})
        | ({"unit": link(each.get("unit"))} if "unit" in named.get(link(each), {}) else {})
        for each in _listed(value)
    ]
    return sorted(shown, key=lambda supplier: str(supplier["id"]))


def items(value: Any, *, like: Any) -> list[JsonObject]:
    """In their order, with the fields that the item at the same place of `like` has; others get defaults."""
    wanted = list(like)
    listed = _listed(value)
    return [_item(each, wanted[place] if place < len(wanted) else {}) for place, each in enumerate(listed)]


def _item(item: JsonObject, like: JsonObject) -> JsonObject:
    shown: JsonObject = {"type": number(item.get("type"))}
    is_goods = like.get("type") == _GOODS
    if is_goods and "id" in like:
        # Sent as `id`, shown as `product`.
        shown["id"] = link(item["product"] if "product" in item else item.get("id"))
    if "description" in like:
        shown["description"] = text(item.get("description"))
    if "tax" in like and (is_goods or like["type"] in _DISCOUNTS):
        shown["tax"] = link(item.get("tax"))
    names = ("price", "quantity", *(("discount", "warehouse") if is_goods else ()))
    return shown | {name: number(item.get(name)) for name in names if name in like}


def _listed(value: Any) -> list[JsonObject]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


_Form = Callable[..., Any]
_LIKE: dict[str, _Form] = {
    **dict.fromkeys(("billing_address", "shipping_address", "address"), address),
    **dict.fromkeys(("loading_location", "unloading_location"), address),
    "categories": categories,
    "suppliers": suppliers,
    "items": items,
}
"""Forms that need to know what was sent."""

_FORMS: dict[str, _Form] = {
    **dict.fromkeys(("price", "commission", "value", "type", "exchange_rate"), number),
    **dict.fromkeys(("entity_discount", "financial_discount"), number),
    **dict.fromkeys(("closed", "vat_cash_system"), flag),
    **dict.fromkeys(("date", "expiration_date", "birthday"), day),
    **dict.fromkeys(("tax", "main_supplier", "currency", "salesman", "country", "customer", "series"), link),
    **dict.fromkeys(("delivery_method", "sales_document", "payment_condition", "payment_method"), link),
    "exemption_reason": link,
}
_KEPT = "tax_id"
"""Ignored by an update if the object already has one (Wisedat API 1.3, Customers, Put)."""


def _form(name: str, value: Any, like: Any) -> Any:
    if name in _LIKE:
        return _LIKE[name](value, like=like)
    form: _Form = _FORMS.get(name, text)
    return form(value)


def _expected_update(arguments: JsonObject) -> JsonObject:
    return {name: _form(name, value, value) for name, value in arguments.items() if name != "id"}


def _shown_update(arguments: JsonObject, found: JsonObject) -> JsonObject:
    sent = {name: value for name, value in arguments.items() if name != "id"}
    shown = {name: _form(name, objects.field(found, name), value) for name, value in sent.items()}
    if shown.get(_KEPT):
        shown[_KEPT] = text(arguments[_KEPT])
    return shown


def _address_of(arguments: JsonObject, customer: JsonObject) -> JsonObject | None:
    """The customer's address of the type in the arguments."""
    listed = _listed(objects.field(customer, "addresses"))
    wanted = text(arguments["type"])
    return next((each for each in listed if text(objects.field(each, "type")) == wanted), None)


def _expected_address(arguments: JsonObject) -> JsonObject:
    fields = {name: value for name, value in arguments.items() if name not in _TOWARDS}
    return {"address": address(fields, like=fields)}


def _shown_address(arguments: JsonObject, customer: JsonObject) -> JsonObject:
    fields = [name for name in arguments if name not in _TOWARDS]
    return {"address": address(_address_of(arguments, customer), like=fields)}


def _no_address(_: JsonObject) -> JsonObject:
    return {"exists": False}


def _shows_address(arguments: JsonObject, customer: JsonObject) -> JsonObject:
    return {"exists": has_address(arguments, customer)}


def has_address(arguments: JsonObject, customer: JsonObject) -> bool:
    """Whether the customer has an address of the type in the arguments."""
    return _address_of(arguments, customer) is not None


def _gone(_: JsonObject) -> GoneType:
    return GONE


Expected = Callable[["JsonObject"], "JsonObject | GoneType"]
Shown = Callable[["JsonObject", "JsonObject"], "JsonObject"]


def comparison(verb: str, resource: str) -> tuple[Expected | None, Shown | None]:
    """`expected` and `shown` of this action (`workers.connectors.commands.Action`).

    A new address changes its customer, so it is compared like an update. A deletion of an order expects it gone:
    `read_back` counts a canceled one as that, because a closed order is canceled instead.
    """
    if resource == ADDRESSES:
        return (_no_address, _shows_address) if verb == DELETE else (_expected_address, _shown_address)
    if verb == DELETE:
        return _gone, None
    if verb == CREATE:
        return None, None
    return _expected_update, _shown_update
