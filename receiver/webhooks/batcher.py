"""Group commit: webhooks that arrive together share one insert and one commit. A refused one does not fail the others.

While the database is down they share one write to the spool instead.
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
from receiver.webhooks.store import DatabaseDownError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.bookkeeping.webhooks import AcceptedWebhook
    from models.db.database import Database
    from receiver.webhooks.pg_insert import PgInserter
    from receiver.webhooks.spool import Spool

log = structlog.get_logger(__name__)

CAPACITY = 1000
"""How many webhooks may wait. The next sender gets a 503: so many wait only if neither disk nor database answers."""

_MAX_BATCH = 250
_STORE_TIMEOUT = 1.5
"""Seconds after which a batch goes to the spool, even if its insert is under way. If the database stores it after all,
the webhooks' ids keep the drainer from storing it twice."""

_LOG_INTERVAL = 60.0
"""Seconds between two log lines about a database that is down, and about a spool that cannot be written."""


class Placement(Enum):
    """Where a webhook is."""

    STORED = "in the database"
    SPOOLED = "in the spool"
    NOWHERE = "nowhere"


class NotDurableError(Exception):
    """The webhook was not stored, or it is not known whether it was."""


_Waiting = tuple["AcceptedWebhook", "asyncio.Future[Placement]"]


def _inserter(database: Database) -> PgInserter:
    from receiver.webhooks.pg_insert import PgInserter  # noqa: PLC0415 - SQLite needs no psycopg, which takes 6 MB

    return PgInserter(database)


class WebhookBatcher:
    """Stores webhooks in batches, one batch at a time.

    The first webhook is written at once; those that arrive during the commit are the next batch. So an idle receiver
    adds no delay, and a busy one needs few commits. After the database has failed, everything goes to the spool until
    `resume`. `on_batch` is called with the size of each batch, `on_spooled` with the number of webhooks that went to
    the spool.
    """

    def __init__(
        self, database: Database, spool: Spool, *, on_batch: Callable[[int], None], on_spooled: Callable[[int], None]
    ) -> None:
        self._database = database
        self._spool = spool
        self._on_batch = on_batch
        self._on_spooled = on_spooled
        self._waiting: list[_Waiting] = []
        self._writing: asyncio.Task[None] | None = None
        self._inserter = None if database.is_sqlite else _inserter(database)
        self._thread = AbandonableThread(on_end=database.close)
        self._spool_executor = ThreadPoolExecutor(1, thread_name_prefix="webhook-spool")
        self._database_down = False
        self._logged_at: float | None = None
        self._outage_logged_at: float | None = None

    async def store(self, webhook: AcceptedWebhook) -> Placement:
        """Return once the webhook is durable. Raises `NotDurableError`."""
        if len(self._waiting) >= CAPACITY:
            raise NotDurableError("too many webhooks wait")
        placement: asyncio.Future[Placement] = asyncio.get_running_loop().create_future()
        self._waiting.append((webhook, placement))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_batches())
        if (placed := await placement) is Placement.NOWHERE:
            raise NotDurableError("neither the database nor the spool took it")
        return placed

    def resume(self) -> None:
        """The database takes webhooks again. May be called from any thread."""
        if self._database_down:
            self._database_down = False
            self._outage_logged_at = None
            log.info("database back", spool=str(self._spool.folder))

    async def close(self) -> None:
        """Write the webhooks that still wait, and stop; a database that hangs gets no more than `_STORE_TIMEOUT`."""
        if self._writing is not None:
            await self._writing
        if self._inserter is not None:
            self._inserter.close()
        self._thread.abandon()
        await asyncio.get_running_loop().run_in_executor(self._spool_executor, self._spool.release)
        self._spool_executor.shutdown()

    async def _write_batches(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:_MAX_BATCH], self._waiting[_MAX_BATCH:]
                await self._place(batch)
        finally:
            self._writing = None

    async def _place(self, batch: list[_Waiting]) -> None:
        accepted = [webhook for webhook, _ in batch]
        unstored: Sequence[AcceptedWebhook] = accepted
        place = Placement.NOWHERE
        self._on_batch(len(batch))
        try:
            if not self._database_down:
                unstored = await self._store(accepted)
            if unstored and await self._store_in_spool(unstored):
                place = Placement.SPOOLED
        finally:
            # In a finally, so that no request waits for ever after an unexpected error.
            unstored_ids = {webhook.id for webhook in unstored}
            for webhook, placement in batch:
                if not placement.done():  # a sender that disconnected has canceled it
                    placement.set_result(place if webhook.id in unstored_ids else Placement.STORED)

    async def _store(self, accepted: list[AcceptedWebhook]) -> list[AcceptedWebhook]:
        """Returns the webhooks that are not in the database."""
        deadline = asyncio.get_running_loop().time() + _STORE_TIMEOUT
        try:
            if self._inserter is not None:
                async with asyncio.timeout_at(deadline):
                    if await self._inserter.append(accepted):
                        return []
            return await self._store_in_thread(accepted, deadline)
        except (TimeoutError, DatabaseDownError) as error:
            self._database_down = True
            self._log_outage(str(error) or "no answer")
            return accepted

    async def _store_in_thread(self, accepted: list[AcceptedWebhook], deadline: float) -> list[AcceptedWebhook]:
        """Returns the webhooks that the database refused. Raises `TimeoutError` after abandoning the thread."""
        result = asyncio.wrap_future(self._thread.submit(lambda: self._commit(accepted)))
        left = deadline - asyncio.get_running_loop().time()
        answered, _ = await asyncio.wait([result], timeout=max(0.0, left))
        if not answered:
            result.cancel()
            self._thread.abandon()
            self._thread = AbandonableThread(on_end=self._database.close)
            raise TimeoutError
        return result.result()

    def _commit(self, accepted: list[AcceptedWebhook]) -> list[AcceptedWebhook]:
        refused = store.store(self._database, accepted)
        failpoints.hit(Point.WEBHOOKS_COMMITTED)
        return refused

    async def _store_in_spool(self, accepted: Sequence[AcceptedWebhook]) -> bool:
        try:
            await asyncio.get_running_loop().run_in_executor(self._spool_executor, self._spool.append, accepted)
        except OSError as error:
            self._log_failure(error)
            self._database_down = False  # with nothing in the spool the drainer never calls `resume`
            return False
        self._on_spooled(len(accepted))
        return True

    def _log_outage(self, error: str) -> None:
        """Log it once a minute: while the spool is full, too, each batch tries the database anew."""
        now = time.monotonic()
        if self._outage_logged_at is None or now - self._outage_logged_at >= _LOG_INTERVAL:
            self._outage_logged_at = now
            log.warning("database down, webhooks go to the spool", error=error, spool=str(self._spool.folder))

    def _log_failure(self, error: OSError) -> None:
        now = time.monotonic()
        if self._logged_at is None or now - self._logged_at >= _LOG_INTERVAL:
            self._logged_at = now
            log.error("webhooks not stored", spool=str(self._spool.folder), error=error.strerror)


class AbandonableThread:
    """A thread that calls the database, and that can be abandoned while the database hangs.

    Not an executor: at its exit the interpreter waits for an executor's threads. The thread calls `on_end` last.
    """

    def __init__(self, *, on_end: Callable[[], None]) -> None:
        self._on_end = on_end
        self._jobs: SimpleQueue[tuple[Future[list[AcceptedWebhook]], Callable[[], list[AcceptedWebhook]]] | None] = (
            SimpleQueue()
        )
        self._thread: threading.Thread | None = None

    def submit(self, job: Callable[[], list[AcceptedWebhook]]) -> Future[list[AcceptedWebhook]]:
        """The job's future result."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="webhook-store", daemon=True)
            self._thread.start()
        done: Future[list[AcceptedWebhook]] = Future()
        done.set_running_or_notify_cancel()  # a canceled future would raise in `set_result`
        self._jobs.put((done, job))
        return done

    def abandon(self) -> None:
        """End the thread after the jobs it has, without waiting for it."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (work := self._jobs.get()) is not None:
            done, job = work
            try:
                done.set_result(job())
            except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
                done.set_exception(error)
        self._on_end()
