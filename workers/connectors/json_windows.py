"""Cuts a JSON list into its items some hundred at a time, by a decoder in C that leaves each item undecoded.

A window of the list is cut where an object seems to end, and decoded as a list of its own. That succeeds only where
the cut is right and all within is strict JSON in UTF-8; then `json_cutter` would find the same items. Whatever else
stands there is left to it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from models import exact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from models.values import JsonObject

WINDOW = 2**18
"""Bytes. Less than `streaming.MOST_VALUES`, so no `SentRecord` can have too many values."""

_MOST_CUTS = 8
"""Places that are tried, of each kind, before the window is left to the slower way: objects end within objects, too."""

_MANY_BRACKETS = 400
"""An item that is nested too deeply for some decoder has at least so many."""

_HEAD = re.compile(rb'\{[ \t\r\n]*+"[^"\\]{0,100}+"')
"""An object up to the end of its first name."""

_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])


class Window(NamedTuple):
    """Consecutive items of a list, all of them well-formed. `text`: a list of them. `items`: the bytes of each."""

    text: bytes
    items: Sequence[bytes]


class SentRecord(NamedTuple):
    """An object that is well-formed JSON and not decoded. `told`: the fields that were asked for, decoded."""

    content: bytes
    told: JsonObject

    def decoded(self) -> JsonObject:
        """The whole object."""
        decoded: JsonObject = exact.loads(self.content)
        return decoded


def cut(data: bytearray) -> tuple[Window, int] | None:
    """The items at the beginning of the bytes, where the first of them begins, and the place after the last.

    None if it cannot be told where they end, or not all of them are well-formed.
    """
    head = _HEAD.match(data)
    for separator in ([] if head is None else [b"}," + head[0]]) + [b"},"]:
        end = len(data)
        for _ in range(_MOST_CUTS):
            end = data.rfind(separator, 0, end) + 1
            if not end:
                break
            with memoryview(data) as view:
                text = b"".join((b"[", view[:end], b"]"))
            if (items := _items(text)) is not None:
                return Window(text, items), end
    return None


def alone(item: bytes) -> Window | None:
    """A window of one item; None if that is not well-formed."""
    text = b"[%b]" % item
    return None if _items(text) is None else Window(text, [item])


def _items(text: bytes) -> list[bytes] | None:
    try:
        items = list(map(bytes, _ITEMS.decode(text)))
        if not text.isascii():
            text.decode()
    except (ValueError, RecursionError):
        return None
    return items


class Glance:
    """Reads some fields of many objects without decoding the others.

    `names`: of the fields. Objects that lack one of them, in the case that is written here or in that of the reply's
    first object, are decoded. `redact`: called with the text of a window first, or with that of one object; returns it
    without what may not be stored. None from it has the object decoded.
    """

    def __init__(self, names: Sequence[str], *, redact: Callable[[bytes], bytes | None] | None = None) -> None:
        self._names, self._redact = tuple(names), redact
        self._spelled: tuple[str, ...] = ()
        self._others: tuple[str, ...] = ()

    def records(self, window: Window) -> Iterator[SentRecord | bytes]:
        """The window's items: as a `SentRecord`, or the bytes of what has to be decoded."""
        text = window.text if self._redact is None else self._redact(window.text)
        items = window.items if text is None or text is window.text else _items(text)
        fields = None if text is None or items is None else self._fields(text, window.items[0])
        if items is None or fields is None:
            yield from window.items if len(window.items) == 1 else self._one_by_one(window)
            return
        spelled, size = self._spelled, len(self._spelled)
        for whole, item, values in zip(window.items, items, fields, strict=True):
            told, others = values[:size], values[size:]
            is_sure = msgspec.UNSET not in told and others.count(msgspec.UNSET) == len(others)
            if is_sure and (len(whole) < 2 * _MANY_BRACKETS or _is_plain(whole, item)):  # each one is closed
                yield SentRecord(item, dict(zip(spelled, told, strict=True)))
            else:
                yield whole

    def _one_by_one(self, window: Window) -> Iterator[SentRecord | bytes]:
        """So that what cannot be told of one item leaves the others as they are."""
        for item in window.items:
            yield from self.records(Window(b"[%b]" % item, [item]))

    def _fields(self, text: bytes, first: bytes) -> list[tuple[Any, ...]] | None:
        try:
            if not self._spelled:
                self._spelled, self._others = _spellings(self._names, exact.loads(first))
            decoder = _decoder((*self._spelled, *self._others))
            return list(map(msgspec.structs.astuple, decoder.decode(text)))
        except (ValueError, RecursionError):  # such as an item that is no object
            return None


def _is_plain(whole: bytes, item: bytes) -> bool:
    return len(whole) <= WINDOW and item.count(b"[") + item.count(b"{") < _MANY_BRACKETS


def _spellings(names: Sequence[str], item: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """How this object spells the names; and other spellings, which would make it unsure which field is meant."""
    found = {name.casefold(): name for name in reversed(item)} if isinstance(item, dict) else {}
    spelled = [name if name in item else found.get(name.casefold(), name) for name in names] if found else [*names]
    others = {
        other
        for name, chosen in zip(names, spelled, strict=True)
        for other in ((name, name.lower(), name.upper(), name.capitalize()) if chosen != name else ())
    }
    return tuple(spelled), tuple(sorted(others - {*spelled}))


@lru_cache(maxsize=256)
def _decoder(names: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    fields = [
        (f"field_{number}", Any, msgspec.field(name=name, default=msgspec.UNSET)) for number, name in enumerate(names)
    ]
    struct = msgspec.defstruct("Fields", fields, gc=False)
    return msgspec.json.Decoder(list[struct], float_hook=exact.number)  # type: ignore[valid-type]
