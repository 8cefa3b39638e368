"""The order of the work: live before bulk, and no work starves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from models.bookkeeping import due, streams
from models.values import Cause, Lane
from tests.workers import vendor_harness
from workers.ingest import loop
from workers.queue import due_work

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Chunks

ONE_STEP = timedelta(0)


def _pages(count: int, on: Callable[[int], None] = lambda _: None) -> Callable[[str | None], Chunks]:
    """A full sync of so many pages; `on` is called with each while it is answered."""

    def answer(cursor: str | None) -> Chunks:
        page = int(cursor or 0)
        on(page)
        return [{"end": {"cursor": str(page + 1), "more": page + 1 < count, "complete": page + 1 == count}}]

    return answer


def test_live_work_goes_first_between_the_pages_of_a_full_sync(connect: Connect) -> None:
    with connect() as six:
        six.vendor.objects["goods"]["1"] = {"v": 1}
        six.vendor.listing["goods"] = _pages(3, lambda page: six.webhook("1") if page == 1 else None)
        six.full_sync()
        assert ["goods", "goods", "goods/1", "goods"] == six.vendor.asked


def test_a_full_sync_gives_the_gate_up_while_live_work_of_another_connection_waits(
    connect: Connect,
) -> None:
    with connect(also={"seven": {}}) as six:
        seven = vendor_harness.Harness(six.database, six.settings, six.vendor, six.clock, name="seven")
        six.vendor.objects["goods"]["1"] = {"v": 1}
        six.vendor.listing["goods"] = _pages(3, lambda page: seven.webhook("1") if page == 1 else None)
        six.full_sync()
        assert ["goods", "goods"] == six.vendor.asked
        seven.sync()
        six.full_sync()
        assert ["goods", "goods", "goods/1", "goods"] == six.vendor.asked


def test_two_connections_of_one_account_share_its_gate(connect: Connect) -> None:
    with connect(also={"seven": {}, "stranger": {"api_key": "another"}}) as six:
        seven = vendor_harness.Harness(six.database, six.settings, six.vendor, six.clock, name="seven")
        stranger = vendor_harness.Harness(six.database, six.settings, six.vendor, six.clock, name="stranger")
        asked: list[int] = []

        def the_others_try() -> None:
            for other in (seven, stranger):
                before = len(six.vendor.asked)
                six.in_thread(other.full_sync).join(10)
                asked.append(len(six.vendor.asked) - before)

        six.vendor.meanwhile["goods"] = the_others_try
        six.full_sync()
        assert [0, 1] == asked
        assert ["seven"] == [other.name for other in six.context.same_account]


def test_live_keys_of_a_parked_resource_do_not_stop_full_syncs_of_the_others(connect: Connect) -> None:
    with connect(kinds={"goods": {}, "orders": {}}) as six:
        six.vendor.instead["orders"] = [(403, {}, "access denied")]
        six.work()
        assert "parked" == six.stream("orders").state
        six.webhook("7", resource="orders")
        six.sync()
        six.vendor.asked.clear()
        six.full_sync_again("goods")
        assert ["goods"] == six.vendor.asked


def test_neither_polls_nor_bulk_keys_starve_the_other(connect: Connect) -> None:
    """At a slow vendor: with each request a poll is due again and another key is enqueued."""
    with connect(kinds={"goods": {"every": 1}, "orders": {}}) as six:
        six.work()
        six.vendor.objects["orders"] = {f"{number}": {"v": 1} for number in range(30)}
        six.vendor.asked.clear()
        for key in six.vendor.objects["orders"]:
            six.enqueue(key, resource="orders", lane=Lane.BULK, cause=Cause.RECONCILE)
            six.clock.advance(seconds=2)
            loop.sync(six.context, budget=ONE_STEP)
        polls = six.vendor.asked.count("goods")
        assert 5 <= polls <= 20


def test_a_resource_that_is_always_due_again_does_not_starve_the_others(connect: Connect) -> None:
    with connect(kinds={"a": {"full_every": 1}, "b": {"full_every": 60}}) as six:
        for _ in range(6):
            loop.full_sync(six.context, budget=ONE_STEP)
            six.clock.advance(seconds=2)
        assert "b" in six.vendor.asked


def test_a_running_full_sync_goes_on_before_another_begins(connect: Connect) -> None:
    with connect(kinds={"a": {}, "b": {}}) as six:
        six.vendor.listing["a"] = _pages(3)
        six.vendor.listing["b"] = _pages(2)
        six.full_sync()
        assert ["a", "a", "a", "b", "b"] == six.vendor.asked


def test_the_rate_limit_holds_across_workers(connect: Connect) -> None:
    with connect(requests_per_minute=6) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        six.enqueue("1", "2")
        six.sync()
        assert ["goods/1"] == six.vendor.asked
        six.sync()
        six.full_sync()
        assert ["goods/1"] == six.vendor.asked
        six.clock.advance(seconds=11)
        six.sync()
        assert ["goods/1", "goods/2"] == six.vendor.asked
        assert {"1", "2"} == six.live().keys()


def test_sync_starts_no_full_sync_and_full_sync_no_poll(connect: Connect) -> None:
    with connect(kinds={"goods": {"every": 60}}) as six:
        six.sync()
        assert [] == six.vendor.cursors
        six.full_sync()
        assert [None] == six.vendor.cursors
        six.clock.advance(seconds=60)
        assert (True, False) == due_work.has_work(six.context, due.load(six.database))
        six.full_sync()
        assert [None] == six.vendor.cursors
        six.sync()
        assert [None, "done"] == six.vendor.cursors
        assert (False, False) == due_work.has_work(six.context, due.load(six.database))


def test_a_session_reports_that_work_is_left_when_its_time_is_up(connect: Connect) -> None:
    with connect() as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        six.enqueue("1", "2")
        session = loop.sync(six.context, budget=ONE_STEP)
        assert (True, 1, 1) == (session.has_more, session.requests, session.changes)
        session = loop.sync(six.context)
        assert (False, 1, 1) == (session.has_more, session.requests, session.changes)


@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 1100])
def test_every_webhook_is_folded(connect: Connect, count: int) -> None:
    with connect() as six:
        six.change(state="retired")  # so that nothing is fetched
        six.webhook(*(f"{number}" for number in range(count)))
        six.sync()
        assert count == len(six.inbox())
        assert "six" not in due.load(six.database).with_webhooks


def test_a_closed_vendor_gets_fetches_and_polls_but_no_full_sync(connect: Connect) -> None:
    opening = vendor_harness.START + timedelta(hours=6)
    with connect(kinds={"goods": {"every": 60}}, opens_at=opening.isoformat()) as six:
        six.change(cursor="since")
        six.vendor.objects["goods"]["1"] = {"v": 1}
        six.vendor.listing["goods"] = lambda cursor: [{"end": {"cursor": "since", "complete": cursor is None}}]
        six.enqueue("1")
        six.work()
        assert ["goods/1", "goods"] == six.vendor.asked
        assert ["since"] == six.vendor.cursors
        stream = six.stream()
        assert (opening, 0, None) == (stream.full_due_at, stream.failures, six.column("last_error"))
        expected = "closed until 2026-03-01 18:00 UTC: the next full sync waits until then"
        assert expected == six.column("warning")
        six.clock.now = opening
        six.full_sync()
        assert ["since", None] == six.vendor.cursors


def test_a_parked_resource_goes_on_when_a_person_requests_a_poll(connect: Connect) -> None:
    with connect() as six:
        six.vendor.objects["goods"]["1"] = {"v": 1}
        six.vendor.instead["goods"] = [(403, {}, "not enabled")]
        six.full_sync()
        six.webhook("1")
        six.work()
        assert (["goods", "goods/1"], "parked") == (six.vendor.asked, six.stream().state)
        with six.database.begin() as tx:
            streams.poll_now(tx, connection="six")
        six.work()
        assert {"1": {"v": 1}} == six.live()
        assert ("open", None, {}) == (six.stream().state, six.column("last_error"), six.inbox())


@pytest.mark.parametrize("path", ["goods", "goods/1"])
def test_a_worker_that_dies_leaves_nothing_held(connect: Connect, path: str) -> None:
    with connect() as six:
        kill: list[Any] = [{"fail": "kill"}]
        six.vendor.listing["goods"] = lambda _: kill
        six.vendor.objects["goods"]["1"] = {"v": 1}
        if path == "goods":
            with pytest.raises(BaseException, match=r"^$"):
                six.full_sync()
        else:
            six.enqueue("1")
            six.sync()
        assert 0 == six.leases()


def test_bulk_keys_give_way_to_live_work_of_another_connection_at_the_account(connect: Connect) -> None:
    with connect(also={"seven": {}}) as six:
        seven = vendor_harness.Harness(six.database, six.settings, six.vendor, six.clock, name="seven")
        six.work()
        seven.work()
        six.vendor.asked.clear()
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        six.enqueue("1", lane=Lane.BULK)
        seven.webhook("2")
        six.sync()
        assert [] == six.vendor.asked
        seven.sync()
        six.sync()
        assert ["goods/2", "goods/1"] == six.vendor.asked
