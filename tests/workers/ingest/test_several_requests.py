"""Several requests for one result: the lease covers them all, and each one counts against the rate limit."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from starlette.middleware.base import BaseHTTPMiddleware

from models.bookkeeping import inbox
from models.db import tables
from models.values import Cause, Lane, ObjectRef
from tests.mirroring import mirrored
from workers.gate import gate, timing
from workers.ingest import loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import ASGIApp

    from models.db.database import Database
    from tests.mirroring import Mirror

_ANSWERS_AFTER = 4.0
_LEFT_OF_LEASE = timedelta(seconds=6)
"""Longer than one answer takes, and shorter than two."""

_WISEDAT: dict[str, Any] = {"resources": ["customers"]}


def _wrapped(arrives: Callable[[str], None], leaves: Callable[[str], None]) -> Callable[[ASGIApp], ASGIApp]:
    """A wrapper that calls these with the path of each request, before and after it is answered."""

    async def dispatch(request: Request, answer: Callable[[Request], Any]) -> Response:
        path = request.url.path.strip("/") + ("/id" if "id" in request.query_params else "")
        await asyncio.to_thread(arrives, path)
        response: Response = await answer(request)
        await asyncio.to_thread(leaves, path)
        return response

    return lambda app: BaseHTTPMiddleware(app, dispatch=dispatch)


def _enqueue_a_customer(mirror: Mirror) -> None:
    key = next(iter(mirror.sandboxes["wisedat"].truth("customers")))
    with mirror.database.begin() as tx:
        refs = [ObjectRef("customers", key)]
        inbox.enqueue(tx, connection="wisedat", refs=refs, lane=Lane.LIVE, cause=Cause.WEBHOOK)


def test_two_slow_answers_under_one_lease_are_kept_and_no_other_worker_asks_meanwhile(
    database: Database, tmp_path: Path
) -> None:
    """A customer and its addresses are two requests: each is answered in time, together they outlast the lease."""
    asked: list[str] = []
    entered: list[str] = []

    def arrives(path: str) -> None:
        asked.append(path)
        if path == "customers/id":  # as if the answers took as long as the timeout allows
            with database.begin() as tx:
                tx.execute(sa.update(tables.leases).values(until=tx.now + _LEFT_OF_LEASE))
        if path.startswith("customer"):
            time.sleep(_ANSWERS_AFTER)

    def leaves(path: str) -> None:
        if path.startswith("customer"):
            try:
                mirror.context("wisedat").gate.acquire()
                entered.append(path)
            except gate.GateClosed:
                pass

    knobs = {"options": _WISEDAT, "wrapper": _wrapped(arrives, leaves)}
    with mirrored(database, tmp_path, wisedat=knobs) as mirror:
        _enqueue_a_customer(mirror)
        session = loop.sync(mirror.context("wisedat"))
        assert (["status", "authentication/login", "customers/id", "customeraddresses"], []) == (asked, entered)
        assert (4, 1) == (session.requests, mirror.status()["customers"].rows)
        with database.read() as tx:
            assert [] == tx.execute(sa.select(tables.inbox.c.key)).scalars().all()


def test_each_request_counts_against_the_rate_limit_whichever_worker_sends_it(
    database: Database, tmp_path: Path
) -> None:
    """Logins, the pages of a list, a customer and its addresses: the sandbox stamps what arrives at its door."""
    stamps: list[float] = []
    limited = {**_WISEDAT, "requests_per_minute": 120}
    wrapper = _wrapped(lambda _: stamps.append(time.monotonic()), lambda _: None)
    with mirrored(database, tmp_path, wisedat={"objects": 6, "options": limited, "wrapper": wrapper}) as mirror:
        workers = [threading.Thread(target=_sync_until_complete, args=(mirror,)) for _ in range(2)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        assert {} == mirror.differences()
        customers = len(mirror.sandboxes["wisedat"].truth("customers"))
    assert 2 + 1 + 2 * customers <= len(stamps), "status, login, at least one page, and two for each customer"
    # A request may be on its way for longer than another, so only all of them together are compared, with room.
    interval = timing.MINUTE.total_seconds() / 120
    assert stamps[-1] - stamps[0] > 0.75 * interval * (len(stamps) - 1)


def _sync_until_complete(mirror: Mirror) -> None:
    context, end = mirror.context("wisedat"), time.monotonic() + 120
    while time.monotonic() < end and mirror.status()["customers"].complete_as_of is None:
        loop.full_sync(context)
        loop.sync(context)
        time.sleep(0.02)
