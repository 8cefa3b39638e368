"""One piece ahead: the next one is asked for and made ready by a thread while the last one is being written."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

Piece = TypeVar("Piece")

_SWITCH_INTERVAL = 0.0005
"""Seconds after which a thread gives way: with Python's 5 ms each short statement of the writer would wait so long."""

_GC_THRESHOLD = 50_000


class ChunkSource(Generic[Piece]):
    """The pieces in their order, each made when it is asked for."""

    def __init__(self, chunks: Generator[Piece, None, None]) -> None:
        self._chunks = chunks

    def __iter__(self) -> Iterator[Piece]:
        while (piece := self.next()) is not None:
            yield piece

    def next(self) -> Piece | None:
        """The next one."""
        return next(self._chunks, None)

    def start_next(self) -> None:
        """Now is a good time to make the next one."""

    def close(self) -> None:
        """No more are wanted."""
        self._chunks.close()


class Prefetcher(ChunkSource[Piece]):
    """Made by a thread, from `begin` on.

    Two threads of Python hinder each other: the best time is when the writer waits for the database.
    """

    def __init__(self, chunks: Generator[Piece, None, None], thread: ThreadPoolExecutor) -> None:
        super().__init__(chunks)
        self._thread = thread
        self._next: Future[Piece | None] | None = None

    def next(self) -> Piece | None:
        """The next one, or the error that there was instead."""
        self.start_next()
        following, self._next = self._next, None
        return following.result() if following is not None else None

    def start_next(self) -> None:
        """See the class."""
        if self._next is None:
            self._next = self._thread.submit(super().next)

    def close(self) -> None:
        """Waits for what is under way."""
        wait([self._next] if self._next is not None else [])
        super().close()


@contextmanager
def prefetching(chunks: Generator[Piece, None, None]) -> Iterator[ChunkSource[Piece]]:
    """For long readings."""
    with _short_switch_interval(), ThreadPoolExecutor(1, "ahead") as thread:
        pieces = Prefetcher(chunks, thread)
        try:
            yield pieces
        finally:
            pieces.close()


@contextmanager
def sequential(chunks: Generator[Piece, None, None]) -> Iterator[ChunkSource[Piece]]:
    """For short ones."""
    pieces = ChunkSource(chunks)
    try:
        yield pieces
    finally:
        pieces.close()


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
    """Decoded objects hold no cycles: to look for some after every few hundred of them takes a fifth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(_GC_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
