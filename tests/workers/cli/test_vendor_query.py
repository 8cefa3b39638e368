"""A request on behalf of a user goes through the account's gate."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread

from tests.mirroring import mirrored
from workers import errors
from workers.cli import vendor_query
from workers.gate import gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from models.db.database import Database
    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Harness
    from workers.context import ConnectionContext


@pytest.fixture
def six(connect: Connect) -> Iterator[Harness]:
    with connect() as connected:
        connected.vendor.objects["goods"] = {"1": {"v": 1}}
        yield connected


def test_the_reply_is_decoded_and_the_lease_given_back(six: Harness) -> None:
    assert {"raw": {"v": 1}, "listed": "1"} == vendor_query.ask(six.context, ["goods", "1"])
    assert (0, {}) == (six.leases(), six.inbox())


def test_a_request_holds_a_lease(six: Harness) -> None:
    refused = []

    def another_request() -> None:
        with pytest.raises(gate.GateClosed):
            six.context.gate.acquire()
        refused.append(True)

    six.vendor.meanwhile["goods/1"] = another_request
    vendor_query.ask(six.context, ["goods", "1"])
    assert [True] == refused


def test_a_request_waits_for_a_lease(six: Harness) -> None:
    lease = six.context.gate.acquire()
    answers: list[object] = []
    thread = six.in_thread(lambda: answers.append(vendor_query.ask(six.context, ["goods", "1"])))
    thread.join(0.4)
    assert [] == six.vendor.asked
    six.context.gate.cancel(lease)
    thread.join(10)
    assert 1 == len(answers)


def test_a_request_waits_for_a_lease_whose_holder_waits_for_the_rate_limit(connect: Connect) -> None:
    with connect(timeout="60s", requests_per_minute=40) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.context.gate.cancel(six.context.gate.acquire())
        lease = six.context.gate.acquire()
        answers: list[object] = []
        thread = six.in_thread(lambda: answers.append(vendor_query.ask(six.context, ["goods", "1"])))
        thread.join(0.4)
        assert thread.is_alive()
        six.clock.advance(seconds=10)
        six.context.gate.cancel(lease)
        thread.join(20)
        assert 1 == len(answers)


def test_a_429_closes_the_gate_for_all_requests(six: Harness) -> None:
    six.vendor.instead["goods/1"] = [(429, {"Retry-After": "30"}, "slow down")]
    with pytest.raises(errors.TryLater, match="slow down"):
        vendor_query.ask(six.context, ["goods", "1"])
    with pytest.raises(gate.GateClosed):
        six.context.gate.acquire()


def test_a_refusal_leaves_the_gate_open_and_its_message_hides_the_secret(six: Harness) -> None:
    six.vendor.instead["goods/1"] = [(400, {}, "key very-secret is blocked")]
    with pytest.raises(errors.SetAside, match=r"key \*\*\* is blocked"):
        vendor_query.ask(six.context, ["goods", "1"])
    assert 0 == six.leases()
    six.context.gate.acquire()


def test_a_reply_that_is_not_json_is_an_error(six: Harness) -> None:
    six.vendor.instead["goods/1"] = [(200, {}, "<html>")]
    with pytest.raises(errors.TryLater, match="not JSON"):
        vendor_query.ask(six.context, ["goods", "1"])


def test_a_reply_that_took_longer_than_its_lease_is_returned(six: Harness) -> None:
    six.vendor.meanwhile["goods/1"] = lambda: six.clock.advance(minutes=5)
    assert {"v": 1} == vendor_query.ask(six.context, ["goods", "1"])["raw"]


@pytest.mark.timeout(50)  # the longest wait for a lease is a minute
def test_a_gate_that_opens_after_the_longest_wait_is_not_waited_for(six: Harness) -> None:
    six.vendor.instead["goods/1"] = [(429, {"Retry-After": "7200"}, "slow down")]
    with pytest.raises(errors.TryLater):
        vendor_query.ask(six.context, ["goods", "1"])
    with pytest.raises(gate.GateClosed, match="slow down"):
        vendor_query.ask(six.context, ["goods", "1"])


# Checks


NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class Proxy:
    """Calls `on_request` before each request reaches the vendor."""

    on_request: Callable[[], object] = lambda: None

    def before(self, app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await to_thread.run_sync(self.on_request)
            await app(scope, receive, send)

        return guarded


@dataclass(frozen=True)
class Books:
    """Directo's sandbox behind a proxy, with the clock at `NOON`."""

    context: ConnectionContext
    sandbox: Any
    proxy: Proxy


@pytest.fixture
def books(sqlite: Database, tmp_path: Path) -> Iterator[Books]:
    proxy = Proxy()
    with mirrored(sqlite, tmp_path, directo={"now": lambda: NOON, "wrapper": proxy.before}) as mirror:
        yield Books(mirror.context("directo"), mirror.sandboxes["directo"], proxy)


@pytest.mark.parametrize("request_name", ["check", "probe"])
def test_a_check_holds_a_lease_and_gives_it_back(books: Books, request_name: str) -> None:
    refused = []

    def another_request() -> None:
        with pytest.raises(gate.GateClosed):
            books.context.gate.acquire()
        refused.append(True)

    books.proxy.on_request = another_request
    if request_name == "check":
        vendor_query.check(books.context)
    else:
        assert vendor_query.probe(books.context, books.context.resources["items"])
    assert True in refused
    books.context.gate.cancel(books.context.gate.acquire())


def test_a_probe_reads_only_its_resource(books: Books) -> None:
    vendor_query.probe(books.context, books.context.resources["orders"])
    assert {"orders"} == {asked.partition("?")[0] for asked in books.sandbox.requests}


@pytest.mark.parametrize(
    ("clock", "ahead"),
    [
        (timedelta(0), timedelta(0)),
        (timedelta(minutes=4), timedelta(0)),
        (timedelta(minutes=5), timedelta(0)),
        (timedelta(minutes=9), timedelta(minutes=4)),
        (timedelta(minutes=-3), timedelta(seconds=1) - timedelta(minutes=3)),
    ],
    ids=str,
)
def test_the_duration_of_the_request_is_not_a_clock_difference(
    books: Books, clock: timedelta, ahead: timedelta
) -> None:
    books.sandbox.now = lambda: NOON + clock
    moments = iter([NOON, NOON + timedelta(minutes=5)])
    assert ahead == vendor_query.check(books.context, now=moments.__next__).clock_ahead
