"""What can be said of a listing's chunk by itself: its size, its halves, keys that no index takes."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from models import exact
from models.values import Chunk, Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

_MAX_KEY_BYTES = 1000
"""PostgreSQL indexes some 2,700 bytes at most; no vendor's keys have a tenth of this."""

_SHORT_KEY_CHARACTERS = _MAX_KEY_BYTES // 4
"""A key of so many characters is short enough in any script: UTF-8 uses four bytes for one at most."""


def with_short_keys(chunk: Chunk) -> Chunk:
    """Park rows whose key is too long for an index, which is a vendor's mistake, under a fingerprint of the key."""
    keys = [row.key for rows in (chunk.snapshots, chunk.lines, chunk.refs) for row in rows]
    if max(map(len, keys), default=0) <= _SHORT_KEY_CHARACTERS:
        return chunk
    long = {key for key in keys if len(key.encode(errors="replace")) > _MAX_KEY_BYTES}
    if not long:
        return chunk
    parked = [Unreadable(f"?{exact.fingerprint(key)}", "its key is too long", {"key": key}) for key in sorted(long)]
    return replace(
        chunk,
        snapshots=[row for row in chunk.snapshots if row.key not in long],
        lines=[row for row in chunk.lines if row.key not in long],
        refs=[each for each in chunk.refs if each.key not in long],
        unreadable=[*chunk.unreadable, *parked],
    )


def halves(items: Sequence[T]) -> tuple[Sequence[T], Sequence[T]]:
    """The two halves, the second of them never the smaller."""
    half = len(items) // 2
    return items[:half], items[half:]


def size(chunk: Chunk) -> int:
    """How many objects it brought, whole or as a line of a listing."""
    return len(chunk.snapshots) + len(chunk.lines)
