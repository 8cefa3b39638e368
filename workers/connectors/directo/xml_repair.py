"""Repairs XML as it arrives, where a sender broke the rules but said clearly what it meant.

Databases write control characters as they find them in a text (SQL Server's `FOR XML` as `&#x1F;`), and programs put
texts into XML without escaping them. An XML parser ends at the first of these, so one record would spoil all others.
"""

from __future__ import annotations

import re
from html.entities import html5
from typing import TYPE_CHECKING

from models import exact

if TYPE_CHECKING:
    from workers.connectors.streaming import Body

_HEAD = 256
"""Bytes in which the encoding is declared."""

_LONGEST_TOKEN = 40
"""Bytes of a reference, or of what begins or ends a CDATA section."""

_ENCODING = re.compile(rb"<\?xml\b[^>]*?\bencoding\s*=\s*[\"']\s*([\w-]+)", re.IGNORECASE)
_CONTROLS = bytes({*range(0x20)} - {*b"\t\n\r"})
_ODD_REFERENCE = re.compile(rb"&(?!(?:amp|lt|gt|quot|apos);)")
"""What may need repair; nearly all XML has none of either."""

_TOKENS = re.compile(
    rb"<!\[CDATA\[|\]\]>|[\x00-\x08\x0b\x0c\x0e-\x1f]|&(?:#(?:([0-9]{1,9})|x([0-9a-f]{1,9}));|([a-z]\w{0,30};))?",
    re.IGNORECASE,
)
_BEYOND_ASCII = re.compile(rb"[^<>\"']*[\x80-\xff][^<>\"']*")
_OWN_NAMES = frozenset({"amp;", "lt;", "gt;", "quot;", "apos;"})
_CHARACTERS = ((0x9, 0xA), (0xD, 0xD), (0x20, 0xD7FF), (0xE000, 0xFFFD), (0x10000, 0x10FFFF))
"""The first and the last of those that XML has (Extensible Markup Language 1.0, 2.2)."""

_OPENS, _CLOSES = b"<![CDATA[", b"]]>"


class Repaired:
    r"""The same body, with a file's `read`, for an XML parser.

    - a control character, and a reference to a character that XML does not have, become an escape such as `\u001f`
    - an HTML name becomes its character (`&nbsp;`); any other `&` is itself
    - a text that is no UTF-8 is read as Windows-1252 where that is evident, unless another encoding is declared
    """

    def __init__(self, body: Body) -> None:
        self._body = body
        self._waiting = b""
        self._in_cdata = False
        self._begun = False
        self._is_utf8 = self._is_wide = False

    def read(self, size: int = -1) -> bytes:
        """About `size` bytes; empty at the end."""
        while more := self._body.read(size):
            self._waiting += more
            if len(self._waiting) >= _HEAD and (end := _end_of_tokens(self._waiting)):
                piece, self._waiting = self._waiting[:end], self._waiting[end:]
                return self._repair(piece)
        piece, self._waiting = self._waiting, b""
        return self._repair(piece)

    def _repair(self, piece: bytes) -> bytes:
        if not self._begun:
            self._begun = True
            declared = _ENCODING.search(piece[:_HEAD])
            self._is_utf8 = declared is None or declared[1].lower() in {b"utf-8", b"utf8"}
            self._is_wide = b"\0" in piece[:4] or piece.startswith((b"\xff\xfe", b"\xfe\xff"))
        if self._is_wide:
            return piece
        if self._is_utf8 and not _is_utf8(piece):
            piece = _BEYOND_ASCII.sub(_in_utf8, piece)
        if self._in_cdata or _may_need_repair(piece):
            piece = _TOKENS.sub(self._token, piece)
        return piece

    def _token(self, match: re.Match[bytes]) -> bytes:
        token = match[0]
        if token in {_OPENS, _CLOSES}:
            self._in_cdata = token == _OPENS
            return token
        if not token.startswith(b"&"):
            return _escape(token[0])
        return token if self._in_cdata else _reference(match)


def _may_need_repair(piece: bytes) -> bool:
    has_controls = len(piece.translate(None, _CONTROLS)) < len(piece)  # quicker than to search for them
    return has_controls or _OPENS in piece or _ODD_REFERENCE.search(piece) is not None


def _reference(match: re.Match[bytes]) -> bytes:
    decimal, hexadecimal, name = match.groups()
    if decimal or hexadecimal:
        code = int(decimal) if decimal else int(hexadecimal, 16)
        return match[0] if _is_character(code) else _escape(code)
    if name is None or name.decode() in _OWN_NAMES:
        return match[0] if name else b"&amp;"
    characters = html5.get(name.decode())
    if characters is None:
        return b"&amp;" + name
    return b"".join(b"&#%d;" % ord(character) for character in characters)


def _is_character(code: int) -> bool:
    return any(first <= code <= last for first, last in _CHARACTERS)


def _escape(code: int) -> bytes:
    return b"\\u%04x" % code


def _end_of_tokens(data: bytes) -> int:
    """Where to cut, so that no token and no character of UTF-8 is divided."""
    if end := data.rfind(b">") + 1:
        return end
    tail = max(len(data) - _LONGEST_TOKEN, 0)
    found = [at for mark in (b"&", b"<", b"]") if (at := data.find(mark, tail)) >= 0]
    end = min(found, default=len(data))
    while end and data[end - 1] >= 0x80:  # noqa: PLR2004 - beyond ASCII
        end -= 1
    return end


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _in_utf8(match: re.Match[bytes]) -> bytes:
    try:
        return exact.text_in_utf8(match[0])
    except UnicodeDecodeError:
        return match[0]
