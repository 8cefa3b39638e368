"""The write `saleOrderCreate`: a customer's order with goods, and on request its reserve and its waybill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workers.connectors.commands import Action, Violation
from workers.connectors.dilovod import command_values, table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from models.values import JsonObject

ORDER = "documents.saleOrder"
MOST_ROWS = 1000
"""Rows of one part. Dilovod names no limit; one request has to be answered within `timeout`."""

_SOURCE = "Dilovod help, API Dilovod, saleOrderCreate"
_TEXT = {"type": "string"}
_NUMBER = {"type": ["number", "string"]}
_LINK = {"type": ["string", "integer", "object"]}


@dataclass(frozen=True, slots=True)
class Field:
    """A documented field. `longest`: characters of a text. `digits`, `scale`: of a number. `kinds`: what it links to.

    `about`: what it means, and what Dilovod takes if it is absent.
    """

    type: str
    about: str
    longest: int = 0
    digits: int = 0
    scale: int = 0
    kinds: tuple[str, ...] = ()

    def schema(self) -> JsonObject:
        """The JSON Schema of its values. What only `violations` checks stands in the description."""
        match self.type:
            case "link":
                return {**_LINK, "description": f"{self.about}. An id of {' or '.join(self.kinds)}: 16 digits"}
            case "date":
                form = 'by Kyiv\'s wall clock, "2026-01-31 23:59:59"'
                return {**_TEXT, "description": f"{self.about}. A moment {form}"}
            case "flag":
                return {"enum": [True, False, 0, 1, "0", "1"], "description": self.about}
            case "number":
                form = f"at most {self.digits - self.scale} digits before the point and {self.scale} behind it"
                return {**_NUMBER, "description": f"{self.about}. A number, {form}; it may be written as text"}
            case "texts":
                by_language = {"type": ["string", "object"], "additionalProperties": _TEXT, "minProperties": 1}
                form = f'at most {self.longest} characters, in one language or by language, {{"uk": …, "ru": …}}'
                return {**by_language, "description": f"{self.about}; {form}"}
        return {**_TEXT, "maxLength": self.longest, "description": f"{self.about}; at most {self.longest} characters"}

    def violations(self, value: Any, path: str) -> Iterator[Violation]:
        """What is wrong with a value of this field."""
        match self.type:
            case "link":
                yield from command_values.link_violations(value, path, self.kinds)
            case "date":
                yield from command_values.date_violations(value, path)
            case "flag":
                yield from command_values.flag_violations(value, path)
            case "number":
                yield from command_values.decimal_violations(value, path, self.digits, self.scale)
            case _:
                yield from command_values.text_violations(value, path, self.longest)


def _link(about: str, *kinds: str) -> Field:
    return Field("link", about, kinds=tuple(f"catalogs.{kind}" for kind in kinds))


def _number(about: str, digits: int, scale: int) -> Field:
    return Field("number", about, digits=digits, scale=scale)


def _text(about: str, longest: int) -> Field:
    return Field("text", about, longest=longest)


HEADER: Mapping[str, Field] = {
    "date": Field("date", "When the customer ordered; absent: now"),
    "number": _text("The document's number; absent: the next one", 10),
    "presentation": Field("texts", "How lists and links name the order; absent: made of date and number", longest=80),
    "userPresentation": Field("flag", "Whether `presentation` was given by a person, and is kept"),
    "posted": Field("flag", "Whether it is posted, so that it changes registers; absent: not"),
    "firm": _link("Your firm that sells; absent: the account's default", "firms"),
    "business": _link("The line of business; absent: the account's default", "businesses"),
    "storage": _link(
        "Where the goods are, or who has them; absent: the account's default", "employees", "persons", "storages"
    ),
    "person": _link("The customer; absent: the end consumer", "persons"),
    "manager": _link("Who of your staff looks after it; absent: nobody", "employees"),
    "department": _link("The department; absent: the account's default", "departments"),
    "details": _text("How to reach the customer; Dilovod shows it where `person` is the end consumer", 100),
    "currency": _link("The currency of its amounts; absent: the account's default", "currency"),
    "paymentForm": _link("How it is paid; absent: the account's default", "paymentForms"),
    "priceType": _link("The category of its prices; absent: the account's default", "priceTypes"),
    "state": _link("Its state; absent: new", "states"),
    "deliveryPoint": _link("The point that it is delivered to; absent: none", "deliveryPoints"),
    "cashAccount": _link("The bank account that is paid to; absent: the account's default", "cashAccounts"),
    "tradeChanel": _link("The sales channel; absent: none", "tradeChanels"),
    "remark": _text("A remark that only your staff sees", 150),
    "remarkFromPerson": _text("What the customer remarked", 100),
    "remarkForPerson": _text("A remark that the customer sees", 100),
    "deliveryMethod": _link(
        "How it is delivered; mandatory with `deliveryData`; absent: the customer collects it", "deliveryMethods"
    ),
    "deliveryRemark": _text("A remark on the delivery", 100),
    "taxAccount": Field("flag", "Whether it counts for taxes; absent: the account's default"),
    "taxIncluded": Field("flag", "Whether prices include taxes; absent: they do"),
    "contract": _link("The contract that it is under; absent: none", "contracts"),
    "contact": _link("The customer's contact person; absent: none", "contacts"),
    "rate": _number("The rate of its currency; absent: that of its date", 9, 4),
    # The document gives it a catalogue as its type and 0 as its default; orders that were read show 0.000.
    "discountPercent": _number("A further discount in percent; absent: 0", 6, 3),
    "supplyDate": Field("date", "When it is to be delivered; absent: not fixed"),
    "reserveDate": Field("date", "Until when goods are reserved; absent: not fixed"),
    "payBefore": Field("date", "Until when it is to be paid; absent: not fixed"),
}

GOODS: Mapping[str, Field] = {
    "good": _link("What is ordered; mandatory without `productNum`", "goods"),
    "productNum": _text("The article number of what is ordered; mandatory without `good`", 30),
    "price": _number("The price of one unit in the order's currency; absent: 0", 14, 5),
    "qty": _number("How many; mandatory", 12, 3),
    "unit": _link("The unit of `qty`; absent: the good's own", "units"),
    "discount": _number("An amount taken off the whole row, in the order's currency; absent: 0", 11, 2),
    "remark": _text("A remark on the row", 150),
    "vatTax": _link("The rate of VAT; absent: the account's default", "taxes"),
    "vatAmount": _number("The amount of VAT, in the order's currency; absent: computed", 11, 2),
}

_WAYBILL_MADE = {
    "Ref": {**_TEXT, "maxLength": 36, "description": "The waybill's Ref at Nova Poshta, of 36 characters"},
    "IntDocNumber": {**_TEXT, "maxLength": 36, "description": "The waybill's number at Nova Poshta"},
}
_WAYBILL_NEW: JsonObject = {
    "PayerType": {**_TEXT, "description": "Who pays for the delivery: Sender, Recipient or ThirdPerson"},
    "PaymentMethod": {**_TEXT, "description": "How the delivery is paid: Cash or NonCash"},
    "CargoType": {**_TEXT, "description": "What is sent: Parcel, Cargo, Documents, TiresWheels or Pallet"},
    "VolumeGeneral": {**_NUMBER, "description": "The volume of all parcels, in cubic metres"},
    "Weight": {**_NUMBER, "description": "The weight of all parcels, in kg"},
    "ServiceType": {
        **_TEXT,
        "description": "From and to where: WarehouseWarehouse, WarehouseDoors, DoorsWarehouse or DoorsDoors",
    },
    "SeatsAmount": {**_NUMBER, "description": "The number of parcels"},
    "Description": {**_TEXT, "description": "What is inside, in words"},
    "Cost": {**_NUMBER, "description": "The declared value, in UAH"},
    "CitySender": {**_TEXT, "description": "The Ref of the town that it is sent from"},
    "Sender": {**_TEXT, "description": "The sender's Ref"},
    "SenderAddress": {**_TEXT, "description": "The Ref of the sender's address or branch"},
    "ContactSender": {**_TEXT, "description": "The Ref of the sender's contact person"},
    "SendersPhone": {**_TEXT, "description": "The sender's phone, as in 380671234567"},
    "CityRecipient": {**_TEXT, "description": "The Ref of the town that it is sent to"},
    "Recipient": {**_TEXT, "description": "The recipient's Ref"},
    "RecipientAddress": {**_TEXT, "description": "The Ref of the recipient's address or branch"},
    "ContactRecipient": {**_TEXT, "description": "The Ref of the recipient's contact person"},
    "RecipientsPhone": {**_TEXT, "description": "The recipient's phone, as in 380671234567"},
    "AdditionalInformation": {**_TEXT, "description": "Further words for the carrier"},
    "BackwardDeliveryData": {
        "type": ["array", "object"],
        "items": {"type": "object"},
        "description": "What is brought back, as cash on delivery; in Nova Poshta's form",
    },
    "OptionsSeat": {
        "type": ["array", "object"],
        "items": {"type": "object"},
        "description": "The size and weight of each parcel, in Nova Poshta's form",
    },
}

_PLACEMENT = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "autoPlacement": {
            "enum": [True, False, 0, 1, "0", "1"],
            "description": "Whether Dilovod reserves what is in stock for the order, and plans to buy the rest; "
            "it makes a document saleOrderPlacement. Absent: not",
        }
    },
}

_SCHEMA: JsonObject = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
    "required": ["header", "goods"],
    "properties": {
        "header": {
            "type": "object",
            "description": "The order's own fields. Each has a default; {} takes all of them",
            "additionalProperties": False,
            "properties": {name: field.schema() for name, field in HEADER.items()},
        },
        "goods": {
            "type": "array",
            "description": "What is ordered, one row each",
            "minItems": 1,
            "maxItems": MOST_ROWS,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["qty"],
                "properties": {name: field.schema() for name, field in GOODS.items()},
            },
        },
        "placement": {
            "description": "How goods are reserved for the order. One object, or a list of one",
            "anyOf": [_PLACEMENT, {"type": "array", "minItems": 1, "maxItems": 1, "items": _PLACEMENT}],
        },
        "deliveryData": {
            "type": "object",
            "description": "The waybill at Nova Poshta: `Ref` or `IntDocNumber` of one that exists there, or the data "
            "of one that Dilovod makes there. What is absent of these is taken from the delivery method's settings",
            "additionalProperties": False,
            "minProperties": 1,
            "properties": _WAYBILL_MADE | _WAYBILL_NEW,
        },
    },
}

_RULES = (
    "A row of `goods` names what is ordered by either `good` or `productNum`, not by both.",
    "With `deliveryData` the header names a `deliveryMethod`.",
    "`deliveryData` either names a waybill that exists, by `Ref` or `IntDocNumber`, or has the data of a new one.",
    "An id has 16 digits; where its kind is known, its first five are those of the kind that the field links to.",
    "A number has no more digits before and behind the point than its field keeps.",
    "A date is by Dilovod's wall clock, without a zone.",
)


def _violations(arguments: JsonObject, configured: Mapping[str, str]) -> list[Violation]:
    return [
        *field_violations(HEADER, arguments["header"], "header"),
        *(each for index, row in enumerate(arguments["goods"]) for each in _row_violations(row, f"goods.{index}")),
        *_waybill_violations(arguments),
        *command_values.unique_violations(arguments["header"], ORDER, configured),
    ]


def field_violations(fields: Mapping[str, Field], given: JsonObject, path: str) -> Iterator[Violation]:
    """What is wrong with the documented ones of the fields that are given."""
    for name, value in given.items():
        if name in fields:
            yield from fields[name].violations(value, f"{path}.{name}")


def _row_violations(row: JsonObject, path: str) -> Iterator[Violation]:
    given = [name for name in ("good", "productNum") if command_values.link(row.get(name)) not in {"", "0"}]
    if not given:
        yield Violation(path, "name what is ordered by `good` or by `productNum`")
    elif len(given) > 1:
        yield Violation(f"{path}.productNum", "remove `good` or `productNum`: they might name different goods")
    yield from field_violations(GOODS, row, path)


def _waybill_violations(arguments: JsonObject) -> Iterator[Violation]:
    data = arguments.get("deliveryData")
    if data is None:
        return
    if command_values.link(arguments["header"].get("deliveryMethod")) in {"", "0"}:
        yield Violation("header.deliveryMethod", "name the delivery method, which a waybill needs")
    made, new = ([name for name in names if name in data] for names in (_WAYBILL_MADE, _WAYBILL_NEW))
    if made and new:
        yield Violation(
            f"deliveryData.{new[0]}", f"remove it, or {' and '.join(made)}: a waybill exists already, or is made anew"
        )
    for name in made:
        if not data[name].strip():
            yield Violation(f"deliveryData.{name}", "it is empty; write it, or remove the field")
    for name in ("VolumeGeneral", "Weight", "SeatsAmount", "Cost"):
        if name in data and not command_values.is_number(data[name]):
            yield Violation(f"deliveryData.{name}", command_values.NO_NUMBER)


def sale_order_create(configured: Mapping[str, str]) -> Action:
    """The action. `configured`: by kind, the field that finds a new object again."""
    return Action(
        name="saleOrderCreate",
        title="Create a customer's order",
        schema=_SCHEMA,
        rules=_RULES,
        check=lambda arguments: _violations(arguments, configured),
        example={
            "header": {
                "firm": "1100400000001001",
                "person": "1100100000001001",
                "remarkFromPerson": "call me please",
            },
            "goods": [{"good": "1100300000022632", "qty": 1}, {"good": "1100300000022876", "qty": 2}],
            "placement": {"autoPlacement": True},
        },
        source=_SOURCE,
        subject=lambda _: None,
        creates=lambda _: ORDER,
        unique={ORDER: table.unique_fields(ORDER)},
    )
