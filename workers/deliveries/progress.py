"""What a session holds in memory of a subscription's changes: which are under way, and how far the place may move."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models.bookkeeping.undelivered import Waiting

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from models.bookkeeping.journal_entries import Entry
    from models.bookkeeping.undelivered import Object


@dataclass(eq=False, slots=True)
class Item:
    """A change that is to be delivered. `queued`: it has a row in `erpmirror_undelivered`.

    `settled`: it was delivered, or has such a row, or is to get one with the next write. `started_at`: when its attempt
    began, by the monotonic clock.
    """

    entry: Entry
    queued: bool = False
    attempts: int = 0
    failing_since: datetime | None = None
    settled: bool = False
    started_at: float = 0.0

    def waiting(self, due_at: datetime, reason: str | None = None) -> Waiting:
        """Its row."""
        return Waiting(self.entry.id, self.entry.of, due_at, self.attempts, self.failing_since, reason)


class Progress:
    """The changes in memory: of each object in their order, one at a time under way.

    `seen`: up to which id the journal was read.
    """

    def __init__(self, position: int) -> None:
        self.seen = position
        self._read: deque[Item] = deque()  # from the journal, by id: the place moves over settled ones only
        self._of_object: dict[Object, deque[Item]] = {}
        self._ready: deque[Object] = deque()
        self._under_way: set[Object] = set()

    @property
    def unsettled(self) -> int:
        """How many are in memory."""
        return sum(map(len, self._of_object.values()))

    @property
    def under_way(self) -> int:
        """How many are being sent."""
        return len(self._under_way)

    @property
    def queued(self) -> list[int]:
        """The ids of those that have a row in `erpmirror_undelivered`."""
        return [item.entry.id for items in self._of_object.values() for item in items if item.queued]

    @property
    def position(self) -> int:
        """Every change up to this id is settled, or is none of the subscription's."""
        while self._read and self._read[0].settled:
            self._read.popleft()
        return self._read[0].entry.id - 1 if self._read else self.seen

    def add(self, items: Iterable[Item]) -> None:
        """Take items, those of an object in their order."""
        for item in items:
            if not item.queued:
                self._read.append(item)
            of = item.entry.of
            others = self._of_object.setdefault(of, deque())
            others.append(item)
            if len(others) == 1:
                self._ready.append(of)

    def start(self, *, untried_first: bool = False) -> Item | None:
        """The next one to send, or the one of those that were tried least; None if nothing is ready."""
        if not self._ready:
            return None
        if untried_first:
            of = min(self._ready, key=lambda each: self._of_object[each][0].attempts)
            self._ready.remove(of)
        else:
            of = self._ready.popleft()
        self._under_way.add(of)
        item = self._of_object[of][0]
        item.started_at = time.monotonic()
        return item

    def delivered(self, item: Item) -> None:
        """It is done; the next one of its object is ready."""
        of, others = self._end(item)
        if others:
            self._ready.append(of)
        else:
            del self._of_object[of]

    def failed(self, item: Item) -> list[Item]:
        """It has to wait, and so have the later ones of its object, which are returned."""
        of, others = self._end(item)
        del self._of_object[of]
        for each in others:
            each.settled = True
        return list(others)

    def give_up(self) -> list[Item]:
        """What is left below the last settled one has to wait; returns it. What lies above stays in the journal."""
        last = max((item.entry.id for item in self._read if item.settled), default=0)
        left = [item for item in self._read if not item.settled and item.entry.id < last]
        for each in left:
            each.settled = True
        return left

    def _end(self, item: Item) -> tuple[Object, deque[Item]]:
        of = item.entry.of
        self._under_way.discard(of)
        others = self._of_object[of]
        others.popleft()
        item.settled = True
        return of, others
