"""Prefetching: a thread requests and prepares the next chunk while the last one is written."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

T = TypeVar("T")

_SWITCH_INTERVAL = 0.0005
"""Seconds. With Python's default of 5 ms the writer would wait that long after each short statement."""

_GC_THRESHOLD = 50_000
"""Allocations, less deallocations, until the next collection of the youngest objects."""


class ChunkSource(Generic[T]):
    """Chunks in their order, each made when `next` is called."""

    def __init__(self, chunks: Generator[T, None, None]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[T]:
        while (chunk := self.next()) is not None:
            yield chunk

    def next(self) -> T | None:
        """The next chunk, or None after the last."""
        return next(self._chunks, None)

    def start_next(self) -> None:
        """Hint: the caller is about to wait, so the next chunk may be made now."""

    def close(self) -> None:
        """End the source; no more chunks are needed."""
        self._chunks.close()


class Prefetcher(ChunkSource[T]):
    """Makes the next chunk in a thread, from `start_next` on.

    Two Python threads slow each other down, so the writer calls `start_next` when it waits for the database.
    """

    def __init__(self, chunks: Generator[T, None, None], thread: ThreadPoolExecutor) -> None:
        super().__init__(chunks)
        self._thread = thread
        self._next: Future[T | None] | None = None

    def next(self) -> T | None:
        """The next chunk, or the exception that making it raised."""
        self.start_next()
        following, self._next = self._next, None
        return following.result() if following is not None else None

    def start_next(self) -> None:
        """Have the thread make the next chunk."""
        if self._next is None:
            self._next = self._thread.submit(super().next)

    def close(self) -> None:
        """Wait for the chunk that is being made, and end the source."""
        wait([self._next] if self._next is not None else [])
        super().close()


@contextmanager
def prefetching(chunks: Generator[T, None, None]) -> Iterator[ChunkSource[T]]:
    """Prefetch chunks: for full syncs, which bring many."""
    with _short_switch_interval(), ThreadPoolExecutor(1, "prefetch") as thread:
        source = Prefetcher(chunks, thread)
        try:
            yield source
        finally:
            source.close()


@contextmanager
def sequential(chunks: Generator[T, None, None]) -> Iterator[ChunkSource[T]]:
    """No thread: for polls, which seldom bring more than one chunk."""
    source = ChunkSource(chunks)
    try:
        yield source
    finally:
        source.close()


@contextmanager
def _short_switch_interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def relaxed_gc() -> Iterator[None]:
    """Collect garbage less often: decoded objects hold no cycles, and searching for some takes a fifth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(_GC_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
