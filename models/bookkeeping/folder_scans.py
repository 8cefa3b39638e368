"""The result of a scan of a watched folder, written to the stream of its documents. A scan has no run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping.streams import is_stream, success_values
from models.db.tables import streams
from models.db.types import Instant

if TYPE_CHECKING:
    from datetime import datetime

    from models.bookkeeping.streams import Stream
    from models.db.database import Tx


def finish(
    tx: Tx,
    stream: Stream,
    *,
    began_at: datetime,
    next_at: datetime,
    now: datetime,
    warning: str | None,
) -> None:
    """Record a scan that has ended. The resource is complete as of `began_at`, once all keys that wait now are fetched.

    While keys of an earlier scan wait, its cutoff stays: if each scan replaced it, a folder in which something always
    waits would never be complete. `next_at`: when the next scan is due.
    """
    earlier_waits = streams.c.next_complete_cutoff_at.is_not(None)
    _end(
        tx,
        stream,
        next_at=next_at,
        next_complete_as_of=sa.case(
            (earlier_waits, streams.c.next_complete_as_of), else_=sa.literal(began_at, Instant)
        ),
        next_complete_cutoff_at=sa.case(
            (earlier_waits, streams.c.next_complete_cutoff_at), else_=sa.literal(now, Instant)
        ),
        warning=warning,
        **success_values(now),
    )


def fail(tx: Tx, stream: Stream, *, next_at: datetime, now: datetime, error: str) -> None:
    """Record a scan that failed, because the folder could not be read or changed."""
    _end(tx, stream, next_at=next_at, last_error=error, last_error_at=now)


def _end(tx: Tx, stream: Stream, *, next_at: datetime, **values: Any) -> None:
    """Write the result. A scan requested meanwhile stays due; a parked resource keeps its reason."""
    requested = streams.c.full_due_at != sa.literal(stream.full_due_at, Instant)
    values |= {"full_due_at": sa.case((requested, streams.c.full_due_at), else_=sa.literal(next_at, Instant))}
    # A scan holds no lease, so another worker may have parked the resource since. Files are taken all the same.
    parked = streams.c.state == "parked"
    for name in ("last_error", "last_error_at"):
        if name in values:
            values[name] = sa.case((parked, streams.c[name]), else_=sa.literal(values[name], streams.c[name].type))
    here = sa.and_(is_stream(stream.connection, stream.resource), streams.c.state != "retired")
    tx.execute(sa.update(streams).where(here).values(full_requested=False, **values))
