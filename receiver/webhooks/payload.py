"""A webhook's payload: exactly one packet in its query, form or body, checked for size, encoding and JSON."""

from __future__ import annotations

import binascii
import codecs
import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from receiver.http import body, multipart
from receiver.http.errors import ApiError

if TYPE_CHECKING:
    from starlette.requests import Request

MAX_QUERY = 16 * 2**10
MAX_BODY = 64 * 2**10
_MAX_FIELDS = 20
_FIELD = b"packet="
_NEEDS_FULL_PARSER = re.compile(rb"[^ -%'-~]")
"""A byte that begins another field (`&`) or that a query cannot hold."""

_NUL = "\\u0000"
_READ_SECONDS = 10.0
"""A webhook's body is small; one that takes longer only occupies a connection."""


async def read(request: Request, *, seconds: float = _READ_SECONDS) -> str:
    """The one packet of the request: the query's `packet`, the form's, or a JSON body itself, within `seconds`."""
    query = request.scope["query_string"]
    if len(query) > MAX_QUERY:
        raise ApiError(414, "too_large", f"the query is longer than {MAX_QUERY} bytes")
    found = _packets(query)
    if request.method == "POST":
        found += _posted(request, await body.read(request, largest=MAX_BODY, seconds=seconds))
    if len(found) != 1:
        raise _malformed("there is no packet" if not found else "there is more than one packet")
    if not found[0].strip():
        raise _malformed("the packet is empty")
    if "\x00" in found[0]:
        raise _malformed("the packet holds a NUL byte")
    return found[0]


def decode(packet: str) -> Any:
    """The packet as JSON, numbers exact. A repeated name is an error: two parsers could take different values."""
    try:
        # JSON allows no bare NUL in a string, so only a packet with an escaped one needs the check.
        return (_NUL_CHECKING_DECODER if _NUL in packet else _DECODER).decode(packet)
    except (ValueError, RecursionError, ArithmeticError):  # ArithmeticError: an exponent that no Decimal holds
        raise _malformed("the packet is not JSON") from None


def _posted(request: Request, body: bytes) -> list[str]:
    content_type, body = request.headers.get("Content-Type", ""), body.removeprefix(codecs.BOM_UTF8)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return _multipart(content_type, body)
    # PHP's curl posts raw JSON with a form's Content-Type unless another is set, as in Dilovod's own sample.
    if kind == "application/x-www-form-urlencoded" and not body.lstrip().startswith(b"{"):
        return _packets(body)
    return [_utf8(body)] if body else []


def _multipart(content_type: str, body: bytes) -> list[str]:
    fields = multipart.parse(content_type, body)
    return [_utf8(bytes(field.content)) for field in fields if field.name == "packet" and field.filename is None]


def _packets(encoded: bytes) -> list[str]:
    if (only := _only_packet(encoded)) is not None:
        return [only]
    try:
        fields = parse_qsl(_utf8(encoded), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise _malformed("the query or form cannot be read") from None
    return [value for name, value in fields if name == "packet"]


def _only_packet(encoded: bytes) -> str | None:
    """The packet, if it is the only field and every percent sign begins an escape; else None: use the full parser.

    Quoted-printable differs from percent encoding only in the sign, and the standard library decodes it in C.
    """
    if not encoded.startswith(_FIELD) or _NEEDS_FULL_PARSER.search(encoded):
        return None
    value = encoded[len(_FIELD) :]
    found = binascii.a2b_qp(value.replace(b"=", b"%3D").replace(b"%", b"=").replace(b"+", b" "))
    return _utf8(found) if len(found) + 2 * value.count(b"%") == len(value) else None


def _utf8(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise _malformed("this is not UTF-8") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is repeated")
    return found


def _object_without_nul(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if any("\x00" in part for pair in pairs for part in pair if isinstance(part, str)):
        raise ValueError("a NUL")
    return _object(pairs)


_DECODER, _NUL_CHECKING_DECODER = (
    # A raw tab or newline in a text, and NaN, say nothing about which object changed.
    json.JSONDecoder(parse_float=Decimal, parse_constant=str, strict=False, object_pairs_hook=hook)
    for hook in (_object, _object_without_nul)
)


def _malformed(message: str) -> ApiError:
    return ApiError(400, "malformed", message)
