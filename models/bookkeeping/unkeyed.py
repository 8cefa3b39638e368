"""Records of listings that have no usable key: one parked row for each resource and reason, with a count and samples.

A row is replaced by each full sync that finds such records, and removed by one that finds none. It keeps no other
object from being complete, because no row of the mirror is older for it.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models import exact
from models.db.tables import inbox
from models.values import Cause, Lane

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.db.database import Tx
    from models.values import JsonObject, Unreadable

_SAMPLES = 3
"""Records that a row keeps for the person who examines it."""

_MAX_SAMPLE = 4000
"""Characters of a sample; of a longer record only the fields' names are kept."""


def record(
    tx: Tx,
    *,
    connection: str,
    resource: str,
    unreadable: Sequence[Unreadable],
    cause: Cause,
    reading: int,
    full: bool,
) -> None:
    """Add the records of one chunk to the rows of their reasons.

    `reading`: the same number for all chunks of a full sync; a row of an earlier one is replaced. A poll (not `full`)
    shows only some of the records, so it never lowers a count.
    """
    by_reason: dict[str, list[Unreadable]] = defaultdict(list)
    for each in unreadable:
        by_reason[exact.storable_text(each.reason)].append(each)
    if not by_reason:
        return
    known = _details(tx, connection, resource)
    for reason in sorted(by_reason):
        key, records = f"?{exact.fingerprint(reason)}", by_reason[reason]
        details = _merged(known.get(key), records, reading=reading, full=full)
        text = _text(reason, details["count"], records[0].remedy)
        _put(tx, {"connection": connection, "resource": resource, "key": key}, cause, text, details)


@dataclass(frozen=True, slots=True)
class Found:
    """What a full sync found. `some`: records without a key. `hidden`: some could not be read as far as their key."""

    some: bool
    hidden: bool


def finish(tx: Tx, *, connection: str, resource: str, reading: int) -> Found:
    """Remove the rows whose records this full sync, the resource's latest, did not find; returns what it did."""
    known = _details(tx, connection, resource)
    gone = sorted(key for key, details in known.items() if details.get("reading") != reading)
    here = (inbox.c.connection == connection, inbox.c.resource == resource, inbox.c.unreadable_raw.is_not(None))
    for key in gone:
        tx.execute(sa.delete(inbox).where(*here, inbox.c.key == key))
    kept = [details for key, details in known.items() if key not in gone]
    return Found(some=bool(kept), hidden=any(details.get("hides_keys") for details in kept))


def is_unkeyed() -> sa.ColumnElement[bool]:
    """The condition: a row of the inbox stands for records without a key."""
    return inbox.c.unreadable_raw.is_not(None)


def _details(tx: Tx, connection: str, resource: str) -> dict[str, JsonObject]:
    here = (inbox.c.connection == connection, inbox.c.resource == resource, is_unkeyed())
    return {
        row.key: row.unreadable_raw for row in tx.execute(sa.select(inbox.c.key, inbox.c.unreadable_raw).where(*here))
    }


def _merged(known: JsonObject | None, records: Sequence[Unreadable], *, reading: int, full: bool) -> JsonObject:
    samples = [_sample(each.raw) for each in records[:_SAMPLES]]
    fresh = {"reading": reading, "count": len(records), "samples": samples}
    if any(each.hides_key for each in records):  # they share a reason, so all do or none does
        fresh["hides_keys"] = True
    if known is None or "reading" not in known or (full and known["reading"] != reading):
        return fresh
    if known["reading"] == reading:
        return {**known, "count": known["count"] + len(records), "samples": [*known["samples"], *samples][:_SAMPLES]}
    return {**known, "count": max(known["count"], len(records)), "samples": samples}


def _sample(raw: JsonObject) -> Any:
    sample = exact.storable(raw)
    return sample if len(exact.dumps(sample)) <= _MAX_SAMPLE else {"fields": sorted(sample)[: _MAX_SAMPLE // 100]}


def _text(reason: str, count: int, remedy: str) -> str:
    records = "1 record is" if count == 1 else f"{count} records are"
    return exact.storable_text(f"{records} not mirrored: {reason}" + (f"; {remedy}" if remedy else ""))


def _put(tx: Tx, primary_key: dict[str, str], cause: Cause, reason: str, details: JsonObject) -> None:
    wanted, now = tx.draw_now()
    insert = tx.insert(inbox).values(
        **primary_key,
        wanted=wanted,
        lane=Lane.BULK,
        cause=cause,
        state="parked",
        due_at=now,
        first_enqueued_at=now,
        attempts=0,
        approved=False,
        reason=reason,
        unreadable_raw=details,
    )
    tx.execute(
        insert.on_conflict_do_update(
            index_elements=[inbox.c.connection, inbox.c.resource, inbox.c.key],
            set_={name: insert.excluded[name] for name in ("state", "reason", "unreadable_raw")},
        )
    )
