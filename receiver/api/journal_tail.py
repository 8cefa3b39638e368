"""Follows the journal for all waiting readers: one thread and one listening connection, however many wait."""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from models.bookkeeping import journal
from models.bookkeeping.journal_news import JournalNews
from receiver.api import journal_pages
from receiver.api.recent_entries import RecentEntries
from receiver.http.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.bookkeeping.feed import Feed
    from models.db.database import Database
    from receiver.api.journal_pages import Entry

log = structlog.get_logger(__name__)

_READ_AT_ONCE = 200
_LOOK_EVERY = 1.0
"""Seconds after which the journal and its feed are looked at without news: a pooler may have lost it."""

_QUIET = 0.05
"""Seconds without news after which the feed is looked at: before, it would delay the next entry."""

_SLICE = 0.1
"""Seconds of one wait for news: `close` takes no longer."""

_LINGER = 30.0
"""Seconds that the journal is followed after the last reader has left: a long poll comes back at once."""

_RETRY_AFTER = 1.0
_RETRY_READERS_AFTER = 5


class JournalTail:
    """`recent` holds what the thread has read. The thread starts with the first reader."""

    def __init__(self, database: Database, *, feed: Feed, most_readers: int) -> None:
        self.recent = RecentEntries()
        self._database = database
        self._feed = feed
        self._most_readers = most_readers
        self._readers = 0
        self._left_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._wanted = threading.Event()
        self._closed = threading.Event()
        self._untaken = threading.Semaphore(2)
        # The thread's own.
        self._position: int | None = None
        self._name: str | None = None
        self._look_at = 0.0
        self._is_checked = False

    @contextmanager
    def reading(self) -> Iterator[None]:
        """One reader more while the block runs; `ApiError` if there are too many."""
        if self._readers >= self._most_readers:
            raise ApiError(
                503,
                "too_many_readers",
                f"{self._most_readers} readers wait already; come back later, or read pages without wait",
                headers={"Retry-After": str(_RETRY_READERS_AFTER), "Connection": "close"},
            )
        self._readers += 1
        self._start()
        try:
            yield
        finally:
            self._readers -= 1
            if not self._readers:
                self._left_at = time.monotonic()

    def close(self) -> None:
        """End the thread and its connections; one that waits for a database that does not answer ends by itself."""
        self._closed.set()
        self._wanted.set()
        if self._thread is not None:
            self._thread.join(2)
        self._database.close()

    def _start(self) -> None:
        self._wanted.set()
        if self._thread is None and not self._closed.is_set():
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._follow, name="journal", daemon=True)
            self._thread.start()

    # The thread

    def _follow(self) -> None:
        news = JournalNews(self._database)
        failing = False
        while not self._closed.is_set():
            try:
                self._step(news)
                failing = failing and not news.is_open
            except (sa.exc.SQLAlchemyError, OSError) as error:
                if not failing:  # only the type: an error's text may hold what an entry holds
                    log.warning("journal not followed", error=type(error).__name__)
                failing = True
                self._is_checked = False
                news.close()
                self._closed.wait(_RETRY_AFTER)
            except _LoopClosedError:
                break
        news.close()

    def _step(self, news: JournalNews) -> None:
        if not self._readers and time.monotonic() > self._left_at + _LINGER:
            self._pause(news)
            return
        was_open = news.is_open
        has_news = news.wait(_SLICE if self._is_checked else _QUIET)
        if not news.is_open:
            return
        if not was_open or self._position is None:
            self._begin(news)
        is_due = time.monotonic() >= self._look_at
        if has_news or is_due:
            self._read_on(news)
        if is_due or not (has_news or self._is_checked):
            self._check(news)

    def _pause(self, news: JournalNews) -> None:
        self._wanted.clear()
        if self._readers:  # one came in between
            return
        news.close()
        self._database.engine.dispose()
        self._position = self._name = None
        self._tell(self.recent.pause)
        self._wanted.wait()

    def _begin(self, news: JournalNews) -> None:
        """After each (re)connection: it may be another database."""
        if self._position is None:
            with news.read() as tx:
                _, newest, _ = journal.bounds(tx)
            self._position = newest
            self._tell(self.recent.restart, newest)
        self._check(news)

    def _read_on(self, news: JournalNews) -> None:
        """Hand over all entries that are new: one query, unless there are many."""
        while not self._closed.is_set():
            assert self._position is not None  # noqa: S101 - `_begin` comes first
            entries = journal_pages.follow(news, after=self._position, limit=_READ_AT_ONCE)
            if entries:
                self._is_checked = False
                self._hand_over(entries)
                self._position = entries[-1].id
            if len(entries) < _READ_AT_ONCE:
                return

    def _check(self, news: JournalNews) -> None:
        """Look whether it is still the same journal, and remember how far it was served."""
        assert self._position is not None  # noqa: S101 - `_begin` comes first
        with news.read() as tx:
            oldest, newest, _ = journal.bounds(tx)
        name = self._feed.name(min(self._position, newest))
        was_set_back = newest < self._position or self._name not in {None, name}
        self._name = name
        self._tell(self.recent.confirm, name, oldest)
        if was_set_back:
            self._position = newest
            self._tell(self.recent.doubt)
            self._tell(self.recent.restart, newest)
        self._look_at = time.monotonic() + _LOOK_EVERY
        self._is_checked = True

    # To the loop

    def _hand_over(self, entries: list[Entry]) -> None:
        """Wait until the loop has taken earlier ones: a loop that is busy must not let them pile up."""
        while not self._untaken.acquire(timeout=_SLICE):
            if self._closed.is_set():
                raise _LoopClosedError
        self._tell(self._take, entries)

    def _take(self, entries: list[Entry]) -> None:
        self._untaken.release()
        self.recent.add(entries)

    def _tell(self, call: Callable[..., None], *values: object) -> None:
        assert self._loop is not None  # noqa: S101 - set before the thread starts
        try:
            self._loop.call_soon_threadsafe(call, *values)
        except RuntimeError as error:
            raise _LoopClosedError from error


class _LoopClosedError(Exception):
    """The receiver has ended without `close`."""
