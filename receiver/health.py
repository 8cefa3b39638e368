"""Whether this process lives, and whether it could do its work: two questions with two pages."""

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING

from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models import migration
from workers import canary

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from models.database import Database
    from receiver.spool import Spool

_SECONDS = 5.0
"""A component that has not answered by then is away. A client library may wait far longer."""


class Probe:
    """Asks one component how it is; `check` returns "ok" or what is wrong, may raise, and may hang.

    A check that hangs is not asked a second time: its thread would hang, too.
    """

    def __init__(self, check: Callable[[], str], *, seconds: float = _SECONDS) -> None:
        self._check = check
        self._seconds = seconds
        self._asked: Future[str] | None = None

    async def ask(self) -> str:
        """One line for a person, within seconds."""
        if self._asked is None or self._asked.done():
            self._asked = Future()
            threading.Thread(target=self._answer, args=[self._asked], name="probe", daemon=True).start()
        answered, _ = await asyncio.wait([asyncio.wrap_future(self._asked)], timeout=self._seconds)
        return answered.pop().result() if answered else f"away: no answer within {self._seconds:g} s"

    def _answer(self, asked: Future[str]) -> None:
        try:
            asked.set_result(self._check())
        except Exception as error:  # noqa: BLE001 - whatever its client raises, the component is away
            # Only the kind: an address in the text may hold a password.
            asked.set_result(f"away: {type(error).__name__}")


class Health:
    """`/livez` and `/readyz`. `broker_alive` raises unless the broker answers."""

    def __init__(self, *, database: Database, broker_alive: Callable[[], None], spool: Spool) -> None:
        self._probes = {
            "database": Probe(functools.partial(_database, database)),
            "broker": Probe(functools.partial(_broker, broker_alive)),
            "spool": Probe(spool.told),
            "workers": Probe(functools.partial(_workers, database)),
        }

    @property
    def liveness(self) -> Route:
        """Open to everybody."""
        return Route("/livez", self.livez)

    @property
    def readiness(self) -> Route:
        """Behind the door."""
        return Route("/readyz", self.readyz)

    async def livez(self, _: Request) -> Response:
        """The process answers."""
        return JSONResponse({"ok": True})

    async def readyz(self, _: Request) -> Response:
        """`{"ok": bool, "database", "broker", "spool", "workers": text}`: each "ok" or what is wrong with it.

        What waits in the spool waits for the database: it alone makes nobody unready. Nor do workers who are silent:
        a receiver that nobody works for still keeps what it accepts, and must go on getting it.
        """
        answers = await asyncio.gather(*(probe.ask() for probe in self._probes.values()))
        told = dict(zip(self._probes, answers, strict=True))
        ready = told["database"] == told["broker"] == "ok"
        return JSONResponse({"ok": ready, **told}, status_code=200 if ready else 503)


def _database(database: Database) -> str:
    try:
        migration.require(database)
    except migration.WrongTablesError as error:
        return str(error)
    return "ok"


def _workers(database: Database) -> str:
    return "; ".join(sign.wrong for sign in canary.signs(database) if sign.wrong is not None) or "ok"


def _broker(alive: Callable[[], None]) -> str:
    alive()
    return "ok"
