"""The connections and subscriptions that have work due, and the queue to wake: due rows as the settings see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.bookkeeping import due
from workers.context import all_contexts
from workers.gate import gate
from workers.queue import wakeup

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from models.bookkeeping.due import Due, DueStream
    from models.db.database import Database
    from models.settings.load import Settings
    from workers.context import ConnectionContext
    from workers.queue.wakeup import QueueName


def has_work(context: ConnectionContext, found: Due) -> tuple[bool, bool]:
    """Whether `loop.sync` has work due, and whether `loop.full_sync` has."""
    streams = _configured(context, found)
    is_pending = any(context.name in each for each in (found.with_webhooks, found.with_keys, found.with_commands))
    return is_pending or not all(each.full for each in streams), any(each.full for each in streams)


def has_local_work(context: ConnectionContext, found: Due) -> tuple[bool, bool]:
    """The same while the gate is closed: only work that needs no request to the vendor.

    Webhooks are folded into the inbox, because retention deletes only folded ones: else a vendor that is down for a
    week would leave a week of them. Watched folders are scanned.
    """
    folders = (each for each in _configured(context, found) if each.full and context.resources[each.resource].handed_in)
    return context.name in found.with_webhooks, any(folders)


def _configured(context: ConnectionContext, found: Due) -> list[DueStream]:
    return [each for each in found.streams.get(context.name, ()) if each.resource in context.resources]


class DueWork:
    """Finds what to wake. It keeps its contexts: the configured connections do not change."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._subscriptions = settings.subscriptions.keys()
        self._contexts = {each.name: each for each in all_contexts(database, settings)}
        self._checked_at: dict[tuple[str, QueueName], datetime] = {}

    def pending(self) -> Iterator[tuple[str, QueueName, bool]]:
        """The names and queues that need a wake-up; True: one is outstanding, which may be lost."""
        found = due.load(self._database)
        for name in sorted(found.connections & self._contexts.keys()):
            context = self._contexts[name]
            is_closed = gate.account_of(context.options) in found.closed
            work = (has_local_work if is_closed else has_work)(context, found)
            for queue, is_due in zip(wakeup.QUEUES, work, strict=True):
                if is_due and not self._is_outstanding(name, queue, found):
                    yield name, queue, (name, queue) in found.woken
        for name in sorted(found.subscriptions & self._subscriptions):
            if not self._is_outstanding(name, wakeup.DELIVER, found):
                yield name, wakeup.DELIVER, (name, wakeup.DELIVER) in found.woken

    def _is_outstanding(self, name: str, queue: QueueName, found: Due) -> bool:
        """Whether a wake-up is outstanding that needs no check: it is young, or was checked shortly before."""
        woken_at = found.woken.get((name, queue))
        if woken_at is None:
            return False
        checked_at = max(woken_at, self._checked_at.get((name, queue), woken_at))
        if found.now - checked_at <= wakeup.REPEAT_AFTER:
            return True
        self._checked_at[name, queue] = found.now
        return False
