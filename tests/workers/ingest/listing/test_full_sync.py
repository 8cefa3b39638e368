"""The pages of a full sync: under which lease they are requested, what interrupts them, and where it resumes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.bookkeeping import stream_plans, streams
from models.db import migration, tables
from tests import processes
from tests.workers import vendor_harness
from workers import context
from workers.gate import gate

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Chunks, Harness


def _paged(objects: dict[str, Any], size: int) -> Callable[[str | None], Chunks]:
    """A listing of several requests, each of one chunk; its cursor is the number of the next object."""

    def answer(cursor: str | None) -> Chunks:
        start = int(cursor) if cursor and cursor != "done" else 0
        keys = sorted(objects)[start : start + size]
        more = start + size < len(objects)
        end = {"cursor": str(start + size) if more else "done", "more": more, "complete": not more}
        return [{"snapshots": {key: objects[key] for key in keys}, "end": end}]

    return answer


def _five(six: Harness, during_the_first: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Five objects on as many pages. What happens while the first page is on its way."""
    objects = six.vendor.objects["goods"] = {str(number): {"v": 1} for number in range(5)}
    pages = _paged(objects, 1)

    def answer(cursor: str | None) -> Chunks:
        if cursor is None:
            during_the_first()
        return pages(cursor)

    six.vendor.listing["goods"] = answer
    return objects


def test_a_listing_holds_the_gate_alone_until_its_last_chunk_is_written(connect: Connect) -> None:
    with connect(concurrency=4) as six:
        refused = []

        def somebody_asks() -> None:
            with pytest.raises(gate.GateClosed):
                six.context.gate.acquire("goods\n1")
            refused.append(True)

        six.vendor.meanwhile["goods"] = somebody_asks
        six.full_sync()
        assert [True] == refused
        assert 0 == six.leases()


def test_the_pages_of_a_full_sync_follow_each_other_under_one_lease(anywhere: Connect) -> None:
    with anywhere() as six:
        objects = _five(six)
        six.full_sync()
        assert objects == six.live()
        assert 1 == len({six.row(key)["_revision"] for key in objects})
        assert ["goods"] * 5 == six.vendor.asked


def test_with_a_rate_limit_each_page_is_requested_under_a_lease_of_its_own(anywhere: Connect) -> None:
    with anywhere(requests_per_minute=60_000) as six:
        objects = _five(six)
        six.work()
        assert objects == six.live()
        assert 5 == len({six.row(key)["_revision"] for key in objects})


def test_a_page_that_was_paused_past_its_lease_writes_nothing(anywhere: Connect) -> None:
    with anywhere() as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}

        def meanwhile() -> None:
            six.clock.advance(minutes=2)
            del six.vendor.objects["goods"]["2"]
            six.enqueue("2")
            six.sync()

        six.vendor.meanwhile["goods"] = meanwhile
        six.full_sync()
        assert {"1": {"v": 1}} == six.live()
        assert ["1"] == [key for key, _, _ in six.journal()], "the other was never observed"


def test_a_full_sync_gives_way_to_a_webhook(anywhere: Connect) -> None:
    with anywhere() as six:
        objects = _five(six, lambda: six.webhook("3"))
        six.work()
        assert objects == six.live()
        assert 1 < len({six.row(key)["_revision"] for key in objects})


def test_a_full_sync_that_a_person_restarts_is_not_continued(anywhere: Connect) -> None:
    with anywhere() as six:
        asked: list[int] = []

        def anew() -> None:
            if not asked:
                with six.database.begin() as tx:
                    streams.backfill_now(tx, connection="six")
            asked.append(len(six.vendor.asked))

        objects = _five(six, anew)
        six.work()
        assert objects == six.live()
        assert 2 == len(asked)
        assert asked[1] - asked[0] < 5, "the first full sync ended soon after its first page"
        assert 0 == six.leases()


def test_a_full_sync_resumes_at_the_page_where_it_was_killed(anywhere: Connect) -> None:
    with anywhere() as six:
        objects = {f"{number}": {"v": 1} for number in range(6)}
        six.vendor.objects["goods"] = objects
        right = _paged(objects, 2)
        six.vendor.listing["goods"] = lambda cursor: [{"fail": "kill"}] if cursor == "4" else right(cursor)
        with pytest.raises(BaseException, match=r"^$"):
            six.full_sync()
        assert (4, None) == (len(six.live()), six.stream().cursor)
        six.vendor.listing["goods"] = right
        six.clock.advance(seconds=1)
        six.full_sync()
        assert [None, "2", "4", "4"] == six.vendor.cursors
        assert (objects, "done", None) == (six.live(), six.stream().cursor, six.stream().full_run)
        with six.database.read() as tx:
            (run,) = tx.execute(sa.select(tables.runs)).all()
        assert (3, 6) == (run.pages, run.objects)


def test_a_resource_that_left_and_returned_begins_with_a_full_sync(anywhere: Connect) -> None:
    with anywhere(kinds={"goods": {"every": 60}}) as six:
        six.work()
        six.vendor.cursors.clear()
        six.change(poll_cursor="old", poll_cursor_at=six.clock.now)
        with six.database.begin() as tx:
            stream_plans.retire(tx, configured=[])
        six.clock.advance(minutes=2)
        six.sync()
        six.full_sync()
        assert [] == six.vendor.cursors, "what is not configured is not asked"
        context.sync_streams(six.database, six.settings)
        six.work()
        assert [None] == six.vendor.cursors


@pytest.mark.postgresql
def test_postgresql_has_statistics_at_once_after_a_first_full_sync(tmp_path: Path) -> None:
    with processes.own_postgresql() as database:
        migration.migrate(database)
        with vendor_harness.connected(database, tmp_path) as six:
            _five(six)
            six.full_sync()
        with database.read() as tx:
            known = sa.text("SELECT reltuples > 0 FROM pg_class WHERE oid = 'sixth_goods'::regclass")
            assert tx.execute(known).scalar_one()
