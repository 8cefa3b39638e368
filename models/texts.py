"""The JSON texts of many objects at once: as they are kept, and in the one spelling that is hashed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from models import exact

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.values import JsonObject

_ENCODER = msgspec.json.Encoder(decimal_format="number", order="sorted")
_REFUSED = (TypeError, ValueError, OverflowError, RecursionError)
"""A lone surrogate, an integer of more than 64 bits, nesting without end."""

_MOST_BRACKETS = 100
"""What is nested deeper has more of them; so have long documents, which are looked at carefully for it."""

_LONGEST_NUMBER = b"0" * 900
_AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
_STEP = 50
_SO_MANY_STEPS = b"0" * (len(_LONGEST_NUMBER) // _STEP)

_SOME_ZERO_AT_THE_END = re.compile(rb"\.[0-9]*0[],}\n]")
_ZEROS_AT_THE_END = re.compile(r"\.[0-9]*0(?=[],}\n])")
_SOME_MINUS_ZERO = re.compile(r"-(?=0[],}\n])")
_MINUS_ZERO = re.compile(r"-0(?![0-9.])")
_UNUSUAL = re.compile(r"[0-9]E[-+][0-9]|NaN|Infinity")
_SOME_UNUSUAL = [re.compile(each) for each in (rb"E(?=[-+][0-9])", rb"N(?=aN)", rb"I(?=nfinity)")]
"""Each begins with one letter, which is looked for much faster than a word."""


class Texts(NamedTuple):
    """An object as JSON with every digit as sent, and what `exact.canonical` makes of it."""

    kept: str
    canonical: bytes


def of(objects: Sequence[JsonObject]) -> list[Texts | None]:
    """The texts of each; None for an object that `exact.storable` may have to change, or whose numbers are unusual."""
    try:
        encoded = _ENCODER.encode_lines(objects)
    except _REFUSED:
        return [None] if len(objects) == 1 else [each for one in objects for each in of([one])]
    whole = encoded.decode()
    hidden = _without_escapes(whole)
    suspects = _suspects(encoded, hidden)
    canonical = _shortest(encoded, hidden)
    return [
        Texts(line, spelled) if _is_plain(line, one, suspects) else None
        for line, spelled, one in zip(whole.split("\n"), canonical.split(b"\n"), objects, strict=False)
    ]


def _without_escapes(text: str) -> str:
    """With every quote that ends no string hidden: JSON has no control characters of its own."""
    return text.replace("\\\\", "\x01").replace('\\"', "\x02") if "\\" in text else text


def _with_escapes(text: str) -> str:
    return text.replace("\x02", '\\"').replace("\x01", "\\\\")


def _suspects(encoded: bytes, hidden: str) -> bool:
    """Whether there may be anything that is looked at object by object."""
    return (
        (b"\\" in encoded and b"\\u0000" in encoded)
        or _has_long_number(encoded)
        or (any(each.search(encoded) for each in _SOME_UNUSUAL) and any(_outside(hidden, _UNUSUAL)))
    )


def _has_long_number(encoded: bytes) -> bool:
    """Whether a number is so long; whoever is, is met by so many steps in a row."""
    return _SO_MANY_STEPS in encoded[::_STEP].translate(_AS_ZEROS) and _LONGEST_NUMBER in encoded.translate(_AS_ZEROS)


def _outside(text: str, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    """The matches that stand in no string."""
    inside, last = 0, 0
    for match in pattern.finditer(text):
        inside ^= text.count('"', last, match.start()) & 1
        last = match.start()
        if not inside:
            yield match


def _shortest(encoded: bytes, hidden: str) -> bytes:
    """Numbers without the zeros that change nothing. `hidden`: the same `_without_escapes`."""
    shorter = hidden
    if _SOME_ZERO_AT_THE_END.search(encoded):
        shorter = _without_zeros_at_the_end(shorter)
    if _SOME_MINUS_ZERO.search(shorter):
        shorter = _without_minus_zeros(shorter)
    if shorter is hidden:
        return encoded
    return (_with_escapes(shorter) if b"\\" in encoded else shorter).encode()


def _without_zeros_at_the_end(text: str) -> str:
    kept: list[str] = []
    last = 0
    for match in _outside(text, _ZEROS_AT_THE_END):
        kept += (text[last : match.start()], match[0].rstrip("0").rstrip("."))
        last = match.end()
    return "".join([*kept, text[last:]])


def _without_minus_zeros(text: str) -> str:
    kept, last = [], 0
    for match in _outside(text, _MINUS_ZERO):
        kept.append(text[last : match.start()])
        last = match.start() + 1
    return "".join([*kept, text[last:]])


def _is_plain(line: str, value: JsonObject, suspects: bool) -> bool:  # noqa: FBT001 - of the whole batch
    if suspects and (
        "\\u0000" in line
        or _LONGEST_NUMBER in line.encode().translate(_AS_ZEROS)
        or any(_outside(_without_escapes(line), _UNUSUAL))
    ):
        return False
    return line.count("{") + line.count("[") < _MOST_BRACKETS or exact.is_shallow(value)
