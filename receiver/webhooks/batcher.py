"""Group commit: webhooks that arrive together share one insert and one commit; one that is refused fails no other.

While the database is down they share one commit to the spool instead.
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

from models import failpoints
from models.failpoints import Point
from receiver.webhooks import store
from receiver.webhooks.pg_insert import PgInserter
from receiver.webhooks.store import DatabaseDown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.bookkeeping.webhooks import AcceptedWebhook
    from models.db.database import Database
    from receiver.webhooks.spool import Spool

log = structlog.get_logger(__name__)

_CAPACITY = 1000
"""How many webhooks may wait. More than that means that no disk answers; the sender gets a 503."""

_LARGEST_BATCH = 250
_PATIENCE = 1.5
"""Seconds after which a batch goes to the spool, whatever the database is doing with it. Should the database store it
after all, the webhooks' ids keep the drainer from storing it again."""

_QUIET = 60.0
"""Seconds between two log lines about a spool that cannot be written."""


class Placement(Enum):
    """Where a webhook is."""

    STORED = "in the database"
    SPOOLED = "in the spool"
    NOWHERE = "nowhere"


class NotDurable(Exception):  # noqa: N818 - says what the webhook is
    """The webhook was not stored, or it is not known whether it was."""


_Waiting = tuple["AcceptedWebhook", "asyncio.Future[Placement]"]


class WebhookBatcher:
    """Stores webhooks in batches, one batch at a time.

    The first webhook is written at once; those that arrive meanwhile are the next batch. So an idle receiver adds no
    delay, and a busy one needs few commits. After the database has failed, everything goes to the spool until `resume`.
    `batched` is called with the size of each batch, `spooled` with the number of webhooks that went to the spool.
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
        self._line = None if database.is_sqlite else PgInserter(database)
        self._writer = AbandonableThread(ended=database.close)
        self._spooler = ThreadPoolExecutor(1, thread_name_prefix="spooler")
        self._away = False
        self._complained_at: float | None = None

    async def store(self, webhook: AcceptedWebhook) -> Placement:
        """Return once the webhook is durable. Raises `NotDurable`."""
        if len(self._waiting) >= _CAPACITY:
            raise NotDurable("too many webhooks wait")
        kept: asyncio.Future[Placement] = asyncio.get_running_loop().create_future()
        self._waiting.append((webhook, kept))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        if (place := await kept) is Placement.NOWHERE:
            raise NotDurable("neither the database nor the spool took it")
        return place

    def resume(self) -> None:
        """The database takes webhooks again. May be called from any thread."""
        if self._away:
            self._away = False
            log.info("database back", spool=str(self._spool.folder))

    async def close(self) -> None:
        """Write what still waits, and stop. A database that hangs is not waited for."""
        if self._writing is not None:
            await self._writing
        if self._line is not None:
            self._line.close()
        self._writer.leave()
        await asyncio.get_running_loop().run_in_executor(self._spooler, self._spool.release)
        self._spooler.shutdown()

    async def _write(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_LARGEST_BATCH], self._waiting[_LARGEST_BATCH:]
                await self._deliver(batch)
        finally:
            self._writing = None

    async def _deliver(self, batch: list[_Waiting]) -> None:
        accepted = [webhook for webhook, _ in batch]
        left: Sequence[AcceptedWebhook] = accepted
        place = Placement.NOWHERE
        self._batched(len(batch))
        try:
            if not self._away:
                left = await self._store(accepted)
            if left and await self._store_in_spool(left):
                place = Placement.SPOOLED
        finally:
            # Also after an unexpected error, so that no request waits for ever.
            missing = {webhook.id for webhook in left}
            for webhook, kept in batch:
                if not kept.done():  # a sender that has hung up has canceled it
                    kept.set_result(place if missing and webhook.id in missing else Placement.STORED)

    async def _store(self, accepted: list[AcceptedWebhook]) -> list[AcceptedWebhook]:
        """The webhooks that the database did not take."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        try:
            if self._line is not None:
                async with asyncio.timeout_at(deadline):
                    if await self._line.append(accepted):
                        return []
            return await self._store_in_thread(accepted, deadline)
        except (TimeoutError, DatabaseDown) as error:
            self._away = True
            log.warning(
                "database down, webhooks go to the spool",
                error=str(error) or "no answer",
                spool=str(self._spool.folder),
            )
            return accepted

    async def _store_in_thread(self, accepted: list[AcceptedWebhook], deadline: float) -> list[AcceptedWebhook]:
        """The webhooks that the database refused. Raises `TimeoutError`; the thread is left behind then."""
        result = asyncio.wrap_future(self._writer.submit(lambda: self._commit(accepted)))
        left = deadline - asyncio.get_running_loop().time()
        answered, _ = await asyncio.wait([result], timeout=max(0.0, left))
        if not answered:
            result.cancel()
            self._writer.leave()
            self._writer = AbandonableThread(ended=self._database.close)
            raise TimeoutError
        return result.result()

    def _commit(self, accepted: list[AcceptedWebhook]) -> list[AcceptedWebhook]:
        refused = store.store(self._database, accepted)
        failpoints.hit(Point.WEBHOOKS_COMMITTED)
        return refused

    async def _store_in_spool(self, accepted: Sequence[AcceptedWebhook]) -> bool:
        try:
            await asyncio.get_running_loop().run_in_executor(self._spooler, self._spool.append, accepted)
        except OSError as error:
            self._complain(error)
            self._away = False  # with nothing in the spool the drainer never calls `resume`
            return False
        self._spooled(len(accepted))
        return True

    def _complain(self, error: OSError) -> None:
        now = time.monotonic()
        if self._complained_at is None or now - self._complained_at >= _QUIET:
            self._complained_at = now
            log.error("webhooks not stored", spool=str(self._spool.folder), error=error.strerror)


class AbandonableThread:
    """A thread that calls the database, and that can be left behind where the database hangs.

    When the process ends the interpreter waits for an executor's threads. `ended`: called by the thread at its end.
    """

    def __init__(self, *, ended: Callable[[], None]) -> None:
        self._ended = ended
        self._jobs: SimpleQueue[tuple[Future[list[AcceptedWebhook]], Callable[[], list[AcceptedWebhook]]] | None] = (
            SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], list[AcceptedWebhook]]) -> Future[list[AcceptedWebhook]]:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="letterbox", daemon=True)
            self._thread.start()
        done: Future[list[AcceptedWebhook]] = Future()
        done.set_running_or_notify_cancel()  # from here on it cannot be canceled
        self._jobs.put((done, job))
        return done

    def leave(self) -> None:
        """End the thread after the jobs it has, without waiting for it."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (work := self._jobs.get()) is not None:
            done, job = work
            try:
                done.set_result(job())
            except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
                done.set_exception(error)
        self._ended()
