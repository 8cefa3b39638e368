"""The company in Dilovod's sandbox: its objects and registers, and how Dilovod shows and queries them."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from models.values import JsonObject

RESTRICTED = "[access restricted]"
ZERO_DATE = "0000-00-00 00:00:00"
NOTHING = "0"

# `valueType` is a text, an object or a list, so that clients must handle all three.
_CODE, _REMARK, _NAME = "varchar (9)", "varchar (150)", "multiLangVarchar (80) (ru,uk)"
_FLAG, _DATE, _NUMBER = {"type": "boolean"}, "datetime", {"type": "int", "length": "11"}
_PRICE = {"type": "decimal", "length": "14:5"}
_QTY = {"type": "decimal", "length": "12:3"}
_AMOUNT = {"type": "decimal", "length": "11:2"}
_STORAGE = ["catalogs.employees", "catalogs.persons", "catalogs.storages"]
_NAMED = {"code": _CODE, "name": _NAME, "delMark": _FLAG, "version": _NUMBER}


@dataclass
class Kind:
    """A catalogue or a kind of document: its fields and its table parts, name -> `valueType`."""

    prefix: str
    presentation: str
    fields: dict[str, Any]
    parts: dict[str, dict[str, Any]] | None = None


@dataclass(frozen=True)
class Register:
    """A register: the fields that identify a row, and the quantities it holds, name -> `valueType`."""

    presentation: str
    dimensions: dict[str, Any]
    resources: dict[str, Any]


_KINDS = {
    "catalogs.goods": Kind(
        "11003",
        "Товари та послуги",
        _NAMED
        | {
            "parent": "catalogs.goods",
            "isGroup": _FLAG,
            "productNum": "varchar (30)",
            "mainUnit": ["catalogs.units"],
            "weight": _QTY,
            "printName": "varchar (150)",
            "description": "multiLangVarchar (500) (ru,uk)",
        },
        {"tpGoods": {"rowNum": _NUMBER, "good": "catalogs.goods", "qty": _QTY, "remark": _REMARK}},
    ),
    "catalogs.persons": Kind(
        "11001",
        "Організації та фізичні особи",
        _NAMED
        | {
            "parent": "catalogs.persons",
            "phone": "varchar (50)",
            "email": "varchar (50)",
            "remark": _REMARK,
            "details": "text",
        },
    ),
    "catalogs.units": Kind("11036", "Одиниці виміру", dict(_NAMED)),
    "catalogs.firms": Kind("11004", "Підприємства", dict(_NAMED)),
    "catalogs.storages": Kind("11007", "Місця зберігання", dict(_NAMED)),
    "catalogs.currency": Kind("11012", "Валюти", dict(_NAMED)),
    "catalogs.priceTypes": Kind("11013", "Категорії цін", dict(_NAMED)),
    "catalogs.states": Kind("11115", "Статуси", dict(_NAMED)),
    "documents.saleOrder": Kind(
        "11091",
        "Замовлення покупців",
        {
            "date": _DATE,
            "number": "varchar (10)",
            "presentation": _NAME,
            "delMark": _FLAG,
            "posted": _FLAG,
            "version": _NUMBER,
            "remark": _REMARK,
            "baseDoc": ["documents.saleOrder"],
            "firm": "catalogs.firms",
            "storage": _STORAGE,
            "person": "catalogs.persons",
            "state": {"type": "catalogs.states"},
            "currency": "catalogs.currency",
            "amountCur": _AMOUNT,
            "rate": "decimal (9:4)",
            "discountPercent": {"type": "decimal", "length": "6:3"},
            "supplyDate": _DATE,
            "taxAccount": _FLAG,
            "details": "varchar (100)",
            "userPresentation": _FLAG,
            "business": "catalogs.businesses",
            "manager": "catalogs.employees",
            "department": "catalogs.departments",
            "paymentForm": "catalogs.paymentForms",
            "priceType": "catalogs.priceTypes",
            "deliveryPoint": "catalogs.deliveryPoints",
            "cashAccount": "catalogs.cashAccounts",
            "tradeChanel": "catalogs.tradeChanels",
            "remarkFromPerson": "varchar (100)",
            "remarkForPerson": "varchar (100)",
            "deliveryMethod": "catalogs.deliveryMethods",
            "deliveryRemark": "varchar (100)",
            "taxIncluded": _FLAG,
            "contract": "catalogs.contracts",
            "contact": "catalogs.contacts",
            "reserveDate": _DATE,
            "payBefore": _DATE,
        },
        {
            "tpGoods": {
                "rowNum": _NUMBER,
                "good": "catalogs.goods",
                "price": _PRICE,
                "qty": _QTY,
                "baseQty": _QTY,
                "priceAmount": _AMOUNT,
                "discount": _AMOUNT,
                "amountCur": _AMOUNT,
                "unit": "catalogs.units",
                "ratio": {"type": "decimal", "length": "9:4"},
                "vatTax": "catalogs.taxes",
                "vatAmount": _AMOUNT,
                "remark": _REMARK,
            }
        },
    ),
}

REGISTERS = {
    "balanceRegisters.goods": Register(
        "Товари на складах",
        {"firm": "catalogs.firms", "storage": _STORAGE, "good": "catalogs.goods"},
        {"qty": _QTY, "amount": _AMOUNT},
    ),
    "accumulationRegisters.saleIncomes": Register(
        "Доходи від продажу",
        # No `good`, although the help's sample filters by it: real metadata has none.
        {"firm": "catalogs.firms", "person": "catalogs.persons"},
        {"amount": _AMOUNT},
    ),
    "informationRegisters.goodsPrices": Register(
        "Ціни товарів",
        {"good": "catalogs.goods", "priceType": "catalogs.priceTypes"},
        {"price": _PRICE, "currency": ["catalogs.currency"]},
    ),
}


_SELECTION_TYPES = {
    "balance": ("balanceRegisters", "accumulationRegisters"),
    "turnover": ("balanceRegisters", "accumulationRegisters"),
    "balanceAndTurnover": ("balanceRegisters", "accumulationRegisters"),
    "sliceLast": ("informationRegisters",),
}
"""Selection type -> families of registers (Dilovod help, API Dilovod, the table of "Тип вибірки")."""

_END_OF_TIME = "9999"


class RefusedError(Exception):
    """A request that Dilovod answers with `{"error": …}`."""


@dataclass
class VendorObject:
    """An object of a catalogue, or a document. Links in `header` and `parts` are bare ids; answers add their names."""

    kind: str
    id: str
    header: JsonObject
    parts: dict[str, list[JsonObject]]

    @property
    def marked(self) -> bool:
        """Whether it is marked as deleted."""
        return bool(self.header["delMark"] == "1")


@dataclass(frozen=True)
class Row:
    """A row that a `request` can select: its values, and the `valueType` of each."""

    values: JsonObject
    types: dict[str, Any]


@dataclass(frozen=True)
class Movement:
    """A record of a register with balances. `place` and `amounts` are in the order of its dimensions and resources.

    Receipts are positive, expenses negative; Dilovod's own form is not documented.
    """

    date: str
    place: tuple[str, ...]
    amounts: tuple[Decimal, ...]


@dataclass
class Sums:
    """The opening balance of one resource, and its receipts and expenses in a period."""

    opening: Decimal = Decimal()
    receipt: Decimal = Decimal()
    expense: Decimal = Decimal()

    @property
    def closing(self) -> Decimal:
        """The balance at the end."""
        return self.opening + self.receipt - self.expense

    def add(self, amount: Decimal, *, before: bool) -> None:
        """Add a movement: to the opening balance if it was before the period, else to receipts or expenses."""
        if before:
            self.opening += amount
        elif amount > 0:
            self.receipt += amount
        else:
            self.expense -= amount

    def show(self, selection: str, spelling: tuple[str, str]) -> dict[str, Decimal]:
        """Suffix of the resource's name -> value, for a selection type."""
        turnover = dict(zip(spelling, (self.receipt, self.expense), strict=True))
        all_sums = {"Start": self.opening, **turnover, "Final": self.closing}
        return {"balance": {"": self.closing}, "turnover": turnover, "balanceAndTurnover": all_sums}[selection]


@dataclass
class Price:
    """A record of `informationRegisters.goodsPrices`."""

    date: str
    good: str
    price_type: str
    price: Decimal
    currency: str


@dataclass
class RequestKnobs:
    """In what a `request` of objects and table parts differs from `getObject`. None of it is known of Dilovod itself.

    - `hidden`: aliases that its rows lack
    - `rounded`: alias -> digits after the point
    - `restricted`: aliases of links whose text is hidden
    - `longest_list`: values that an `IL` filter takes; more are refused, or with `cuts_lists` left out
    - `shuffles`: each answer has another order of rows, so that pages shift
    - `repeats`: the first row of each answer comes twice
    - `meanwhile`: what is asked for -> what happens once, after it was answered
    """

    hidden: set[str] = field(default_factory=set)
    rounded: dict[str, int] = field(default_factory=dict)
    restricted: set[str] = field(default_factory=set)
    longest_list: int | None = None
    cuts_lists: bool = False
    shuffles: bool = False
    repeats: bool = False
    meanwhile: dict[str, Callable[[], Any]] = field(default_factory=dict)

    def taken(self, values: list[Any]) -> list[Any]:
        """The values of an `IL` filter that count."""
        if self.longest_list is None or len(values) <= self.longest_list:
            return values
        if not self.cuts_lists:
            raise RefusedError(f"the list has more than {self.longest_list} values")
        return values[: self.longest_list]

    def shown(self, row: JsonObject) -> JsonObject:
        """An assembled row."""
        rounded = {name: f"{Decimal(row[name]):.{digits}f}" for name, digits in self.rounded.items() if name in row}
        restricted = {f"{name}__pr": RESTRICTED for name in self.restricted if f"{name}__pr" in row}
        return {name: value for name, value in (row | rounded | restricted).items() if name not in self.hidden}


@dataclass
class Books:
    """The company's data in Dilovod. Not thread-safe: the sandbox locks.

    - `clock`: aware, in Kyiv's zone
    - `denied`: kinds that the key's role may not read
    - `requests`: in what a `request` differs from `getObject`
    - `unknown_fields`: fields that a `request` refuses, although objects have them
    - `spelling`: selection type -> suffixes for receipts and expenses (the help's own samples differ)
    - `lists_sums`: whether the metadata lists these sums among the resources
    """

    seed: int
    clock: Callable[[], datetime]
    denied: set[str] = field(default_factory=lambda: {"catalogs.states"})
    unknown_fields: set[str] = field(default_factory=set)
    requests: RequestKnobs = field(default_factory=RequestKnobs)
    things: dict[str, VendorObject] = field(default_factory=dict)
    movements: list[Movement] = field(default_factory=list)
    prices: list[Price] = field(default_factory=list)
    spelling: dict[str, tuple[str, str]] = field(
        default_factory=lambda: {"turnover": ("Reciept", "Expence"), "balanceAndTurnover": ("Receipt", "Expense")}
    )
    lists_sums: bool = False

    def __post_init__(self) -> None:
        self.kinds = copy.deepcopy(_KINDS)
        self._by_prefix = {kind.prefix: name for name, kind in self.kinds.items()}
        self._numbers = dict.fromkeys(self.kinds, 1000)
        self._row_id = 105_000
        self.random = Random(self.seed)

    # Writing.

    def wall_clock(self, *, days: float = 0) -> str:
        """Kyiv's wall clock, "2026-01-31 23:59:59", so many days from now."""
        return (self.clock() + timedelta(days=days)).strftime("%Y-%m-%d %H:%M:%S")

    def add(self, kind: str, *, id_: str | None = None, **header: Any) -> VendorObject:
        """Create an object; `id_`: of a removed one that is created again."""
        self._numbers[kind] += 1
        made = id_ or f"{self.kinds[kind].prefix}{self._numbers[kind]:011d}"
        empty = _blank(self.kinds[kind].fields)
        fixed = {"version": "1", "delMark": "0", "isGroup": "0", "posted": "0", "code": str(self._numbers[kind])}
        known = {name: value for name, value in fixed.items() if name in empty}
        parts: dict[str, list[JsonObject]] = {part: [] for part in self.kinds[kind].parts or {}}
        thing = VendorObject(kind, made, empty | known | header, parts)
        self.things[made] = thing
        return thing

    def add_row(self, thing: VendorObject, part: str, **values: Any) -> JsonObject:
        """Append a row to a table part."""
        self._row_id += 1
        fields = (self.kinds[thing.kind].parts or {})[part]
        row = {"id": str(self._row_id), **_blank(fields), "rowNum": str(len(thing.parts[part]) + 1), **values}
        thing.parts[part].append(row)
        return row

    def touch(self, thing: VendorObject, **header: Any) -> VendorObject:
        """Change header fields and save: the version rises, and newly declared fields appear."""
        thing.header = _blank(self.kinds[thing.kind].fields) | thing.header | header
        thing.header["version"] = str(int(thing.header["version"]) + 1)
        return thing

    def mark(self, thing: VendorObject, mark: str = "1") -> None:
        """Set or clear `delMark`; marking a group marks what is in it (Dilovod help, setDelMark)."""
        self.touch(thing, delMark=mark, **({"posted": "0"} if "posted" in thing.header and mark == "1" else {}))
        if mark == "1" and thing.header.get("isGroup") == "1":
            for other in list(self.things.values()):
                if other.kind == thing.kind and other.header["parent"] == thing.id and not other.marked:
                    self.mark(other)

    def remove(self, thing: VendorObject) -> None:
        """Remove an object physically, without a webhook."""
        del self.things[thing.id]

    def move(self, place: tuple[str, ...], qty: Decimal, amount: Decimal, *, date: str | None = None) -> None:
        """Record goods that arrive in a firm's storage (positive) or leave it (negative)."""
        self.movements.append(Movement(date or self.wall_clock(), place, (qty, amount)))

    @property
    def stock(self) -> dict[tuple[str, ...], tuple[Decimal, ...]]:
        """(firm, storage, good) -> (quantity, amount); sold-out goods are included."""
        held: dict[tuple[str, ...], tuple[Decimal, ...]] = {}
        for each in self.movements:
            before = held.get(each.place, (Decimal(), Decimal()))
            held[each.place] = tuple(one + other for one, other in zip(before, each.amounts, strict=True))
        return held

    def movements_of(self, register: str) -> list[Movement]:
        """The records of a register with balances; those of sale incomes follow from the posted orders."""
        if register == "balanceRegisters.goods":
            return self.movements
        return [
            Movement(each["date"], (each["firm"], each["person"]), (Decimal(each["amountCur"]),))
            for order in self.of("documents.saleOrder")
            if (each := order.header)["posted"] == "1" and not order.marked
        ]

    def of(self, kind: str) -> list[VendorObject]:
        """All objects of a kind, marked ones included."""
        return [thing for thing in self.things.values() if thing.kind == kind]

    def kind_of(self, key: str) -> str | None:
        """The kind of object that the id is of, by its first digits."""
        return self._by_prefix.get(key[:5])

    # Showing.

    def get_object(self, key: str) -> JsonObject:
        """The answer of `getObject`."""
        thing = self.things.get(key)
        if thing is None:
            raise RefusedError(f"object with id {key} not found")
        self.allow(thing.kind)
        return self.show(thing)

    def allow(self, name: str) -> None:
        """Raise RefusedError for a kind that the role may not read."""
        if name in self.denied:
            raise RefusedError(f"Access to {name} denied, check role settings")

    def show(self, thing: VendorObject) -> JsonObject:
        """The `getObject` answer: header links are `{"id","pr"}`, row links `x` and `x__pr`, parts keyed by row id."""
        kind = self.kinds[thing.kind]
        header: JsonObject = {"id": {"id": thing.id, "pr": self.presentation(thing)}}
        for name, value in thing.header.items():
            header[name] = self._header_value(value, kind.fields[name])
        answer: JsonObject = {"header": header}
        if kind.parts is not None:
            answer["tableParts"] = {
                part: {row["id"]: self._show_row(row, fields) for row in thing.parts[part]} or []
                for part, fields in kind.parts.items()
            }
        return answer | {"misc": False}

    def _header_value(self, value: Any, value_type: Any) -> Any:
        return {"id": value, "pr": self.name_of(value, value_type)} if is_link(value_type) else copy.copy(value)

    def _show_row(self, row: JsonObject, fields: dict[str, Any]) -> JsonObject:
        answer: JsonObject = {}
        for name, value in row.items():
            answer[name] = value
            if is_link(fields.get(name)):
                answer[f"{name}__pr"] = self.name_of(value, fields[name])
        return answer

    def name_of(self, key: str, value_type: Any) -> str | None:
        """A link's `pr`: None if it is empty or its object is gone, a fixed text if the role may not read that kind."""
        kinds = set(type_texts(value_type))
        kind = self.kind_of(str(key))
        if kind in self.denied or (kinds and kinds <= self.denied):
            return RESTRICTED
        return self.presentation(self.things[key]) if key in self.things else None

    def presentation(self, thing: VendorObject) -> str:
        """The text that links to the object show."""
        return str((thing.header.get("presentation") or thing.header["name"])["uk"])

    # Describing.

    def list_metadata(self) -> JsonObject:
        """The answer of `listMetadata`."""
        named = {name: (kind.prefix, kind.presentation) for name, kind in self.kinds.items()}
        named |= {name: ("", register.presentation) for name, register in REGISTERS.items()}
        return {
            name: {"id": f"{1_000_000_000_001_200 + index}", "idPrefix": prefix, "presentation": presentation}
            for index, (name, (prefix, presentation)) in enumerate(named.items())
        }

    def get_metadata(self, name: str) -> JsonObject:
        """The answer of `getMetadata`, by name or by the id of `listMetadata`."""
        listed = {each["id"]: known for known, each in self.list_metadata().items()}
        name = listed.get(name, name)
        if name in REGISTERS:
            return self._describe_register(name)
        kind = self.kinds.get(name)
        if kind is None:
            raise RefusedError(f"metadata object {name} not found")
        described: JsonObject = {
            "name": name,
            "presentation": kind.presentation,
            "listPresentation": kind.presentation,
            "idPrefix": kind.prefix,
            "hierarchyType": "groups" if "parent" in kind.fields else "none",
            "autoNumeration": 1,
            "reqs": _declare(kind.fields),
            "predefined": [],
        }
        if kind.parts is not None:
            described["tableParts"] = {part: {"reqs": _declare(fields)} for part, fields in kind.parts.items()}
        return described

    def _describe_register(self, name: str) -> JsonObject:
        register = REGISTERS[name]
        resources = dict(register.resources)
        if self.lists_sums and not name.startswith("informationRegisters."):
            suffixes = dict.fromkeys(["Start", "Final", *(each for pair in self.spelling.values() for each in pair)])
            resources |= {f"{each}{suffix}": _AMOUNT for each in register.resources for suffix in suffixes}
        return {
            "name": name,
            "presentation": register.presentation,
            "reqs": _declare({"date": _DATE}),
            "dimensions": _declare(register.dimensions),
            "resources": _declare(resources),
        }

    # Selecting.

    def request(self, params: JsonObject) -> Any:
        """The answer of `request`. A top-level `offset` is ignored, as Dilovod does."""
        fields: dict[str, str] = dict(params.get("fields") or {})
        knobs, from_ = self.requests, params.get("from")
        rows = self._filtered(self._source(from_), fields, params.get("filters") or ())
        if knobs.shuffles:
            self.random.shuffle(rows)
        rows = _limit(rows, params.get("limit"))
        if knobs.repeats:
            rows = [*rows[:1], *rows]
        multilang = bool(params.get("multilang"))
        if params.get("assembleLinks", True):
            answer: Any = [knobs.shown(self._assembled(row, fields, multilang=multilang)) for row in rows]
        else:
            plain = [self._plain(row, fields, multilang=multilang) for row in rows]
            columns = list(plain[0]) if plain else list(fields.values())
            answer = {"columns": columns, "data": [list(row.values()) for row in plain]}
        if isinstance(from_, str) and (happens := knobs.meanwhile.pop(from_, None)) is not None:
            happens()
        return answer

    def _source(self, from_: Any) -> Iterable[Row]:
        if isinstance(from_, dict):
            return self._register(from_)
        if from_ in REGISTERS:
            return self._records(from_)
        kind, _, part = str(from_).partition(".")[2].partition(".")
        name = f"{str(from_).partition('.')[0]}.{kind}"
        if name not in self.kinds or (part and part not in (self.kinds[name].parts or {})):
            raise RefusedError(f"unknown source {from_}")
        self.allow(name)
        return (self._row(thing) for thing in self.of(name)) if not part else self._part_rows(name, part)

    def _row(self, thing: VendorObject) -> Row:
        fields = self.kinds[thing.kind].fields
        return Row({"id": thing.id, **_blank(fields), **thing.header}, self._known({"id": thing.kind, **fields}))

    def _part_rows(self, name: str, part: str) -> Iterator[Row]:
        fields = (self.kinds[name].parts or {})[part]
        types, blank = self._known({"id": "varchar", "owner": name, **fields}), _blank(fields)
        for thing in self.of(name):
            for row in thing.parts[part]:
                yield Row({"owner": thing.id, **blank, **row}, types)

    def _known(self, types: dict[str, Any]) -> dict[str, Any]:
        return {name: value_type for name, value_type in types.items() if name not in self.unknown_fields}

    def _register(self, from_: JsonObject) -> Iterator[Row]:
        selection, name = from_.get("type"), from_.get("register")
        found = [each for each in REGISTERS if each.partition(".")[2] == name]
        if not found or found[0].partition(".")[0] not in _SELECTION_TYPES.get(str(selection), ()):
            raise RefusedError(f"there is no {selection} of register {name}")
        self.allow(found[0])
        if selection == "sliceLast":
            return self._slice(from_.get("date"))
        return self._summed(str(selection), found[0], from_)

    def _summed(self, selection: str, name: str, from_: JsonObject) -> Iterator[Row]:
        """The register's rows by the dimensions in `from`, by default all; rows with only zero sums are left out."""
        register = REGISTERS[name]
        kept = list(from_.get("dimensions") or register.dimensions)
        unknown = [each for each in kept if each not in register.dimensions]
        if unknown:
            raise RefusedError(f"unknown dimension {unknown[0]}")
        types = {each: register.dimensions[each] for each in kept}
        for group, held in self._grouped(name, kept, *_period(selection, from_)).items():
            values: JsonObject = dict(zip(kept, group, strict=True))
            measures: dict[str, Decimal] = {}
            for (resource, value_type), sums in zip(register.resources.items(), held, strict=True):
                amounts = sums.show(selection, self.spelling.get(selection, ("", "")))
                measures |= {f"{resource}{suffix}": amount for suffix, amount in amounts.items()}
                values |= {f"{resource}{suffix}": _scaled(amount, value_type) for suffix, amount in amounts.items()}
                types |= {f"{resource}{suffix}": value_type for suffix in amounts}
            if any(measures.values()):
                yield Row(values, types)

    def _grouped(self, name: str, kept: Sequence[str], start: str, end: str) -> dict[tuple[str, ...], list[Sums]]:
        register = REGISTERS[name]
        groups: dict[tuple[str, ...], list[Sums]] = {}
        for each in self.movements_of(name):
            if each.date > end:
                continue
            by = dict(zip(register.dimensions, each.place, strict=True))
            group = groups.setdefault(tuple(by[dimension] for dimension in kept), [Sums() for _ in register.resources])
            for sums, amount in zip(group, each.amounts, strict=True):
                sums.add(amount, before=each.date < start)
        return groups

    def _records(self, name: str) -> Iterator[Row]:
        """The single records of a register that is the `from` itself."""
        self.allow(name)
        register = REGISTERS[name]
        types = {"date": _DATE, **register.dimensions, **register.resources}
        if name.startswith("informationRegisters."):
            return (Row({"date": each.date, **_price(each)}, types) for each in self.prices)
        return (Row(_movement(each, register), types) for each in self.movements_of(name))

    def _slice(self, date: str | None) -> Iterator[Row]:
        register = REGISTERS["informationRegisters.goodsPrices"]
        latest: dict[tuple[str, str], Price] = {}
        for price in sorted(self.prices, key=lambda price: price.date):
            if date is None or price.date <= date:
                latest[price.good, price.price_type] = price
        for price in latest.values():
            yield Row(_price(price), register.dimensions | register.resources)

    def _resolve(self, row: Row, path: str) -> tuple[Any, Any]:
        """The value at a data path, and its type; dots follow links."""
        name, _, rest = path.partition(".")
        if name not in row.types:
            raise RefusedError(f"unknown field {path}")
        value, value_type = row.values.get(name), row.types[name]
        if not rest:
            return value, value_type
        linked = self.things.get(str(value))
        return self._resolve(self._row(linked), rest) if linked is not None else (None, "varchar")

    def _assembled(self, row: Row, fields: dict[str, str], *, multilang: bool) -> JsonObject:
        answer: JsonObject = {}
        for path, alias in fields.items():
            if path == "id__pr":  # cannot be renamed
                answer[path] = self.name_of(row.values["id"], row.types["id"])
                continue
            value, value_type = self._resolve(row, path)
            answer |= _text(alias, value, value_type, multilang=multilang)
            if is_link(value_type):
                answer[f"{alias}__pr"] = self.name_of(value, value_type)
        return answer

    def _plain(self, row: Row, fields: dict[str, str], *, multilang: bool) -> JsonObject:
        answer: JsonObject = {}
        for path, alias in fields.items():
            answer |= _text(alias, *self._resolve(row, path), multilang=multilang)
        return answer

    # Filtering.

    def _filtered(self, rows: Iterable[Row], fields: dict[str, str], filters: Sequence[Any]) -> list[Row]:
        """The rows that match all filters."""
        paths = {alias: path for path, alias in fields.items()}
        for condition in filters:
            if condition["alias"] not in paths:
                raise RefusedError(f"filter by unknown alias {condition['alias']}")
            rows = self._matching(rows, paths[condition["alias"]], condition["operator"], condition["value"])
        return list(rows)

    def _matching(self, rows: Iterable[Row], path: str, operator: str, value: Any) -> list[Row]:
        if operator == "IL":
            wanted = {_comparable(_as_text(item)) for item in self.requests.taken(value)}
            return [row for row in rows if _comparable(self._text_at(row, path)) in wanted]
        return [row for row in rows if self._condition_holds(self._text_at(row, path), operator, value)]

    def _text_at(self, row: Row, path: str) -> str:
        value, value_type = self._resolve(row, path)
        return str(value["uk"] if is_multilang(value_type) else value)

    def _condition_holds(self, actual: str, operator: str, value: Any) -> bool:
        if operator.startswith("!"):
            return not self._condition_holds(actual, {"!=": "="}.get(operator, operator[1:]), value)
        wanted = [_as_text(item) for item in value] if isinstance(value, list) else [_as_text(value)]
        if operator in {"IH", "ILH"}:
            return any(item in self._groups(actual) for item in wanted)
        if operator == "IPL":
            return any(actual in self._groups(item) for item in wanted)
        if operator == "IL":
            return any(_compare(actual, item) == 0 for item in wanted)
        if operator == "%":
            return wanted[0].casefold() in actual.casefold()
        tests: dict[str, Callable[[int], bool]] = {
            "=": lambda order: order == 0,
            ">": lambda order: order > 0,
            ">=": lambda order: order >= 0,
            "<": lambda order: order < 0,
            "<=": lambda order: order <= 0,
        }
        if operator not in tests:
            raise RefusedError(f"unknown operator {operator}")
        return tests[operator](_compare(actual, wanted[0]))

    def _groups(self, key: str) -> list[str]:
        found: list[str] = []
        while (thing := self.things.get(key)) and (key := thing.header.get("parent", NOTHING)) not in {NOTHING, *found}:
            found.append(key)
        return found


def _price(price: Price) -> JsonObject:
    named = {"good": price.good, "priceType": price.price_type}
    return {**named, "price": f"{price.price:.5f}", "currency": price.currency}


def _movement(movement: Movement, register: Register) -> JsonObject:
    counted = zip(register.resources.items(), movement.amounts, strict=True)
    return {
        "date": movement.date,
        **dict(zip(register.dimensions, movement.place, strict=True)),
        **{resource: _scaled(amount, value_type) for (resource, value_type), amount in counted},
    }


def _scaled(amount: Decimal, value_type: Any) -> str:
    return f"{amount:.{value_type['length'].partition(':')[2]}f}"


def _period(selection: str, from_: JsonObject) -> tuple[str, str]:
    """First and last moment of the movements to sum, both included; a balance sums all until its date."""
    if selection == "balance":
        return "", from_.get("date") or _END_OF_TIME
    start, end = from_.get("startDate"), from_.get("endDate")
    if not start or not end:
        raise RefusedError(f"{selection} needs startDate and endDate")
    return start, end


def type_name(value_type: Any) -> tuple[str, str]:
    """The name of a type that is no link, and its length: ("varchar", "9"), ("decimal", "14:5"); "" without one."""
    if isinstance(value_type, dict):
        return str(value_type["type"]), str(value_type.get("length", ""))
    name, _, length = str(value_type).partition(" ")
    return name, length.strip("()")


def type_texts(value_type: Any) -> Iterator[str]:
    """The names in a `valueType`: those of the kinds that a link may lead to."""
    if isinstance(value_type, str):
        yield value_type
    elif isinstance(value_type, dict):
        yield str(value_type["type"])
    elif isinstance(value_type, list):
        yield from value_type


def is_link(value_type: Any) -> bool:
    """Whether the type is a link."""
    return any("." in text for text in type_texts(value_type))


def is_multilang(value_type: Any) -> bool:
    """Whether the type is a text in several languages."""
    return any(text.startswith("multiLang") for text in type_texts(value_type))


def _blank(fields: dict[str, Any]) -> JsonObject:
    return {name: _empty(value_type) for name, value_type in fields.items()}


def _empty(value_type: Any) -> Any:
    if is_link(value_type):
        return NOTHING
    if is_multilang(value_type):
        return {"ru": "", "uk": ""}
    name = next(type_texts(value_type)).partition(" ")[0]
    if name == "decimal":
        scale = value_type["length"].partition(":")[2] if isinstance(value_type, dict) else "4"
        return f"{Decimal():.{scale}f}"
    return {"datetime": ZERO_DATE, "boolean": "0", "int": "0"}.get(name, "")


def _declare(fields: dict[str, Any]) -> Any:
    return {name: {"presentation": name, "valueType": value_type} for name, value_type in fields.items()} or []


def _text(alias: str, value: Any, value_type: Any, *, multilang: bool) -> JsonObject:
    if not is_multilang(value_type) or value is None:
        return {alias: value}
    if multilang:
        return {f"{alias}__{language}": text for language, text in value.items()}
    return {alias: value["uk"]}


def _limit(rows: list[Row], limit: Any) -> list[Row]:
    if isinstance(limit, dict):
        offset = int(limit.get("offset", 0))
        return rows[offset : offset + int(limit["count"])]
    return rows[: int(limit)] if limit else rows


def _as_text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else str(value)


def _comparable(text: str) -> Decimal | str:
    """What is equal for equal numbers."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return text


def _compare(actual: str, wanted: str) -> int:
    left, right = _comparable(actual), _comparable(wanted)
    if isinstance(left, str) or isinstance(right, str):
        return (actual > wanted) - (actual < wanted)
    return (left > right) - (left < right)
