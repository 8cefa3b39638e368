"""One page, with workers that die between chunks, vendors that answer wrongly, and rows that cannot be decoded."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.bookkeeping import inbox, streams
from models.db import migration, tables
from models.values import Cause, Lane, ObjectRef
from tests import processes, services
from tests.workers import vendor_harness
from workers import configuration, context
from workers.gate import gate
from workers.ingest import failures, loop

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.vendor_harness import Chunks, Harness

    Connect = Callable[..., AbstractContextManager[Harness]]

KEYLESS = {"goods": {"fetchable": False, "unpaged": True}}


@pytest.fixture
def connect(sqlite: Database, tmp_path: Path) -> Connect:
    return partial(vendor_harness.connected, sqlite, tmp_path)


@pytest.fixture
def anywhere(database: Database, tmp_path: Path) -> Connect:
    return partial(vendor_harness.connected, database, tmp_path)


def _paged(objects: dict[str, Any], size: int) -> Callable[[str | None], Chunks]:
    """A listing of several requests, each of one chunk; its cursor is the number of the next object."""

    def answer(cursor: str | None) -> Chunks:
        start = int(cursor) if cursor and cursor != "done" else 0
        keys = sorted(objects)[start : start + size]
        more = start + size < len(objects)
        end = {"cursor": str(start + size) if more else "done", "more": more, "complete": not more}
        return [{"snapshots": {key: objects[key] for key in keys}, "end": end}]

    return answer


# The gate and the lease.


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


def test_the_pages_of_a_full_sync_follow_each_other_under_one_lease(anywhere: Connect) -> None:
    with anywhere() as six:
        objects = _five(six)
        six.full_sync()
        assert objects == six.live()
        assert 1 == len({six.row(key)["_revision"] for key in objects})
        assert ["goods"] * 5 == six.vendor.asked


def test_a_full_sync_gives_way_to_a_webhook(anywhere: Connect) -> None:
    with anywhere() as six:
        objects = _five(six, lambda: six.webhook("3"))
        six.work()
        assert objects == six.live()
        assert 1 < len({six.row(key)["_revision"] for key in objects})


def test_with_a_rate_limit_each_page_is_requested_under_a_lease_of_its_own(anywhere: Connect) -> None:
    with anywhere(requests_per_minute=60_000) as six:
        objects = _five(six)
        six.work()
        assert objects == six.live()
        assert 5 == len({six.row(key)["_revision"] for key in objects})


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


# The cursor.


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


def test_a_listing_without_an_end_is_parked_and_moves_nothing(connect: Connect) -> None:
    with connect() as six:
        six.vendor.listing["goods"] = lambda _: [{"snapshots": {"1": {"v": 1}}}]
        six.full_sync()
        assert ("parked", None) == (six.stream().state, six.stream().cursor)
        assert "had no end" in six.column("last_error")


def test_a_truncated_object_is_requested_again_and_the_gate_stays_open(anywhere: Connect) -> None:
    with anywhere() as six:
        sent = {"1": '{"v": 1}', "2": '{"v": 1}'}
        six.vendor.listing["goods"] = lambda _: [{"received": sent, "end": {"cursor": "done", "complete": True}}]
        six.full_sync()
        six.clock.advance(minutes=1)
        for half in ('{"v": 2', '{"v": 2'):
            sent["2"] = half
            six.full_sync_again()
            assert "the answer is not JSON: 2 is not JSON" == six.column("last_error")
            assert ("open", 0) == (six.stream().state, six.leases())
            six.clock.advance(hours=1)
        sent["2"] = '{"v": 2}'
        six.full_sync_again()
        assert {"1": {"v": 1}, "2": {"v": 2}} == six.live()
        assert [("1", "created"), ("2", "created"), ("2", "updated")] == [entry[:2] for entry in six.journal()]


# Overlap, hash, salt.


def test_what_is_equal_as_a_value_changes_and_journals_nothing(anywhere: Connect) -> None:
    with anywhere() as six:
        listed: list[Chunks] = [
            [{"snapshots": {"1": {"a": 1, "b": "2"}}, "end": {"cursor": "d", "complete": True}}],
            [{"snapshots": {"1": {"b": "2", "a": 1}}, "end": {"cursor": "d", "complete": True}}],
        ]
        six.vendor.listing["goods"] = lambda _: listed.pop(0)
        six.full_sync()
        changed_at = six.row("1")["_changed_at"]
        six.clock.advance(hours=1)
        six.full_sync_again()
        assert 1 == len(six.journal())
        assert changed_at == six.row("1")["_changed_at"]


def test_a_new_omit_rule_rewrites_what_it_touches(connect: Connect, sqlite: Database, tmp_path: Path) -> None:
    with connect() as six:
        six.vendor.objects["goods"]["1"] = {"v": 1, "secret": "x"}
        six.work()
        file = tmp_path / "erpmirror.toml"
        file.write_text(file.read_text(encoding="utf-8") + 'omit = ["secret"]\n', encoding="utf-8")
        ruled = vendor_harness.Harness(sqlite, configuration.load(file), six.vendor, six.clock)
        ruled.full_sync_again()
        assert {"1": {"v": 1}} == ruled.live()
        assert ["created", "updated"] == [kind for _, kind, _ in ruled.journal()]


# Deletion.


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


# Names, references, backfills.


def test_the_first_poll_waits_its_interval_after_the_first_full_sync(anywhere: Connect) -> None:
    with anywhere(kinds={"goods": {"every": 60}}) as six:
        six.vendor.listing["goods"] = lambda _: [{"end": {"cursor": "since", "complete": True}}]
        six.work()
        assert [None] == six.vendor.cursors
        six.clock.advance(seconds=60)
        six.work()
        assert [None, "since"] == six.vendor.cursors


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


def test_a_resource_that_left_and_returned_begins_with_a_full_sync(anywhere: Connect) -> None:
    with anywhere(kinds={"goods": {"every": 60}}) as six:
        six.work()
        six.vendor.cursors.clear()
        six.change(poll_cursor="old", poll_cursor_at=six.clock.now)
        with six.database.begin() as tx:
            streams.retire(tx, configured=[])
        six.clock.advance(minutes=2)
        six.sync()
        six.full_sync()
        assert [] == six.vendor.cursors, "what is not configured is not asked"
        context.sync_streams(six.database, six.settings)
        six.work()
        assert [None] == six.vendor.cursors


def test_references_to_another_resource_are_enqueued_if_it_is_configured(connect: Connect) -> None:
    with connect(kinds={"goods": {}, "orders": {}}) as six:
        six.vendor.objects["orders"]["7"] = {"v": 1}
        refs = [["orders", "7"], ["invoices", "8"]]
        six.vendor.listing["goods"] = lambda _: [{"refs": refs, "end": {"cursor": "d", "complete": True}}]
        six.vendor.listing["orders"] = lambda _: vendor_harness.named({})
        six.work()
        assert {"7": {"v": 1}} == six.live("orders")
        assert {} == six.inbox("invoices")


# Rows that the database or the decoding refuses.


def test_an_unreadable_row_is_parked_without_what_is_never_stored(connect: Connect) -> None:
    with connect(omit=["password"]) as six:
        row = ["?1", "no key", {"a": 1, "password": "p"}]
        six.vendor.listing["goods"] = lambda _: [{"unreadable": [row], "end": {"cursor": "d", "complete": True}}]
        six.full_sync()
        (waits,) = six.inbox().values()
        assert ("?1", "parked", "no key", {"a": 1}) == (waits.key, waits.state, waits.reason, waits.unreadable_raw)


def test_keys_and_reasons_with_characters_no_database_takes_stop_nothing(anywhere: Connect) -> None:
    with anywhere() as six:
        odd = "a\x00b\ud800"
        six.vendor.listing["goods"] = lambda _: [
            {
                "snapshots": {odd: {"v": odd}, "ok": {"v": 1}},
                "lines": [[odd + "2", "1"]],
                "unreadable": [[odd + "3", odd, {"v": odd}]],
                "end": {"cursor": "d", "complete": True},
            }
        ]
        six.full_sync()
        assert "open" == six.stream().state
        assert 2 == len(six.live())
        assert ["due", "parked"] == sorted(six.states().values())


@services.ON_POSTGRESQL
def test_of_a_page_the_refused_row_alone_is_parked(anywhere: Connect) -> None:
    """A rule that the mirror's owner made."""
    with anywhere() as six:
        objects = six.vendor.objects["goods"] = {f"{number}": {"price": number + 1} for number in range(8)}
        six.full_sync()
        with six.database.begin() as tx:
            tx.execute(sa.text("ALTER TABLE sixth_goods ADD CONSTRAINT dear CHECK (price > 0) NOT VALID"))
        six.vendor.objects["goods"] = {key: {"price": 20} for key in objects} | {"5": {"price": -1}}
        six.full_sync_again()
        assert {key: 6 if key == "5" else 20 for key in objects} == {k: raw["price"] for k, raw in six.live().items()}
        assert {"5": "parked"} == six.states()
        assert ("open", None) == (six.stream().state, six.stream().full_run)
        with six.database.begin() as tx:
            tx.execute(sa.text("ALTER TABLE sixth_goods DROP CONSTRAINT dear"))
        assert 1 == six.retry("5"), "once the rule is gone a person can retry it"
        six.sync()
        assert -1 == six.live()["5"]["price"]


def test_numbers_of_any_size_and_nesting_of_any_depth_stop_nothing(anywhere: Connect) -> None:
    deep = "[" * 900 + "]" * 900
    chunk = '[{"snapshots": {"1": {"n": 1e200000, "d": %s}, "2": {"n": 2}}, "end": {"cursor": "d"}}]'
    with anywhere() as six:
        six.vendor.instead["goods"] = [(200, {}, chunk % deep)]
        six.full_sync()
        assert ({"1", "2"}, {}) == (set(six.live()), six.inbox())


# Complete as of.


def _complete(six: Harness) -> object:
    return six.column("complete_as_of")


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


# Order.


def test_rows_are_written_in_the_order_of_their_keys_byte_by_byte(connect: Connect) -> None:
    with connect() as six:
        written: list[list[str]] = []

        def seen(_c: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
            if statement.startswith("INSERT INTO erpmirror_inbox"):
                written.append([value for value in parameters if value in keys])

        keys = {"b", "a", "B", "é", "Z", "_", "10", "9"}
        sa.event.listen(six.database.engine, "before_cursor_execute", seen)
        with six.database.begin() as tx:
            refs = [ObjectRef("goods", key) for key in ("b", "é", "a", "B", "Z", "_", "9", "10")]
            inbox.enqueue(
                tx,
                connection="six",
                refs=refs,
                lane=Lane.LIVE,
                cause=Cause.WEBHOOK,
            )
        assert [sorted(keys, key=str.encode)] == written


def test_a_key_that_no_index_holds_is_parked_and_the_others_go_on(anywhere: Connect) -> None:
    with anywhere() as six:
        long = "x" * 4000
        six.vendor.listing["goods"] = lambda _: [
            {"snapshots": {long: {"v": 1}, "1": {"v": 1}}, "refs": [["goods", long]]},
            {"end": {"cursor": "done", "complete": True}},
        ]
        six.full_sync()
        assert {"1": {"v": 1}} == six.live()
        (row,) = six.inbox().values()
        assert ("parked", "its key is too long", {"key": long}) == (row.state, row.reason, row.unreadable_raw)


def test_a_listing_finishes_keys_enqueued_before_its_request(connect: Connect) -> None:
    with connect() as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        six.enqueue("1", "2", lane=Lane.BULK)
        six.vendor.meanwhile["goods"] = lambda: six.enqueue("2", lane=Lane.BULK)
        six.full_sync()
        assert ["2"] == list(six.inbox()), "a key enqueued during the request still waits"


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
