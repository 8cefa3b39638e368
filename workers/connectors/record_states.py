"""What is remembered of each record of a reply, to tell whether a later one with its key is the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models import exact
from models.values import Snapshot, UndecodedSnapshot
from workers.connectors import objects
from workers.connectors.json_windows import SentRecord
from workers.connectors.streaming import UnreadableRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.values import JsonObject, Unreadable

    Record = SentRecord | JsonObject
    """A record of a reply, decoded or not."""

SIZE = 17
"""Bytes of a digest."""

_OF_BYTES, _OF_CONTENT = b"b", b"c"


def digest(record: Record) -> bytes:
    """A digest of a record: of its bytes if it is not decoded, else of its content, however it is spelled."""
    if isinstance(record, SentRecord):
        return _OF_BYTES + exact.bytes_digest(record.content)
    return _OF_CONTENT + exact.content_digest(record)


def same(state: bytes, record: Record, other: bytes, earlier: Record | None) -> bool:
    """Whether a record is equal to an earlier one of the same key, each given with a state that begins with its digest.

    `earlier`: None if only its state is left. If its digest is one of bytes, the same object in another spelling counts
    as different: a server hardly ever spells one object in two ways within one reply.
    """
    one, other = state[:SIZE], other[:SIZE]
    if one == other:
        return True
    if earlier is not None:
        return exact.content_digest(decoded(record)) == exact.content_digest(decoded(earlier))
    return other.startswith(_OF_CONTENT) and _OF_CONTENT + exact.content_digest(decoded(record)) == other


def readable(
    batch: Sequence[Any], key_of_told: Callable[[JsonObject], str | None]
) -> tuple[list[Record], list[Unreadable]]:
    """As `objects.readable`; what is not decoded stays so."""
    broken = [each for each in batch if isinstance(each, UnreadableRecord)]
    records = (each for each in batch if not isinstance(each, UnreadableRecord))
    return (
        [each if isinstance(each, SentRecord) else objects.as_object(each) for each in records],
        [objects.unreadable(each, key_of_told(each.told)) for each in broken],
    )


def told(record: Record) -> JsonObject:
    """The record's fields; of one that is not decoded those that were asked for."""
    return record.told if isinstance(record, SentRecord) else record


def decoded(record: Record) -> JsonObject:
    """The record as an object."""
    return record.decoded() if isinstance(record, SentRecord) else record


def snapshot(key: str, record: Record, state: bytes) -> Snapshot | UndecodedSnapshot:
    """The record under its key. `state`: begins with its digest."""
    if isinstance(record, SentRecord):
        return UndecodedSnapshot(key, record.content, None, state[1:SIZE])
    return Snapshot(key, record)
