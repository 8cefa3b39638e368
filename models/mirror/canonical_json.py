"""The canonical JSON of many objects at once, as it is stored and hashed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from models import exact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.values import JsonObject

_ENCODER = msgspec.json.Encoder(decimal_format="number", order="sorted")
_REFUSED = (TypeError, ValueError, OverflowError, RecursionError)
"""What the encoder raises for a lone surrogate, a decimal that is not finite and nesting without end."""

_MANY_BRACKETS = 100
"""An object that is nested deeper than `exact.storable` keeps has at least so many; most objects have fewer."""


def of(objects: Sequence[JsonObject]) -> list[str | None]:
    """The canonical text of each object; None for one that `exact.storable` may have to change.

    The objects' numbers have to be in the normal form of `exact.number`, as `exact.loads` and `exact.normalised` return
    them.
    """
    try:
        encoded = _ENCODER.encode_lines(objects)
    except _REFUSED:  # encode one by one, so that one object does not take its batch to the slow path
        return [None] if len(objects) == 1 else [text for one in objects for text in of([one])]
    lines = encoded.decode().split("\n")
    has_nul = b"\\u0000" in encoded
    return [
        None if (has_nul and "\\u0000" in line) or _may_be_deep(line, one) else line
        for line, one in zip(lines, objects, strict=False)
    ]


def _may_be_deep(line: str, one: JsonObject) -> bool:
    return line.count("{") + line.count("[") >= _MANY_BRACKETS and not exact.is_shallow(one)
