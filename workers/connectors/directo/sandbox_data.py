"""The company in Directo's sandbox: its tables, how filters select from them, and its everyday and scripted edits."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from random import Random
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.values import JsonObject

TALLINN = ZoneInfo("Europe/Tallinn")

KEYS = {
    "items": ("code",),
    "itemclasses": ("code",),
    "customers": ("code",),
    "orders": ("number",),
    "invoices": ("number",),
    "transactions": ("type", "number"),
    "stocklevels": ("item_code", "warehouse"),
}
_WAREHOUSES = ("AALTR", "AIPM")
_GOODS = ("Kommid Lily, Kalev", "Šokolaad Kalev", "Kama Öö", "Vahukomm", "Martsipan Tõde", "Küpsis Õnn")
_PEOPLE = ("Tamme OÜ", "Kask & Pojad AS", "Õnnela <Tallinn> OÜ", "Jõe Talu", "Männi FIE", "Šveits Ehitus")
_COUNTRIES = ("EE", "EE", "LV", "FI")
_STATUSES = ("NEW", "PENDING", "CLOSED")
_FIRST_YEAR = 2016

CALCULATED = (
    *("total_with_vat", "line_total", "discount_amount", "available_stock", "profit_margin", "total_orders"),
    *("average_price", "sum_quantity", "formatted_date", "formatted_price", "order_total", "full_address"),
)
"""Fields documented as computed on the fly (Directo API documentation, "Calculated Fields")."""


@dataclass(frozen=True, slots=True)
class Deleted:
    """An entry of `/deleted`."""

    resource: str
    record: JsonObject
    ts: str


class MalformedFilterError(ValueError):
    """A filter that Directo answers with 400."""


class Books:
    """The company's tables, of records as JSON replies show them. `now`: Directo's clock, aware."""

    def __init__(self, seed: int, now: Callable[[], datetime]) -> None:
        self.random = Random(seed)
        self.now = now
        self.tables: dict[str, list[JsonObject]] = {name: [] for name in KEYS}
        self.deleted: list[Deleted] = []

    def stamp(self, back: timedelta = timedelta()) -> str:
        """A `ts` in Directo's form: the wall clock `back` ago, with a space and without a zone."""
        return f"{(self.now() - back).astimezone(TALLINN):%Y-%m-%d %H:%M:%S}"

    def key(self, resource: str, record: JsonObject) -> str:
        """The record's key: its key fields joined by `:`."""
        return ":".join(str(record[field]) for field in KEYS[resource])

    def add(self, resource: str, record: JsonObject, *, back: timedelta = timedelta()) -> JsonObject:
        """Add a record with its `ts`; stock levels have a fixed one, as theirs does not change with the quantity."""
        record["ts"] = "2016-01-01 08:00:00" if resource == "stocklevels" else self.stamp(back)
        self.tables[resource].append(record)
        return record

    def touch(self, record: JsonObject, **changes: Any) -> None:
        """Change a record as a user would: its `ts` becomes now."""
        record.update(changes, ts=self.stamp())

    def remove(self, resource: str, record: JsonObject, *, announced: bool = True) -> None:
        """Delete a record; `announced`: `/deleted` lists it."""
        self.tables[resource].remove(record)
        if announced:
            self.deleted.append(Deleted(resource, record, self.stamp()))

    # The company.

    def fill(self, objects: int) -> None:
        """Fill the tables with records of several years."""
        for number, name in enumerate(("KAUP", "TEENUS")):
            self.add(
                "itemclasses", {"code": name, "name": name.title(), "level": number or "0"}, back=timedelta(days=900)
            )
        for number in range(objects):
            self.new_item(number)
            self.new_customer(number)
        for number in range(objects):
            self.new_order(self._some_day(), back=timedelta(days=1 + number))
            self.new_invoice(self._some_day(), back=timedelta(days=1 + number))
            self.new_transaction("OST" if number % 2 else "MYYK", number // 2 + 1, back=timedelta(days=1 + number))
        self.new_order("2099-12-31T00:00:00", back=timedelta(days=700))
        self.new_order("", back=timedelta(days=700))

    def _some_day(self) -> str:
        days = (self.now().astimezone(TALLINN).replace(tzinfo=None) - datetime(_FIRST_YEAR, 1, 1)).days  # noqa: DTZ001
        day = datetime(_FIRST_YEAR, 1, 1) + timedelta(days=self.random.randrange(days))  # noqa: DTZ001
        return f"{day:%Y-%m-%dT%H:%M:%S}"

    def new_item(self, number: int) -> JsonObject:
        """An item with its stock levels."""
        code = str(1011 + number) if number % 3 else f"00{number + 7}"
        item = {
            "code": code,
            "class": "KAUP",
            "name": f"{_GOODS[number % len(_GOODS)]} {number}",
            "salesprice": _amount(self.random, 100_000),
            "barcode": None if number % 4 else f"47400{number:08d}",
            "closed": (0, 0, 0, 1)[number % 4],
            "datafields": [
                {"code": "IS_WEIGHT", "content": str(number % 2)},
                {"code": "LISANIMI", "param": "ENG", "content": "Sweet"},
            ],
        }
        if number % 5 == 0:
            del item["barcode"]
        for warehouse in _WAREHOUSES:
            quantity = Decimal(self.random.randrange(1, 500))
            self.add("stocklevels", {"item_code": code, "warehouse": warehouse, "quantity": quantity})
        return self.add("items", item, back=timedelta(days=number + 1))

    def new_customer(self, number: int) -> JsonObject:
        """A customer; an empty field is absent, null or an empty text."""
        customer: JsonObject = {
            "code": f"CUST{number + 1:03d}",
            "name": _PEOPLE[number % len(_PEOPLE)],
            "country": _COUNTRIES[number % len(_COUNTRIES)],
            "email": ("", None, f"info{number}@example.org")[number % 3],
            "class": (0, "0", "VIP")[number % 3],
            "creditlimit": _amount(self.random, 10_000_000),
            "closed": (0, 0, 1)[number % 3],
            "datafields": [],
        }
        return self.add("customers", customer, back=timedelta(days=number + 1))

    def new_order(self, date: str, *, back: timedelta = timedelta()) -> JsonObject:
        """An order of one or more lines."""
        return self._document("orders", date, back, status=_STATUSES[len(self.tables["orders"]) % len(_STATUSES)])

    def new_invoice(self, date: str, *, back: timedelta = timedelta()) -> JsonObject:
        """An invoice of one or more lines."""
        return self._document("invoices", date, back, confirmed=1, currency="EUR")

    def _document(self, resource: str, date: str, back: timedelta, **fields: Any) -> JsonObject:
        customer = self.random.choice(self.tables["customers"])
        rows = [self.line(number + 1, date) for number in range(self.random.randrange(1, 4))]
        document = {
            "number": max((each["number"] for each in self.tables[resource]), default=1000) + 1,
            "date": date,
            "customercode": customer["code"],
            "customername": customer["name"],
            "totalamount": _total(rows),
            **fields,
            "datafields": [],
            "rows": rows,
        }
        return self.add(resource, document, back=back)

    def line(self, number: int, date: str) -> JsonObject:
        """A line of a document."""
        item = self.random.choice(self.tables["items"])
        quantity = Decimal(self.random.randrange(1, 20))
        return {
            "rn": number,
            "item": item["code"],
            "description": item["name"],
            "quantity": quantity,
            "price": item["salesprice"],
            "vatcode": 22 if number % 2 else "22",
            "date": date or None,
            "sum": quantity * item["salesprice"],
        }

    def new_transaction(self, kind: str, number: int, *, back: timedelta = timedelta()) -> JsonObject:
        """A ledger entry; two types may use the same number."""
        amount = _amount(self.random, 1_000_000)
        sides = ((amount, None, "500100"), (None, amount, "100100"))
        rows = [
            {
                "rn": side + 1,
                "account": account,
                "debitamount": debit,
                "creditamount": credit,
                "object": "TEAM1, E001" if number % 2 else "TEAM1,E001",
            }
            for side, (debit, credit, account) in enumerate(sides)
        ]
        entry = {
            "number": number,
            "type": kind,
            "date": self._some_day(),
            "reference": f"INV-{number}",
            "cu": "U1",
            "rows": rows,
        }
        return self.add("transactions", entry, back=back)

    # Edits; each returns a sentence that describes it.

    def today(self) -> str:
        """The `date` of a document made today."""
        return f"{self.now().astimezone(TALLINN):%Y-%m-%dT00:00:00}"

    def everyday(self, random: Random) -> str:
        """Make one random everyday change."""
        edits: list[Callable[[Random], str]] = [
            *[self.order] * 3,
            *[self.edit_order] * 3,
            *[self.sell] * 3,
            *[self.reprice] * 2,
            *[self.edit_customer] * 2,
            self.book,
            self.delete_order,
        ]
        return random.choice(edits)(random)

    def scenario(self, random: Random) -> Iterator[str]:
        """A scripted day of the changes that mirrors most often miss."""
        steps: tuple[Callable[[Random], str], ...] = (
            self.order,
            self.edit_order,
            self.sell,
            self.reprice,
            self.edit_customer,
            self.book,
            self.delete_order,
            self.delete_silently,
            self.delete_and_create_again,
            self.new_datafield,
            self.new_field,
            self.changed_type,
            self.move_stock,
            self.sell_out,
        )
        for step in steps:
            yield step(random)

    def order(self, _random: Random) -> str:
        """Create an order."""
        return f"a customer ordered: order {self.new_order(self.today())['number']}"

    def edit_order(self, random: Random) -> str:
        """Add a line to an order."""
        order = random.choice(self.tables["orders"] or [self.new_order(self.today())])
        order["rows"] = [*order["rows"], self.line(len(order["rows"]) + 1, self.today())]
        self.touch(order, totalamount=_total(order["rows"]))
        return f"a line was added to order {order['number']}"

    def sell(self, random: Random) -> str:
        """Create an invoice, and move stock without changing its `ts`."""
        self.move_stock(random)
        return f"goods were sold: invoice {self.new_invoice(self.today())['number']}, and stock moved"

    def reprice(self, random: Random) -> str:
        """Change an item's price."""
        item = random.choice(self.tables["items"])
        self.touch(item, salesprice=_amount(random, 100_000))
        return f"item {item['code']} has another price"

    def edit_customer(self, random: Random) -> str:
        """Change a customer's phone."""
        customer = random.choice(self.tables["customers"])
        self.touch(customer, phone=f"+372 5{random.randrange(10**6):06d}", email="")
        return f"customer {customer['code']} has another phone"

    def book(self, _random: Random) -> str:
        """Create two transactions of different types with the same number."""
        number = max(each["number"] for each in self.tables["transactions"]) + 1
        for kind in ("OST", "MYYK"):
            self.new_transaction(kind, number)
        return f"two transactions were booked, both with the number {number}"

    def delete_order(self, random: Random) -> str:
        """Delete an order; `/deleted` lists it."""
        order = self._spare_order(random)
        self.remove("orders", order)
        return f"order {order['number']} was deleted"

    def delete_silently(self, random: Random) -> str:
        """Delete an order; `/deleted` does not list it."""
        order = self._spare_order(random)
        self.remove("orders", order, announced=False)
        return f"order {order['number']} was deleted, and /deleted does not list it"

    def delete_and_create_again(self, random: Random) -> str:
        """Delete an order and create it again: `/deleted` lists an object that exists."""
        order = self._spare_order(random)
        self.remove("orders", order)
        self.add("orders", order | {"status": "AGAIN"})
        return f"order {order['number']} was deleted and created again"

    def new_datafield(self, random: Random) -> str:
        """Add a custom field to an item."""
        item = random.choice(self.tables["items"])
        self.touch(item, datafields=[*item["datafields"], {"code": "VENSAFE", "content": "1"}])
        return f"item {item['code']} got the custom field VENSAFE"

    def new_field(self, random: Random) -> str:
        """Add a field that no record had before."""
        customer = random.choice(self.tables["customers"])
        self.touch(customer, loyaltyTier="gold")
        return f"customer {customer['code']} has the new field loyaltyTier"

    def changed_type(self, random: Random) -> str:
        """Put a text where all records had a number."""
        item = random.choice(self.tables["items"])
        self.touch(item, closed="ajutiselt")
        return f"item {item['code']} has a text where a number was"

    def move_stock(self, random: Random) -> str:
        """Change a quantity but not its `ts`."""
        level = random.choice(self.tables["stocklevels"])
        level["quantity"] += Decimal(random.randrange(-9, 10)) + Decimal("0.5000")
        return f"stock of {level['item_code']} in {level['warehouse']} moved"

    def sell_out(self, random: Random) -> str:
        """Remove a row of a computed list."""
        level = random.choice(self.tables["stocklevels"])
        self.tables["stocklevels"].remove(level)
        return f"{level['item_code']} is sold out in {level['warehouse']}"

    def _spare_order(self, random: Random) -> JsonObject:
        orders = self.tables["orders"]
        return random.choice(orders) if len(orders) > 1 else self.new_order(self.today())


def _amount(random: Random, cents: int) -> Decimal:
    return Decimal(random.randrange(1, cents)).scaleb(-2).quantize(Decimal("0.0001"))


def _total(rows: list[JsonObject]) -> Decimal:
    return sum((row["sum"] for row in rows), Decimal()).quantize(Decimal("0.0001"))


def filter_values(record: JsonObject, name: str) -> list[Any] | None:
    """The values that a filter of this name tests; None if the record has no such field."""
    if name in record:
        return [record[name]]
    if name.startswith("row_") and any(name[4:] in row for row in record.get("rows", ())):
        return [row.get(name[4:]) for row in record["rows"]]
    found = [field["content"] for field in record.get("datafields", ()) if field["code"] == name]
    return found or None


def matches(value: Any, wanted: str, *, inclusive: bool = False) -> bool:
    """Whether a value passes a filter given with its operator (Directo API documentation, "Advanced Filtering")."""
    if wanted[:1] in {">", "<"}:
        return _is_beyond(value, wanted, inclusive=inclusive)
    if wanted[:1] == "!":
        return not matches(value, wanted[1:])
    if "," in wanted:
        return any(matches(value, each) for each in wanted.split(","))
    if len(wanted) > 1 and wanted[0] == wanted[-1] == "%":
        return wanted.strip("%").lower() in str(value or "").lower()
    number = isinstance(value, int | Decimal)
    return value is not None and (str(value) == wanted or (number and _comparable(value) == _comparable(wanted)))


def _is_beyond(value: Any, wanted: str, *, inclusive: bool) -> bool:
    bound, actual = _bound(wanted[1:]), _comparable(value)
    if type(actual) is not type(bound):
        return False
    return (inclusive and actual == bound) or bool(actual > bound if wanted[0] == ">" else actual < bound)


def _bound(wanted: str) -> Any:
    bound = _comparable(wanted)
    if isinstance(bound, str) and re.match(r"\d{4}-", bound):
        raise MalformedFilterError(f"Invalid date: {wanted}")
    return bound


def _comparable(value: Any) -> Any:
    if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\d", value):
        with suppress(ValueError):
            moment = datetime.fromisoformat(value)
            return moment.astimezone(TALLINN).replace(tzinfo=None) if moment.tzinfo else moment
    try:
        return Decimal(value)
    except (InvalidOperation, TypeError, ValueError):
        return value
