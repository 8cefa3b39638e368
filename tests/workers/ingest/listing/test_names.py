"""Listings that bring names, tokens or summaries: which objects are fetched, and what a backfill fetches anyway."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from models.bookkeeping import streams
from tests.workers import vendor_harness

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Chunks


def test_only_a_line_that_differs_is_enqueued(anywhere: Connect) -> None:
    with anywhere() as six:
        objects = six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        six.vendor.listing["goods"] = lambda _: vendor_harness.named(objects)
        six.work()
        assert objects == six.live()
        objects["2"]["v"] = 2
        six.vendor.asked.clear()
        six.full_sync_again()
        six.sync()
        assert ["goods", "goods/2"] == six.vendor.asked
        assert objects == six.live()


def test_a_line_that_the_vendor_calls_changed_is_fetched_whatever_its_token(anywhere: Connect) -> None:
    with anywhere() as six:
        objects = six.vendor.objects["goods"] = {"1": {"v": 1, "a": 1}, "2": {"v": 1, "a": 1}}
        six.vendor.listing["goods"] = lambda _: vendor_harness.named(objects)
        six.work()
        objects["1"]["a"] = 2  # which no summary shows
        changed = {"lines": [["1", "1", False, True], ["2", "1"]], "end": {"cursor": "d", "complete": True}}
        six.vendor.listing["goods"] = lambda _: [changed]
        six.vendor.asked.clear()
        six.full_sync_again()
        six.sync()
        assert ["goods", "goods/1"] == six.vendor.asked
        assert objects == six.live()


def test_a_persons_backfill_fetches_everything_again_even_if_tokens_are_equal(anywhere: Connect) -> None:
    with anywhere() as six:
        objects = six.vendor.objects["goods"] = {"1": {"v": 1, "a": 1}, "2": {"v": 1, "a": 1}}
        six.vendor.listing["goods"] = lambda _: vendor_harness.named(objects)
        six.work()
        objects["1"]["a"] = 2  # under the same version
        six.full_sync_again()
        six.sync()
        assert 1 == six.live()["1"]["a"]
        with six.database.begin() as tx:
            streams.backfill_now(tx, connection="six")
        six.work()
        assert objects == six.live()
        assert ("1", "updated", "backfill") == six.journal()[-1]


def _two_pages(objects: dict[str, Any]) -> Callable[[str | None], Chunks]:
    first, second = ({key: objects[key]} for key in sorted(objects))

    def answer(cursor: str | None) -> Chunks:
        if cursor is None:
            return [vendor_harness.named(first)[0] | {"end": {"cursor": "more", "more": True}}]
        return vendor_harness.named(second)

    return answer


@pytest.mark.parametrize("during", [None, "more"])
def test_a_backfill_that_a_person_requests_during_a_full_sync_reads_everything_too(
    anywhere: Connect, during: str | None
) -> None:
    """The full sync skipped what seemed unchanged; a backfill requested during its last page must not be lost."""
    with anywhere() as six:
        objects = six.vendor.objects["goods"] = {"1": {"v": 1, "a": 1}, "2": {"v": 1, "a": 1}}
        pages = _two_pages(objects)
        six.vendor.listing["goods"] = pages
        six.work()
        objects["1"]["a"] = objects["2"]["a"] = 2

        def answer(cursor: str | None) -> Chunks:
            if cursor == during and not six.column("full_requested"):
                with six.database.begin() as tx:
                    streams.backfill_now(tx, connection="six")
            return pages(cursor)

        six.vendor.listing["goods"] = answer
        six.change(full_due_at=six.clock.now)
        six.work()
        assert objects == six.live()


def test_where_the_detail_is_withheld_the_listings_line_is_kept_marked_and_redacted(anywhere: Connect) -> None:
    with anywhere(omit=["pin"]) as six:
        six.vendor.objects["goods"] = {}
        line = ["1", "t", False, False, {"id": "1", "total": 7, "pin": "1234"}]
        six.vendor.listing["goods"] = lambda _: [{"lines": [line], "end": {"cursor": "d", "complete": True}}]
        six.vendor.instead["goods/1"] = [(406, {}, "")]
        six.full_sync()
        assert {"id": "1", "total": 7} == six.inbox()["1"].summary
        six.work()
        assert {"1": {"id": "1", "total": 7, "withheld": True}} == six.live()
        six.vendor.asked.clear()
        six.full_sync_again()
        six.work()
        assert ["goods"] == six.vendor.asked, "it is asked again only when it is listed differently"


def test_what_no_listing_showed_and_the_vendor_withholds_is_parked(connect: Connect) -> None:
    with connect() as six:
        six.work()
        six.vendor.instead["goods/1"] = [(406, {}, "")]
        six.enqueue("1")
        six.work()
        assert {"1": "parked"} == six.states()
