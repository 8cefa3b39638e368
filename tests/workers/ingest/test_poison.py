"""What always fails is parked and delays nothing else; a vendor that is away has nothing parked."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from models.bookkeeping import inbox, streams
from models.values import Cause, Lane, ObjectRef
from tests.mirroring import mirrored
from tests.slow_params import slow_except
from tests.workers import vendor_harness
from workers.ingest import failures, loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from models.db.database import Database
    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Harness

ASKED = {"goods": {"every": 60, "full_every": 3600}, "orders": {"every": 60, "full_every": 3600}}


def _broken(six: Harness) -> None:
    six.vendor.stuck = True
    six.vendor.instead["goods/1"] = [(500, {}, "broken")]


def _half(six: Harness) -> None:
    six.vendor.stuck = True
    six.vendor.instead["goods/1"] = [(200, {"Content-Length": "999"}, '{"raw": {"v"')]


def _no_json(six: Harness) -> None:
    six.vendor.stuck = True
    six.vendor.instead["goods/1"] = [(200, {}, "<html>a proxy</html>")]


def _mistake_of_ours(six: Harness) -> None:
    six.vendor.stuck = True
    six.vendor.instead["goods/1"] = [(200, {}, '{"raw": {"crash": 1}}')]


class Silence(dict[str, Any]):
    """No answer to this path while the caller still listens; the vendor's `meanwhile`."""

    def pop(self, path: str, *default: Any) -> Any:
        return partial(time.sleep, 1.5) if path == "goods/1" else super().pop(path, *default)


def _silent(six: Harness) -> None:
    six.vendor.meanwhile = Silence()


def _healed(six: Harness) -> None:
    six.vendor.instead.clear()
    six.vendor.meanwhile = {}
    six.vendor.objects["goods"]["1"] = {"v": 2}


def _attempts(six: Harness) -> int:
    return six.vendor.asked.count("goods/1")


def _parked(six: Harness) -> bool:
    return six.states().get("1") == "parked"


def _others_go_on(six: Harness) -> None:
    """While the poisoned key is tried, others are edited; of one a webhook comes, the other one a poll finds."""
    version = 0

    def edited() -> bool:
        nonlocal version
        version += 1
        six.vendor.objects["goods"]["2"] = six.vendor.objects["orders"]["7"] = {"v": version}
        six.webhook("2")
        return _parked(six)

    six.run_until(edited)
    six.run_for(0.05)
    assert version > 1
    assert (version, version) == (six.live()["2"]["v"], six.live("orders")["7"]["v"])


@pytest.mark.parametrize("poison", slow_except([_broken, _half, _no_json, _mistake_of_ours, _silent], quick=_half))
def test_an_object_that_always_fails_is_parked_after_its_attempts_and_the_others_go_on(
    connect: Connect, poison: Callable[[Harness], None]
) -> None:
    with connect(kinds=ASKED, timeout="1s") as six:
        six.vendor.objects["goods"] = {"2": {"v": 0}}
        six.vendor.objects["orders"] = {"7": {"v": 0}}
        six.work()
        poison(six)
        six.webhook("1")
        _others_go_on(six)
        assert six.inbox()["1"].reason
        assert failures.MAX_ATTEMPTS <= _attempts(six) <= 2 * failures.MAX_ATTEMPTS


@pytest.mark.parametrize("news", ["a person's retry", "a webhook"])
@pytest.mark.parametrize("poison", slow_except([_broken, _mistake_of_ours], quick=_broken))
def test_what_was_parked_comes_back_with_all_its_attempts(
    connect: Connect, poison: Callable[[Harness], None], news: str
) -> None:
    with connect(kinds=ASKED) as six:
        six.work()
        poison(six)
        six.webhook("1")
        six.run_until(partial(_parked, six))
        for again in (2, 3):
            six.webhook("1") if news == "a webhook" else six.retry("1")
            six.run_until(lambda: six.states() == {"1": "due"})
            six.run_until(partial(_parked, six))
            assert again * failures.MAX_ATTEMPTS <= _attempts(six)
        _healed(six)
        six.webhook("1") if news == "a webhook" else six.retry("1")
        six.work()
        assert ({"v": 2}, {}) == (six.live()["1"], six.states())


def test_an_object_that_kills_each_worker_is_parked_and_the_others_go_on(connect: Connect) -> None:
    """The vendor kills each worker that requests it, by SIGKILL."""
    with connect(kinds={"goods": {}, "orders": {}}) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        six.work()
        six.webhook("1")
        kills = 0
        while not _parked(six):
            six.enqueue("2", lane=Lane.BULK, cause=Cause.RECONCILE)
            worker = six.sync_in_subprocess()
            six.vendor.meanwhile["goods/1"] = worker.kill
            kills += worker.wait(60) == -9
            six.vendor.meanwhile.clear()
            six.clock.advance(seconds=45.5)  # the dead one's lease
            six.sync()
            assert "2" not in six.states(), "the others come first after each death"
            six.clock.advance(minutes=5)
            assert kills <= failures.MAX_ATTEMPTS
        assert failures.MAX_ATTEMPTS == kills
        assert "without an answer" in six.inbox()["1"].reason
        six.webhook("1")
        six.work()
        assert {} == six.states()


# A vendor that is away.


def _refuses(six: Harness) -> None:
    assert six.line is not None
    six.line.cut()


def _answers(six: Harness) -> None:
    six.vendor.outage = None


def _reached_again(six: Harness) -> None:
    assert six.line is not None
    six.line.mend()


def _says(status: int, body: str, **headers: str) -> Callable[[Harness], None]:
    def away(six: Harness) -> None:
        six.vendor.outage = (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)

    return away


AWAY = {
    "connection refused": (_refuses, _reached_again),
    "500 for everything": (_says(500, "broken"), _answers),
    "a maintenance page": (_says(200, "<html>back soon</html>"), _answers),
    "503": (_says(503, "<html>back soon</html>"), _answers),
    "429": (_says(429, "slow down"), _answers),
    "429 for a moment": (_says(429, "slow down", Retry_After="1"), _answers),
    "half a body": (_says(200, "[", Content_Length="999"), _answers),
    "busy": (_says(409, "multithread"), _answers),
}


SHORT = {"429 for a moment": 0.02, "busy": 0.02}
"""Hours of those who are asked again each second."""


@pytest.mark.parametrize("how", slow_except(AWAY, quick="connection refused"))
def test_an_outage_of_hours_parks_nothing_and_everything_comes_afterwards(connect: Connect, how: str) -> None:
    leave, come_back = AWAY[how]
    kinds = ASKED | {"orders": {"every": 60, "full_every": 3600, "has_metadata": True}}
    with connect(kinds=kinds, on_a_line=True) as six:
        six.vendor.objects["goods"] = {key: {"v": 1} for key in "12345"}
        six.vendor.objects["orders"] = {key: {"v": 1} for key in "789"}
        six.work()
        six.clock.advance(hours=23.5)
        six.work()
        leave(six)
        for objects in (six.vendor.objects["goods"], six.vendor.objects["orders"]):
            objects |= {key: {"v": 2} for key in objects}
        six.webhook("1", "2", "3")
        six.webhook("7", "8", resource="orders")
        six.run_for(SHORT.get(how, 3))  # so that the metadata is a day old, too
        come_back(six)
        waits = six.states() | six.states("orders")
        assert dict.fromkeys("12378", "due") == waits
        assert ("open", "open") == (six.stream().state, six.stream("orders").state)
        six.run_for(0.5)
        assert six.vendor.objects == {"goods": six.live(), "orders": six.live("orders")}
        assert ({}, {}) == (six.states(), six.states("orders"))


def test_in_a_quiet_account_an_object_that_always_fails_does_not_keep_the_gate_closed(connect: Connect) -> None:
    """Nothing else is requested, so the key is not parked; but the next request does not wait for minutes."""
    with connect() as six:
        six.work()
        _broken(six)
        six.vendor.objects["goods"] = {"2": {"v": 1}}
        six.webhook("1")
        six.run_for(1)
        six.webhook("2")
        six.run_until(lambda: six.live() == {"2": {"v": 1}}, hours=3 / 3600)


def test_an_outage_during_which_webhooks_go_on_coming_parks_nothing(connect: Connect) -> None:
    """Each comes while the one before is asked about."""
    with connect() as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.work()
        six.vendor.outage = (500, {}, "broken")
        six.webhook("1")
        for _ in range(3 * failures.MAX_ATTEMPTS):
            six.vendor.meanwhile["goods/1"] = lambda: six.enqueue("1")
            six.sync()
            six.clock.advance(minutes=5)
            assert {"1": "due"} == six.states()
        six.vendor.outage, six.vendor.meanwhile = None, {}
        six.vendor.objects["goods"] = {"1": {"v": 2}}
        six.work()
        assert {"1": {"v": 2}} == six.live()


def test_a_vendor_that_is_busy_now_and_then_has_nothing_parked(connect: Connect) -> None:
    """429 says that this request was one too many, and nothing about its object."""
    with connect(kinds=ASKED) as six:
        six.work()
        six.vendor.stuck = True
        six.vendor.instead["goods/1"] = [(429, {"Retry-After": "100"}, "slow down")]
        six.webhook("1")
        six.run_for(1)
        assert ("due", {}) == (six.states()["1"], six.live())
        _healed(six)
        six.run_until(lambda: six.live() == {"1": {"v": 2}})


def test_metadata_that_always_fails_parks_no_key(connect: Connect) -> None:
    with connect(kinds={"goods": {"has_metadata": True}, "orders": {"every": 60}}) as six:
        six.vendor.stuck = True
        six.vendor.instead["goods/metadata"] = [(500, {}, "broken")]
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.webhook("1")
        six.run_for(2)
        assert {"1": "due"} == six.states()
        six.vendor.instead.clear()
        six.run_until(lambda: six.live() == {"1": {"v": 1}})


# The same at a real vendor's stand-in.


class Poisoned:
    """Stands before a sandbox and breaks whatever request holds these bytes."""

    def __init__(self) -> None:
        self.needle = b""
        self.broken = 0

    def __call__(self, app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                return await app(scope, receive, send)
            message = await receive()
            if not self.needle or self.needle not in message.get("body", b""):
                return await app(scope, _first(message, receive), send)
            self.broken += 1
            await send({"type": "http.response.start", "status": 500, "headers": []})
            return await send({"type": "http.response.body", "body": b"broken"})

        return answer


def _first(message: Message, receive: Receive) -> Receive:
    messages = [message]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


def test_a_poisoned_good_at_dilovod_is_parked_and_the_others_go_on(sqlite: Database, tmp_path: Path) -> None:
    clock, proxy = vendor_harness.Clock(), Poisoned()
    sqlite._clock = clock
    resources = ["catalogs.goods"]
    knobs = {"seed": 1, "objects": 8, "now": clock, "wrapper": proxy, "options": {"resources": resources}}
    with mirrored(sqlite, tmp_path, dilovod=knobs) as mirror:
        mirror.work()
        goods = sorted(mirror.sandboxes["dilovod"].truth("catalogs.goods"))
        proxy.needle = f'getObject","params":{{"id":"{goods[0]}"'.encode()
        with sqlite.begin() as tx:
            streams.backfill_now(tx, connection="dilovod")
        context = mirror.context("dilovod")
        sandbox = mirror.sandboxes["dilovod"]
        while not mirror.status()["catalogs.goods"].parked and proxy.broken <= 2 * failures.MAX_ATTEMPTS:
            sandbox.books.touch(sandbox.books.things[goods[1]], productNum=f"edit {proxy.broken}")
            with sqlite.begin() as tx:
                enqueued = [ObjectRef("catalogs.goods", goods[1])]
                inbox.enqueue(
                    tx,
                    connection="dilovod",
                    refs=enqueued,
                    lane=Lane.LIVE,
                    cause=Cause.WEBHOOK,
                )
            loop.full_sync(context)
            loop.sync(context)
            clock.advance(seconds=30)
        assert {} == {key: row for key, row in mirror.differences().items() if goods[1] in row}
        assert failures.MAX_ATTEMPTS <= proxy.broken <= 2 * failures.MAX_ATTEMPTS
        assert (1, 0) == (mirror.status()["catalogs.goods"].parked, mirror.status()["catalogs.goods"].pending)
