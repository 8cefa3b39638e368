"""From the bytes of a response to UTF-8: decompressed in bounded steps, and converted from other character sets."""

from __future__ import annotations

import codecs
import re
import zlib
from typing import TYPE_CHECKING, Any

import httpx

from workers.errors import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ACCEPT_ENCODING = "gzip, deflate"
"""What we ask for. Anything else is refused, several layers of these included."""

_STEP = 2**16
"""Bytes that one step of decompression yields at most: a thousandth of it may be what was sent."""

_WINDOW_BITS = {"gzip": zlib.MAX_WBITS + 16, "x-gzip": zlib.MAX_WBITS + 16, "deflate": zlib.MAX_WBITS}

_GZIP = b"\x1f"

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_ZEROS = {
    (True, True, True, False): "utf-32-be",
    (False, True, True, True): "utf-32-le",
    (True, False): "utf-16-be",
    (False, True): "utf-16-le",
}
"""Where the first bytes are zero -> encoding. JSON and XML begin with an ASCII character (RFC 4627, 3)."""

HEAD = 4
"""Bytes that decide the encoding."""

_BEFORE = re.compile(rb"(?:[ \t\r\n]*+\xef\xbb\xbf)*+")
"""What may stand before the content: each file of a program that was saved with a byte order mark adds one."""

_NO_CODING = frozenset({"", "identity", "none", "utf-8", "utf8", "binary", "8bit"})
"""Values of `Content-Encoding` that name no compression; some programs put the character set there."""

_WEB_DEFAULTS = frozenset({"ascii", "iso8859-1", "cp1252"})
"""Web servers declare these by default, whatever the application sends. Browsers read all three as Windows-1252."""

_CHARSETS = re.compile(r"iso8859-\d+|cp\d+|koi8-\w")
"""Character sets, by Python's names, that are honoured when declared: supersets of ASCII with one byte a character."""

_MISFIT = "erpmirror.windows-1252"


# Compression


class ArrivingBody(httpx.SyncByteStream):
    """A response's body, decompressed as it arrives, in bounded steps.

    httpx itself decompresses each chunk whole, layer by layer: two kilobytes of several layers become gigabytes before
    any limit is looked at.

    `largest`: bytes; TooLargeError above. None: whoever reads it has a limit. Replies to logins, and those that a login
    follows, are read by httpx, which has none. DecodingError for a coding that was not asked for, and for what is
    broken or cut.
    """

    largest: int | None = 2**20

    def __init__(self, stream: httpx.SyncByteStream, coding: str) -> None:
        self._stream = stream
        self._coding = coding

    @classmethod
    def attach(cls, response: httpx.Response) -> None:
        """Replace the response's stream. For httpx's event hook `response`."""
        coding = response.headers.pop("Content-Encoding", "").strip().lower()
        if isinstance(response.stream, httpx.SyncByteStream):
            response.stream = cls(response.stream, coding)

    @staticmethod
    def lift_limit(response: httpx.Response) -> None:
        """The reader of this response limits it from here on."""
        if isinstance(response.stream, ArrivingBody):
            response.stream.largest = None

    def __iter__(self) -> Iterator[bytes]:
        received = 0
        for part in self._parts():
            received += len(part)
            if self.largest is not None and received > self.largest:
                raise TooLargeError(f"the answer is larger than {self.largest / 2**20:g} MiB")
            yield part

    def close(self) -> None:
        """Close the connection's stream."""
        self._stream.close()

    def _parts(self) -> Iterator[bytes]:
        if self._coding in _NO_CODING:
            yield from self._stream
            return
        if self._coding not in _WINDOW_BITS:
            raise httpx.DecodingError(f"the answer is compressed in a way that was not asked for ({ACCEPT_ENCODING})")
        try:
            yield from self._steps(zlib.decompressobj(_WINDOW_BITS[self._coding]))
        except zlib.error:
            raise httpx.DecodingError("the compressed answer is broken") from None

    def _steps(self, inflate: Any) -> Iterator[bytes]:
        begun = False
        for chunk in self._stream:
            waiting = chunk
            if not begun and chunk and self._coding == "deflate" and not _has_zlib_header(chunk):
                inflate = zlib.decompressobj(-zlib.MAX_WBITS)  # some servers leave the header out
            begun = begun or bool(chunk)
            while waiting and not (inflate.eof and not waiting.startswith(_GZIP)):  # what pads the end is ignored
                if inflate.eof:  # gzip may have several members
                    inflate = zlib.decompressobj(_WINDOW_BITS[self._coding])
                step = inflate.decompress(waiting, _STEP)
                waiting = inflate.unconsumed_tail or inflate.unused_data
                if step:
                    yield step
        while begun and (step := inflate.decompress(b"", _STEP)):  # what one step left behind
            yield step
        if begun and not inflate.eof:
            raise httpx.DecodingError("the compressed answer breaks off")


def _has_zlib_header(chunk: bytes) -> bool:
    return chunk[0] & 0x0F == zlib.DEFLATED and (len(chunk) == 1 or int.from_bytes(chunk[:2]) % 31 == 0)


# Character sets


def utf8_converter(head: bytes, charset: str | None) -> Callable[[bytes, bool], bytes] | None:
    r"""What turns the body into UTF-8, called with each part in turn and whether it is the last; None: it is UTF-8.

    `head`: the first `HEAD` bytes or more, `charset`: as declared in `Content-Type`. A byte order mark, and zeros
    between the first characters, outrank what is declared. What cannot be decoded becomes an escape that JSON does not
    know (`\x98`), so that only the text that holds it is malformed.
    """
    if head.startswith(codecs.BOM_UTF8):
        return None
    encoding = _evident_encoding(head) or _declared_encoding(charset)
    if encoding is None:
        return None
    errors = _MISFIT if encoding == "utf-8" else "backslashreplace"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    return lambda part, last: decoder.decode(part, last).encode("utf-8", "surrogatepass")


def in_utf8(body: bytes, charset: str | None) -> bytes:
    """A whole body, as `utf8_converter` turns it into UTF-8, without byte order marks."""
    convert = utf8_converter(body[:HEAD], charset)
    return content(body) if convert is None else convert(body, True)


def content(body: bytes) -> bytes:
    """The body without the byte order marks before it, of which there may be several."""
    found = _BEFORE.match(body)
    return body[found.end() :] if found else body


def _evident_encoding(head: bytes) -> str | None:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    zeros = tuple(not byte for byte in head[:HEAD])
    return _ZEROS.get(zeros) or _ZEROS.get(zeros[:2])


def _declared_encoding(charset: str | None) -> str | None:
    """The encoding for a declared character set; None for UTF-8, and for a name that means nothing here.

    Under a web server's default UTF-8 stays UTF-8, and all else is Windows-1252: a text in that set is hardly ever
    valid UTF-8.
    """
    try:
        name = codecs.lookup(charset or "utf-8").name
    except LookupError:
        return None
    if name in _WEB_DEFAULTS:
        return "utf-8"
    return name if _CHARSETS.fullmatch(name) else None


def _as_windows_1252(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("cp1252", "backslashreplace"), error.end


codecs.register_error(_MISFIT, _as_windows_1252)
