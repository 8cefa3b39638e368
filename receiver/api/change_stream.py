"""Readers that wait for changes: Server-Sent Events and long polling, served from memory where that reaches back.

An event stream is sent by hand: sse-starlette keeps four tasks for each reader, looks for the shutdown twice a second,
and replaces a method of uvicorn when it is imported.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import sqlalchemy as sa
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from receiver.api.journal_pages import Found, answered
from receiver.http.answers import AnswerResponse
from receiver.http.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from receiver.api.journal_pages import Entry, JournalPages, Selection
    from receiver.api.journal_tail import JournalTail

_PAGE = 100
"""Entries of a page that an event stream reads when it is behind."""

_PAGES_AT_ONCE = 4
"""Pages that are read for waiting readers at a time: they must not take the threads and connections of all others."""

_PAGE_SECONDS = 30.0
"""Seconds that a reader waits for its turn."""

_CHUNK = 64 * 2**10
"""Bytes of events that are sent at once. A reader that does not read keeps no more than a few of them in memory."""

BEAT_SECONDS = 15.0
"""After which a silent stream shows that it is alive: proxies close one that is silent for 30 or 60."""

_RETRY_MILLISECONDS = (1000, 5000)
"""When a client comes back whose stream has ended: a thousand of them should not come in the same moment."""

_STREAM_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would collect events
}


class _NewFeedError(Exception):
    """The reader's history has ended: a backup was restored."""


@dataclass(frozen=True, slots=True)
class _Origin:
    """Where a reader begins. `entries`: those that the database gave already."""

    feed: str
    oldest: int
    entries: Sequence[Entry] = ()


class WaitingReaders:
    """What all waiting readers of one receiver share."""

    def __init__(self, tail: JournalTail, pages: JournalPages, *, beat_seconds: float) -> None:
        self.tail = tail
        self.pages = pages
        self.beat_seconds = beat_seconds
        self._turns = asyncio.Semaphore(_PAGES_AT_ONCE)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """The block runs when it is the reader's turn to ask the database."""
        try:
            async with asyncio.timeout(_PAGE_SECONDS):
                await self._turns.acquire()
        except TimeoutError as error:
            raise ApiError(503, "database", "the database is slow, and many readers wait; come back later") from error
        try:
            yield
        finally:
            self._turns.release()

    async def from_database(self, read: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call `read` in a thread, when it is the reader's turn."""
        async with self.turn():
            return await run_in_threadpool(read, *arguments, **options)

    async def poll(self, request: Request, selection: Selection, *, after: int, limit: int, wait: int) -> Response:
        """A page as soon as it has an entry, the empty page after `wait` seconds."""
        with self.tail.reading(), _disconnection(request.receive) as gone:
            until = asyncio.get_running_loop().time() + wait
            reader = _Reader(self, selection, after, gone)
            try:
                origin = await reader.begin(limit)
                entries = origin.entries or await reader.next(until=until, limit=limit)
            except _NewFeedError:
                return AnswerResponse(
                    await self.from_database(self.pages.page, selection, after=reader.position, limit=limit)
                )
            return AnswerResponse(answered(Found(entries, reader.position, origin.oldest), feed=origin.feed))


class EventStream(Response):
    """The journal as Server-Sent Events: `id` is the entry's, `event` its kind, `data` the entry."""

    def __init__(self, readers: WaitingReaders, selection: Selection, *, after: int) -> None:
        self._readers = readers
        self._selection = selection
        self._after = after
        super().__init__(headers=_STREAM_HEADERS)
        del self.headers["Content-Length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client goes, the receiver stops or the feed changes."""
        with self._readers.tail.reading(), _disconnection(receive) as gone:
            reader = _Reader(self._readers, self._selection, self._after, gone)
            origin = await reader.begin(_PAGE)
            if scope["method"] == "HEAD":
                await super().__call__(scope, receive, send)
                return
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            retry = b"retry: %d\n\n" % random.randint(*_RETRY_MILLISECONDS)
            await _write(send, retry + _feed_event(origin.feed, origin.oldest))
            try:
                await self._send_events(reader, origin.entries, send)
            except _NewFeedError:
                await _write(send, _feed_event(*await self._readers.from_database(self._readers.pages.origin)))
            except (ApiError, sa.exc.SQLAlchemyError, OSError):
                pass  # the response has begun, so it can only end: the client comes back and is told what is wrong
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_events(self, reader: _Reader, entries: Sequence[Entry], send: Send) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for chunk in _chunks(entries):
                await _write(send, chunk)
            if reader.is_over:
                return
            entries = await reader.next(until=loop.time() + self._readers.beat_seconds, limit=_PAGE)
            if not entries and not reader.is_over:
                # Proxies close what is silent. An id without data is no event, but the client resumes behind it.
                await _write(send, b":\nid: %d\n\n" % reader.position)


class _Reader:
    """One reader and its position: the last entry that it has, or that was not for it."""

    def __init__(self, readers: WaitingReaders, selection: Selection, after: int, gone: asyncio.Future[None]) -> None:
        self.position = after
        self._readers = readers
        self._recent = readers.tail.recent
        self._selection = selection
        self._gone = gone
        self._generation = self._recent.generation
        self._feed = ""

    @property
    def is_over(self) -> bool:
        """Whether nobody waits any longer: the client has gone, or the receiver stops."""
        return self._gone.done() or self._recent.is_ended

    async def begin(self, limit: int) -> _Origin:
        """From memory, which costs the database nothing when a thousand come back; else with a first page."""
        origin = self._begin_in_memory()
        if origin is None:
            async with self._readers.turn():
                # Of a thousand that come to an idle receiver the first ones have filled the memory.
                origin = self._begin_in_memory() or await self._begin_with_page(limit)
        self._feed = origin.feed
        return origin

    def _begin_in_memory(self) -> _Origin | None:
        recent = self._recent
        self._generation = recent.generation  # before the page is read: a change in between is noticed
        if recent.feed is None or not recent.has_all_after(self.position):
            return None
        return _Origin(recent.feed, recent.oldest)

    async def _begin_with_page(self, limit: int) -> _Origin:
        found, feed = await run_in_threadpool(
            self._readers.pages.read_named, self._selection, after=self.position, limit=limit
        )
        self.position = found.last
        return _Origin(feed, found.oldest, found.entries)

    async def next(self, *, until: float, limit: int) -> Sequence[Entry]:
        """The next entries; none at the time `until`, or when it is over."""
        loop = asyncio.get_running_loop()
        while True:
            if self._generation != self._recent.generation:
                await self._require_same_feed()
            entries = await self._read_page(limit) if self._recent.is_behind(self.position) else self._look(limit)
            if entries or self.is_over or loop.time() >= until:
                return entries
            if self._recent.is_behind(self.position) or self._generation != self._recent.generation:
                continue  # while the page was read
            self.position = await self._recent.wait(self._selection, self.position, until=until, gone=self._gone)

    def _look(self, limit: int) -> Sequence[Entry]:
        entries, self.position = self._recent.after(self.position, self._selection, limit=limit, size=_CHUNK)
        return entries

    async def _read_page(self, limit: int) -> Sequence[Entry]:
        found: Found = await self._readers.from_database(
            self._readers.pages.read, self._selection, after=self.position, limit=limit
        )
        self.position = found.last
        return found.entries

    async def _require_same_feed(self) -> None:
        """Memory says that the feed may have changed; only the database knows whether it is this reader's that did."""
        self._generation = self._recent.generation
        try:
            _, feed = await self._readers.from_database(
                self._readers.pages.read_named, self._selection, after=self.position, limit=1
            )
        except ApiError as error:
            if error.status_code == 410:  # noqa: PLR2004 - gone
                raise _NewFeedError from error
            raise
        if feed != self._feed:
            raise _NewFeedError


@contextmanager
def _disconnection(receive: Receive) -> Iterator[asyncio.Future[None]]:
    """A future that is done once the client has gone."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    watching = asyncio.create_task(watch())
    try:
        yield watching
    finally:
        watching.cancel()


def _chunks(entries: Sequence[Entry]) -> Iterator[bytes]:
    """Events, joined up to the size of a chunk."""
    events: list[bytes] = []
    size = 0
    for entry in entries:
        event = entry.event
        if events and size + len(event) > _CHUNK:
            yield b"".join(events)
            events, size = [], 0
        events.append(event)
        size += len(event)
    if events:
        yield b"".join(events)


def _feed_event(feed: str, oldest: int) -> bytes:
    return b"event: feed\ndata: %s\n\n" % msgspec.json.encode({"feed": feed, "oldest": oldest})


async def _write(send: Send, chunk: bytes) -> None:
    await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await asyncio.sleep(0)  # `send` itself waits only if much is not sent: let others have their turn
