"""A poll's cursor, and which poll or full sync is due next."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.bookkeeping import streams
from workers.ingest import failures, loop

if TYPE_CHECKING:
    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Chunks


def test_the_cursor_moves_only_with_the_last_chunk_of_a_complete_run(anywhere: Connect) -> None:
    with anywhere(kinds={"goods": {"every": 60}}) as six:
        six.work()
        assert "done" == six.stream().cursor
        six.clock.advance(minutes=2)
        chunks: Chunks = [{"snapshots": {"1": {"v": 1}}}, {"fail": "kill"}, {"end": {"cursor": "later"}}]
        six.vendor.listing["goods"] = lambda _: chunks
        with pytest.raises(BaseException, match=r"^$") as killed:
            six.sync()
        assert "Killed" == killed.typename
        assert ("done", {"1": {"v": 1}}) == (six.stream().cursor, six.live())
        chunks.pop(1)
        six.clock.advance(seconds=1)
        six.sync()
        assert "later" == six.stream().cursor
        assert [None, "done", "done"] == six.vendor.cursors
        assert 1 == len(six.journal()), "overlap is free"


def test_a_poll_of_several_pages_moves_the_cursor_at_its_end_only(connect: Connect) -> None:
    with connect(kinds={"goods": {"every": 60}}) as six:
        six.work()
        six.clock.advance(minutes=2)
        seen = []

        def answer(cursor: str | None) -> Chunks:
            seen.append((cursor, six.stream().cursor))
            return [{"end": {"cursor": "page" if cursor == "done" else "later", "more": cursor == "done"}}]

        six.vendor.listing["goods"] = answer
        six.sync()
        assert [("done", "done"), ("page", "done")] == seen
        assert ("later", None) == (six.stream().cursor, six.stream().poll_cursor)


def test_a_poll_that_stopped_long_ago_between_two_pages_starts_again(connect: Connect) -> None:
    with connect(kinds={"goods": {"every": 60}}) as six:
        six.work()
        six.change(poll_cursor="shifted", poll_cursor_at=six.clock.now)
        six.clock.advance(minutes=11)
        six.sync()
        assert "shifted" not in six.vendor.cursors
        assert 2 == len(six.vendor.cursors)


def test_a_poll_during_a_full_sync_keeps_its_own_cursor(connect: Connect) -> None:
    with connect(kinds={"goods": {"every": 60}}) as six:
        six.work()
        six.clock.advance(minutes=2)
        pages = {None: {"cursor": "page 2", "more": True}, "page 2": {"cursor": "full", "complete": True}}
        six.vendor.listing["goods"] = lambda cursor: [{"end": pages.get(cursor, {"cursor": "poll"})}]
        six.change(full_due_at=six.clock.now)
        loop.full_sync(six.context, budget=timedelta(0))
        six.sync()
        six.full_sync()
        assert "poll" == six.stream().cursor


def test_a_full_sync_of_summaries_does_not_move_the_cursor_of_polls(
    anywhere: Connect,
) -> None:
    with anywhere(kinds={"goods": {"every": 60, "summaries": True}}) as six:
        six.vendor.listing["goods"] = lambda _: [{"lines": [["1", "t"]], "end": {"cursor": "first", "complete": True}}]
        six.vendor.objects["goods"] = {"1": {"v": "t"}}
        six.work()
        six.vendor.listing["goods"] = lambda _: [{"lines": [["1", "t"]], "end": {"cursor": "later", "complete": True}}]
        six.full_sync_again()
        assert "first" == six.stream().cursor
        six.clock.advance(seconds=1)
        with six.database.begin() as tx:  # then every object is fetched, whatever its summary shows
            streams.backfill_now(tx, connection="six")
        six.full_sync()
        assert "later" == six.stream().cursor


def test_a_listing_without_an_end_is_tried_again_and_moves_nothing(connect: Connect) -> None:
    with connect() as six:
        six.vendor.listing["goods"] = lambda _: [{"snapshots": {"1": {"v": 1}}}]
        six.full_sync()
        assert ("open", 1, None) == (six.stream().state, six.stream().failures, six.stream().cursor)
        assert "had no end" in six.column("last_error")


def test_the_first_poll_waits_its_interval_after_the_first_full_sync(anywhere: Connect) -> None:
    with anywhere(kinds={"goods": {"every": 60}}) as six:
        six.vendor.listing["goods"] = lambda _: [{"end": {"cursor": "since", "complete": True}}]
        six.work()
        assert [None] == six.vendor.cursors
        six.clock.advance(seconds=60)
        six.work()
        assert [None, "since"] == six.vendor.cursors


@pytest.mark.parametrize("kinds", [{"goods": {"every": 60}}, {"goods": {}}])
def test_a_poll_that_is_requested_during_a_request_is_not_lost(connect: Connect, kinds: dict[str, Any]) -> None:
    with connect(kinds=kinds) as six:
        six.work()
        six.clock.advance(minutes=2)

        def changed_and_told() -> None:
            six.vendor.objects["goods"] = {"1": {"v": 1}}
            six.clock.advance(seconds=1)
            with six.database.begin() as tx:
                streams.poll_now(tx, connection="six")

        six.vendor.meanwhile["goods"] = changed_and_told
        with six.database.begin() as tx:
            streams.poll_now(tx, connection="six")
        six.work()
        assert {"1": {"v": 1}} == six.live()


def test_a_poll_requested_between_two_pages_is_still_due_after_the_last(connect: Connect) -> None:
    with connect() as six:
        pages = {None: {"cursor": "page 2", "more": True}, "page 2": {"cursor": "done", "complete": True}}
        six.vendor.listing["goods"] = lambda cursor: [{"end": pages[cursor]}]
        loop.full_sync(six.context, budget=timedelta(0))
        with six.database.begin() as tx:
            streams.poll_now(tx, connection="six")
        loop.full_sync(six.context, budget=timedelta(0))
        assert six.stream().full_run is None
        assert six.stream().is_due(six.clock.now, full=True)
        six.full_sync()
        assert not six.stream().is_due(six.clock.now, full=True)


def test_a_poll_that_crashes_becomes_a_full_sync_but_not_if_the_database_fails(connect: Connect) -> None:
    with connect(kinds={"goods": {"every": 60}}) as six:
        six.work()
        six.clock.advance(minutes=2)
        away = sa.exc.OperationalError("SELECT 1", {}, OSError())
        failures.crash_stream(six.context, six.stream(), away, full=False)
        assert [False, False] == [six.stream().is_due(six.clock.now, full=full) for full in (False, True)]
        six.clock.advance(minutes=2)
        six.vendor.listing["goods"] = lambda _: [{"fail": "crash"}]
        with pytest.raises(RuntimeError):
            six.sync()
        assert [False, False] == [six.stream().is_due(six.clock.now, full=full) for full in (False, True)]
        six.clock.advance(seconds=2)  # the second failure in a row
        assert six.stream().is_due(six.clock.now, full=True)
        assert ("broke off: RuntimeError", 0) == (six.column("last_error"), six.leases())
