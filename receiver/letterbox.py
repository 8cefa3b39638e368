"""Group commit: webhooks that arrive together share one insert and one commit, and one bad packet harms nobody else."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from models import notices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.database import Database
    from models.notices import Letter

log = structlog.get_logger(__name__)

_CAPACITY = 1000
"""How many letters may wait; more than that means that the database stands still, and the sender is told."""

_LARGEST_BATCH = 250
_PATIENCE = 10.0
"""Seconds after which the letters of a refused batch are no longer tried one by one."""

_REFUSED = (sa.exc.SQLAlchemyError, OSError, ValueError)
"""What a database says when it is away or dislikes a row (text that a driver cannot encode is a ValueError)."""

_Waiting = tuple["Letter", "asyncio.Future[bool]"]


class NotDurable(Exception):  # noqa: N818 - says what the letter is
    """The letter was not stored, or nobody can tell."""


class Letterbox:
    """Keeps letters, in batches that form by themselves while the commit before is under way.

    The first letter is written at once; those that arrive meanwhile are the next batch, so an idle letterbox adds no
    waiting and a busy one needs few commits. `batched` is told the size of each batch.
    """

    def __init__(self, database: Database, *, batched: Callable[[int], None]) -> None:
        self._database = database
        self._batched = batched
        self._waiting: list[_Waiting] = []
        self._writer: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="letterbox")

    async def keep(self, letter: Letter) -> None:
        """Return once the letter is durable; `NotDurable` otherwise."""
        if len(self._waiting) >= _CAPACITY:
            raise NotDurable("the letterbox is full")
        kept = asyncio.get_running_loop().create_future()
        self._waiting.append((letter, kept))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        if not await kept:
            raise NotDurable("the database did not take it")

    async def close(self) -> None:
        """Write what still waits, then rest."""
        if self._writer is not None:
            await self._writer
        self._thread.shutdown()
        self._database.close()

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_LARGEST_BATCH], self._waiting[_LARGEST_BATCH:]
                await self._deliver(batch)
        finally:
            self._writer = None

    async def _deliver(self, batch: list[_Waiting]) -> None:
        letters = [letter for letter, _ in batch]
        stored = [False] * len(batch)
        try:
            stored = await asyncio.get_running_loop().run_in_executor(self._thread, self._store, letters)
        finally:
            # Whatever happened, nobody waits for ever.
            for (_, kept), durable in zip(batch, stored, strict=True):
                if not kept.done():  # its caller may have gone
                    kept.set_result(durable)

    def _store(self, letters: Sequence[Letter]) -> list[bool]:
        give_up = time.monotonic() + _PATIENCE
        self._batched(len(letters))
        refusal = self._append(letters)
        if refusal is None:
            return [True] * len(letters)
        if len(letters) == 1 or _lost(refusal):
            return [False] * len(letters)
        return [time.monotonic() < give_up and self._append([letter]) is None for letter in letters]

    def _append(self, letters: Sequence[Letter]) -> Exception | None:
        try:
            with self._database.begin() as connection:
                notices.append(connection, self._database, letters)
        except _REFUSED as error:
            # Only its kind: the text of a database's error repeats the row.
            log.warning("notices not stored", notices=len(letters), error=type(error).__name__)
            return error
        return None


def _lost(error: Exception) -> bool:
    """Whether the connection broke: what it committed is unknown, so trying again could store a letter twice."""
    return isinstance(error, sa.exc.DBAPIError) and error.connection_invalidated
