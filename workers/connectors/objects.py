"""The objects in a vendor's reply: their fields and keys, and what an error may say of an object that has none.

Names are compared without case: ASP.NET Core sends `id` for `Id` by default, and documents and servers disagree.
"""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
    names = {name.casefold(): name for name in documented}
    result: JsonObject = {}
    for key, value in item.items():
        name = names.get(key.casefold(), key)
        result[key if name != key and (name in item or name in result) else name] = value
    return result


def key_of(resource: Resource, item: JsonObject) -> str | None:
    """The object's key; None if one of its fields is missing or empty."""
    return join_key([key_text(field(item, name)) for name in resource.key])


def key_text(value: Any) -> str:
    """A key field's value as text, the same for 7, "7" and 7.0000; "" for what is neither text nor a number."""
    if isinstance(value, Decimal) and value.adjusted() < _MAX_KEY_DIGITS and value == value.to_integral_value():
        return str(int(value))
    return str(value) if isinstance(value, str | int | Decimal) and not isinstance(value, bool) else ""


def join_key(parts: Sequence[str]) -> str | None:
    """Several values joined by `:`, with `:` and `%` inside them percent-encoded; None if one is empty."""
    if not all(parts):
        return None
    return parts[0] if len(parts) == 1 else ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


def split_key(resource: Resource, key: str) -> list[str] | None:
    """The values that `join_key` joined; None if their number is not that of the resource's key fields."""
    if len(resource.key) == 1:
        return [key]
    parts = [part.replace("%3A", ":").replace("%25", "%") for part in key.split(":")]
    return parts if len(parts) == len(resource.key) else None


def digest(item: Any) -> str:
    """A short hash, as the key of an object that has none."""
    text = json.dumps(item, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode("utf-8", "backslashreplace"), digest_size=12).hexdigest()


def field_names(item: JsonObject) -> str:
    """The names of an object's fields, for an error; never their values, which may be private."""
    return ", ".join(sorted(item)[:20]) or "no fields"
