"""What a complete listing proves: what is gone, which deletions are held, and as of when a resource is complete."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.workers import vendor_harness
from workers.ingest import loop

if TYPE_CHECKING:
    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Chunks, Harness

KEYLESS = {"goods": {"fetchable": False, "unpaged": True}}


def test_absence_from_two_complete_unpaged_replies_deletes_where_nothing_can_be_fetched(anywhere: Connect) -> None:
    with anywhere(kinds=KEYLESS) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        six.work()
        del six.vendor.objects["goods"]["2"]
        six.full_sync_again()
        assert ({"1", "2"}, {"2": "due"}) == (set(six.live()), six.states())
        six.clock.advance(minutes=1)
        six.work()
        assert ({"1"}, {}) == (set(six.live()), six.states())


@pytest.mark.parametrize("complete", [False, True])
def test_absence_from_pages_deletes_nothing_where_nothing_can_be_fetched(connect: Connect, *, complete: bool) -> None:
    with connect(kinds={"goods": {"fetchable": False}}) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        six.work()
        six.vendor.listing["goods"] = lambda _: [{"end": {"cursor": "done", "complete": complete}}]
        six.full_sync_again()
        assert {"1", "2"} == six.live().keys()


@pytest.mark.parametrize("kinds", [{"goods": {}}, KEYLESS])
def test_a_reply_that_is_not_complete_proves_nothing(connect: Connect, kinds: dict[str, Any]) -> None:
    with connect(kinds=kinds) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.work()
        six.vendor.listing["goods"] = lambda _: [{"end": {"cursor": "done", "complete": False}}]
        six.full_sync_again()
        assert ({"1": {"v": 1}}, {}) == (six.live(), six.inbox())


def test_a_reply_that_broke_off_proves_nothing(connect: Connect) -> None:
    with connect(kinds=KEYLESS) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        six.work()
        six.vendor.listing["goods"] = lambda _: [{"snapshots": {"1": {"v": 1}}}, {"fail": "half"}]
        six.full_sync_again()
        assert {"1", "2"} == six.live().keys()


def test_what_was_written_during_the_full_sync_is_not_missing(anywhere: Connect) -> None:
    """Its page was passed before it was there."""
    with anywhere(kinds={"goods": {"fetchable": False, "unpaged": True, "every": 60}}) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.work()

        def answer(cursor: str | None) -> Chunks:
            if cursor is None:
                return [{"snapshots": {"1": {"v": 1}}, "end": {"cursor": "more", "more": True}}]
            if cursor == "done":
                return [{"snapshots": {"2": {"v": 1}}, "end": {"cursor": "done"}}]
            six.clock.advance(minutes=2)
            return [{"end": {"cursor": "done", "complete": True}}]

        six.vendor.listing["goods"] = answer
        six.change(full_due_at=six.clock.now)
        loop.full_sync(six.context, budget=timedelta(0))
        six.clock.advance(minutes=2)
        six.sync()
        six.full_sync()
        assert {"1", "2"} == six.live().keys()


def _mass_deletion(six: Harness) -> list[str]:
    six.vendor.objects["goods"] = {f"{number:02}": {"v": 1} for number in range(40)}
    six.work()
    six.vendor.objects["goods"] = {"00": {"v": 1}}
    six.clock.advance(minutes=1)
    six.full_sync_twice()
    return sorted(six.states())


def test_a_mass_absence_is_held_until_a_person_approves_it(anywhere: Connect) -> None:
    with anywhere(kinds=KEYLESS) as six:
        held = _mass_deletion(six)
        assert (39, 40) == (len(held), len(six.live()))
        six.clock.advance(minutes=1)
        six.full_sync_again()
        assert (39, 40) == (len(six.states()), len(six.live())), "still held"
        six.vendor.objects["goods"][held[0]] = {"v": 2}
        six.clock.advance(minutes=1)
        assert 20 == six.retry(*held[:20])
        six.work()
        assert 40 - 19 == len(six.live()), "nineteen were still missing"
        assert held[0] in six.live()
        assert dict.fromkeys(held[20:], "held") == six.states()


def test_what_was_held_and_came_back_is_no_longer_held(connect: Connect) -> None:
    with connect(kinds=KEYLESS) as six:
        held = _mass_deletion(six)
        six.vendor.objects["goods"] |= {key: {"v": 1} for key in held}
        six.clock.advance(minutes=1)
        six.full_sync_again()
        assert ({}, 40) == (six.states(), len(six.live()))


def test_registers_are_exempt_from_max_deletions(connect: Connect) -> None:
    with connect(kinds={"goods": {"fetchable": False, "unpaged": True, "register": True}}) as six:
        assert [] == _mass_deletion(six)
        assert {"00"} == six.live().keys()


def _complete(six: Harness, resource: str = "goods") -> object:
    return six.column("complete_as_of", resource)


def test_complete_as_of_waits_for_what_the_last_page_enqueued(anywhere: Connect) -> None:
    """With a clock that moves by itself, as clocks do."""
    with anywhere() as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.vendor.listing["goods"] = lambda _: vendor_harness.named({"1": {"v": 1}})
        six.database._clock = None
        six.vendor.stuck = True
        six.vendor.instead["goods/1"] = [(400, {}, "odd")]
        six.work()
        assert {"1": "parked"} == six.states()
        assert _complete(six) is None
        six.vendor.instead.clear()
        six.retry("1")
        six.work()
        assert _complete(six) is not None


def test_complete_as_of_is_the_full_syncs_start(connect: Connect) -> None:
    with connect() as six:
        six.vendor.meanwhile["goods"] = lambda: six.clock.advance(seconds=20)
        six.work()
        assert vendor_harness.START == _complete(six)


def test_a_full_sync_that_did_not_name_everything_is_not_complete(connect: Connect) -> None:
    with connect() as six:
        end = {"cursor": "d", "complete": False, "warning": "the vendor repeats a page"}
        six.vendor.listing["goods"] = lambda _: [{"end": end}]
        six.work()
        assert _complete(six) is None
        assert "the vendor repeats a page" == six.column("warning")


def test_a_stream_of_events_is_complete_though_nothing_can_be_missing_from_it(connect: Connect) -> None:
    with connect(kinds={"goods": {"fetchable": False}}) as six:
        six.vendor.listing["goods"] = lambda _: [{"end": {"cursor": "d"}}]
        six.work()
        assert _complete(six) is not None


def test_a_held_deletion_is_not_complete(connect: Connect) -> None:
    with connect(kinds=KEYLESS) as six:
        first = six.clock.now
        _mass_deletion(six)
        assert first == _complete(six)


def test_a_resource_that_crashes_keeps_no_other_one_from_being_complete(connect: Connect) -> None:
    with connect(kinds={"articles": {}, "goods": {}}) as six:
        six.vendor.listing["goods"] = lambda _: [{"fail": "crash"}]
        with pytest.raises(RuntimeError, match="a mistake of ours"):
            loop.full_sync(six.context)
        assert (vendor_harness.START, None) == (_complete(six, "articles"), _complete(six, "goods"))
