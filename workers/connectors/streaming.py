"""Parses a long JSON response record by record, with limits on a record's size, depth and number of values.

A full sync may be one response of gigabytes. What has to be kept about all its records goes to a temporary database, so
a worker's memory does not grow with the response.
"""

from __future__ import annotations

import re
import sqlite3
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self

from models import exact
from workers.connectors.json_cutter import (
    LARGEST_RECORD,
    PIECE,
    Body,
    BrokenReplyError,
    Cutter,
    UnreadableRecord,
    members,
)
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "LARGEST_RECORD",
    "MOST_VALUES",
    "PIECE",
    "Body",
    "BrokenReplyError",
    "SeenKeys",
    "UnreadableRecord",
    "decode_listing",
    "items",
    "readable",
]

MOST_VALUES = 1_000_000
"""Values of one record. Each takes some 100 bytes of memory, however short it is."""

_CACHE_KIB = 2048
"""KiB of the temporary database that stay in memory."""

_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


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


def items(body: Body) -> Iterator[Any]:
    """Yield the items of a JSON array as they arrive, decoded as by `exact.loads_leniently`.

    An item that cannot be read is an `UnreadableRecord`: it is malformed, larger than `LARGEST_RECORD`, nested too
    deeply or has too many values. Raises TooLargeError for one without end, BrokenReplyError if the array itself is
    malformed or breaks off.
    """
    for place, item in enumerate(Cutter(body), 1):
        yield item if isinstance(item, UnreadableRecord) else _decoded(item, place)


def decode_listing(body: bytes) -> Any:
    """A whole body decoded; an item of its list, or of a list in the object that it is, may be an `UnreadableRecord`.

    Only if it cannot be decoded as a whole, which is the quickest. ValueError if it is neither a list nor an object, or
    malformed outside of those lists.
    """
    try:
        return exact.loads_leniently(body)
    except ValueError:
        if not body.lstrip().startswith(b"{"):
            return list(items(BytesIO(body)))
        return {
            exact.loads_leniently(name): list(items(BytesIO(value)))
            if value.startswith(b"[")
            else exact.loads_leniently(value)
            for name, value in members(body)
        }


def readable(records: Iterable[Any]) -> Iterator[Any]:
    """The same records; SetAside at one that cannot be read, for callers that have no place to park it."""
    for record in records:
        if isinstance(record, UnreadableRecord):
            raise SetAside(record.reason)
        yield record


def _decoded(item: bytes, place: int) -> Any:
    if len(item) > MOST_VALUES and _count_values(item) > MOST_VALUES:
        return UnreadableRecord.of(item, place, f"the record has more than {MOST_VALUES} values")
    try:
        return exact.loads_leniently(item)
    except exact.TooDeepError:
        return UnreadableRecord.of(item, place, "the record is nested too deeply")
    except ValueError:  # its message is left out, because it may quote the record
        return UnreadableRecord.of(item, place, "the record is no JSON")


def _count_values(item: bytes) -> int:
    outside = _STRING.sub(b"", item)
    return sum(map(outside.count, (b",", b"[", b"{")))
