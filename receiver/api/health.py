"""`/livez`: this process runs. `/readyz`: so do the components that it needs."""

from __future__ import annotations

import asyncio
import functools
import shutil
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import Route

from models.bookkeeping import clock_steps
from models.db import migration
from receiver.http.answers import Answer, AnswerResponse, Ok, Text
from workers.queue import canary

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.requests import Request

    from models.db.database import Database
    from receiver.webhooks.spool import Spool
    from workers.queue.wakeup import QueueName

_TIMEOUT_SECONDS = 5.0
"""Seconds after which a component counts as away. Its client library may wait far longer."""

_LEAST_FREE = 2**20
"""Bytes without which SQLite's file cannot grow. A server's disk is not seen from here: its errors are."""


class Readiness(Answer, frozen=True):
    """For each component, "ok" or what is wrong with it."""

    ok: bool
    database: Text
    broker: Text
    spool: Text
    workers: Text


class Probe:
    """Checks one component. `check` returns "ok" or what is wrong; it may raise, and it may hang.

    While a check hangs, no second one is started, because its thread would hang, too.
    """

    def __init__(self, check: Callable[[], str], *, seconds: float = _TIMEOUT_SECONDS) -> None:
        self._check = check
        self._seconds = seconds
        self._result: Future[str] | None = None

    async def result(self) -> str:
        """One line for a person, within `seconds`."""
        if self._result is None or self._result.done():
            self._result = Future()
            threading.Thread(target=self._run, args=[self._result], name="probe", daemon=True).start()
        done, _ = await asyncio.wait([asyncio.wrap_future(self._result)], timeout=self._seconds)
        return done.pop().result() if done else f"away: no answer within {self._seconds:g} s"

    def _run(self, result: Future[str]) -> None:
        try:
            result.set_result(self._check())
        except Exception as error:  # noqa: BLE001 - whatever its client raises, the component is away
            # Only the error's type: its text may hold a URL with a password.
            result.set_result(f"away: {type(error).__name__}")


class Health:
    """`/livez` and `/readyz`. `check_broker` raises unless the broker answers. `queues`: those that need a worker."""

    def __init__(
        self, *, database: Database, check_broker: Callable[[], None], spool: Spool, queues: Sequence[QueueName]
    ) -> None:
        self._database = Probe(functools.partial(_database, database))
        self._broker = Probe(functools.partial(_broker, check_broker))
        self._spool = Probe(spool.status_line)
        self._workers = Probe(functools.partial(_workers, database, queues))

    @property
    def liveness(self) -> Route:
        """It needs no token."""
        return Route("/livez", self.livez)

    @property
    def readiness(self) -> Route:
        """It needs the token."""
        return Route("/readyz", self.readyz)

    async def livez(self, _: Request) -> Response:
        """The process answers."""
        return AnswerResponse(Ok(ok=True))

    async def readyz(self, _: Request) -> Response:
        """503 unless database and broker answer.

        Neither webhooks in the spool nor silent workers make it unready: such a receiver still stores webhooks, and
        must go on getting them.
        """
        database, broker, spool, workers = await asyncio.gather(
            self._database.result(), self._broker.result(), self._spool.result(), self._workers.result()
        )
        ready = database == broker == "ok"
        answer = Readiness(ok=ready, database=database, broker=broker, spool=spool, workers=workers)
        return AnswerResponse(answer, 200 if ready else 503)


def _database(database: Database) -> str:
    if database.is_sqlite:  # first: on a full disk SQLite may fail to read, too, with an error about something else
        folder = Path(str(database.url.database)).parent
        if folder.exists() and shutil.disk_usage(folder).free < _LEAST_FREE:
            return f"the disk of {folder} is full: nothing can be stored; free disk space"
    try:
        migration.require(database)
    except migration.WrongTablesError as error:
        return str(error)
    return "ok"


def _workers(database: Database, queues: Sequence[QueueName]) -> str:
    problems = [queue.problem for queue in canary.queue_health(database, queues) if queue.problem is not None]
    with database.read() as tx:
        step = clock_steps.find(tx)
    return "; ".join([*problems, *([] if step is None else [step.problem])]) or "ok"


def _broker(alive: Callable[[], None]) -> str:
    alive()
    return "ok"
