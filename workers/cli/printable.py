"""Text of strangers for a terminal: an endpoint's answer, a vendor's field.

Terminals obey control characters: some set the title, some overwrite what stands above, some answer as if a person had
typed.
"""

from __future__ import annotations

import io
import sys
import unicodedata
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterable

_ESCAPED = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})
"""Controls, invisible marks that also turn the direction of text, unassigned ones, surrogates, line separators."""

_CUT = "…"
_LEAST_OF_VALUE = 12
_BEFORE_DIFFERENCE = 6
"""Characters that are shown before the first one that differs, of two values that begin alike."""


def escape_unencodable() -> None:
    """From now on print what the terminal's encoding cannot say as an escape, rather than fail."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def escaped(text: str) -> str:
    r"""The text on one line, with what a terminal might obey as `\x1b`."""
    if text.isprintable():
        return text
    return "".join(map(_escape, text))


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode() if unicodedata.category(character) in _ESCAPED else character


def cut(text: str, width: int) -> str:
    """The text's beginning, if it is longer."""
    return text if len(text) <= width else text[: max(width - 1, 0)] + _CUT


def cut_pair(one: str, other: str, width: int) -> tuple[str, str]:
    """Two texts that together fit the width; of those that begin alike, what stands around the first difference."""
    if len(one) + len(other) <= width:
        return one, other
    half = max(width // 2, _LEAST_OF_VALUE)
    alike = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    if alike > half - _BEFORE_DIFFERENCE:
        start = alike - _BEFORE_DIFFERENCE
        one, other = _CUT + one[start:], _CUT + other[start:]
    if len(one) <= half:
        return one, cut(other, width - len(one))
    if len(other) <= half:
        return cut(one, width - len(other)), other
    return cut(one, half), cut(other, half)


def without_query(url: str) -> str:
    """An address without its query, which may hold a key."""
    return urlsplit(url)._replace(query="").geturl()


def joined(texts: Iterable[str], width: int, *, at_most: int) -> str:
    """The first of the texts that fit, with commas."""
    line, count = "", 0
    for text in texts:
        longer = f"{line}, {text}" if line else text
        if len(longer) <= width and count < at_most:
            line, count = longer, count + 1
    return line
