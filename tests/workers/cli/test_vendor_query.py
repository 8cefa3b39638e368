"""A person's question goes through the gate like everybody's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from anyio import to_thread

from tests.mirroring import mirrored
from tests.workers import vendor_harness
from workers import errors
from workers.cli import vendor_query
from workers.gate import gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from models.db.database import Database
    from tests.workers.vendor_harness import Harness
    from workers.context import ConnectionContext

    Connect = Callable[..., AbstractContextManager[Harness]]


@pytest.fixture
def connect(sqlite: Database, tmp_path: Path) -> Connect:
    return partial(vendor_harness.connected, sqlite, tmp_path)


@pytest.fixture
def six(connect: Connect) -> Iterator[Harness]:
    with connect() as connected:
        connected.vendor.objects["goods"] = {"1": {"v": 1}}
        yield connected


def test_an_answer_comes_decoded_and_leaves_nothing_held(six: Harness) -> None:
    assert {"raw": {"v": 1}, "listed": "1"} == vendor_query.ask(six.context, ["goods", "1"])
    assert (0, {}) == (six.leases(), six.inbox())


def test_a_question_holds_the_gate(six: Harness) -> None:
    refused = []

    def somebody_asks() -> None:
        with pytest.raises(gate.GateClosed):
            six.context.gate.acquire()
        refused.append(True)

    six.vendor.meanwhile["goods/1"] = somebody_asks
    vendor_query.ask(six.context, ["goods", "1"])
    assert [True] == refused


def test_a_question_waits_for_its_turn(six: Harness) -> None:
    lease = six.context.gate.acquire()
    answers: list[object] = []
    asked = six.in_thread(lambda: answers.append(vendor_query.ask(six.context, ["goods", "1"])))
    asked.join(0.4)
    assert [] == six.vendor.asked
    six.context.gate.cancel(lease)
    asked.join(10)
    assert 1 == len(answers)


def test_whoever_waits_for_the_vendors_pace_before_asking_is_waited_for_too(connect: Connect) -> None:
    with connect(timeout="60s", requests_per_minute=40) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.context.gate.cancel(six.context.gate.acquire())
        lease = six.context.gate.acquire()
        answers: list[object] = []
        asked = six.in_thread(lambda: answers.append(vendor_query.ask(six.context, ["goods", "1"])))
        asked.join(0.4)
        assert asked.is_alive()
        six.clock.advance(seconds=10)
        six.context.gate.cancel(lease)
        asked.join(20)
        assert 1 == len(answers)


def test_a_question_that_the_vendor_cannot_answer_now_shuts_the_gate_for_all(six: Harness) -> None:
    six.vendor.instead["goods/1"] = [(429, {"Retry-After": "30"}, "slow down")]
    with pytest.raises(errors.TryLater, match="slow down"):
        vendor_query.ask(six.context, ["goods", "1"])
    with pytest.raises(gate.GateClosed):
        six.context.gate.acquire()


def test_a_refusal_leaves_the_gate_open_and_repeats_no_secret(six: Harness) -> None:
    six.vendor.instead["goods/1"] = [(400, {}, "key very-secret is blocked")]
    with pytest.raises(errors.SetAside, match=r"key \*\*\* is blocked"):
        vendor_query.ask(six.context, ["goods", "1"])
    assert 0 == six.leases()
    six.context.gate.acquire()


def test_an_answer_that_is_not_understood_is_said_so(six: Harness) -> None:
    six.vendor.instead["goods/1"] = [(200, {}, "<html>")]
    with pytest.raises(errors.TryLater, match="not JSON"):
        vendor_query.ask(six.context, ["goods", "1"])


def test_an_answer_that_took_longer_than_its_lease_is_an_answer_still(six: Harness) -> None:
    six.vendor.meanwhile["goods/1"] = lambda: six.clock.advance(minutes=5)
    assert {"v": 1} == vendor_query.ask(six.context, ["goods", "1"])["raw"]


@pytest.mark.timeout(50)  # a person's patience is longer
def test_a_gate_that_opens_too_late_for_a_person_is_not_waited_for(six: Harness) -> None:
    six.vendor.instead["goods/1"] = [(429, {"Retry-After": "7200"}, "slow down")]
    with pytest.raises(errors.TryLater):
        vendor_query.ask(six.context, ["goods", "1"])
    with pytest.raises(gate.GateClosed, match="slow down"):
        vendor_query.ask(six.context, ["goods", "1"])


# The knock at the door


NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)


@dataclass
class Door:
    """Tells the test of each request that comes to a vendor."""

    told: Callable[[], object] = lambda: None

    def before(self, app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await to_thread.run_sync(self.told)
            await app(scope, receive, send)

        return guarded


@dataclass(frozen=True)
class Books:
    """Directo, mirrored, its clock and its door in the test's hand."""

    context: ConnectionContext
    sandbox: Any
    door: Door


@pytest.fixture
def books(sqlite: Database, tmp_path: Path) -> Iterator[Books]:
    door = Door()
    with mirrored(sqlite, tmp_path, directo={"now": lambda: NOON, "door": door.before}) as mirror:
        yield Books(mirror.context("directo"), mirror.sandboxes["directo"], door)


@pytest.mark.parametrize("question", ["check", "probe"])
def test_a_proof_holds_the_gate_and_gives_it_back(books: Books, question: str) -> None:
    refused = []

    def somebody_asks() -> None:
        with pytest.raises(gate.GateClosed):
            books.context.gate.acquire()
        refused.append(True)

    books.door.told = somebody_asks
    if question == "check":
        vendor_query.check(books.context)
    else:
        assert vendor_query.probe(books.context, books.context.resources["items"])
    assert True in refused
    books.context.gate.cancel(books.context.gate.acquire())


def test_a_probe_asks_for_that_resource(books: Books) -> None:
    vendor_query.probe(books.context, books.context.resources["orders"])
    assert {"orders"} == {asked.partition("?")[0] for asked in books.sandbox.asked}


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
def test_the_time_that_an_answer_takes_is_no_difference_of_clocks(
    books: Books, clock: timedelta, ahead: timedelta
) -> None:
    books.sandbox.now = lambda: NOON + clock
    moments = iter([NOON, NOON + timedelta(minutes=5)])
    assert ahead == vendor_query.check(books.context, now=moments.__next__).ahead
