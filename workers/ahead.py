"""One piece ahead: the next one is asked for and made ready by a thread while the last one is being written."""

from __future__ import annotations

import gc
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

Piece = TypeVar("Piece")

_SWITCH = 0.0005
"""Seconds after which a thread gives way: with Python's 5 ms each short statement of the writer would wait so long."""

_MANY = 50_000


def one_ahead(pieces: Generator[Piece, None, None]) -> Generator[Piece, None, None]:
    """The pieces; while one is in use the thread makes the next. Closing it waits for what is under way."""
    with _switching_often(), ThreadPoolExecutor(1, "ahead") as thread:
        following = thread.submit(next, pieces, None)
        try:
            while (piece := following.result()) is not None:
                following = thread.submit(next, pieces, None)
                yield piece
        finally:
            wait([following])
            pieces.close()


@contextmanager
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


@contextmanager
def few_collections() -> Iterator[None]:
    """Decoded objects hold no cycles: to look for some after every few hundred of them takes a fifth of the time."""
    before = gc.get_threshold()
    gc.set_threshold(_MANY, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
