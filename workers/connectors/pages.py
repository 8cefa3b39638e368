"""Splits a JSON page into the bytes of its objects without decoding each one: most are unchanged since the last sync.

Only the benchmark's connector (`tests/benchmarks/systems/paged`) uses this module; no vendor's connector does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import msgspec

from models import exact
from models.values import Snapshot, UndecodedSnapshot, Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.values import JsonObject
    from workers.connectors.http import Reply

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Page:
    """One reply to a listing.

    `objects`: in the reply's order. `unreadable`: items without a usable key. `rest`: the other fields, decoded.
    """

    objects: Sequence[Snapshot | UndecodedSnapshot]
    unreadable: Sequence[Unreadable]
    rest: JsonObject


def split_page(reply: Reply, items: str, key: str) -> Page:
    """Split the reply's list named `items`; `key` names the field with an object's key, a string or an integer.

    A page without such a list has no objects. Raises TryLater if the reply is not JSON.
    """
    try:
        fields = _FIELDS.decode(reply.body)
        listed = fields.pop(items)
        keys = _key_decoder(key).decode(listed)
        contents = _ITEMS.decode(listed)
        rest = {name: exact.loads(bytes(value)) for name, value in fields.items()}
    except (msgspec.MsgspecError, KeyError, ValueError):
        return _decoded_page(reply.json(), items, key)
    pairs = zip(keys, contents, strict=True)
    return Page([UndecodedSnapshot(str(item.key), bytes(content)) for item, content in pairs], (), rest)


@cache
def _key_decoder(key: str) -> msgspec.json.Decoder[Any]:
    struct = msgspec.defstruct("Named", [("key", str | int, msgspec.field(name=key))], gc=False)
    return msgspec.json.Decoder(list[struct])  # type: ignore[valid-type]


def _decoded_page(page: Any, items: str, key: str) -> Page:
    """Decode object by object, for a page that the fast decoders refuse (an item without a key, a lone surrogate)."""
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
