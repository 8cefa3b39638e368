"""The writes of Wisedat's sandbox: addresses, the vendor's rules with its errors, and what goes wrong with an answer.

Written after the vendor's document, independently of what the client checks. Source: Wisedat API 1.3, `Note` and
`Returned Values` of each `Post`, `Put` and `Delete`.
"""

from __future__ import annotations

import base64
import re
from copy import deepcopy
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from workers.connectors.wisedat import sandbox_data

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from models.values import JsonObject
    from workers.connectors.wisedat.sandbox_data import Books, Thing

_RESOURCES = (
    *("products", "categories", "customers", "customeraddresses", "salesmen", "suppliers", "orders"),
    *("taxes", "units", "series", "warehouses"),
)
_SINGULAR = {
    "POST": {"category": "categories"},
    "PUT": {"product": "products", "category": "categories", "customer": "customers"},
    "DELETE": {"product": "products", "category": "categories"},
}
"""Addresses that the document spells in another way than those of reads. `PUT /taxes` for units is a mistake in it."""

METHODS = frozenset({"POST", "PUT", "DELETE"})
_PARTNER = ("id", "code", "name", "tax_id", "active")
_SITE = ("street", "city", "postal_code", "postal_code_location", "phone", "fax")
_PLACE = ("street", "city", "postal_code", "postal_code_location")
_POSTAL_CODE = re.compile(r"\d{4}-\d{3}")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_BASE_CURRENCY = "EUR"
_ORDER_DOCUMENT, _POSTAGE, _NOTE = 2, 2, 6
_YEAR = re.compile(r"\d{4}")
_HUNDRED = 100


class WriteFault(StrEnum):
    """What the server does to its next write. Each takes one write that carries a valid token.

    - `LOST_BEFORE`: closes the connection, writes nothing; `LOST_AFTER`: writes, then closes it without an answer
    - `SLOW`: writes and answers only after `write_seconds`, also if the client is gone by then
    - `BUSY`, `UNAVAILABLE`: 429 and 503, writes nothing
    - `LOCKED`: 409, because another application is editing the object; writes nothing
    - `HALF`: writes, and breaks off in the middle of its answer; `DOUBLED`: writes, and sends its body twice
    """

    LOST_BEFORE = "lost before"
    LOST_AFTER = "lost after"
    SLOW = "slow"
    BUSY = "429"
    UNAVAILABLE = "503"
    LOCKED = "409"
    HALF = "half"
    DOUBLED = "doubled"


@dataclass(slots=True)
class LoggedWrite:
    """A write request that arrived. `id`: the object's, the new one's after a creation; "" if unknown."""

    method: str
    path: str
    resource: str
    id: str
    time: datetime
    executed: bool = False


class RefusedWrite(Exception):  # noqa: N818 - an answer, not an error of the sandbox
    """The write is answered with this status: a list of errors, or a sentence, or .NET's message."""

    def __init__(self, status: int, *errors: str, sentence: str = "", message: JsonObject | None = None) -> None:
        super().__init__(*errors)
        self.status = status
        self.errors = errors
        self.sentence = sentence
        self.message = message


def resource_of(method: str, path: str, *, spelling: str) -> str:
    """The resource that is written at this address. RefusedWrite 404 or 405 for an unknown one.

    `spelling`: "documented", or "plural" for a server that has the addresses of reads for writes, too.
    """
    routes = {name: dict(zip(_RESOURCES, _RESOURCES, strict=True)) for name in METHODS}
    if spelling == "documented":
        for name, singular in _SINGULAR.items():
            routes[name] = {plural: plural for plural in _RESOURCES if plural not in singular.values()} | singular
    found = routes.get(method, {}).get(path)
    if found is not None:
        return found
    if path in _RESOURCES or any(path in known for known in routes.values()):
        raise RefusedWrite(405, message={"Message": f"The requested resource does not support http method '{method}'."})
    raise RefusedWrite(
        404,
        message={
            "Message": f"No HTTP resource was found that matches the request URI '/{path}'.",
            "MessageDetail": f"No type was found that matches the controller named '{path}'.",
        },
    )


_TEXT, _INT, _NUMBER, _FLAG, _OBJECT, _LIST = "text", "an integer", "a number", "a boolean", "an object", "a list"
_KINDS = {
    **dict.fromkeys(("type", "warehouse", "main_supplier", "id_parent", "salesman", "customer"), _INT),
    **dict.fromkeys(("price", "commission", "value", "exchange_rate", "cost_price", "quantity", "discount"), _NUMBER),
    **dict.fromkeys(("entity_discount", "financial_discount"), _NUMBER),
    **dict.fromkeys(("closed", "vat_cash_system"), _FLAG),
    **dict.fromkeys(("address", "billing_address", "shipping_address", "loading_location"), _OBJECT),
    "unloading_location": _OBJECT,
    **dict.fromkeys(("categories", "suppliers", "items"), _LIST),
}
_TEXT_IDS = frozenset({"orders", "taxes", "units", "series"})
_MANDATORY = {
    "products": "name description price type",
    "categories": "name",
    "customers": "code name country",
    "customeraddresses": "customer type street city country",
    "salesmen": "code name country",
    "suppliers": "code name country",
    "orders": "customer date expiration_date series",
    "taxes": "id value description type",
    "units": "id description",
    "series": "id description",
    "warehouses": "code description",
}


def _is_of(kind: str, value: Any) -> bool:
    if kind == _FLAG:
        return isinstance(value, bool)
    types: dict[str, Any] = {_TEXT: str, _INT: int, _NUMBER: int | Decimal, _OBJECT: dict, _LIST: list}
    return isinstance(value, types[kind]) and not isinstance(value, bool)


def _kind(resource: str, name: str) -> str:
    if name == "id":
        return _TEXT if resource in _TEXT_IDS else _INT
    if name == "country":
        return _OBJECT if resource == "customeraddresses" else _TEXT
    if (resource, name) == ("customeraddresses", "type"):
        return _TEXT
    return _KINDS.get(name, _TEXT)


class Writer:
    """Executes writes on the company's books by the vendor's rules. Not thread-safe: the server holds its lock."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self._errors: list[str] = []

    def execute(self, method: str, resource: str, given: JsonObject) -> JsonObject | None:
        """Do it. Returns the answer's object, None for an empty one. RefusedWrite if it breaks a rule."""
        self._errors = []
        if method == "DELETE":
            self._delete(resource, given)
            return None
        for name, value in given.items():
            self._require(_is_of(_kind(resource, name), value), f"{name} must be {_kind(resource, name)}")
        mandatory = _MANDATORY[resource].split() if method == "POST" else ["id"]
        if resource == "customeraddresses" and method == "PUT":
            mandatory = ["customer", "type"]
        for name in mandatory:
            self._require(given.get(name) not in (None, ""), f"{name} is mandatory")
        self._stop_at_errors()
        if resource == "customeraddresses":
            self._address(method, given)
            return None
        thing = None if method == "POST" else self._existing(resource, str(given["id"]))
        return self._saved(resource, given, thing)

    def _saved(self, resource: str, given: JsonObject, thing: Thing | None) -> JsonObject | None:
        builder: dict[str, Callable[[JsonObject, Thing | None], JsonObject]] = {
            "products": self._product,
            "categories": self._category,
            "customers": self._customer,
            "salesmen": partial(self._partner, "salesmen"),
            "suppliers": partial(self._partner, "suppliers"),
            "orders": self._order,
            "taxes": self._tax,
            "units": self._code_row("units", 5),
            "series": self._code_row("series", 5),
            "warehouses": self._warehouse,
        }
        fields = builder[resource](given, thing)
        self._stop_at_errors()
        addresses = fields.pop("addresses", None)
        if thing is None:
            thing = self.books.add(resource, fields)
            answer: JsonObject | None = {"id": fields["id"]}
        else:
            self.books.touch(thing, **fields)
            answer = None
        if addresses is not None:
            thing.addresses = addresses
        return answer

    # Rules that several resources share.

    def _require(self, holds: object, error: str) -> None:
        if not holds:
            self._errors.append(error)

    def _stop_at_errors(self) -> None:
        if self._errors:
            raise RefusedWrite(400, *self._errors)

    def _existing(self, resource: str, key: str) -> Thing:
        thing = self.books.find(resource, key)
        if thing is None:
            raise RefusedWrite(404, f"The object of {resource} indicated by the id does not exist")
        return thing

    def _link(self, resource: str, key: Any, name: str) -> JsonObject | None:
        thing = self.books.find(resource, str(key))
        if thing is None:
            self._errors.append(f"{name} {key} doesn't exist")
            return None
        return deepcopy(thing.data)

    def _next_id(self, resource: str) -> int:
        return max((int(thing.data["id"]) for thing in self.books.tables[resource]), default=0) + 1

    def _unique(self, resource: str, name: str, value: Any, thing: Thing | None) -> None:
        others = [other for other in self.books.tables[resource] if other is not thing]
        self._require(not any(other.data[name] == value for other in others), f"{name} must be unique")

    def _code(self, given: JsonObject, name: str, longest: int | None = None) -> None:
        code = given[name]
        self._require(code.isalnum(), f"{name} must contain only alpha-numeric characters")
        self._require(longest is None or len(code) <= longest, f"{name} has at most {longest} characters")

    def _percent(self, given: JsonObject, *names: str) -> None:
        for name in names:
            self._require(0 <= given.get(name, 0) <= _HUNDRED, f"{name} must be a number between 0 and 100")

    def _country(self, code: Any) -> JsonObject | None:
        return self._link("countries", code, "Country")

    def _site(
        self,
        given: JsonObject,
        default: JsonObject | None,
        *,
        current: JsonObject | None,
        fields: Iterable[str],
        mandatory: Iterable[str] = ("street", "city"),
    ) -> JsonObject:
        """An address: `current` with the given fields."""
        site: JsonObject = dict(current or dict.fromkeys(fields, "") | {"country": default})
        site |= _chosen(given, *fields)
        code = (given.get("country") or {}).get("iso_3166_1")
        if code is not None:
            site["country"] = self._country(code)
        for name in mandatory:
            self._require(site.get(name), f"{name} is mandatory")
        if (site.get("country") or {}).get("iso_3166_1") == "PT":
            valid = _POSTAL_CODE.fullmatch(site.get("postal_code") or "")
            self._require(valid, "postal_code must be a valid Portuguese postal code")
        return site

    # Resources.

    def _product(self, given: JsonObject, thing: Thing | None) -> JsonObject:
        names = ("description", "barcode", "type", "brief_description", "commercial_description", "notes")
        fields = _chosen(given, *names)
        if "price" in given:
            fields["price"] = Decimal(given["price"])
            self._require(given["price"] >= 0, "price must be equal or higher than 0")
        self._require(given.get("type", 1) in {1, 2}, "type can only be 1 or 2")
        if given.get("barcode"):
            self._unique("products", "barcode", given["barcode"], thing)
        if "tax" in given:
            fields["tax"] = self._link("taxes", given["tax"], "tax")
        if "warehouse" in given:
            self._link("warehouses", given["warehouse"], "warehouse")
        if "categories" in given:
            found = [self._link("categories", each.get("id"), "category") for each in given["categories"]]
            shown = ("id", "id_parent", "name", "short_name")
            fields["categories"] = [{name: each[name] for name in shown} for each in found if each]
        if thing is None:
            return self._new_product(given) | fields
        self._suppliers(given, thing, fields)
        return fields

    def _new_product(self, given: JsonObject) -> JsonObject:
        self._code(given, "name")
        self._unique("products", "name", given["name"], None)
        zero = Decimal(0)
        return {
            "id": self._next_id("products"),
            "name": given["name"],
            "description": "",
            "barcode": "",
            "brief_description": "",
            "commercial_description": "",
            "notes": "",
            "images": [],
            "price": zero,
            "current_stock": zero,
            "type": 1,
            "net_weight": zero,
            "gross_weight": zero,
            "volume": zero,
            "delivery_time": 0,
            "active": True,
            "tax": None if "tax" in given else self._link("taxes", "NO", "tax"),
            "unit": self._link("units", given.get("unit", "UN"), "unit"),
            "categories": [],
            "stocks": [],
            "suppliers": [],
            "main_supplier": None,
        }

    def _suppliers(self, given: JsonObject, thing: Thing, fields: JsonObject) -> None:
        if "suppliers" in given:
            fields["suppliers"] = [self._supplied(each, thing) for each in given["suppliers"]]
        if "main_supplier" in given:
            main = self._link("suppliers", given["main_supplier"], "main_supplier")
            suppliers = fields["suppliers"] if "suppliers" in fields else thing.data["suppliers"]
            listed = {each["id"] for each in suppliers}
            self._require(given["main_supplier"] in listed, "main_supplier must be included on suppliers")
            fields["main_supplier"] = main and {name: main[name] for name in _PARTNER}

    def _supplied(self, given: JsonObject, thing: Thing) -> JsonObject:
        cost = given.get("cost_price", 0)
        self._link("suppliers", given.get("id"), "supplier")
        self._require(cost >= 0, "cost_price must be equal or higher than 0")
        unit = given.get("unit", thing.data["unit"]["id"])
        return {"id": given.get("id"), "cost_price": Decimal(cost), "unit": self._link("units", unit, "unit")}

    def _category(self, given: JsonObject, thing: Thing | None) -> JsonObject:
        fields = _chosen(given, "name", "short_name")
        if thing is not None:
            return fields
        parent = given.get("id_parent")
        if parent is not None:
            self._link("categories", parent, "id_parent")
        return {"id": self._next_id("categories"), "id_parent": parent, "short_name": "", "image": "", **fields}

    def _partner(self, resource: str, given: JsonObject, thing: Thing | None) -> JsonObject:
        """A customer without what only customers have, a salesman or a supplier."""
        current: JsonObject = thing.data if thing else {}
        fields = _chosen(given, "name", "email", "phone", "notes")
        if not current.get("tax_id"):
            fields |= {"tax_id": given.get("tax_id", "")}
        country = self._country(given["country"]) if "country" in given else current.get("country")
        fields["country"] = country
        self._require(
            not given.get("email") or _EMAIL.fullmatch(given["email"]), "email must be a valid e-mail address"
        )
        if country and country["iso_3166_1"] == "PT" and given.get("tax_id"):
            self._require(_is_nif(given["tax_id"]), "tax_id must be a valid NIF")
        if "address" in given:
            before = current.get("address")
            fields["address"] = self._site(given["address"], country, current=before, fields=(*_SITE, "region"))
        if resource == "salesmen":
            self._percent(given, "commission")
            fields |= {"commission": Decimal(given["commission"])} if "commission" in given else {}
        if thing is not None:
            return fields
        self._code(given, "code")
        self._unique(resource, "code", given["code"], None)
        blank: JsonObject = {"email": "", "phone": "", "notes": "", "active": True}
        own: JsonObject = {} if resource == "customers" else {"address": None}
        own |= {"commission": Decimal(0)} if resource == "salesmen" else {}
        return {"id": self._next_id(resource), "code": given["code"], **blank, **own, **fields}

    def _customer(self, given: JsonObject, thing: Thing | None) -> JsonObject:
        has_sales = thing is not None and any(
            order.data["customer"]["id"] == thing.data["id"] for order in self.books.tables["orders"]
        )
        if thing is not None and "name" in given and given["name"] != thing.data["name"]:
            fixed = has_sales and not thing.data["tax_id"]
            self._require(not fixed, "name can't be changed: the customer has sales and no tax ID")
        fields = self._partner("customers", given, thing)
        fields |= {"website": given["website"]} if "website" in given else {}
        if "birthday" in given:
            self._date(given, "birthday")
            fields["birthday"] = given["birthday"]
        if "currency" in given:
            fields["currency"] = self._link("currencies", given["currency"], "currency")
        if "salesman" in given:
            fields["salesman"] = self._salesman(given["salesman"])
        addresses = {address["type"]: address for address in (thing.addresses if thing else [])}
        for name, kind in (("billing_address", "Empresa"), ("shipping_address", "Entrega")):
            if name in given:
                site = self._site(given[name], fields["country"], current=None, fields=(*_SITE, "region"))
                addresses[kind] = {"type": kind, **site}
        self._require(addresses, "billing_address or shipping_address is mandatory")
        fields["addresses"] = list(addresses.values())
        if thing is not None:
            return fields
        return self._new_customers_terms() | fields

    def _new_customers_terms(self) -> JsonObject:
        tables = self.books.tables
        return {
            "website": "",
            "birthday": None,
            "payment_method": deepcopy(tables["paymentmethods"][0].data),
            "payment_condition": deepcopy(tables["paymentconditions"][0].data),
            "delivery_method": deepcopy(tables["deliverymethods"][0].data),
            "currency": deepcopy(tables["currencies"][0].data),
            "salesman": None,
        }

    def _salesman(self, id_: Any) -> JsonObject | None:
        found = self._link("salesmen", id_, "salesman")
        return found and {name: found[name] for name in (*_PARTNER, "commission")}

    def _address(self, method: str, given: JsonObject) -> None:
        customer = self.books.find("customers", str(given["customer"]))
        current = self._typed(customer, given["type"]) if customer else None
        if method == "PUT" and current is None:
            raise RefusedWrite(404, "The customer or type don't exist")
        self._require(customer, f"customer {given['customer']} doesn't exist")
        self._require(method == "PUT" or current is None, "type must be unique")
        mandatory = ("street", "city") if method == "POST" else ()
        site = self._site(given, None, current=current, fields=(*_SITE, "region"), mandatory=mandatory)
        self._stop_at_errors()
        if current is not None:
            current.update(site)
        elif customer is not None:
            customer.addresses.append({"type": given["type"], **site})
        self._addresses_changed(customer)

    def _typed(self, customer: Thing, kind: str) -> JsonObject | None:
        return next((address for address in customer.addresses if address["type"] == kind), None)

    def _addresses_changed(self, customer: Thing | None) -> None:
        if customer is not None and not self.books.silent_addresses:
            self.books.touch(customer)

    def _tax(self, given: JsonObject, thing: Thing | None) -> JsonObject:
        fields = _chosen(given, "description", "type")
        self._percent(given, "value")
        if "value" in given:
            fields["value"] = Decimal(given["value"])
        if "exemption_reason" in given:
            fields["exemption_reason"] = self._link("exemptionreasons", given["exemption_reason"], "exemption_reason")
        whole = {"exemption_reason": None} | (thing.data if thing else {}) | fields
        self._require(whole["type"] in range(5), "type can only be 0 to 4")
        is_untaxed = whole["type"] in {0, 4}
        self._require(not is_untaxed or whole["exemption_reason"], "exemption_reason is mandatory")
        self._require(is_untaxed == (whole["value"] == 0), "value must be 0 if, and only if, type is 0 or 4")
        if thing is not None:
            return fields
        self._code(given, "id", 2)
        self._unique("taxes", "id", given["id"], None)
        return {"id": given["id"], "exemption_reason": None, **fields}

    def _code_row(self, resource: str, longest: int) -> Callable[[JsonObject, Thing | None], JsonObject]:
        """A unit, or a series."""

        def build(given: JsonObject, thing: Thing | None) -> JsonObject:
            fields = _chosen(given, "description")
            if resource == "series" and "vat_cash_system" in given:
                changes = thing is not None and thing.data["vat_cash_system"] != given["vat_cash_system"]
                is_used = thing is not None and self._is_used_series(thing.data["id"])
                self._require(not (changes and is_used), "vat_cash_system can't be edited: the series has documents")
                fields["vat_cash_system"] = given["vat_cash_system"]
            if thing is not None:
                return fields
            self._code(given, "id", longest)
            self._unique(resource, "id", given["id"], None)
            more = {"vat_cash_system": False, "active": True} if resource == "series" else {}
            return {"id": given["id"], **more, **fields}

        return build

    def _is_used_series(self, id_: str) -> bool:
        return any(order.data["series"]["id"] == id_ for order in self.books.tables["orders"])

    def _warehouse(self, given: JsonObject, thing: Thing | None) -> JsonObject:
        fields = _chosen(given, "description")
        if "address" in given:
            company = self.books.tables["company"][0].data["address"]["country"]
            before = thing.data["address"] if thing else None
            fields["address"] = self._site(given["address"], company, current=before, fields=_SITE, mandatory=())
        if thing is not None:
            return fields
        self._code(given, "code", 8)
        self._unique("warehouses", "code", given["code"], None)
        return {"id": self._next_id("warehouses"), "code": given["code"], "address": None, **fields}

    # Orders.

    def _order(self, given: JsonObject, thing: Thing | None) -> JsonObject:
        if thing is not None and self.books.is_withheld("orders", thing):
            raise RefusedWrite(409, sentence="The order was edited by another application")
        self._require(thing is None or not thing.data["closed"], "Closed orders can't be modified")
        names = ("your_reference", "notes", "vehicle_plate", "date", "expiration_date", "closed")
        fields = _chosen(given, *names)
        self._percent(given, "entity_discount", "financial_discount")
        fields |= {
            name: Decimal(given[name])
            for name in ("entity_discount", "financial_discount", "exchange_rate")
            if name in given
        }
        for name in ("date", "expiration_date"):
            self._date(given, name)
        if thing is None or "customer" in given:
            fields |= self._terms(given["customer"])
        self._chosen_terms(given, fields)
        self._billed(given, fields, thing)
        for name in ("loading_location", "unloading_location"):
            if name in given:
                fields[name] = self._site(given[name], None, current=None, fields=_PLACE, mandatory=())
        if "items" in given or thing is None:
            fields["items"] = [item for each in given.get("items", []) if (item := self._item(each)) is not None]
            self._stop_at_errors()
            totals = sandbox_data.totals(fields["items"])
            self._require(min(totals.values()) >= 0, "All the order's totals must be positive")
            fields |= totals
        whole = (thing.data if thing else {}) | fields
        self._series(whole)
        if whole.get("closed") and not whole.get("hash"):
            fields |= {"hash": base64.b64encode(self.books.random.randbytes(32)).decode(), "hash_control": "1"}
        return fields if thing is not None else self._new_order(fields)

    def _new_order(self, fields: JsonObject) -> JsonObject:
        self._stop_at_errors()
        blank = dict.fromkeys(("your_reference", "notes", "vehicle_plate", "hash", "hash_control"), "")
        blank |= dict.fromkeys(("alternate_billing_address", "alternate_shipping_address"), "")
        document = next(
            each.data for each in self.books.tables["salesdocuments"] if each.data["document_type"] == _ORDER_DOCUMENT
        )
        return {
            "id": f"{document['id']} {fields['series']['id']}/{self.books.next_number()}",
            **blank,
            "exchange_rate": Decimal(1),
            "canceled": False,
            "closed": False,
            "loading_location": None,
            "unloading_location": None,
            "entity_discount": Decimal(0),
            "financial_discount": Decimal(0),
            "sales_document": deepcopy(document),
            **fields,
        }

    def _terms(self, customer_id: Any) -> JsonObject:
        """What an order takes from its customer."""
        thing = self.books.find("customers", str(customer_id))
        if thing is None:
            self._errors.append(f"customer {customer_id} doesn't exist")
            return {}
        return self.books.terms_of(thing)

    def _chosen_terms(self, given: JsonObject, fields: JsonObject) -> None:
        for name, resource in (
            ("series", "series"),
            ("delivery_method", "deliverymethods"),
            ("payment_condition", "paymentconditions"),
            ("payment_method", "paymentmethods"),
            ("currency", "currencies"),
            ("sales_document", "salesdocuments"),
        ):
            if name in given:
                fields[name] = self._link(resource, given[name], name)
        if "salesman" in given:
            fields["salesman"] = self._salesman(given["salesman"])
        document = fields.get("sales_document")
        self._require(
            document is None or document["document_type"] == _ORDER_DOCUMENT, "sales_document isn't of type 2"
        )
        currency = fields.get("currency")
        if currency is not None and currency["id"] != _BASE_CURRENCY:
            self._require("exchange_rate" in given, "exchange_rate is mandatory")
        self._require(given.get("exchange_rate", 1) > 0, "exchange_rate must be higher than 0")

    def _billed(self, given: JsonObject, fields: JsonObject, order: Thing | None) -> None:
        """The addresses: those of the types Empresa and Entrega, or the alternate ones."""
        id_ = given.get("customer") or (order and order.data["customer"]["id"])
        customer = self.books.find("customers", str(id_))
        kinds = [address["type"] for address in customer.addresses] if customer else []
        for name, kind in (("alternate_billing_address", "Empresa"), ("alternate_shipping_address", "Entrega")):
            if name in given:
                fields[name] = given[name]
                self._require(
                    not given[name] or given[name] in kinds, f"{name} isn't a type of the customer's addresses"
                )
            elif kind == "Empresa" and "customer" in given:
                self._require(kind in kinds, "The customer must have a billing address")

    def _series(self, order: JsonObject) -> None:
        series = order.get("series")
        if series is None:
            return
        self._require(series["active"], "series must be active")
        self._require(not series["vat_cash_system"], "a series with vat_cash_system can't be used")
        is_year = _YEAR.fullmatch(series["id"]) is not None
        self._require(not is_year or order["date"].startswith(series["id"]), "date must be in the series' interval")

    def _item(self, given: JsonObject) -> JsonObject | None:
        kind = given.get("type")
        self._require(kind in range(1, 7), "type of an item can only be 1 to 6")
        for name in ("price", "quantity"):
            self._require(given.get(name, 1) > 0, f"{name} of an item must be higher than 0")
        self._percent(given, "discount")
        if kind == 1:
            return self._goods(given)
        if kind == _NOTE and not given.get("description"):
            return None
        tax = None
        if kind in {4, 5}:
            self._require("tax" in given, "tax of an item of type 4 or 5 is mandatory")
            tax = self._link("taxes", given["tax"], "tax") if "tax" in given else None
        elif kind == _POSTAGE:
            tax = self._link("taxes", "NO", "tax")
        self._require(kind == _NOTE or "price" in given, "price of an item is mandatory")
        return {
            "product": None,
            "tax": tax,
            "price": Decimal(given.get("price", 0)),
            "discount": Decimal(0),
            "quantity": Decimal(given.get("quantity", 1)),
            "type": kind,
            "warehouse": None,
            "description": given.get("description", "Linha"),
        }

    def _goods(self, given: JsonObject) -> JsonObject | None:
        product = self._link("products", given.get("id"), "product")
        self._require("quantity" in given, "quantity of an item of type 1 is mandatory")
        if "warehouse" in given:
            self._link("warehouses", given["warehouse"], "warehouse")
        if product is None:
            return None
        return {
            "product": {name: product[name] for name in ("id", "name", "barcode", "type", "unit")},
            "tax": self._link("taxes", given["tax"], "tax") if "tax" in given else product["tax"],
            "price": Decimal(given["price"] if "price" in given else product["price"]),
            "quantity": Decimal(given.get("quantity", 1)),
            "discount": Decimal(given.get("discount", 0)),
            "type": 1,
            "description": given.get("description", product["description"]),
            "warehouse": given.get("warehouse", 1),
        }

    def _date(self, given: JsonObject, name: str) -> None:
        if name in given:
            try:
                date.fromisoformat(given[name])
            except ValueError:
                self._errors.append(f"{name} must be a date")

    # Deletions.

    def _delete(self, resource: str, given: JsonObject) -> None:
        if resource == "customeraddresses":
            return self._delete_address(given)
        id_ = given.get("id", "")
        is_valid = bool(id_) and (resource in _TEXT_IDS or (id_.isascii() and id_.isdigit()))
        self._require(is_valid, "id is mandatory" + ("" if resource in _TEXT_IDS else " and must be numeric"))
        self._stop_at_errors()
        thing = self._existing(resource, id_)
        if resource == "orders":
            self._require(not thing.data["canceled"], "The order is already canceled")
            self._stop_at_errors()
            return self.books.cancel(thing)
        self._require(not self._is_used(resource, thing.data), "It can't be deleted because it is in use")
        self._stop_at_errors()
        return self.books.remove(resource, id_)

    def _delete_address(self, given: JsonObject) -> None:
        for name in ("customer", "type"):
            self._require(given.get(name), f"{name} is mandatory")
        self._stop_at_errors()
        customer = self.books.find("customers", given["customer"])
        address = self._typed(customer, given["type"]) if customer else None
        if customer is None or address is None:
            raise RefusedWrite(404, "The customer or type don't exist")
        customer.addresses.remove(address)
        self._addresses_changed(customer)

    def _is_used(self, resource: str, data: JsonObject) -> bool:
        """Whether another object names it."""
        links = {
            "products": (("orders", "items.product.id"),),
            "categories": (("products", "categories.id"), ("categories", "id_parent")),
            "customers": (("orders", "customer.id"),),
            "salesmen": (("customers", "salesman.id"), ("orders", "salesman.id")),
            "suppliers": (("products", "suppliers.id"), ("products", "main_supplier.id")),
            "taxes": (("products", "tax.id"), ("orders", "items.tax.id")),
            "units": (("products", "unit.id"), ("products", "suppliers.unit.id")),
            "series": (("orders", "series.id"), ("salesdocuments", "default_series")),
            "warehouses": (("products", "stocks.id_warehouse"), ("orders", "items.warehouse")),
        }
        return any(
            data["id"] in _values(thing.data, path.split("."))
            for table, path in links[resource]
            for thing in self.books.tables[table]
        )


def _chosen(given: JsonObject, *names: str) -> JsonObject:
    """The fields of these names that are given."""
    return {name: given[name] for name in names if name in given}


def _values(value: Any, path: list[str]) -> list[Any]:
    if isinstance(value, list):
        return [found for each in value for found in _values(each, path)]
    if not path:
        return [value]
    return _values(value.get(path[0]), path[1:]) if isinstance(value, dict) else []


def _is_nif(text: str) -> bool:
    """Nine digits, the last of which is the control digit (modulo 11)."""
    if not re.fullmatch("[0-9]{9}", text):
        return False
    rest = sum(int(digit) * weight for digit, weight in zip(text, range(9, 1, -1), strict=False)) % 11
    return int(text[-1]) == (0 if rest < 2 else 11 - rest)  # noqa: PLR2004 - a control digit of 10 or 11 is 0
