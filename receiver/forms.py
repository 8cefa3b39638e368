"""A stranger's multipart form, taken apart as it arrives: bounded in size, number and time, and never on disk."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from receiver.refusals import BodyRefusal, Refusal

if TYPE_CHECKING:
    from starlette.requests import Request

_MOST_PARTS = 20
_LONGEST_HEADER = 8 * 2**10
_READ_SECONDS = 300.0
"""A scanner on a slow line gets so long for its body."""

_UNREADABLE = "the form cannot be read"

# It warns of every form that strangers get wrong, without saying whose: they could fill the disk.
logging.getLogger("python_multipart.multipart").setLevel(logging.ERROR)


@dataclass(slots=True)
class Part:
    """One part. `filename`: None for a plain field."""

    name: str = ""
    filename: str | None = None
    content: bytearray = field(default_factory=bytearray)

    @property
    def text(self) -> str:
        """A plain field's value. Raises `Refusal`."""
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            raise malformed(f"the part {self.name} is not UTF-8") from None


async def parts(request: Request, *, largest: int, seconds: float = _READ_SECONDS) -> list[Part]:
    """The parts of the form, in at most `largest` bytes and `seconds`. Raises `Refusal`."""
    boundary = _boundary(request.headers.get("Content-Type", ""))
    # A length that is stated may be refused at once; one that is not, or that lies, is counted.
    if int(request.headers.get("Content-Length", "0")) > largest:
        raise too_large(largest)
    try:
        async with asyncio.timeout(seconds):
            return await _read(request, boundary, largest)
    except TimeoutError:
        raise BodyRefusal(408, "too_slow", "the body did not arrive") from None
    except FormParserError:
        raise BodyRefusal(400, "malformed", _UNREADABLE) from None


def taken_apart(declared: str, body: bytes) -> list[Part]:
    """The parts of a form that is here already. `declared`: its Content-Type. Raises `Refusal`."""
    form = _Form()
    try:
        form.parser(_boundary(declared)).write(body)
    except FormParserError:
        raise malformed(_UNREADABLE) from None
    return form.whole()


def _boundary(declared: str) -> bytes:
    kind, parameters = parse_options_header(declared)
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
    return form.whole()


class _Form:
    """Gathers what the parser calls out."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._ended = False
        self._header = bytearray()
        self._value = bytearray()

    def parser(self, boundary: bytes) -> MultipartParser:
        """What is written to it is gathered here."""
        return MultipartParser(boundary, self._callbacks())  # type: ignore[arg-type]

    def whole(self) -> list[Part]:
        """The parts, once all has been written. Raises `Refusal`."""
        if not self._ended:
            raise malformed("the form has no end")
        return self._parts

    def _callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._grow(self._header, data[start:end]),
            "on_header_value": lambda data, start, end: self._grow(self._value, data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._parts[-1].content.extend(data[start:end]),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self._parts) == _MOST_PARTS:
            raise FormParserError
        self._parts.append(Part())

    def _grow(self, gathered: bytearray, piece: bytes) -> None:
        gathered += piece
        if len(gathered) > _LONGEST_HEADER:
            raise FormParserError

    def _end_header(self) -> None:
        if bytes(self._header).lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self._value))
            name, filename = options.get(b"name", b""), options.get(b"filename")
            self._parts[-1].name = name.decode(errors="replace")
            self._parts[-1].filename = None if filename is None else filename.decode(errors="replace")
        self._header.clear()
        self._value.clear()

    def _end(self) -> None:
        self._ended = True


def malformed(message: str) -> Refusal:
    """Not a form, or not the one that is expected."""
    return Refusal(400, "malformed", message)


def too_large(largest: int) -> Refusal:
    """No more of the body is wanted."""
    return BodyRefusal(413, "too_large", f"the body is larger than {largest} bytes")
