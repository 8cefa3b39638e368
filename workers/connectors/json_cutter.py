"""Cuts JSON into the bytes of its items without decoding them, so that one bad item spoils no other.

It knows only strings, escapes and brackets. An item that is no JSON, too large or too deep therefore keeps its place
in a list, and its neighbours are found as if it were sound. Whole strings and all that stands between two brackets are
skipped by one regular expression each, because a loop over bytes would take minutes for a long reply. What is strict
JSON is left to `json_windows`, which is quicker still.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Protocol

from models import exact
from workers.connectors import json_windows
from workers.errors import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.values import JsonObject
    from workers.connectors.json_windows import Window

PIECE = 2**17
"""Bytes per read. XML parsers restart an unfinished tag with each piece: with small ones a long tag takes minutes."""

LARGEST_RECORD = 16 * 2**20
"""Bytes. One record at a time is held in memory."""

_MOST_SKIPPED = 256 * 2**20
"""Bytes. A larger record is taken for one without end: the rest of the reply is not waited for."""

MAX_DEPTH = 1000
"""Levels of brackets. No decoder survives much more, and none of it could be stored as columns."""

_MOST_TOLD = 1000
"""Members of an unreadable record that are looked at for its key."""

_LONGEST_TOLD = 1000
"""Bytes. A longer value is no part of a key."""

_TEXT = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_NO_BRACKETS = rb'[^"\[\]{}]*+(?:%b[^"\[\]{}]*+)*+' % _TEXT
_TO_BRACKET = re.compile(_NO_BRACKETS, re.DOTALL)
"""All up to the next bracket, or to a string that has no end yet."""

_TO_NESTED = re.compile(rb"%b(?:[\[{]%b[\]}]%b)*+" % (_NO_BRACKETS, _NO_BRACKETS, _NO_BRACKETS), re.DOTALL)
"""Likewise, but past objects and lists that hold no others."""

_IN_TEXT = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+', re.DOTALL)
_BETWEEN = re.compile(rb"[ \t\r\n,]*+")
_BLANK = re.compile(rb"[ \t\r\n]*+")
_SCALAR = re.compile(rb'[^ \t\r\n,"\[\]{}]*+')
_SCALARS = re.compile(rb"-?[0-9][-+.0-9eE]*|true|false|null|-?Infinity|NaN")
_MEMBER = re.compile(rb'[ \t\r\n,]*+(%b)[ \t\r\n]*+:[ \t\r\n]*+(%b|[^ \t\r\n,"\[\]{}]++|)' % (_TEXT, _TEXT), re.DOTALL)
"""A member's name, and its value unless that is an object or a list."""

_QUOTE, _OPEN_LIST, _CLOSE_LIST = b'"[]'
_OPENING = frozenset(b"[{")
_BRACKETS = frozenset(b"[]{}")


class BrokenReplyError(ValueError):
    """The reply breaks off, or what stands in it is no list. The message quotes nothing of it."""


class Body(Protocol):
    """A response body with a file's `read`."""

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes; empty at the end."""


@dataclass(frozen=True, slots=True)
class UnreadableRecord:
    """What stands in a record's place if it cannot be read.

    - `place`: its number in the list, from 1
    - `reason`: for a person; never quotes the record
    - `told`: its fields that could be read nevertheless and may be parts of a key; texts and numbers only
    - `digest`: of its bytes, as far as they were kept
    """

    place: int
    reason: str
    told: JsonObject
    digest: str

    @classmethod
    def of(cls, record: bytes | bytearray, place: int, reason: str) -> UnreadableRecord:
        """From the record's bytes, or those at its beginning."""
        return cls(place, reason, told_fields(record), hashlib.blake2b(record, digest_size=12).hexdigest())


class Cutter:
    """Iterates over the items of a JSON list as they arrive: the bytes of one, an `UnreadableRecord`, or a `Window`.

    TooLargeError for a record without end, BrokenReplyError if the list has none, or if something stands between its
    items that is no value. `window`: bytes that are cut at once where that is possible; 0: each item by itself.
    """

    def __init__(self, body: Body, *, window: int = json_windows.WINDOW) -> None:
        self._body = body
        self._size = window
        self._data = bytearray()
        self._at = 0
        self._place = 0
        self._fault = ""
        self._tried = 0

    @property
    def by_windows(self) -> bool:
        """Whether the reply is long enough to be cut by windows; known with its first object."""
        return self._size > 0

    def __iter__(self) -> Iterator[bytes | UnreadableRecord | Window]:
        if self._next_byte(_BLANK) != _OPEN_LIST:
            raise BrokenReplyError("it is no list")
        self._at += 1
        while (byte := self._next_byte(_BETWEEN)) != _CLOSE_LIST:
            if byte is None:
                raise BrokenReplyError("it breaks off")
            if byte in _OPENING and (window := self._window()) is not None:
                self._place += len(window.items)
                yield window
                continue
            self._place += 1
            yield self._cut(byte)
        self._at += 1
        if self._next_byte(_BLANK) is not None:
            raise BrokenReplyError("more follows the end of the list")

    def _window(self) -> Window | None:
        """Items that can be cut at once; None where that has failed, up to the end of what was tried."""
        if self._tried > 0 or not self._size:
            return None
        del self._data[: self._at]
        self._at = 0
        while len(self._data) < self._size and self._fill():
            pass
        if not self._place and len(self._data) < self._size:
            self._size = 0  # it would not be worth while for so short a reply
            return None
        found = json_windows.cut(self._data)
        if found is None:
            self._tried = len(self._data)
            return None
        window, self._at = found
        return window

    def _cut(self, byte: int) -> bytes | UnreadableRecord:
        """The item that begins with this byte."""
        self._tried -= self._at
        del self._data[: self._at]
        self._at, self._fault = 0, ""
        unreadable, skipped = None, 0
        for _ in self._scan(byte):
            if not self._fault and len(self._data) > LARGEST_RECORD:
                self._fault = f"the record is larger than {LARGEST_RECORD / 2**20:g} MiB"
            if self._fault:  # what is left of the record is scanned, but not kept
                unreadable = unreadable or UnreadableRecord.of(self._data, self._place, self._fault)
                skipped += self._at
                self._tried -= self._at
                del self._data[: self._at]
                self._at = 0
            if skipped > _MOST_SKIPPED:
                raise TooLargeError(f"a record of the answer is larger than {_MOST_SKIPPED / 2**20:g} MiB")
            if not self._fill():
                raise BrokenReplyError("it breaks off")
        with memoryview(self._data) as view:
            record = bytes(view[: self._at])
        if self._fault and unreadable is None:
            unreadable = UnreadableRecord.of(record, self._place, self._fault)
        return unreadable or record

    def _scan(self, byte: int) -> Iterator[None]:
        """Move to the end of the item. Yields whenever more bytes are needed; those before the position may go."""
        if byte in _OPENING:
            return self._scan_container()
        return self._scan_text() if byte == _QUOTE else self._scan_scalar()

    def _scan_container(self) -> Iterator[None]:
        self._at += 1
        depth = 1
        while True:
            self._at = end_of(_TO_NESTED if depth < MAX_DEPTH else _TO_BRACKET, self._data, self._at)
            if self._at == len(self._data):
                yield
            elif (byte := self._data[self._at]) == _QUOTE:
                yield from self._scan_text()
            else:
                self._at += 1
                depth += 1 if byte in _OPENING else -1
                if not depth:
                    return
                if depth > MAX_DEPTH:
                    self._fault = self._fault or f"the record is nested more than {MAX_DEPTH} deep"

    def _scan_text(self) -> Iterator[None]:
        self._at += 1
        while True:
            self._at = end_of(_IN_TEXT, self._data, self._at)
            if self._at < len(self._data) and self._data[self._at] == _QUOTE:
                self._at += 1
                return
            yield  # also for an escape whose second byte has not arrived

    def _scan_scalar(self) -> Iterator[None]:
        while (end := end_of(_SCALAR, self._data, self._at)) == len(self._data):
            yield
        if not _SCALARS.fullmatch(self._data, self._at, end):
            raise BrokenReplyError("something stands between its records that is no value")
        self._at = end

    def _next_byte(self, skipped: re.Pattern[bytes]) -> int | None:
        """The byte after what the pattern skips; None at the end of the body."""
        while (at := end_of(skipped, self._data, self._at)) == len(self._data):
            self._data.clear()
            self._at = self._tried = 0
            if not self._fill():
                return None
        self._at = at
        return self._data[at]

    def _fill(self) -> bool:
        """Append what arrives next, `PIECE` bytes if there are as many; False at the end."""
        missing = PIECE
        while missing > 0 and (more := self._body.read(missing)):
            self._data += more
            missing -= len(more)
        return missing < PIECE


def end_of(pattern: re.Pattern[bytes], data: bytes | bytearray, at: int) -> int:
    """Where the match ends; for patterns that match everywhere, if only nothing."""
    found = pattern.match(data, at)
    return at if found is None else found.end()


def members(data: bytes | bytearray) -> Iterator[tuple[bytes, bytes]]:
    """The names and values of a JSON object, each as its bytes.

    BrokenReplyError where it breaks off, is malformed, or something follows it.

    What stands between two members is not checked: decoding them is.
    """
    at = end_of(_BLANK, data, 0) + 1
    while data[(end := end_of(_BETWEEN, data, at)) : end + 1] != b"}":
        member = _MEMBER.match(data, at)
        if member is None:
            raise BrokenReplyError("it is malformed or breaks off")
        at = member.end()
        if member[2]:
            yield bytes(member[1]), bytes(member[2])
            continue
        start, at = at, _end_of_container(data, at)
        yield member[1], bytes(data[start:at])
    if end_of(_BLANK, data, end + 1) != len(data):
        raise BrokenReplyError("more follows its end")


def _end_of_container(data: bytes | bytearray, at: int) -> int:
    depth = 0
    while at < len(data) and data[at] in _BRACKETS:
        depth += 1 if data[at] in _OPENING else -1
        at += 1
        if not depth:
            return at
        at = end_of(_TO_NESTED, data, at)
    raise BrokenReplyError("it is malformed or breaks off")


def told_fields(record: bytes | bytearray) -> JsonObject:
    """The short texts and numbers among a record's members, up to where the record cannot be read any further."""
    told: JsonObject = {}
    if record[:1] != b"{":
        return told
    with suppress(BrokenReplyError):
        for name, value in islice(members(record), _MOST_TOLD):
            if max(len(name), len(value)) <= _LONGEST_TOLD and value[0] not in _BRACKETS:
                with suppress(ValueError):
                    told[exact.loads_leniently(name)] = exact.loads_leniently(value)
    return told
