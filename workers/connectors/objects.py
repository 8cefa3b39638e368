"""The objects in a vendor's reply: their fields and keys, and what an error may say of one that has none.

Names are compared without case: ASP.NET Core sends `id` for `Id` by default, and documents and servers disagree.
"""

from __future__ import annotations

import hashlib
import json
import re
from decimal import Decimal
from functools import lru_cache
from itertools import combinations
from typing import TYPE_CHECKING, Any

from models import exact, notation
from models.notation import PlainNames
from models.values import Kind, Unreadable
from workers.connectors.streaming import UnreadableRecord, decode_listing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from models.values import JsonObject
    from workers.connectors.contract import Resource

_MAX_KEY_DIGITS = 100
"""Digits of a numeric key: `1e999999999` written out would exhaust memory."""


def as_object(item: Any) -> JsonObject:
    """The item of a list, if it is an object; anything else wrapped as `{"value": item}`."""
    return item if isinstance(item, dict) else {"value": item}


def field(item: JsonObject, name: str) -> Any:
    """The value of the field of this name, else of one that differs only in case; None if there is none."""
    if name in item:
        return item[name]
    folded = name.casefold()
    return next((value for key, value in item.items() if key.casefold() == folded), None)


def folded(item: Any) -> JsonObject:
    """The fields by their names in lower case; empty for what is not an object."""
    return {name.casefold(): value for name, value in item.items()} if isinstance(item, dict) else {}


def with_documented_names(item: JsonObject, documented: Iterable[str]) -> JsonObject:
    """A copy in which names take the documented case, unless the object also has a field of that name."""
    names, others = _spellings(tuple(documented))
    if others.cover(item):
        return dict(item)
    return notation.respelled(item, {key: names.get(key.casefold(), key) for key in item})


@lru_cache(maxsize=256)
def _spellings(documented: tuple[str, ...]) -> tuple[dict[str, str], PlainNames]:
    """The documented spelling of each name by the name in lower case; and the names that need no other one."""
    names = {name.casefold(): name for name in documented}
    return names, PlainNames(lambda key: names.get(key.casefold(), key) != key)


_LIST_NAMES = frozenset({"content", "data", "items", "list", "objects", "records", "result", "results", "value"})
_COUNT_NAMES = frozenset({"count", "total", "totalcount", "@odata.count"})
_SAYS_NOTHING = frozenset({"@odata.context", "success", "ok"})
"""The names, in lower case, of what an envelope may hold: its list, the list's length, and what tells nothing."""


def enveloped(body: bytes) -> list[Any] | None:
    """The list in the envelope that this body is, as `listed` finds it; None for anything else.

    A record of it that cannot be read is an `UnreadableRecord`. TooLargeError for one without end.
    """
    try:
        return listed(decode_listing(body))
    except ValueError:
        return None


def listed(answer: Any) -> list[Any] | None:
    """The list in an envelope such as `{"value": […], "count": 2}`; None where that is not sure.

    Sure is one list of objects under a usual name, with its whole length beside it, or not empty and none. Any other
    field could be an error, the next page, or part of one object that has a list.
    """
    fields = folded(answer)
    names = fields.keys() & _LIST_NAMES
    if len(names) != 1 or not fields.keys() <= names | _COUNT_NAMES | _SAYS_NOTHING:
        return None
    found = fields[next(iter(names))]
    if not isinstance(found, list) or not all(isinstance(item, dict | UnreadableRecord) for item in found):
        return None
    counts = [fields[name] for name in fields.keys() & _COUNT_NAMES]
    if not found and 0 not in counts:
        return None
    is_refused = any(fields.get(name) is False for name in _SAYS_NOTHING)
    return None if is_refused or any(count not in (None, len(found)) for count in counts) else found


def key_of(resource: Resource, item: JsonObject) -> str | None:
    """The object's key; None if one of its fields is missing or empty and not in `Resource.optional_key`."""
    return KeyReader(resource)(item)


class KeyReader:
    """`key_of` for many objects of a resource."""

    def __init__(self, resource: Resource) -> None:
        self._by_row = resource.keyed_by_row
        self._fields = [(name, _is_numeric(resource, name), name in resource.optional_key) for name in resource.key]

    def __call__(self, item: JsonObject) -> str | None:
        """The key of this one."""
        if self._by_row:
            return exact.fingerprint(exact.storable(item))
        values = []
        for name, is_number, is_optional in self._fields:
            value = key_text(field(item, name), is_number=is_number)
            if not (value or is_optional):
                return None
            values.append(value)
        return join_key(values)


def _is_numeric(resource: Resource, name: str) -> bool:
    declared = (field(fields.get("", {}), name) for fields in (resource.shape, resource.hints))
    return next((kind == Kind.NUMBER for kind in declared if kind is not None), False)


def key_text(value: Any, *, is_number: bool = False) -> str:
    """A key field's value as text, the same for 7, "7" and 7.0000; "" for what is neither text nor a number.

    `is_number`: the vendor's ids are numbers, so that the texts "7.0" and " 7 " are 7, too. Elsewhere "7.0" is a code.
    """
    if type(value) is str and not is_number:
        return value
    if is_number and isinstance(value, str):
        number = notation.number(value)
        value = value if number is None else number
    if isinstance(value, Decimal) and value.adjusted() < _MAX_KEY_DIGITS and value == value.to_integral_value():
        return str(int(value))
    return str(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else ""


def join_key(parts: Sequence[str]) -> str:
    """Several values joined by `:`, with `:` and `%` inside them percent-encoded."""
    return parts[0] if len(parts) == 1 else ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


def split_key(resource: Resource, key: str) -> list[str] | None:
    """The values that `join_key` joined; None if their number is not that of the resource's key fields."""
    return split_values(resource.key, key)


def split_values(fields: Sequence[str], key: str) -> list[str] | None:
    """The values of these key fields that `join_key` joined; None if the key has another number of them."""
    if len(fields) == 1:
        return [key]
    parts = [part.replace("%3A", ":").replace("%25", "%") for part in key.split(":")]
    return parts if len(parts) == len(fields) else None


def without_key(item: JsonObject, reason: str, remedy: str = "") -> Unreadable:
    """The record as one that has no usable key. `reason` is shared by all such records, so it names no values."""
    return Unreadable(f"?{exact.fingerprint(exact.storable(item))}", reason, item, remedy)


def keys_remedy(resource: Resource, records: Sequence[JsonObject]) -> str:
    """What to write into the setting `keys`, as far as these records show which of their fields tell them apart."""
    name = resource.name if re.fullmatch(r"\w+", resource.name, re.ASCII) else f'"{resource.name}"'
    fields = distinguishing_fields(records)
    named = f"keys.{name} = {json.dumps(fields, ensure_ascii=False)}" if fields else ""
    whole = f'keys.{name} = "row" (then a hash of the whole row is its key)'
    return f"set {' or '.join(filter(None, [named, whole]))}"


def distinguishing_fields(records: Sequence[JsonObject]) -> list[str]:
    """The fewest fields, at most three, whose values together differ in all of these records; [] if none do.

    Fields with texts come before those with numbers, which are quantities more often. Times are none.
    """
    distinct = list({exact.fingerprint(exact.storable(each)): each for each in records[:_MAX_COMPARED]}.values())
    if len(distinct) < 2:  # noqa: PLR2004 - one record shows nothing
        return []
    texts = [name for name in distinct[0] if all(_is_code(each.get(name)) for each in distinct)]
    numbers = [name for name in distinct[0] if all(_is_number(each.get(name)) for each in distinct)]
    for names in (texts[:_MAX_FIELDS], [*texts, *numbers][:_MAX_FIELDS]):
        for count in (1, 2, 3):
            for fields in combinations(names, count):
                if len({tuple(key_text(each.get(field)) for field in fields) for each in distinct}) == len(distinct):
                    return list(fields)
    return []


def digest(item: Any) -> str:
    """A short hash of the item."""
    text = json.dumps(item, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()


_MAX_COMPARED = 200
_MAX_FIELDS = 12
_TIME = re.compile(r"\d{4}-\d\d-\d\d")


def _is_code(value: Any) -> bool:
    return value is None or (isinstance(value, str) and not _TIME.match(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def told_key(resource: Resource, told: JsonObject) -> str | None:
    """The key of a record of which only some fields could be read."""
    return None if resource.keyed_by_row else key_of(resource, told)


def readable(
    batch: Sequence[Any], key_of_told: Callable[[JsonObject], str | None]
) -> tuple[list[JsonObject], list[Unreadable]]:
    """The records that could be read, and what is parked in the place of the others.

    `key_of_told`: the key of a record of which only some fields could be read.
    """
    broken = [unreadable(each, key_of_told(each.told)) for each in batch if isinstance(each, UnreadableRecord)]
    return [as_object(each) for each in batch if not isinstance(each, UnreadableRecord)], broken


def unreadable(record: UnreadableRecord, key: str | None) -> Unreadable:
    """What is parked in the place of a record that cannot be read: under its key, if that could be read.

    It can be retried by that key. Without one its place in the reply names it.
    """
    if key is not None:
        return Unreadable(key, record.reason, {})
    reason = f"{record.reason}, and its key cannot be told"
    place = f"the first is number {record.place} of its list"
    return Unreadable(f"?{record.digest}", reason, {"place": record.place}, place, hides_key=True)


def field_names(item: JsonObject) -> str:
    """The names of an object's fields, for an error; never their values, which may be private."""
    return ", ".join(sorted(item)[:20]) or "no fields"
