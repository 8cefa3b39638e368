"""Named points of the write path at which a test strikes a process down. In production nothing is armed.

`$ERPMIRROR_FAULTS` names a folder; a file in it that is called like a point arms that point once, for whichever process
takes the file first. What the file says is the signal that the process sends itself (SIGKILL where it is empty).
"""

from __future__ import annotations

import os
import signal
from enum import StrEnum
from functools import cache
from pathlib import Path

VARIABLE = "ERPMIRROR_FAULTS"


class Point(StrEnum):
    """The steps, each named by what has just been done."""

    # A webhook on its way into `notices`.
    WEBHOOKS_INSERTED = "webhooks-inserted"
    WEBHOOKS_COMMITTED = "webhooks-committed"
    SPOOL_WRITTEN = "spool-written"
    SPOOL_SYNCED = "spool-synced"
    SPOOL_DRAINED = "spool-drained"  # its letters are committed, the file still has them

    # The bell.
    WAKEUP_CLAIMED = "wakeup-claimed"
    WAKEUP_SENT = "wakeup-sent"
    WAKEUP_ACKNOWLEDGED = "wakeup-acknowledged"

    # From `notices` to the inbox.
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
    FILE_KEPT = "file-kept"  # its content is committed, the watched folder still has it


@cache
def _folder() -> Path | None:
    named = os.environ.get(VARIABLE)
    return Path(named) if named else None


def hit(point: Point) -> None:
    """Go on, unless a test has armed this point."""
    folder = _folder()
    if folder is not None:
        _kill_if_armed(folder / point)


def _kill_if_armed(armed: Path) -> None:
    try:
        named = armed.read_text("utf-8").strip()
        armed.unlink()  # whoever removes it is struck; everybody else passes
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.Signals[named or "SIGKILL"])
