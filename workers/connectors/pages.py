"""A page of whole objects in JSON, taken apart without decoding each: most of them are as they were before."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from models import exact
from models.values import Received, Snapshot, Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.values import JsonObject
    from workers.connectors.http import Reply

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Page:
    """A reply's objects, and its other fields, decoded. `unreadable`: whatever came without a usable key."""

    objects: Sequence[Snapshot | Received]
    unreadable: Sequence[Unreadable]
    rest: JsonObject


def taken_apart(reply: Reply, items: str, key: str) -> Page:
    """The reply's list `items`; `key` is the field that holds an object's key, a text or an integer.

    Without such a list the page has no objects. Raises `TryLater` where the reply is not JSON.
    """
    try:
        fields = _FIELDS.decode(reply.body)
        listed = fields.pop(items)
        named = _named(key).decode(listed)
        whole = _ITEMS.decode(listed)
        rest = {name: exact.loads(bytes(value)) for name, value in fields.items()}
    except (msgspec.MsgspecError, KeyError, ValueError):
        return _decoded(reply.json(), items, key)
    pairs = zip(named, whole, strict=True)
    return Page([Received(str(name.key), bytes(sent)) for name, sent in pairs], (), rest)


@cache
def _named(key: str) -> msgspec.json.Decoder[Any]:
    named = msgspec.defstruct("Named", [("key", str | int, msgspec.field(name=key))], gc=False)
    return msgspec.json.Decoder(list[named])  # type: ignore[valid-type]


def _decoded(page: Any, items: str, key: str) -> Page:
    """The same, object by object, for a page in which something is odd."""
    fields = dict(page) if isinstance(page, dict) else {}
    listed = fields.pop(items, None)
    objects: list[Snapshot] = []
    unreadable: list[Unreadable] = []
    for item in listed if isinstance(listed, list) else []:
        name = item.get(key) if isinstance(item, dict) else None
        if isinstance(name, str | int) and not isinstance(name, bool):
            objects.append(Snapshot(str(name), item))
        else:
            raw = item if isinstance(item, dict) else {"item": item}
            unreadable.append(Unreadable(f"?{exact.fingerprint(raw)}", f"the listed object has no {key}", raw))
    return Page(objects, unreadable, fields)
