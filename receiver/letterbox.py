"""Group commit: webhooks that arrive together share one insert and one commit, and one bad packet harms nobody else.

While the database is away they share one write to the spool instead.
"""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from enum import Enum
from queue import SimpleQueue
from typing import TYPE_CHECKING

import structlog

from models import faults
from models.faults import Point
from receiver import storing
from receiver.line import Line
from receiver.storing import Away

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.database import Database
    from models.notices import Letter
    from receiver.spool import Spool

log = structlog.get_logger(__name__)

_CAPACITY = 1000
"""How many letters may wait; more than that means that the disk stands still, and the sender is told."""

_LARGEST_BATCH = 250
_PATIENCE = 1.5
"""Seconds after which a batch goes to the spool, whatever the database is doing with it. It may be stored twice then,
which a letter's id makes harmless."""

_QUIET = 60.0
"""Seconds between two log lines about a spool that cannot be written."""


class Kept(Enum):
    """Where a letter is."""

    STORED = "in the database"
    SPOOLED = "in the spool"
    NOWHERE = "nowhere"


class NotDurable(Exception):  # noqa: N818 - says what the letter is
    """The letter was not kept, or nobody can tell."""


_Waiting = tuple["Letter", "asyncio.Future[Kept]"]


class Letterbox:
    """Keeps letters, in batches that form by themselves while the one before is under way.

    The first letter is written at once; those that arrive meanwhile are the next batch, so an idle letterbox adds no
    waiting and a busy one needs few commits. Once the database has failed, all goes to the spool until `resume`.
    `batched` is told the size of each batch, `spooled` how many letters went to the spool.
    """

    def __init__(
        self, database: Database, spool: Spool, *, batched: Callable[[int], None], spooled: Callable[[int], None]
    ) -> None:
        self._database = database
        self._spool = spool
        self._batched = batched
        self._spooled = spooled
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        self._line = None if database.is_sqlite else Line(database)
        self._writer = _Writer(ended=database.close)
        self._spooler = ThreadPoolExecutor(1, thread_name_prefix="spooler")
        self._away = False
        self._complained_at: float | None = None

    async def keep(self, letter: Letter) -> Kept:
        """Return once the letter is durable; `NotDurable` otherwise."""
        if len(self._waiting) >= _CAPACITY:
            raise NotDurable("the letterbox is full")
        kept: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        self._waiting.append((letter, kept))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        if (place := await kept) is Kept.NOWHERE:
            raise NotDurable("neither the database nor the spool took it")
        return place

    def resume(self) -> None:
        """The database is back. May be called from any thread."""
        if self._away:
            self._away = False
            log.info("database back", spool=str(self._spool.folder))

    async def close(self) -> None:
        """Write what still waits, then rest. A database that hangs is not waited for."""
        if self._writing is not None:
            await self._writing
        if self._line is not None:
            self._line.close()
        self._writer.leave()
        self._spooler.shutdown()
        self._spool.release()

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_LARGEST_BATCH], self._waiting[_LARGEST_BATCH:]
                await self._deliver(batch)
        finally:
            self._writing = None

    async def _deliver(self, batch: list[_Waiting]) -> None:
        letters = [letter for letter, _ in batch]
        left: Sequence[Letter] = letters
        place = Kept.NOWHERE
        self._batched(len(batch))
        try:
            if not self._away:
                left = await self._store(letters)
            if left and await self._put_by(left):
                place = Kept.SPOOLED
        finally:
            # Whatever happened, nobody waits for ever.
            missing = {letter.id for letter in left}
            for letter, kept in batch:
                if not kept.done():  # its caller may have gone
                    kept.set_result(place if missing and letter.id in missing else Kept.STORED)

    async def _store(self, letters: list[Letter]) -> list[Letter]:
        """Those that the database did not take."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + _PATIENCE
        if self._line is not None:
            try:
                async with asyncio.timeout_at(ends):
                    if await self._line.append(letters):
                        return []
            except (TimeoutError, Away) as error:
                self._turn_away(str(error) or "no answer")
                return letters
        asked = asyncio.wrap_future(self._writer.submit(lambda: self._commit(letters)))
        answered, _ = await asyncio.wait([asked], timeout=max(0.0, ends - loop.time()))
        if not answered:
            asked.cancel()
            self._writer.leave()
            self._writer = _Writer(ended=self._database.close)
            self._turn_away("no answer")
            return letters
        try:
            return asked.result()
        except Away as error:
            self._turn_away(str(error))
            return letters

    def _commit(self, letters: list[Letter]) -> list[Letter]:
        refused = storing.store(self._database, letters)
        faults.reach(Point.NOTICES_COMMITTED)
        return refused

    def _turn_away(self, reason: str) -> None:
        self._away = True
        log.warning("database away, notices go to the spool", error=reason, spool=str(self._spool.folder))

    async def _put_by(self, letters: Sequence[Letter]) -> bool:
        try:
            await asyncio.get_running_loop().run_in_executor(self._spooler, self._spool.append, letters)
        except OSError as error:
            self._complain(error)
            self._away = False  # nothing will be drained that could tell when the database is back
            return False
        self._spooled(len(letters))
        return True

    def _complain(self, error: OSError) -> None:
        now = time.monotonic()
        if self._complained_at is None or now - self._complained_at >= _QUIET:
            self._complained_at = now
            log.error("notices not kept", spool=str(self._spool.folder), error=error.strerror)


class _Writer:
    """A thread that asks the database, and that can be left behind where the database hangs.

    An executor's threads would be waited for when the process ends. `ended`: called by the thread as it ends.
    """

    def __init__(self, *, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._jobs: SimpleQueue[tuple[Future[list[Letter]], Callable[[], list[Letter]]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], list[Letter]]) -> Future[list[Letter]]:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="letterbox", daemon=True)
            self._thread.start()
        done: Future[list[Letter]] = Future()
        done.set_running_or_notify_cancel()  # from here on nobody can cancel it
        self._jobs.put((done, job))
        return done

    def leave(self) -> None:
        """It ends once it is done with what it has; nobody waits for that."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (work := self._jobs.get()) is not None:
            done, job = work
            try:
                done.set_result(job())
            except BaseException as error:  # noqa: BLE001 - whoever waits for the answer raises it
                done.set_exception(error)
        self._ended()
