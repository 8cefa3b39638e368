"""Writes at Dilovod's sandbox: what each does by the vendor's rules, what may become of it, and a log of them."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from workers.connectors.dilovod import sandbox_data
from workers.connectors.dilovod.sandbox_data import NOTHING, REGISTERS, ZERO_DATE, RefusedError

if TYPE_CHECKING:
    from models.values import JsonObject
    from workers.connectors.dilovod.sandbox_data import Books, VendorObject

ACTIONS = frozenset({"saveObject", "setDelMark", "call"})
BUSY = "multithreadApiSession multithread api request blocked"
_ORDER = "documents.saleOrder"
_PRICES = "informationRegisters.goodsPrices"
_END_USER = "1100100000000001"
"""The predefined person that an order without one is for (Dilovod help, getMetadata: `endUser`)."""

_ID = re.compile("[0-9]{16}")
_SAVE, _REGISTER, _UNREGISTER = "0", "1", "2"
_NEEDED = {"catalogs": {"name": "Найменування"}, "documents": {"firm": "Підприємець", "person": "Покупець"}}
"""By family, the fields that an object cannot be saved without, with their labels."""

_NEEDED_IN_ROWS = {"good": "Товар", "qty": "Кількість"}


class WriteFault(StrEnum):
    """What becomes of the next write.

    - `LOST_AFTER`: it is done, and the connection breaks instead of an answer; `LOST_BEFORE`: it breaks, and nothing
      is done
    - `SLOW`: it is done after `Sandbox.write_seconds`, also if the client has left meanwhile
    - `BUSY`, `LOCKED`, `REFUSED`: nothing is done, because of another request, of a user, or of the data (as HTML)
    - `HALF`, `DOUBLED`: it is done, and half of the answer arrives, or the answer twice in one body
    """

    LOST_AFTER = "lost after"
    LOST_BEFORE = "lost before"
    SLOW = "slow"
    BUSY = "busy"
    LOCKED = "locked"
    REFUSED = "refused"
    HALF = "half"
    DOUBLED = "doubled"

    @property
    def error(self) -> str | None:
        """The error that is answered instead of writing; None if it writes, or does not answer."""
        return {
            WriteFault.BUSY: BUSY,
            WriteFault.LOCKED: "object locked by user Адміністратор",
            WriteFault.REFUSED: not_saved("Недостатня кількість. <span>Троянда</span> Потрібно: 58.000 шт"),
        }.get(self)


@dataclass
class Arrival:
    """A write that arrived. `about`: the object's id, or the kind of a new one. `made`: the id of what was created."""

    action: str
    about: str
    at: datetime
    executed: bool = False
    made: str = ""


@dataclass
class _Lock:
    attempts: int | None
    until: datetime | None


@dataclass
class Writes:
    """What writes do to the company's data. Not thread-safe: the sandbox locks.

    - `faults`: of the next writes, one each; `log`: every write that arrived
    - `read_only`: kinds that the key's role may read and not write
    - `placements`: the orders that goods were reserved for; `waybills`: (order, data) of each
    """

    books: Books
    faults: deque[WriteFault] = field(default_factory=deque)
    log: list[Arrival] = field(default_factory=list)
    read_only: set[str] = field(default_factory=set)
    placements: list[str] = field(default_factory=list)
    waybills: list[tuple[str, JsonObject]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._locks: dict[str, _Lock] = {}

    def arrive(self, packet: JsonObject) -> Arrival:
        """Log a write as it arrives."""
        params = packet.get("params")
        params = params if isinstance(params, dict) else {}
        header = params.get("header")
        named = _ORDER if packet["action"] == "call" else header.get("id") if isinstance(header, dict) else None
        action = str(params.get("method") if packet["action"] == "call" else packet["action"])
        arrival = Arrival(action, _link(named or params.get("id")), self.books.clock())
        self.log.append(arrival)
        return arrival

    def lock(self, key: str, *, attempts: int | None = None, seconds: float | None = None) -> None:
        """A user opens an object: so many writes of it are refused, or those within so many seconds, or all."""
        self._locks[key] = _Lock(attempts, self.books.clock() + timedelta(seconds=seconds) if seconds else None)

    def unlock(self, key: str) -> None:
        """The user closes it."""
        self._locks.pop(key, None)

    def perform(self, action: str, params: JsonObject, arrival: Arrival) -> Any:
        """Do a write. RefusedError if Dilovod's rules refuse it; then nothing was changed."""
        match action:
            case "saveObject":
                answer: Any = self._save(params, arrival)
            case "setDelMark":
                answer = self._set_mark(params)
            case _:
                answer = self._call(params, arrival)
        arrival.executed = True
        return answer

    def _raise_if_locked(self, key: str) -> None:
        lock = self._locks.get(key)
        if lock is None:
            return
        if lock.attempts == 0 or (lock.until is not None and lock.until <= self.books.clock()):
            del self._locks[key]
            return
        if lock.attempts is not None:
            lock.attempts -= 1
        raise RefusedError("object locked by user Адміністратор")

    def _allow(self, kind: str) -> None:
        self.books.allow(kind)
        if kind in self.read_only:
            raise RefusedError(f"Access to {kind} denied, check role settings")

    def _existing(self, key: str) -> VendorObject:
        thing = self.books.things.get(key)
        if thing is None:
            raise RefusedError(f"object with id {key} not found")
        self._allow(thing.kind)
        self._raise_if_locked(key)
        return thing

    # saveObject

    def _save(self, params: JsonObject, arrival: Arrival) -> JsonObject:
        header = dict(params.get("header") or {})
        target = _link(header.pop("id", None))
        if target in REGISTERS:
            return self._save_record(target, header)
        thing = None if target in self.books.kinds else self._existing(target)
        kind = target if thing is None else thing.kind
        self._allow(kind)
        header.pop("delMark", None)  # saving does not clear a mark, although it answers ok
        fields = self._stored_header(kind, header, thing)
        parts = self._stored_parts(kind, params.get("tableParts") or {}, thing)
        self._raise_if_incomplete(kind, fields, parts, thing)
        self._raise_if_taken(kind, fields, thing)
        posted = self._posted(kind, str(params.get("saveType", _SAVE)), parts, thing)
        if thing is None:
            thing = self.books.add(kind)
            arrival.made = thing.id
            self._fill(thing, fields)
            self._replace_rows(thing, parts)
            thing.header |= posted
        else:
            self._replace_rows(thing, parts)
            self.books.touch(thing, **fields, **posted)
        self.total(thing)
        return {"result": "ok", "id": thing.id}

    def _stored_header(self, kind: str, header: JsonObject, thing: VendorObject | None) -> JsonObject:
        declared = self.books.kinds[kind].fields
        kept = thing.header if thing else {}
        return {
            name: self._stored(f"header.{name}", value, declared.get(name), kept.get(name))
            for name, value in header.items()
        }

    def _stored_parts(self, kind: str, parts: JsonObject, thing: VendorObject | None) -> dict[str, list[JsonObject]]:
        declared = self.books.kinds[kind].parts or {}
        stored: dict[str, list[JsonObject]] = {}
        for part, rows in parts.items():
            kept = {row["id"]: row for row in thing.parts[part]} if thing else {}
            stored[part] = []
            for row in rows:
                values = {name: value for name, value in row.items() if name != "id"}
                known = kept.get(str(row.get("id")), {})
                stored[part].append(
                    known
                    | {
                        name: self._stored(f"{part}.{name}", value, declared[part].get(name), known.get(name))
                        for name, value in values.items()
                    }
                )
            stored[part].sort(key=lambda row: int(row.get("rowNum", 0)))
        return stored

    def _stored(self, place: str, value: Any, value_type: Any, kept: Any) -> Any:
        try:
            return self.stored(value, value_type, kept)
        except (ValueError, TypeError, InvalidOperation):
            raise RefusedError(f"cant set value of {place}: bad value, or field doesnt exist") from None

    def stored(self, value: Any, value_type: Any, kept: Any = None) -> Any:
        """A value in the form in which it is shown. ValueError or TypeError for one that is not of the type."""
        if sandbox_data.is_link(value_type):
            return self._stored_link(value, value_type)
        if sandbox_data.is_multilang(value_type):
            return _stored_texts(value, kept)
        if value_type is None or isinstance(value, dict | list):
            raise TypeError(value)
        text = "" if value is None else str(int(value)) if isinstance(value, bool) else str(value).strip()
        return _stored_text(text, *sandbox_data.type_name(value_type))

    def _stored_link(self, value: Any, value_type: Any) -> str:
        key = _link(value)
        if key in {"", NOTHING}:
            return NOTHING
        kinds = set(sandbox_data.type_texts(value_type))
        ours = {each for each in kinds if each in self.books.kinds}
        of_another = self.books.kind_of(key) not in {None, *kinds}
        if not _ID.fullmatch(key) or of_another or (ours == kinds and key not in self.books.things):
            raise ValueError(key)
        return key

    def _raise_if_incomplete(
        self, kind: str, fields: JsonObject, parts: dict[str, list[JsonObject]], thing: VendorObject | None
    ) -> None:
        known = {**self._defaults(kind), **fields} if thing is None else thing.header | fields
        needed = _NEEDED[kind.partition(".")[0]].items()
        empty = [f"{name} ({label})" for name, label in needed if _is_empty(known.get(name))]
        for part, rows in parts.items():
            declared = (self.books.kinds[kind].parts or {})[part]
            for name, label in _NEEDED_IN_ROWS.items():
                if name in declared and any(_is_empty(row.get(name)) for row in rows):
                    empty.append(f"{part}.{name} ({label})")
        if empty:
            raise RefusedError(f"emptyRequiredReq {'|'.join(empty)}")

    def _raise_if_taken(self, kind: str, fields: JsonObject, thing: VendorObject | None) -> None:
        number = fields.get("productNum")
        for other in self.books.of(kind) if number else ():
            if other is not thing and other.header.get("productNum") == number:
                raise RefusedError(not_saved(f"Артикул <b>{number}</b> вже використовується"))

    def _posted(
        self, kind: str, save_type: str, parts: dict[str, list[JsonObject]], thing: VendorObject | None
    ) -> JsonObject:
        if not kind.startswith("documents."):
            return {}
        if save_type not in {_SAVE, _REGISTER, _UNREGISTER}:
            raise ValueError(save_type)
        if save_type == _SAVE and thing is not None and thing.header["posted"] == "1":
            raise RefusedError(not_saved("Документ проведено: збереження без проведення неможливе"))
        if save_type == _REGISTER and thing is not None and thing.marked:
            raise RefusedError(not_saved("Документ позначено на видалення"))
        if save_type == _REGISTER and not (parts.get("tpGoods", thing.parts["tpGoods"] if thing else [])):
            raise RefusedError(not_saved("Не заповнено табличну частину <b>Товари</b>"))
        return {"posted": str(int(save_type == _REGISTER))}

    def _defaults(self, kind: str) -> JsonObject:
        """What a new object has where nothing was given: the account's settings."""
        if kind != _ORDER:
            return {}
        books = self.books
        first = {
            "firm": "catalogs.firms",
            "storage": "catalogs.storages",
            "currency": "catalogs.currency",
            "state": "catalogs.states",
            "priceType": "catalogs.priceTypes",
        }
        linked = {name: books.of(linked)[0].id for name, linked in first.items() if books.of(linked)}
        return {**linked, "date": books.wall_clock(), "rate": "1.0000", "taxIncluded": "1"}

    def _fill(self, thing: VendorObject, fields: JsonObject) -> None:
        thing.header |= self._defaults(thing.kind) | fields
        if "number" not in thing.header:
            return
        header = thing.header
        header["number"] = header["number"] or f"НР{thing.id[-8:]}"
        if _is_empty(fields.get("presentation")):
            date = header["date"]
            name = f"{date[8:10]}.{date[5:7]}.{date[:4]} Замовлення {header['number']}"
            header["presentation"] = {"ru": name, "uk": name}

    def _replace_rows(self, thing: VendorObject, parts: dict[str, list[JsonObject]]) -> None:
        for part, rows in parts.items():
            thing.parts[part].clear()
            for number, row in enumerate(rows, 1):
                added = self.books.add_row(thing, part, **{name: value for name, value in row.items() if name != "id"})
                added |= {"rowNum": str(number), "id": row.get("id", added["id"])}

    def total(self, thing: VendorObject) -> None:
        """Compute the amounts of an order's rows, and their sum."""
        if thing.kind != _ORDER:
            return
        for row in thing.parts["tpGoods"]:
            amount = Decimal(row["price"]) * Decimal(row["qty"])
            row["baseQty"] = row["qty"]
            row["priceAmount"] = _rounded(amount, 2)
            row["amountCur"] = _rounded(amount - Decimal(row.get("discount", "0")), 2)
        total = sum((Decimal(row["amountCur"]) for row in thing.parts["tpGoods"]), Decimal())
        thing.header["amountCur"] = _rounded(total, 2)

    def _save_record(self, register: str, header: JsonObject) -> JsonObject:
        """A record of an information register; one of the same date and dimensions is replaced. Its id is 0."""
        self._allow(register)
        if register != _PRICES:
            raise RefusedError(not_saved(f"Запис регістру {register} неможливий"))
        types = {"date": "datetime", **REGISTERS[register].dimensions, **REGISTERS[register].resources}
        values = {name: self._stored(f"header.{name}", value, types.get(name), None) for name, value in header.items()}
        empty = [f"{name} ({name})" for name in REGISTERS[register].dimensions if _is_empty(values.get(name))]
        if empty:
            raise RefusedError(f"emptyRequiredReq {'|'.join(empty)}")
        date, prices = values.get("date") or self.books.wall_clock(), self.books.prices
        place = (date, values["good"], values["priceType"])
        prices[:] = [each for each in prices if (each.date, each.good, each.price_type) != place]
        prices.append(
            sandbox_data.Price(*place, Decimal(values.get("price", "0")), values.get("currency", NOTHING)),
        )
        return {"result": "ok", "id": 0}

    # setDelMark

    def _set_mark(self, params: JsonObject) -> str:
        thing = self._existing(_link((params.get("header") or params).get("id")))
        if str(params.get("forceDelete")) == "1":
            self.books.remove(thing)
        else:
            self.books.mark(thing)
        return "ok"

    # saleOrderCreate

    def _call(self, params: JsonObject, arrival: Arrival) -> JsonObject:
        if params.get("method") != "saleOrderCreate":
            raise RefusedError(f"unknown method {params.get('method')}")
        arguments = params.get("arguments") or {}
        self._allow(_ORDER)
        header = self._columns(arguments.get("header") or {}, self.books.kinds[_ORDER].fields)
        rows = [self._goods_row(row) for row in arguments.get("goods") or ()]
        delivery = arguments.get("deliveryData")
        if delivery and _is_empty(header.get("deliveryMethod")):
            raise RefusedError("emptyRequiredReq deliveryMethod (Переважний спосіб доставки)")
        order = self.books.add(_ORDER)
        arrival.made = order.id
        self._fill(order, {"person": self._end_user(), **header} if _is_empty(header.get("person")) else header)
        self._replace_rows(order, {"tpGoods": rows})
        self.total(order)
        if _places(arguments.get("placement")):
            self.placements.append(order.id)
        if delivery:
            self.waybills.append((order.id, delivery))
        link = {"id": order.id, "pr": self.books.presentation(order)}
        return {"status": "success", "data": {"header": {"id": link}}}

    def _columns(self, given: JsonObject, declared: dict[str, Any]) -> JsonObject:
        """The given fields that there are; others are ignored."""
        found: JsonObject = {}
        for name, value in given.items():
            if name not in declared:
                continue
            try:
                found[name] = self.stored(value, declared[name])
            except (ValueError, TypeError, InvalidOperation):
                raise RefusedError(f"Bad value type for column {name}") from None
        return found

    def _goods_row(self, row: JsonObject) -> JsonObject:
        declared = (self.books.kinds[_ORDER].parts or {})["tpGoods"]
        values = self._columns(row, declared)
        if _is_empty(values.get("good")):
            values["good"] = self._by_article(row.get("productNum"))
        if _is_empty(values.get("qty")):
            raise RefusedError("emptyRequiredReq qty (Количество)")
        unit = self.books.things[values["good"]].header["mainUnit"]
        return {"unit": unit, **values, "ratio": "1.0000"}

    def _by_article(self, number: Any) -> str:
        if _is_empty(number):
            raise RefusedError("emptyRequiredReq good (Товар / услуга)")
        found = [good.id for good in self.books.of("catalogs.goods") if good.header["productNum"] == str(number)]
        if not found:
            raise RefusedError("Bad value type for column productNum")
        return found[0]

    def _end_user(self) -> str:
        if _END_USER not in self.books.things:
            name = "Кінцевий споживач"
            self.books.add("catalogs.persons", id_=_END_USER, name={"ru": name, "uk": name})
        return _END_USER


def not_saved(reason: str) -> str:
    """The error of a document or record that was not saved: a page with the reason."""
    return f"applicationLayerError <html><body><p>Документ не збережено. {reason}</p></body></html>"


def answer_of(refused: RefusedError, action: str) -> JsonObject:
    """The answer to a refused write; those of a `call` have another form, if it is the method that refuses."""
    text = str(refused)
    if action == "call" and not text.startswith(("Access to", "applicationLayerError")):
        return {"status": "error", "data": [], "errorMessage": text}
    return {"error": text, "clientMessages": []}


def _link(value: Any) -> str:
    if isinstance(value, dict):
        value = value.get("id")
    return "" if value is None else str(value)


def _is_empty(value: Any) -> bool:
    if isinstance(value, dict):
        return not any(value.values())
    return value in {None, "", NOTHING, ZERO_DATE, "0.000"}


def _stored_texts(value: Any, kept: Any) -> dict[str, str]:
    """A text in both languages; one that is given in one language leaves the other as it is."""
    if not isinstance(value, dict):
        return dict.fromkeys(("ru", "uk"), str(value or "").strip())
    before = kept if isinstance(kept, dict) else {"ru": "", "uk": ""}
    if not value or not set(value) <= set(before):
        raise ValueError(value)
    return before | {language: str(text).strip() for language, text in value.items()}


def _stored_text(text: str, name: str, length: str) -> str:
    match name:
        case "datetime":
            return _stored_date(text)
        case "boolean":
            return _stored_flag(text)
        case "decimal":
            return _stored_decimal(text or "0", length)
        case "int":
            return str(int(text or "0"))
    if length and len(text) > int(length):
        raise ValueError(text)
    return text


def _stored_date(text: str) -> str:
    if text in {"", ZERO_DATE}:
        return ZERO_DATE
    return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M:%S")


def _stored_flag(text: str) -> str:
    if text not in {"", "0", "1"}:
        raise ValueError(text)
    return text or "0"


def _stored_decimal(text: str, length: str) -> str:
    digits, _, scale = length.partition(":")
    number = _rounded(Decimal(text), int(scale))
    if len(number.lstrip("-").partition(".")[0]) > int(digits) - int(scale):
        raise ValueError(text)
    return number


def _rounded(number: Decimal, scale: int) -> str:
    return str(number.quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP))


def _places(placement: Any) -> bool:
    given = placement if isinstance(placement, list) else [placement]
    return any(isinstance(each, dict) and str(each.get("autoPlacement")).lower() in {"true", "1"} for each in given)
