"""Parses a long JSON response record by record, with limits on a record's size, depth and numbers.

A full sync may be one response of gigabytes. What has to be kept about all its records goes to a temporary database, so
a worker's memory does not grow with the response.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Any, Protocol, Self

import ijson

from models import exact
from workers.errors import SetAside, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_RECORD = 16 * 2**20
"""Bytes. One record at a time is held in memory."""

PIECE = 2**17
"""Bytes per read. XML parsers restart an unfinished tag with each piece: with small ones a long tag takes minutes."""

_MAX_DEPTH = 1000
"""Levels. ijson stores the path of every level, so its memory grows with the square of the depth."""

_MAX_DIGITS = 4000
"""Digits. For an integer that Python refuses to parse, ijson's C code crashes the process (segmentation fault)."""

_CACHE_KIB = 2048
"""KiB of the temporary database that stay in memory."""

_LONG_NUMBER = re.compile(rb"[0-9]{%d}" % (_MAX_DIGITS + 1))
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_DANGLING_ESCAPE = re.compile(rb"(?<!\\)(?:\\\\)*\\\Z")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class BrokenReplyError(ValueError):
    """The response breaks off or is malformed. The message is the first line of the parser's error."""


class SeenKeys:
    """The state of each record of a response so far, by key; finds keys that appear twice.

    A temporary SQLite database. It uses the disk only above `_CACHE_KIB`, and is deleted on exit.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_CACHE_KIB}"):
            self._database.execute(f"PRAGMA {pragma}")
        self._database.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID")
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def remember(self, key: str, state: bytes) -> bytes | None:
        """Store the state of a new key and return None; for a known key return its stored state."""
        name = _key_bytes(key)
        if self._database.execute("INSERT OR IGNORE INTO seen VALUES (?, ?)", (name, state)).rowcount:
            return None
        return bytes(self._database.execute("SELECT state FROM seen WHERE key = ?", (name,)).fetchone()[0])

    def replace(self, key: str, state: bytes) -> None:
        """Replace the stored state of a known key."""
        self._database.execute("UPDATE seen SET state = ? WHERE key = ?", (state, _key_bytes(key)))


def _key_bytes(key: str) -> bytes:
    return key.encode(errors="surrogatepass")


class Body(Protocol):
    """A response body with a file's `read`."""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty at the end."""


class Pieces:
    """Reads a body in pieces of `PIECE` bytes; TooLargeError if a record exceeds `LARGEST_RECORD`."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._record_bytes = 0

    def read(self, size: int = -1) -> bytes:
        """One piece, whatever size the parser asks for; empty at the end, and for size 0."""
        piece = bytearray()
        while size and len(piece) < PIECE and (more := self._body.read(PIECE - len(piece))):
            piece += more
        self._record_bytes += len(piece)
        if self._record_bytes > LARGEST_RECORD:
            raise TooLargeError(f"a record of the answer is larger than {LARGEST_RECORD / 2**20:g} MiB")
        return bytes(piece)

    def record_ended(self) -> None:
        """Call it after each record: starts the count for the next one."""
        self._record_bytes = 0


def items(body: Body) -> Iterator[Any]:
    """Yield the items of a JSON array as they arrive; numbers are in the normal form of `exact.loads`.

    Raises BrokenReplyError for malformed JSON, TooLargeError for a record above `LARGEST_RECORD`, and SetAside for
    nesting or numbers that would exhaust memory or crash the parser.
    """
    pieces = GuardedPieces(body)
    try:
        for item in ijson.items(pieces, "item", buf_size=PIECE):
            pieces.record_ended()
            yield exact.normalised(item)
    except (ijson.JSONError, ValueError, ArithmeticError) as error:  # a name or a number that Python does not take
        raise BrokenReplyError(str(error).strip().partition("\n")[0]) from None


class GuardedPieces(Pieces):
    """Checks JSON before the parser sees it: SetAside for nesting beyond `_MAX_DEPTH` or numbers beyond `_MAX_DIGITS`.

    It removes strings, then counts digits and brackets in what is left. State is kept across pieces: `_pending` (an
    unfinished string), `_tail` (the last digits), `_brackets` (those still open).
    """

    def __init__(self, body: Body) -> None:
        super().__init__(body)
        self._brackets = b""
        self._pending = b""
        self._tail = b""

    def read(self, size: int = -1) -> bytes:
        """As `Pieces.read`."""
        piece = super().read(size)
        outside, quote, unfinished = _STRING.sub(b"", self._pending + piece).partition(b'"')
        # Of an unfinished string only its opening quote is needed, and the backslash that escapes the next byte.
        self._pending = quote + (b"\\" if _DANGLING_ESCAPE.search(unfinished[-_MAX_DIGITS:]) else b"")
        self._tail += outside
        if _LONG_NUMBER.search(self._tail):
            raise SetAside(f"the answer has a number of more than {_MAX_DIGITS} digits")
        self._tail = self._tail[-_MAX_DIGITS:]
        self._brackets = _unclosed(self._brackets + outside.translate(None, _NOT_BRACKETS))
        return piece


def _unclosed(brackets: bytes) -> bytes:
    """The brackets still open: removes adjacent pairs until none is left. SetAside above `_MAX_DEPTH`."""
    for _ in range(_MAX_DEPTH):
        left = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(left) == len(brackets):
            break
        brackets = left
    if len(brackets) > _MAX_DEPTH:
        raise SetAside(f"the answer is nested more than {_MAX_DEPTH} deep")
    return brackets
