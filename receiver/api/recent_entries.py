"""The journal's newest entries in memory, and the readers that wait for more. Only the event loop's thread uses it."""

from __future__ import annotations

import asyncio
import itertools
from bisect import bisect_right
from collections import deque
from operator import attrgetter
from typing import TYPE_CHECKING

from receiver.api.journal_pages import Selection

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from receiver.api.journal_pages import Entry

_MOST_ENTRIES = 10_000
_MOST_BYTES = 16 * 2**20
"""Of the entries in memory; a reader that is further behind reads pages from the database."""

_WOKEN_AT_ONCE = 20
"""Readers that are woken in one iteration of the loop: webhooks are served between two."""

_BY_ID = attrgetter("id")


class _Waiter:
    """A reader that waits. `passed`: up to this id no entry is for it, which is known once it is woken."""

    __slots__ = ("passed", "selection", "woken")

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.passed = 0
        self.woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


class RecentEntries:
    """The entries `floor < id <= last`, without a gap.

    `generation` changes when the journal may have become another one: a reader then asks the database whether its own
    history goes on. `feed` and `oldest` are as of the last look at the database; before the first, `feed` is None.
    """

    def __init__(self) -> None:
        self.generation = 0
        self.is_ended = False
        self.feed: str | None = None
        self.oldest = 0
        self._entries: list[Entry] = []
        self._size = 0
        self._floor = 0
        self._last: int | None = None
        self._waiting: dict[Selection, dict[_Waiter, None]] = {}
        self._to_wake: deque[_Waiter] = deque()

    # What the journal's follower tells

    def restart(self, last: int) -> None:
        """The journal is followed from the entry `last` on; whoever waits looks again."""
        self._entries, self._size, self._floor, self._last = [], 0, last, last
        self._wake_all()

    def add(self, entries: Sequence[Entry]) -> None:
        """The next entries: wake the readers that want one of them."""
        assert self._last is not None  # noqa: S101 - `restart` comes first
        before, self._last = self._last, entries[-1].id
        self._entries.extend(entries)
        self._size += sum(len(entry.json) for entry in entries)
        self._trim()
        for entry in entries:
            self._wake(_selections_of(entry) if len(self._waiting) > _COMBINATIONS else self._selecting(entry), before)

    def confirm(self, feed: str, oldest: int) -> None:
        """The feed's name and its oldest entry, as the database has them now."""
        if self.feed is not None and self.feed != feed:
            self.generation += 1
            self._wake_all()
        self.feed, self.oldest = feed, oldest

    def pause(self) -> None:
        """Nobody reads, so the journal is not followed until `restart`."""
        self._entries, self._size, self._last, self.feed = [], 0, None, None

    def doubt(self) -> None:
        """The journal ends before entries that were read: each reader must ask the database."""
        self.generation += 1
        self._wake_all()

    def end(self) -> None:
        """The receiver stops: no reader waits any longer."""
        if not self.is_ended:
            self.is_ended = True
            self._wake_all()

    # What readers ask

    def has_all_after(self, position: int) -> bool:
        """Whether the entries above `position` are in memory, and the feed's name is known."""
        return self.feed is not None and self._last is not None and self._floor <= position <= self._last

    def is_behind(self, position: int) -> bool:
        """Whether entries above `position` are in memory no longer."""
        return self._last is not None and position < self._floor

    def after(self, position: int, selection: Selection, *, limit: int, size: int) -> tuple[list[Entry], int]:
        """The next selected entries and the position behind them: at most `limit`, with `size` bytes or a few more."""
        found: list[Entry] = []
        start = bisect_right(self._entries, position, key=_BY_ID)
        for entry in itertools.islice(self._entries, start, None):
            if selection.matches(entry):
                found.append(entry)
                size -= len(entry.json)
                if len(found) == limit or size <= 0:
                    return found, entry.id
        return found, max(position, self._last or 0)

    async def wait(self, selection: Selection, position: int, *, until: float, gone: asyncio.Future[None]) -> int:
        """Wait for a selected entry, the time `until`, a change of `generation`, or `gone`.

        To be called without an `await` after `after` found nothing. Returns the position: it passes over the entries
        that others waited for.
        """
        waiter = _Waiter(selection)
        self._waiting.setdefault(selection, {})[waiter] = None
        timer = asyncio.get_running_loop().call_at(until, self._expire, waiter)

        def leave(_: object) -> None:
            waiter.wake()

        gone.add_done_callback(leave)
        try:
            await waiter.woken
        finally:
            timer.cancel()
            gone.remove_done_callback(leave)
            self._forget(waiter)
        return max(position, waiter.passed)

    # Waking

    def _expire(self, waiter: _Waiter) -> None:
        if self._forget(waiter):  # nothing that came meanwhile was for it
            waiter.passed = self._last or 0
        waiter.wake()

    def _forget(self, waiter: _Waiter) -> bool:
        """Whether it was waiting."""
        others = self._waiting.get(waiter.selection)
        if others is None or waiter not in others:
            return False
        del others[waiter]
        if not others:
            del self._waiting[waiter.selection]
        return True

    def _selecting(self, entry: Entry) -> list[Selection]:
        return [selection for selection in self._waiting if selection.matches(entry)]

    def _wake(self, selections: Sequence[Selection] | Iterator[Selection], passed: int) -> None:
        was_idle = not self._to_wake
        for selection in selections:
            for waiter in self._waiting.pop(selection, ()):
                waiter.passed = passed
                self._to_wake.append(waiter)
        if was_idle and self._to_wake:
            self._wake_some()

    def _wake_all(self) -> None:
        self._wake(list(self._waiting), 0)

    def _wake_some(self) -> None:
        for _ in range(min(len(self._to_wake), _WOKEN_AT_ONCE)):
            self._to_wake.popleft().wake()
        if self._to_wake:
            asyncio.get_running_loop().call_soon(self._wake_some)

    def _trim(self) -> None:
        dropped = 0
        while len(self._entries) - dropped > _MOST_ENTRIES or self._size > _MOST_BYTES:
            self._size -= len(self._entries[dropped].json)
            dropped += 1
        if dropped:
            self._floor = self._entries[dropped - 1].id
            del self._entries[:dropped]


def _selections_of(entry: Entry) -> Iterator[Selection]:
    """Every selection that matches the entry."""
    names = ((entry.connection, None), (entry.resource, None), (entry.kind, None), (entry.key, None))
    return itertools.starmap(Selection, itertools.product(*names))


_COMBINATIONS = 16
"""As many as `_selections_of` gives: more different ones that wait are looked up, fewer are compared."""
