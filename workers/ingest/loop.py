"""What happens to everything that is due. Read this first.

    notice ─► notices ─fold─┐
    listing of names ───────┤
    missing key, /deleted ──┼─► inbox ──fetch───┐
    document handed in ─────┘     └──passed in──┼─► redact ─► one transaction:
    tick, full reading ───────────────list──────┘            rows, parts, inbox or cursor, journal

`look` works off what is short (notices, mentions, ticks), `read` what is long (full readings) and the watched folders.
Both ask only through the gate, never inside a transaction, and commit under the lease they asked with. `fetching` has
the way of one key, `sending` that of one document, which is passed in; `reading` has the way of one page, `incoming`
that of a file; `unit_of_work` is the transaction of all three; `fates` says what happens when a vendor fails.
`gate.Shut` ends a task early (what is due stays due), `gate.LeaseLost` discards one result (its work is still due).
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from models.bookkeeping import pending, streams, webhooks
from workers.gate import gate
from workers.ingest import failures, fetch, listing, watched_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.bookkeeping.inbox import Item
    from models.bookkeeping.pending import Pending
    from models.bookkeeping.streams import Stream
    from models.db.database import Tx
    from workers.context import ConnectionContext, WorkSession

log = structlog.get_logger()

BUDGET = timedelta(seconds=10)
"""How long one task works before it rings again and lets others have the worker."""

_FOLD = 500
_SOON = timedelta(seconds=1)


def sync(context: ConnectionContext, *, budget: timedelta = BUDGET) -> WorkSession:
    """Fold notices, fetch what was mentioned, ask for what changed; live keys first, for about `budget`."""
    return _work(context, _next_short, budget)


def full_sync(context: ConnectionContext, *, budget: timedelta = BUDGET) -> WorkSession:
    """Read in full what is due for it, page by page, for about `budget`; live keys go first between pages."""
    return _work(context, _next_page, budget)


def _work(context: ConnectionContext, next_step: Callable[[WorkSession], bool], budget: timedelta) -> WorkSession:
    end = time.monotonic() + budget.total_seconds()
    with context.work_session() as session:
        session.deadline = end
        try:
            while next_step(session):
                if time.monotonic() > end:
                    session.has_more = True
                    break
        except gate.GateClosed as shut:
            log.info("gate closed", connection=context.name, until=shut.until.isoformat(), reason=str(shut))
    if session.completed_resource:
        with context.database.begin() as tx:
            streams.mark_complete(tx, connection=context.name)
    return session


def _next_short(session: WorkSession) -> bool:
    """Do the most urgent thing; False when nothing is due."""
    due = _pending(session, full=False, fold=session.steps == 0)  # what woke us is a webhook most of the time
    if _next_live(session, due):
        return True
    stream, item = next(iter(due.streams), None), due.key
    # The longest overdue of the two: at a slow vendor neither ticks nor bulk keys may starve the other.
    if stream is not None and (item is None or stream.due_at <= item.due_at):
        _read(session, stream, due, full=False)
    elif item is not None:
        _fetch(session, item)
    else:
        return False
    return True


def _next_page(session: WorkSession) -> bool:
    """Read the next page of a full reading, live keys first; False when nothing is due."""
    due = _pending(session, full=True)
    if _next_folder(session, due) or _next_live(session, due):
        return True
    stream = next((row for row in due.streams if not session.context.resources[row.resource].handed_in), None)
    if stream is None:
        return False
    _read(session, stream, due, full=True)
    return True


def _next_folder(session: WorkSession, due: Pending) -> bool:
    """Look into a watched folder, which needs no vendor: it waits for nobody's answer. False when none is due."""
    context = session.context
    stream = next((row for row in due.streams if context.resources[row.resource].handed_in), None)
    if stream is None:
        return False
    with _moved(context, stream, full=True):
        watched_folder.scan(context, stream, began_at=due.now)
    return True


def _next_live(session: WorkSession, due: Pending) -> bool:
    """Fetch the next live key; False when there is none.

    While the account's last request has failed only keys that have not failed yet go first: one that always fails would
    shut the gate again each time that it opens, and neither a tick nor anything else would ever get through.
    Raises `gate.Shut` while one of a connection that shares the account waits: the gate is for it now.
    """
    if due.fresh is not None:
        _fetch(session, due.fresh)
        return True
    if due.others_wait:
        raise gate.GateClosed(due.now + _SOON, "live work of a connection that shares the account goes first")
    return False


def _fetch(session: WorkSession, item: Item) -> None:
    try:
        fetch.fetch(session, item)
    except gate.GateClosed:
        raise
    except Exception as error:  # raised again: only moved, so that the same crash does not come first for ever
        failures.crash_key(session.context, item, error)
        raise


def _read(session: WorkSession, stream: Stream, due: Pending, *, full: bool) -> None:
    with _moved(session.context, stream, full=full):
        listing.advance(session, session.context.resources[stream.resource], now=due.now, full=full)


@contextmanager
def _moved(context: ConnectionContext, stream: Stream, *, full: bool) -> Iterator[None]:
    try:
        yield
    except gate.GateClosed:
        raise
    except Exception as error:  # likewise
        failures.crash_stream(context, stream, error, full=full)
        raise


def _pending(session: WorkSession, *, full: bool, fold: bool = False) -> Pending:
    """What is due, of what this process is configured for. Webhooks are folded first, in the same transaction."""
    context, folded = session.context, _FOLD
    due = None if fold else _look(session, full=full)
    while due is None or (due.unfolded and folded == _FOLD):
        with context.database.begin(lazily=True) as tx:  # lost, they are webhooks again, and folded again
            folded = webhooks.fold(tx, connection=context.name, limit=_FOLD)
            due = _due(tx, context, full=full)
    session.steps += 1
    session.completed_resource = due.settled
    return replace(due, streams=[row for row in due.streams if row.resource in context.resources])


def _look(session: WorkSession, *, full: bool) -> Pending:
    with session.context.database.read() as tx:
        return _due(tx, session.context, full=full)


def _due(tx: Tx, context: ConnectionContext, *, full: bool) -> Pending:
    names = [each.name for each in context.same_account]
    return pending.load(tx, connection=context.name, account=context.gate.account, sharing=names, full=full)
