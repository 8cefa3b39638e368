"""Multipart forms, parsed as they arrive: bounded in size, in parts and in time, and held in memory only.

python-multipart bounds the headers of a part. Starlette's parser on top of it was measured and not taken: it is slower,
and needs as many lines to be bounded. It decodes with the sender's charset (`idna` raises an error that it does not
catch), falls back to Latin-1, accepts a truncated form, and ignores a `filename*`, as python-multipart does: those are
read by `file_names`.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from receiver.http import file_names
from receiver.http.body import too_large
from receiver.http.errors import ApiError, BodyError

if TYPE_CHECKING:
    from starlette.requests import Request

_MAX_PARTS = 20
_READ_SECONDS = 300.0
"""A scanner on a slow connection needs minutes to send its body."""

_UNREADABLE = "the form cannot be read"

# It logs a warning for every malformed form; anyone could fill the disk with them.
logging.getLogger("python_multipart.multipart").setLevel(logging.ERROR)


@dataclass(slots=True)
class Part:
    """One part. `filename`: without folders, "" if it has none; None for a plain field."""

    name: str = ""
    filename: str | None = None
    content: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        """A plain field's value. Raises `ApiError`."""
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            raise malformed(f"the part {self.name} is not UTF-8") from None


async def read(request: Request, *, largest: int, seconds: float = _READ_SECONDS) -> list[Part]:
    """The parts of the request's form, read from at most `largest` bytes within `seconds`. Raises `ApiError`."""
    boundary = _boundary(request.headers.get("Content-Type", ""))
    # A declared length is checked before the body arrives; counting catches a missing or wrong one.
    if int(request.headers.get("Content-Length", "0")) > largest:
        raise too_large(largest)
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, boundary, largest)
    except TimeoutError:
        raise BodyError(408, "too_slow", "the body did not arrive") from None
    except FormParserError:
        raise BodyError(400, "malformed", _UNREADABLE) from None


def parse(content_type: str, body: bytes) -> list[Part]:
    """The parts of a form whose body was read already. Raises `ApiError`."""
    form = _Form()
    try:
        form.parser(_boundary(content_type)).write(body)
    except FormParserError:
        raise malformed(_UNREADABLE) from None
    return form.complete()


def _boundary(content_type: str) -> bytes:
    kind, parameters = parse_options_header(content_type)
    if kind.lower() != b"multipart/form-data" or not parameters.get(b"boundary"):
        raise malformed("send multipart/form-data with a boundary")
    return parameters[b"boundary"]


async def _read(request: Request, boundary: bytes, largest: int) -> list[Part]:
    form, received = _Form(), 0
    parser = form.parser(boundary)
    async for chunk in request.stream():
        received += len(chunk)
        if received > largest:
            raise too_large(largest)
        parser.write(chunk)
    return form.complete()


class _Form:
    """Collects the parts from the parser's callbacks."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._header = bytearray()
        self._value = bytearray()
        self._ended = False

    def parser(self, boundary: bytes) -> MultipartParser:
        """A parser that fills this form."""
        return MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin_part,
                "on_header_field": lambda data, start, end: self._header.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                "on_header_end": self._end_header,
                "on_part_data": lambda data, start, end: self._parts[-1].content.extend(data[start:end]),
                "on_end": self._end,
            },
        )

    def complete(self) -> list[Part]:
        """The parts, once the whole body was written. Raises `ApiError` if the form is truncated."""
        if not self._ended:
            raise malformed("the form has no end")
        return self._parts

    def _begin_part(self) -> None:
        if len(self._parts) == _MAX_PARTS:
            raise FormParserError
        self._parts.append(Part())

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            self._parts[-1].name = options.get(b"name", b"").decode(errors="replace")
            self._parts[-1].filename = file_names.from_disposition(bytes(self._value), options)
        self._header.clear()
        self._value.clear()

    def _end(self) -> None:
        self._ended = True


def malformed(message: str) -> ApiError:
    """A 400: not a form, or not the expected one."""
    return ApiError(400, "malformed", message)
