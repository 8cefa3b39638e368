"""What happens to everything that is due. Read this first.

    notice ─► notices ─fold─┐
    listing of names ───────┤
    missing key, /deleted ──┼─► inbox ──fetch───┐
    document handed in ─────┘     └──passed in──┼─► redact ─► one transaction:
    tick, full reading ───────────────list──────┘            rows, parts, inbox or cursor, journal

`look` works off what is short (notices, mentions, ticks), `read` what is long (full readings) and the watched folders.
Both ask only through the gate, never inside a transaction, and commit under the lease they asked with. `fetching` has
the way of one key, `sending` that of one document, which is passed in; `reading` has the way of one page, `incoming`
that of a file; `fates` what happens when a vendor fails. `gate.Shut` ends a task early (what is due stays due),
`gate.LeaseLost` discards one result (its work is still due).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from models import inbox, notices, streams
from models.values import Lane
from workers import fates, fetching, gate, incoming, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.inbox import Item
    from models.streams import Stream
    from workers.desk import Desk, Shift

log = structlog.get_logger()

BUDGET = timedelta(seconds=10)
"""How long one task works before it rings again and lets others have the worker."""

_FOLD = 500
_SOON = timedelta(seconds=1)


def look(desk: Desk, *, budget: timedelta = BUDGET) -> Shift:
    """Fold notices, fetch what was mentioned, ask for what changed; live keys first, for about `budget`."""
    return _work(desk, _next_short, budget)


def read(desk: Desk, *, budget: timedelta = BUDGET) -> Shift:
    """Read in full what is due for it, page by page, for about `budget`; live keys go first between pages."""
    return _work(desk, _next_page, budget)


def _work(desk: Desk, next_step: Callable[[Shift], bool], budget: timedelta) -> Shift:
    end = time.monotonic() + budget.total_seconds()
    with desk.shift() as shift:
        shift.until = end
        try:
            while next_step(shift):
                if time.monotonic() > end:
                    shift.more = True
                    break
        except gate.Shut as shut:
            log.info("gate shut", connection=desk.name, until=shut.until.isoformat(), reason=str(shut))
    with desk.database.begin() as tx:
        streams.settle(tx, connection_name=desk.name)
    return shift


def _next_short(shift: Shift) -> bool:
    """Do the most urgent thing; False when nothing is due."""
    if _next_live(shift):
        return True
    stream, item = _due(shift.desk, full=False), _longest_due_key(shift.desk)
    # The longest overdue of the two: at a slow vendor neither ticks nor bulk keys may starve the other.
    if stream is not None and (item is None or stream.due_at <= item.due_at):
        _read(shift, stream, full=False)
    elif item is not None:
        _fetch(shift, item)
    else:
        return False
    return True


def _next_page(shift: Shift) -> bool:
    """Read the next page of a full reading, live keys first; False when nothing is due."""
    if _next_folder(shift) or _next_live(shift):
        return True
    desk = shift.desk
    stream = next((row for row in _overdue(desk, full=True) if not desk.resources[row.resource].handed_in), None)
    if stream is None:
        return False
    _read(shift, stream, full=True)
    return True


def _next_folder(shift: Shift) -> bool:
    """Look into a watched folder, which needs no vendor: it waits for nobody's answer. False when none is due."""
    desk = shift.desk
    stream = _due_folder(desk)
    if stream is None:
        return False
    with _moved(desk, stream, full=True):
        incoming.look(desk, stream)
    return True


def _next_live(shift: Shift) -> bool:
    """Fetch the next live key; False when there is none.

    While the account's last request has failed only keys that have not failed yet go first: one that always fails would
    shut the gate again each time that it opens, and neither a tick nor anything else would ever get through.
    Raises `gate.Shut` while one of a connection that shares the account waits: the gate is for it now.
    """
    desk = shift.desk
    _fold(desk)
    if (item := _due_key(desk, Lane.LIVE, failing=desk.gate.account)) is not None:
        _fetch(shift, item)
        return True
    if desk.sharing and _live_waits(desk):
        raise gate.Shut(desk.now() + _SOON, "live work of a connection that shares the account goes first")
    return False


def _fetch(shift: Shift, item: Item) -> None:
    try:
        fetching.fetch(shift, item)
    except gate.Shut:
        raise
    except Exception as error:  # raised again: only moved, so that the same crash does not come first for ever
        fates.broken_key(shift.desk, item, error)
        raise


def _read(shift: Shift, stream: Stream, *, full: bool) -> None:
    with _moved(shift.desk, stream, full=full):
        reading.read(shift, shift.desk.resources[stream.resource], full=full)


@contextmanager
def _moved(desk: Desk, stream: Stream, *, full: bool) -> Iterator[None]:
    try:
        yield
    except gate.Shut:
        raise
    except Exception as error:  # likewise
        fates.broken_stream(desk, stream, error, full=full)
        raise


def _live_waits(desk: Desk) -> bool:
    names = [each.name for each in desk.sharing]
    with desk.database.alone() as tx:
        return inbox.live_waits(tx, connections=names)[0]


def _fold(desk: Desk) -> None:
    folded = _FOLD
    while folded == _FOLD:
        with desk.database.begin(lazily=True) as tx:  # lost, they are notices again, and folded again
            folded = notices.fold(tx, connection_name=desk.name, limit=_FOLD)


def _due_key(desk: Desk, lane: Lane, *, failing: str | None = None) -> Item | None:
    now = desk.database.moment(steady=True)
    with desk.database.alone() as tx:
        found = inbox.due(tx, connection_name=desk.name, now=now, lane=lane, failing=failing)
    return found[0] if found else None


def _longest_due_key(desk: Desk) -> Item | None:
    found = [item for lane in Lane if (item := _due_key(desk, lane)) is not None]
    return min(found, key=lambda item: item.due_at, default=None)


def _due(desk: Desk, *, full: bool) -> Stream | None:
    # The longest overdue: a resource that is always due again must not starve the others.
    return next(iter(_overdue(desk, full=full)), None)


def _due_folder(desk: Desk) -> Stream | None:
    return next((row for row in _overdue(desk, full=True) if desk.resources[row.resource].handed_in), None)


def _overdue(desk: Desk, *, full: bool) -> list[Stream]:
    with desk.database.read() as tx:
        now = tx.now
        rows = streams.open_ones(tx, connection_name=desk.name)
    due = [row for row in rows if row.resource in desk.resources and row.is_due(now, full=full)]
    return sorted(due, key=lambda row: row.full_due_at if full else row.due_at)
