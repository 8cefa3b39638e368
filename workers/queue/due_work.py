"""Whom to ring for: what the tables say is due, as the configuration sees it."""

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
    """Whether something is due for `ingest.look`, and whether something is due for `ingest.read`."""
    full_syncs = _configured(context, found)
    waits = context.name in found.with_webhooks or context.name in found.with_keys
    return waits or not all(each.full for each in full_syncs), any(each.full for each in full_syncs)


def has_local_work(context: ConnectionContext, found: Due) -> tuple[bool, bool]:
    """The same while nobody may ask the vendor: notices are folded and folders looked into whether he answers or not.

    Or a week without him would leave a week of notices, which are trimmed only once they are folded.
    """
    folders = (each for each in _configured(context, found) if each.full and context.resources[each.resource].handed_in)
    return context.name in found.with_webhooks, any(folders)


def _configured(context: ConnectionContext, found: Due) -> list[DueStream]:
    return [each for each in found.streams.get(context.name, ()) if each.resource in context.resources]


class DueWork:
    """Looks for what is due. Its desks are made once: the connections stay what they are."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._contexts = {each.name: each for each in all_contexts(database, settings)}
        self._doubted: dict[tuple[str, QueueName], datetime] = {}

    def pending(self) -> Iterator[tuple[str, QueueName]]:
        """Connections and bells to ring, but where a ring is on its way; an old one is doubted now and then."""
        found = due.load(self._database)
        for name in sorted(found.connections & self._contexts.keys()):
            context = self._contexts[name]
            shut = gate.account_of(context.options) in found.closed
            for which, wanted in zip(
                wakeup.QUEUES, (has_local_work if shut else has_work)(context, found), strict=True
            ):
                if wanted and not self._is_believed(name, which, found):
                    yield name, which

    def _is_believed(self, name: str, which: QueueName, found: Due) -> bool:
        """Whether the ring that is outstanding needs no second look: it is young, or was looked after just now."""
        woken_at = found.woken.get((name, which))
        if woken_at is None:
            return False
        doubted = max(woken_at, self._doubted.get((name, which), woken_at))
        if found.now - doubted <= wakeup.COUNTS_FOR:
            return True
        self._doubted[name, which] = found.now
        return False
