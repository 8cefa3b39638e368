"""The records of a long answer as they arrive: each bounded in bytes and depth, whatever a vendor sends.

What must be remembered of them all goes to a file, so a worker's memory does not grow with the answer.
"""

from __future__ import annotations

import re
import sqlite3
from typing import TYPE_CHECKING, Any, Protocol, Self

import ijson

from models import exact
from workers.errors import SetAside, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST_RECORD = 16 * 2**20
"""Bytes. What is held in memory is one record."""

PIECE = 2**17
"""Bytes at once. A parser begins an unfinished tag anew with every piece: with small ones a long tag takes minutes."""

_DEEPEST = 1000
"""ijson keeps the path of every level, so memory grows with the square of the depth."""

_LONGEST_NUMBER = 4000
"""Digits. ijson's C code ends the whole process with a segmentation fault where Python refuses to read an integer."""

_KEPT_IN_MEMORY = 2048
"""KiB of a temporary database."""

_TOO_LONG = re.compile(rb"[0-9]{%d}" % (_LONGEST_NUMBER + 1))
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_HALF_ESCAPED = re.compile(rb"(?<!\\)(?:\\\\)*\\\Z")
_NO_BRACKET = bytes(set(range(256)) - set(b"[]{}"))


class Broken(ValueError):  # noqa: N818 - read as a sentence: except streaming.Broken
    """The answer breaks off, or is not what it says. The first line of its parser's words."""


class Met:
    """The state of each record that an answer has brought so far, by key.

    A temporary database, which goes to the disk only when it outgrows its few pages in memory, and with the block.
    """

    def __init__(self) -> None:
        self._file = sqlite3.connect("", isolation_level=None)
        for pragma in ("journal_mode = OFF", "synchronous = OFF", f"cache_size = -{_KEPT_IN_MEMORY}"):
            self._file.execute(f"PRAGMA {pragma}")
        self._file.execute("CREATE TABLE met (key BLOB PRIMARY KEY, state BLOB NOT NULL) WITHOUT ROWID")
        self._file.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def first(self, key: str, state: bytes) -> bytes | None:
        """Remember the state of a key that is new, and give None; else what is remembered of it."""
        name = _name(key)
        if self._file.execute("INSERT OR IGNORE INTO met VALUES (?, ?)", (name, state)).rowcount:
            return None
        return bytes(self._file.execute("SELECT state FROM met WHERE key = ?", (name,)).fetchone()[0])

    def replace(self, key: str, state: bytes) -> None:
        """Remember this state instead."""
        self._file.execute("UPDATE met SET state = ? WHERE key = ?", (state, _name(key)))


def _name(key: str) -> bytes:
    return key.encode(errors="surrogatepass")


class Body(Protocol):
    """What arrives."""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty at the end."""


class Pieces:
    """A body in large pieces; `TooLarge` where no record ends for long."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self._since = 0

    def read(self, size: int = -1) -> bytes:
        """A piece, whatever size a parser asks for; empty at the end, and for size 0."""
        piece = bytearray()
        while size and len(piece) < PIECE and (more := self._body.read(PIECE - len(piece))):
            piece += more
        self._since += len(piece)
        if self._since > LARGEST_RECORD:
            raise TooLarge(f"a record of the answer is larger than {LARGEST_RECORD / 2**20:g} MiB")
        return bytes(piece)

    def ended(self) -> None:
        """A record has been read."""
        self._since = 0


def items(body: Body) -> Iterator[Any]:
    """The items of a JSON array as they arrive; numbers are in the normal form of `exact.loads`.

    Raises `Broken`, `TooLarge`, and SetAside for what no parser survives.
    """
    pieces = _Tame(body)
    try:
        for item in ijson.items(pieces, "item", buf_size=PIECE):
            pieces.ended()
            yield exact.normalised(item)
    except (ijson.JSONError, ValueError, ArithmeticError) as error:  # a name or a number that Python does not take
        raise Broken(str(error).strip().partition("\n")[0]) from None


class _Tame(Pieces):
    """JSON that no parser has seen yet: SetAside for what would harm ours, too deep or too long a number."""

    def __init__(self, body: Body) -> None:
        super().__init__(body)
        self._open = b""
        self._unread = b""
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        """As `Pieces.read`."""
        piece = super().read(size)
        outside, goes_on, text = _TEXT.sub(b"", self._unread + piece).partition(b'"')
        self._unread = goes_on + (b"\\" if _HALF_ESCAPED.search(text[-_LONGEST_NUMBER:]) else b"")
        self._last += outside
        if _TOO_LONG.search(self._last):
            raise SetAside(f"the answer has a number of more than {_LONGEST_NUMBER} digits")
        self._last = self._last[-_LONGEST_NUMBER:]
        self._open = _unclosed(self._open + outside.translate(None, _NO_BRACKET))
        return piece


def _unclosed(brackets: bytes) -> bytes:
    """The brackets that are left once all pairs are taken out, level by level."""
    for _ in range(_DEEPEST):
        left = brackets.replace(b"[]", b"").replace(b"{}", b"")
        if len(left) == len(brackets):
            break
        brackets = left
    if len(brackets) > _DEEPEST:
        raise SetAside(f"the answer is nested more than {_DEEPEST} deep")
    return brackets
