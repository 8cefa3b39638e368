"""Named points of the write path at which a test can kill a process. In production none is armed.

`$ERPMIRROR_FAULTS` names a folder. A file in it with a point's name arms that point once: the first process that gets
there removes the file and sends itself the signal that the file names (SIGKILL if it is empty).
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum
from functools import cache
from pathlib import Path

VARIABLE = "ERPMIRROR_FAULTS"


class Point(StrEnum):
    """Each is named after the step that has just been done."""

    # The receiver stores webhooks.
    WEBHOOKS_INSERTED = "webhooks-inserted"
    WEBHOOKS_COMMITTED = "webhooks-committed"
    SPOOL_WRITTEN = "spool-written"
    SPOOL_SYNCED = "spool-synced"
    SPOOL_DRAINED = "spool-drained"  # its webhooks are committed, and still in the file

    # Wake-ups.
    WAKEUP_CLAIMED = "wakeup-claimed"
    WAKEUP_SENT = "wakeup-sent"
    WAKEUP_ACKNOWLEDGED = "wakeup-acknowledged"

    # Webhooks are folded into the inbox.
    WEBHOOKS_TAKEN = "webhooks-taken"
    WEBHOOKS_FOLDED = "webhooks-folded"

    # One request.
    LEASE_TAKEN = "lease-taken"
    LEASE_RELEASED = "lease-released"
    SESSION_KEPT = "session-kept"
    COLUMNS_ADDED = "columns-added"
    COLUMNS_COMMITTED = "columns-committed"

    # One key.
    FETCHED = "fetched"
    ROW_PREPARED = "row-prepared"
    ROW_APPLIED = "row-applied"
    KEY_FINISHED = "key-finished"
    KEY_JOURNALED = "key-journaled"
    KEY_COMMITTED = "key-committed"

    # Rows and their parts.
    ROWS_WRITTEN = "rows-written"
    PARTS_CLEARED = "parts-cleared"
    PARTS_WRITTEN = "parts-written"

    # One chunk of a listing.
    LISTING_BEGUN = "listing-begun"
    CHUNK_ARRIVED = "chunk-arrived"
    CHUNK_ENQUEUED = "chunk-enqueued"
    CHUNK_APPLIED = "chunk-applied"
    CHUNK_ADVANCED = "chunk-advanced"
    CHUNK_JOURNALED = "chunk-journaled"
    CHUNK_COMMITTED = "chunk-committed"

    # One document.
    DOCUMENT_KEPT = "document-kept"
    DOCUMENT_SENDING = "document-sending"
    DOCUMENT_INTERPRETED = "document-interpreted"
    DOCUMENT_JOURNALED = "document-journaled"
    FILE_KEPT = "file-kept"  # its content is committed, and still in the watched folder

    # One command.
    COMMAND_INSERTED = "command-inserted"
    COMMAND_ACCEPTED = "command-accepted"
    COMMAND_SENDING = "command-sending"
    COMMAND_ANSWERED = "command-answered"
    COMMAND_FINISHED = "command-finished"  # in the transaction, which is not committed yet
    COMMAND_COMMITTED = "command-committed"
    COMMAND_READ_BACK = "command-read-back"

    # Deliveries to a subscription.
    DELIVERY_COMPOSED = "delivery-composed"
    DELIVERY_ANSWERED = "delivery-answered"
    DELIVERIES_RECORDED = "deliveries-recorded"  # in the transaction, which is not committed yet
    DELIVERIES_COMMITTED = "deliveries-committed"


@cache
def _folder() -> Path | None:
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def hit(point: Point) -> None:
    """Kill this process if a test has armed the point."""
    folder = _folder()
    if folder is not None:
        _kill_if_armed(folder / point)


def _kill_if_armed(armed: Path) -> None:
    try:
        named = armed.read_text("utf-8").strip()
        armed.unlink()  # only one process can remove it
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.Signals[named or "SIGKILL"])
