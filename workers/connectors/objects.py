"""The objects in a vendor's reply: their keys, and what an error may say of an object that has none."""

from __future__ import annotations

import hashlib
import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.values import JsonObject
    from workers.connectors.contract import Resource

_MAX_KEY_DIGITS = 100
"""Digits of a numeric key: `1e999999999` written out would exhaust memory."""


def as_object(item: Any) -> JsonObject:
    """The item of a list, if it is an object; anything else wrapped as `{"value": item}`."""
    return item if isinstance(item, dict) else {"value": item}


def key_of(resource: Resource, item: JsonObject) -> str | None:
    """The object's key; None if one of its fields is missing or empty."""
    return join_key([key_text(item.get(field)) for field in resource.key])


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
