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
from workers.connectors import json_windows
from workers.connectors.json_cutter import (
    LARGEST_RECORD,
    PIECE,
    Body,
    BrokenReplyError,
    Cutter,
    UnreadableRecord,
    members,
)
from workers.connectors.json_windows import WINDOW, Glance, SentRecord, Window
from workers.errors import SetAside

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "LARGEST_RECORD",
    "MOST_VALUES",
    "PIECE",
    "Body",
    "BrokenReplyError",
    "Glance",
    "SeenKeys",
    "SentRecord",
    "UnreadableRecord",
    "batches",
    "decode_listing",
    "items",
    "readable",
]

MOST_VALUES = 1_000_000
"""Values of one record. Each takes some 100 bytes of memory, however short it is."""

_MOST_DECODED = 500
_MOST_RECORDS = 2000
"""Records of a batch, if all of them are decoded, and if none is."""

_LARGEST_BATCH = 2 * 2**20
"""Bytes of the records that are not decoded."""

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
        self._database.execute("CREATE TABLE seen (key BLOB PRIMARY KEY, state BLOB, call INTEGER) WITHOUT ROWID")
        self._database.execute("BEGIN")
        self._cursor = self._database.cursor()  # a new one for each call would cost memory until many are gone
        self._call = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    def remember(self, key: str, state: bytes) -> bytes | None:
        """Store the state of a new key and return None; for a known key return its stored state."""
        return self.remember_all({key: state}).get(key)

    def remember_all(self, states: Mapping[str, bytes]) -> dict[str, bytes]:
        """Store the states of new keys, and return the stored states of the known ones."""
        self._call += 1
        before = self._database.total_changes
        rows = [(_key_bytes(key), state, self._call) for key, state in states.items()]
        self._cursor.executemany("INSERT OR IGNORE INTO seen VALUES (?, ?, ?)", rows)
        if self._database.total_changes - before == len(states):
            return {}
        found = {key: self._cursor.execute(_STORED, (_key_bytes(key), self._call)).fetchone() for key in states}
        return {key: row[0] for key, row in found.items() if row is not None}

    def replace(self, key: str, state: bytes) -> None:
        """Replace the stored state of a known key."""
        self._cursor.execute("UPDATE seen SET state = ? WHERE key = ?", (state, _key_bytes(key)))


_STORED = "SELECT state FROM seen WHERE key = ? AND call <> ?"


def _key_bytes(key: str) -> bytes:
    return key.encode(errors="surrogatepass")


def items(body: Body, glance: Glance | None = None, *, window: int = WINDOW) -> Iterator[Any]:
    """Yield the items of a JSON array as they arrive, decoded as by `exact.loads_leniently`.

    With a `glance` most items of a reply longer than `window` are a `SentRecord` instead. An item that cannot be read
    is an `UnreadableRecord`: it is malformed, larger than `LARGEST_RECORD`, nested too deeply or has too many values.
    Raises TooLargeError for one without end, BrokenReplyError if the array itself is malformed or breaks off.
    """
    place, cutter = 1, Cutter(body, window=window)
    for cut in cutter:
        part = cut
        if isinstance(cut, bytes) and glance is not None and cutter.by_windows:
            # So that equal bytes have one fate wherever they stand in a reply.
            part = json_windows.alone(cut) or cut
        if isinstance(part, Window):
            records = part.items if glance is None else glance.records(part)
            for number, item in enumerate(records, place):
                yield item if isinstance(item, SentRecord) else _decoded(item, number)
            place += len(part.items)
        else:
            yield part if isinstance(part, UnreadableRecord) else _decoded(part, place)
            place += 1


def batches(records: Iterable[Any]) -> Iterator[list[Any]]:
    """The same records, as many at once as one transaction may write: by their number, and by their size if known."""
    batch: list[Any] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.content) if isinstance(record, SentRecord) else -(-_LARGEST_BATCH // _MOST_DECODED)
        if size >= _LARGEST_BATCH or len(batch) == _MOST_RECORDS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


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
