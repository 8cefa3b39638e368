"""Does everything that is due for one connection. Read this file first.

    webhook ─► webhooks ─fold─┐
    listing of names ─────────┤
    missing key, /deleted ────┼─► inbox ──fetch──────┐
    document handed in ───────┤     └────interpret───┼─► redact ─► one transaction:
    poll, full sync ──────────┼────────list──────────┘             rows, parts, inbox or cursor, journal
    command ──send──► vendor ─┘ what it wrote

To fold webhooks is to move them into the inbox, which has one row per key however many webhooks name it.

The two tasks of a worker are `sync` for short work (webhooks, keys in the inbox, commands, polls) and `full_sync` for
long work (full syncs, watched folders). Both repeat one step until nothing is due or their time is up: read what is
due, do the most urgent item, live keys and commands first.

Each request to a vendor runs under a lease of the account's gate and outside any database transaction; its result is
committed under the same lease. The modules of this package, by the kind of work:

- `fetch`           one key of the inbox
- `batch`           many keys of the inbox at once, at vendors that show whole objects by the hundred
- `document`        one document that was handed in
- `command`         one write to the vendor
- `listing`         the replies to a poll or full sync; `page` writes them, `absence` handles keys they do not name
- `watched_folder`  the PDFs in a folder
- `unit_of_work`    the transaction in which all of them write
- `failures`        what happens to the work when a vendor fails

`GateClosed` ends a task early: what is due stays due. `LeaseLost` discards one result: its work stays due.
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
from workers.ingest import batch, command, failures, fetch, listing, watched_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.bookkeeping.commands import Command
    from models.bookkeeping.inbox import Item
    from models.bookkeeping.pending import Pending
    from models.bookkeeping.streams import Stream
    from models.db.database import Tx
    from workers.context import ConnectionContext, WorkSession

log = structlog.get_logger()

BUDGET = timedelta(seconds=10)
"""How long a task works before it ends and wakes a worker again, so that other connections get their share."""

_FOLD_BATCH = 500
"""Webhooks that one transaction folds."""

_COMMANDS_PER_TURN = 5
"""Commands after which other work than live work gets one request."""

_GIVE_WAY = timedelta(seconds=1)
"""How long this connection leaves the gate to another connection of the account whose live work waits."""


def sync(context: ConnectionContext, *, budget: timedelta = BUDGET) -> WorkSession:
    """Do the short work: fold webhooks, fetch keys, poll; for about `budget`."""
    return _repeat(context, _sync_step, budget)


def full_sync(context: ConnectionContext, *, budget: timedelta = BUDGET) -> WorkSession:
    """Do the long work: full syncs and watched folders, with live keys first between pages; for about `budget`."""
    return _repeat(context, _full_sync_step, budget)


def _repeat(context: ConnectionContext, step: Callable[[WorkSession], bool], budget: timedelta) -> WorkSession:
    """Repeat `step` until nothing is due, the time is up or the gate is closed."""
    deadline = time.monotonic() + budget.total_seconds()
    with context.work_session() as session:
        session.deadline = deadline
        try:
            while step(session):
                if time.monotonic() > deadline:
                    session.has_more = True
                    break
        except gate.GateClosed as closed:
            log.info("gate closed", connection=context.name, until=closed.until.isoformat(), reason=str(closed))
        finally:  # a resource that crashes holds no other one back
            if session.has_complete_resource:
                with context.database.begin() as tx:
                    streams.mark_complete(tx, connection=context.name)
    return session


def _sync_step(session: WorkSession) -> bool:
    """Do the most urgent short work; False when nothing is due."""
    due = _read_due(session, full=False, fold_first=session.steps == 0)  # a webhook is the usual cause of a wake-up
    stream, item = next(iter(due.streams), None), due.oldest_item
    if not _is_turn_of_others(session, stream or item) and _do_live(session, due):
        return True
    # The longer overdue of the two, so that at a slow vendor neither polls nor bulk keys starve the other.
    if stream is not None and (item is None or stream.due_at <= item.due_at):
        _advance_listing(session, stream, due, full=False)
    elif item is not None:
        _fetch(session, item)
    else:
        return False
    return True


def _full_sync_step(session: WorkSession) -> bool:
    """Scan a folder, do live work or request the next page of a full sync; False when nothing is due."""
    due = _read_due(session, full=True)
    if _scan_folder(session, due):
        return True
    stream = next((row for row in due.streams if not session.context.resources[row.resource].handed_in), None)
    if not _is_turn_of_others(session, stream) and _do_live(session, due):
        return True
    if stream is None:
        return False
    _advance_listing(session, stream, due, full=True)
    return True


def _is_turn_of_others(session: WorkSession, others: Stream | Item | None) -> bool:
    """Whether polls, full syncs and bulk keys get one turn, after some commands: a backlog must not stop them."""
    turns = session.context.turns
    if others is None or turns.commands < _COMMANDS_PER_TURN:
        return False
    turns.commands = 0
    return True


def _scan_folder(session: WorkSession, due: Pending) -> bool:
    """Scan a watched folder, before all else because it needs no vendor; False when none is due."""
    context = session.context
    stream = next((row for row in due.streams if context.resources[row.resource].handed_in), None)
    if stream is None:
        return False
    with _postponed_on_crash(context, stream, full=True):
        watched_folder.scan(context, stream, began_at=due.now)
    return True


def _do_live(session: WorkSession, due: Pending) -> bool:
    """Fetch the next live key or advance the next command; False when there is neither.

    The longer overdue of the two, but a key after each command: thousands of commands may wait, and what they have
    changed, and what webhooks tell, is to be fetched meanwhile.

    While the account's last request has failed, only keys that have not failed yet are fetched first: a key that
    always fails would close the gate again each time it opens, and no poll would ever be sent.

    Raises `GateClosed` while live work of another connection at the same account waits, so that it gets the gate.
    """
    item, waiting, turns = due.live_item, due.command, session.context.turns
    is_first = waiting is not None and (item is None or waiting.due_at is None or waiting.due_at <= item.due_at)
    if waiting is not None and is_first and not (turns.was_command and item is not None):
        turns.was_command = True
        turns.commands += 1
        _advance_command(session, waiting)
        return True
    turns.was_command = False
    if item is not None:
        _fetch(session, item)
        return True
    if due.others_wait:
        raise gate.GateClosed(due.now + _GIVE_WAY, "live work of a connection that shares the account goes first")
    return False


def _fetch(session: WorkSession, item: Item) -> None:
    """Fetch one key, or a batch of keys like it where that costs fewer requests.

    If our own code crashes, postpone the key, so that it does not come first for ever.
    """
    try:
        if not batch.fetch(session, item):
            fetch.fetch(session, item)
    except gate.GateClosed:
        raise
    except Exception as error:  # raised again: it is only postponed here
        failures.crash_key(session.context, item, error)
        raise


def _advance_command(session: WorkSession, waiting: Command) -> None:
    """Send a command or read it back. If our own code crashes, postpone it, so that it does not come first for ever."""
    try:
        command.advance(session, waiting)
    except gate.GateClosed:
        raise
    except Exception as error:  # raised again: it is only postponed here
        failures.crash_command(session.context, waiting, error)
        raise


def _advance_listing(session: WorkSession, stream: Stream, due: Pending, *, full: bool) -> None:
    """Request the next page of a poll or full sync."""
    with _postponed_on_crash(session.context, stream, full=full):
        listing.advance(session, session.context.resources[stream.resource], now=due.now, full=full)


@contextmanager
def _postponed_on_crash(context: ConnectionContext, stream: Stream, *, full: bool) -> Iterator[None]:
    """If our own code crashes, postpone the stream, so that it does not come first for ever."""
    try:
        yield
    except gate.GateClosed:
        raise
    except Exception as error:  # raised again: it is only postponed here
        failures.crash_stream(context, stream, error, full=full)
        raise


def _read_due(session: WorkSession, *, full: bool, fold_first: bool = False) -> Pending:
    """What is due of the configured resources, after all webhooks have been folded into the inbox.

    Folding and reading share a transaction. `fold_first`: there probably are webhooks, so fold them without looking for
    them first.
    """
    context, folded = session.context, _FOLD_BATCH
    due = None
    if not fold_first:
        with context.database.read() as tx:
            due = _load_pending(tx, context, full=full)
    while due is None or (due.unfolded and folded == _FOLD_BATCH):
        with context.database.begin(durable=False) as tx:  # not durable: if it is lost, the webhooks are folded again
            folded = webhooks.fold(tx, connection=context.name, limit=_FOLD_BATCH)
            due = _load_pending(tx, context, full=full)
    session.steps += 1
    session.has_complete_resource = due.completable
    return replace(due, streams=[row for row in due.streams if row.resource in context.resources])


def _load_pending(tx: Tx, context: ConnectionContext, *, full: bool) -> Pending:
    names = [each.name for each in context.same_account]
    return pending.load(tx, connection=context.name, account=context.gate.account, same_account=names, full=full)
