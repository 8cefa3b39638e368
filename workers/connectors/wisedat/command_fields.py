"""The fields that Wisedat's writes take, as JSON Schema with their meaning.

Source: Wisedat API 1.3, `Body` and `Note` of each `Post` and `Put`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.connectors.wisedat.command_table import ADDRESSES, CREATE, SECTIONS, UPDATE

if TYPE_CHECKING:
    from models.values import JsonObject

LONGEST_LIST = 1000
_LARGEST_INT = 2**31 - 1
_Fields = dict[str, "JsonObject"]

ALPHANUMERIC = r"^[\p{L}\p{N}]+$"
POSTAL_CODE = "four digits, '-', three digits (000 if unknown) where the country is Portugal"


def _text(description: str, **more: Any) -> JsonObject:
    return {"type": "string", "description": description, **more}


def _code(description: str, longest: int | None = None) -> JsonObject:
    limit = {} if longest is None else {"maxLength": longest}
    return _text(f"{description}; unique, letters and digits only", pattern=ALPHANUMERIC, **limit)


def _link(resource: str, description: str = "") -> JsonObject:
    """A link whose id is text."""
    return _text(f"id, as `{resource}` shows it" + (f"; {description}" if description else ""), minLength=1)


def _id(description: str) -> JsonObject:
    return {"type": "integer", "minimum": 1, "maximum": _LARGEST_INT, "description": description}


def _number(description: str, **more: Any) -> JsonObject:
    return {"type": "number", "description": description, **more}


def _percent(description: str) -> JsonObject:
    return _number(f"{description}: percent, 0 to 100", minimum=0, maximum=100)


def _flag(description: str) -> JsonObject:
    return {"type": "boolean", "description": description}


def _choice(description: str, meanings: dict[int, str]) -> JsonObject:
    listed = ", ".join(f"{number} {meaning}" for number, meaning in meanings.items())
    return {"type": "integer", "enum": list(meanings), "description": f"{description}: {listed}"}


def _date(description: str) -> JsonObject:
    return _text(f"{description}; a UTC date, YYYY-MM-DD", format="date", pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$")


def _object(fields: _Fields, required: str = "", description: str = "", **more: Any) -> JsonObject:
    about = {"description": description} if description else {}
    return {
        "type": "object",
        **about,
        "properties": fields,
        "required": required.split(),
        "additionalProperties": False,
        **more,
    }


def _list(item: JsonObject, description: str) -> JsonObject:
    return {"type": "array", "items": item, "maxItems": LONGEST_LIST, "description": description}


_ISO = {
    "type": "string",
    "pattern": "^([A-Z]{2}|[A-Z]{3}|[0-9]{3})$",
    "description": "ISO 3166-1 code, as `countries` shows it: PT",
}
_COUNTRY = _object({"iso_3166_1": _ISO}, "iso_3166_1", "the country")
_PLACE: _Fields = {
    "street": _text("street and number"),
    "city": _text("city"),
    "postal_code": _text(POSTAL_CODE),
    "postal_code_location": _text("the place that the postal code names"),
    "country": _COUNTRY,
}
_SITE = _PLACE | {"phone": _text("telephone"), "fax": _text("fax")}
_ADDRESS = _SITE | {"region": _text("region")}
_NOT_EMPTY = {"minLength": 1}
_WITH_STREET = _ADDRESS | {
    "street": _ADDRESS["street"] | _NOT_EMPTY,
    "city": _ADDRESS["city"] | _NOT_EMPTY,
}
_ITS_COUNTRY = "without a country it has that of"
_EMAIL = _text("a valid e-mail address; empty: none", pattern=r"^([^@\s]+@[^@\s.]+(\.[^@\s.]+)+)?$")
_TAX_ID = "tax id; a valid NIF where the country is Portugal"
_KEPT = "; ignored if there already is one"


def _person(title: str) -> _Fields:
    return {
        "id": _id(f"id of the {title}"),
        "code": _code(f"code of the {title}"),
        "name": _text("name", minLength=1),
        "tax_id": _text(_TAX_ID),
        "email": _EMAIL,
        "phone": _text("telephone"),
        "notes": _text("notes"),
        "country": _ISO,
        "address": _object(
            _WITH_STREET, "street city", f"{_ITS_COUNTRY} the {title}; street and city are mandatory in it"
        ),
    }


_CUSTOMER_ADDRESS = _object(_WITH_STREET, "street city", f"{_ITS_COUNTRY} the customer")
_ITEM = _object(
    {
        "id": _id("id of the product, mandatory for type 1 and only there"),
        "description": _text("mandatory for type 6; else a default is used where it is absent"),
        "tax": _link(
            "taxes",
            "mandatory for types 4 and 5; for type 1 the product's is used where it is absent; no other takes it",
        ),
        "price": _number("of one unit, in the order's currency; mandatory for types 2 to 5", exclusiveMinimum=0),
        "quantity": _number("in the product's unit; mandatory for type 1, else 1", exclusiveMinimum=0),
        "discount": _percent("discount, type 1 only"),
        "type": _choice(
            "what the line is",
            {
                1: "merchandise or service",
                2: "postage",
                3: "adjustment",
                4: "value discount on merchandise or service",
                5: "other value discount",
                6: "note",
            },
        ),
        "warehouse": _id("id of the warehouse, type 1 only"),
    },
    "type",
)
_SUPPLIED = _object(
    {
        "id": _id("id of the supplier"),
        "cost_price": _number("in the base currency", minimum=0),
        "unit": _link("units", "related to the product's unit, which is used where it is absent"),
    },
    "id",
)
_PLACE_OF_GOODS = _object(_PLACE, "", "where the goods are")
_ORDER: _Fields = {
    "id": _text("id of the order", minLength=1),
    "customer": _id("id of the customer, who must have a billing address (type Empresa, or the alternate one)"),
    "salesman": _id("id of the salesman; absent: the customer's"),
    "series": _link(
        "series",
        "active for the sales document, with room for another document and with the date in its interval; under the "
        "cash VAT regime if and only if the company or the customer is",
    ),
    "your_reference": _text("the customer's reference"),
    "notes": _text("notes"),
    "vehicle_plate": _text("number plate of the vehicle"),
    "delivery_method": _link("deliverymethods", "absent: the customer's"),
    "sales_document": _link("salesdocuments", "of document type 2 (order); absent: the suggested one"),
    "payment_condition": _link("paymentconditions", "absent: the customer's"),
    "payment_method": _link("paymentmethods", "absent: the customer's"),
    "date": _date("of the order"),
    "expiration_date": _date("until when it is valid"),
    "closed": _flag("true: it can no longer be modified, and a deletion cancels it"),
    "currency": _link("currencies", "absent: the customer's"),
    "exchange_rate": _number("mandatory where the currency is not the company's", exclusiveMinimum=0),
    "entity_discount": _percent("discount of the customer; absent: the customer's own"),
    "financial_discount": _percent("discount for payment"),
    "alternate_billing_address": _text("type of the customer's address that is billed instead of Empresa"),
    "alternate_shipping_address": _text("type of the customer's address that is delivered to instead of Entrega"),
    "loading_location": _PLACE_OF_GOODS,
    "unloading_location": _PLACE_OF_GOODS,
    "items": _list(
        _ITEM, "the lines; of an update, they replace all that were there. All totals of the order have to be positive"
    ),
}

_FIELDS: dict[str, _Fields] = {
    "products": {
        "id": _id("id of the product"),
        "name": _code("the product's own name"),
        "description": _text("what it is", minLength=1),
        "barcode": _text("unique; empty: none"),
        "price": _number("of one unit, in the base currency", minimum=0),
        "type": _choice("kind", {1: "merchandise", 2: "service"}),
        "tax": _link("taxes", "absent: the suggested one"),
        "unit": _link("units", "absent: the suggested one"),
        "warehouse": _id("id of the warehouse; absent: the suggested one. Reads do not show it"),
        "brief_description": _text("short description"),
        "commercial_description": _text("description for customers"),
        "notes": _text("notes"),
        "categories": _list(
            _object({"id": _id("id of the category")}, "id"), "the first is the main one; they replace all others"
        ),
        "suppliers": _list(_SUPPLIED, "they replace all others"),
        "main_supplier": _id("id of a supplier: one of `suppliers` if those are given, else one that it has"),
    },
    "categories": {
        "id": _id("id of the category"),
        "name": _text("name", minLength=1),
        "short_name": _text("short name"),
        "id_parent": _id("id of the parent category"),
    },
    "customers": _person("customer")
    | {
        "website": _text("website"),
        "currency": _link("currencies", "absent: the base currency"),
        "birthday": _date("birthday"),
        "salesman": _id("id of the salesman"),
        "billing_address": _CUSTOMER_ADDRESS | {"description": f"billing address; {_ITS_COUNTRY} the customer"},
        "shipping_address": _CUSTOMER_ADDRESS | {"description": f"shipping address; {_ITS_COUNTRY} the customer"},
    },
    ADDRESSES: _ADDRESS
    | {
        "customer": _id("id of the customer"),
        "type": _text(
            "unique for the customer; Empresa is the billing address, Entrega the shipping address", minLength=1
        ),
    },
    "salesmen": _person("salesman") | {"commission": _percent("commission")},
    "suppliers": _person("supplier"),
    "orders": _ORDER,
    "taxes": {
        "id": _code("id, at most 2 characters", 2),
        "value": _percent("rate; 0 if and only if the type is 0 or 4"),
        "description": _text("description", minLength=1),
        "type": _choice("kind", {0: "exempt", 1: "reduced", 2: "intermediate", 3: "normal", 4: "no deduction"}),
        "exemption_reason": _link("exemptionreasons", "mandatory for types 0 and 4"),
    },
    "units": {"id": _code("id, at most 5 characters", 5), "description": _text("description", minLength=1)},
    "series": {
        "id": _code("id, at most 5 characters", 5),
        "description": _text("description", minLength=1),
        "vat_cash_system": _flag(
            "whether it is under the cash VAT regime (Regime de IVA de caixa); false by default, fixed as soon as a "
            "document uses the series"
        ),
    },
    "warehouses": {
        "id": _id("id of the warehouse"),
        "code": _code("code, at most 8 characters", 8),
        "description": _text("description", minLength=1),
        "address": _object(_SITE, "", f"{_ITS_COUNTRY} the company"),
    },
}

_PARTIAL_ADDRESS = _object(_ADDRESS, "", "street and city are mandatory where there is no address yet")
_RENAMED = _text("name; fixed for a customer with sales but without a tax id", minLength=1)
_FOR_UPDATE: dict[str, _Fields] = {
    "customers": {"name": _RENAMED, "tax_id": _text(_TAX_ID + _KEPT)},
    "salesmen": {"address": _PARTIAL_ADDRESS, "tax_id": _text(_TAX_ID + _KEPT)},
    "suppliers": {"address": _PARTIAL_ADDRESS, "tax_id": _text(_TAX_ID + _KEPT)},
}
"""Fields that mean something else in an update."""

_FOR_CREATE: dict[str, _Fields] = {
    ADDRESSES: {name: _WITH_STREET[name] for name in ("street", "city")},
}


def schema(verb: str, resource: str) -> JsonObject:
    """The JSON Schema of this write's arguments. An update has to change something."""
    write = SECTIONS[resource].write(verb)
    fields = _FIELDS[resource] | {CREATE: _FOR_CREATE, UPDATE: _FOR_UPDATE}.get(verb, {}).get(resource, {})
    if verb != CREATE and resource in {"taxes", "units", "series"}:
        # What exists may have been entered under laxer rules.
        fields = fields | {"id": _link(resource)}
    names = f"{write.mandatory} {write.optional}".split()
    least: JsonObject = {"minProperties": len(write.mandatory.split()) + 1} if verb == UPDATE else {}
    return _object({name: fields[name] for name in names}, write.mandatory, **least)
