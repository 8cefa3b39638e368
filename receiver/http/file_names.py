"""The file name of a form's part, however the sender wrote it: the last part of a path, in printable characters."""

from __future__ import annotations

import re
from email.errors import MessageError
from email.header import decode_header, make_header
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

_PARAMETER = re.compile(rb""";\s*([\w*-]+)\s*=\s*("(?:\\.|[^"\\])*"|[^;]*)""", re.DOTALL)
_EXTENDED = re.compile(rb"(utf-8|iso-8859-1|us-ascii)'[^']*'([!-~]*)", re.IGNORECASE)
_ENCODED_WORD = re.compile(r"=\?[\w-]+(?:\*[\w-]+)?\?[bq]\?[^?\s]*\?=", re.IGNORECASE)
_PERCENT = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of a text around: `fdp.exe` may look like `exe.pdf`."""


def from_disposition(value: bytes, options: Mapping[bytes, bytes]) -> str | None:
    """The name in a Content-Disposition; None for a plain field.

    `options`: the plain parameters, parsed. `filename*` counts before `filename`, as in RFC 6266: RFC 7578 forbids it
    in forms, but many programs send it, some without the other.
    """
    extended = _extended({name.lower(): text for name, text in _PARAMETER.findall(value)})
    if extended is not None:
        return clean(extended)
    plain = options.get(b"filename")
    return None if plain is None else clean(_decoded(plain.decode(errors="replace")))


def _extended(parameters: Mapping[bytes, bytes]) -> str | None:
    """`filename*=utf-8''f%C3%B6ljesedel.pdf` (RFC 8187), also quoted; None for none, or a malformed one."""
    match = _EXTENDED.fullmatch(parameters.get(b"filename*", b"").strip().strip(b'"'))
    if match is None:
        return None
    try:
        return unquote_to_bytes(match[2]).decode(match[1].decode())
    except UnicodeDecodeError:
        return None


def _decoded(name: str) -> str:
    """The name with RFC 2047's encoded words and percent-encoding decoded, where all of it is well-formed."""
    if _ENCODED_WORD.search(name):
        try:
            return str(make_header(decode_header(name)))
        except (LookupError, ValueError, MessageError):  # an unknown charset, or other bytes than it has
            return name
    if "%" in name and _PERCENT.fullmatch(name):
        try:
            return unquote_to_bytes(name).decode()
        except UnicodeDecodeError:
            return name
    return name


def clean(name: str) -> str:
    r"""The last part of a path (`C:\fakepath\x.pdf`, `../x.pdf`) without control characters; "" if nothing is left."""
    last = PureWindowsPath(_UNPRINTABLE.sub("", name)).name.strip()
    return "" if last in {".", ".."} else last
