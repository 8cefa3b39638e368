"""One key, under everything that could make the mirror go backwards, lose an enqueued key or empty itself."""

from __future__ import annotations

import threading
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.bookkeeping import inbox
from models.db import tables
from models.db.database import Database
from models.mirror import apply, prepare
from models.values import Cause, Lane, Snapshot
from tests import services
from tests.workers import vendor_harness
from workers.ingest import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.workers.vendor_harness import Harness

    Connect = Callable[..., AbstractContextManager[Harness]]


@pytest.fixture
def connect(sqlite: Database, tmp_path: Path) -> Connect:
    return partial(vendor_harness.connected, sqlite, tmp_path)


@pytest.fixture
def six(connect: Connect) -> Iterator[Harness]:
    with connect() as connected:
        connected.work()  # the first full sync of an empty vendor
        yield connected


@pytest.fixture
def everywhere(database: Database, tmp_path: Path) -> Iterator[Harness]:
    """The same on every kind of database."""
    with vendor_harness.connected(database, tmp_path) as connected:
        connected.work()
        yield connected


def test_a_key_enqueued_during_a_fetch_is_fetched_again(everywhere: Harness) -> None:
    vendor = everywhere.vendor
    vendor.objects["goods"]["1"] = {"v": 1}

    def edited_on_the_way() -> None:
        vendor.objects["goods"]["1"] = {"v": 2}
        everywhere.enqueue("1")  # as another worker does that folds a webhook

    vendor.meanwhile["goods/1"] = edited_on_the_way
    everywhere.webhook("1")
    everywhere.sync()
    assert {"1": {"v": 2}} == everywhere.live()
    assert {} == everywhere.inbox()
    assert 2 == vendor.asked.count("goods/1")


def test_a_burst_of_webhooks_is_one_fetch(six: Harness) -> None:
    six.vendor.objects["goods"]["1"] = {"v": 1}
    six.webhook(*["1"] * 20)
    six.sync()
    assert 1 == six.vendor.asked.count("goods/1")


def test_wanted_and_revisions_come_from_one_counter_that_only_rises(everywhere: Harness) -> None:
    everywhere.vendor.objects["goods"]["1"] = {"v": 1}
    numbers = []
    for _ in range(3):
        everywhere.enqueue("1")
        numbers.append(everywhere.inbox()["1"].wanted)
        everywhere.vendor.objects["goods"]["1"]["v"] += 1
        everywhere.sync()
        numbers.append(everywhere.row("1")["_revision"])
    assert sorted(set(numbers)) == numbers


def _late_answer(six: Harness, meanwhile: Callable[[], None]) -> None:
    """Fetch key 1; after the vendor has answered, the process is paused until `meanwhile` is over."""
    six.vendor.meanwhile["goods/1"] = meanwhile
    six.enqueue("1")
    six.sync()


def test_a_fetch_that_was_paused_past_its_lease_does_not_bring_back_what_is_gone(everywhere: Harness) -> None:
    """The second fetch leaves no row whose revision could guard it, so the lease alone must."""
    six = everywhere
    six.vendor.objects["goods"]["1"] = {"v": 1}

    def gone_and_seen_to_be() -> None:
        del six.vendor.objects["goods"]["1"]
        six.clock.advance(minutes=2)
        six.enqueue("1")
        six.sync()
        assert {} == six.inbox()

    _late_answer(six, gone_and_seen_to_be)
    assert {} == six.live()
    assert [] == six.journal()


def test_a_fetch_that_was_paused_past_its_lease_does_not_overwrite_a_newer_state(everywhere: Harness) -> None:
    six = everywhere
    six.vendor.objects["goods"]["1"] = {"v": 1}

    def changed_and_seen_to_be() -> None:
        six.vendor.objects["goods"]["1"] = {"v": 2}
        six.clock.advance(minutes=2)
        six.enqueue("1")
        six.sync()

    _late_answer(six, changed_and_seen_to_be)
    assert {"1": {"v": 2}} == six.live()
    assert [("1", "created", "webhook")] == six.journal()


def test_a_result_that_was_discarded_is_asked_for_again(six: Harness) -> None:
    six.vendor.objects["goods"]["1"] = {"v": 1}
    _late_answer(six, lambda: six.clock.advance(minutes=2))
    assert 2 == six.vendor.asked.count("goods/1")
    assert {"1": {"v": 1}} == six.live()


def test_a_lower_revision_never_overwrites_a_higher_one(everywhere: Harness) -> None:
    six = everywhere
    six.vendor.objects["goods"]["1"] = {"v": 2}
    six.enqueue("1")
    six.sync()
    target = six.context.target(six.context.resources["goods"])
    prepared = prepare.prepare(six.database, target, [Snapshot("1", {"v": 1})])
    older = six.row("1")["_revision"] - 1
    for tombstones, arrived in (([], prepared), (["1"], prepare.prepare(six.database, target, []))):
        with six.database.begin() as tx:
            assert [] == apply.apply(
                tx,
                target,
                arrived,
                tombstones=tombstones,
                revision=older,
                now=six.clock.now,
                point=True,
            )
    assert {"1": {"v": 2}} == six.live()


def test_the_lease_is_held_until_the_result_is_committed(everywhere: Harness) -> None:
    """Seen from another connection, at the very moment when the row and its change are committed."""
    six = everywhere
    six.vendor.objects["goods"]["1"] = {"v": 1}
    other = Database(six.database.url)
    held: list[int] = []

    def count(tx: sa.Connection, table: sa.Table) -> int:
        return tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()

    def committing(tx: sa.Connection) -> None:
        if not held and count(tx, tables.changes):
            with other.read() as watching:
                assert 0 == count(watching, tables.changes)
                held.append(count(watching, tables.leases))

    sa.event.listen(six.database.engine, "commit", committing)
    six.enqueue("1")
    six.sync()
    other.close()
    assert [1] == held
    assert 0 == six.leases()


def test_two_workers_never_fetch_one_key_at_once(connect: Connect) -> None:
    with connect(concurrency=4) as six:
        six.work()
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        asked: list[list[str]] = []

        def others_try() -> None:
            before = len(six.vendor.asked)
            six.in_thread(six.sync).join(10)
            asked.append(six.vendor.asked[before:])

        six.vendor.meanwhile["goods/1"] = others_try
        six.enqueue("1")
        six.sync()
        assert [[]] == asked


def test_another_key_shares_the_gate_up_to_the_concurrency(connect: Connect) -> None:
    with connect(concurrency=2) as six:
        six.work()
        six.vendor.objects["goods"] = {key: {"v": 1} for key in "123"}
        asked: list[str] = []

        def others_try() -> None:
            six.enqueue("2")
            six.vendor.meanwhile["goods/2"] = third_tries
            six.in_thread(six.sync).join(10)

        def third_tries() -> None:
            six.enqueue("3")
            before = len(six.vendor.asked)
            six.in_thread(six.sync).join(10)
            asked.extend(six.vendor.asked[before:])

        six.vendor.meanwhile["goods/1"] = others_try
        six.enqueue("1")
        six.sync()
        assert [] == asked
        assert {"1", "2", "3"} == six.live().keys()


def test_absence_is_decided_by_the_fetch_alone(six: Harness) -> None:
    six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
    six.full_sync_again()
    six.vendor.listing["goods"] = lambda _: vendor_harness.whole({"1": {"v": 1}})
    six.full_sync_again()
    assert {"2": "due"} == six.states()
    assert {"1", "2"} == six.live().keys(), "absence from a listing enqueues the key"
    six.sync()
    assert {"1", "2"} == six.live().keys(), "the fetch still found it"
    del six.vendor.objects["goods"]["2"]
    six.full_sync_again()
    six.sync()
    assert {"1"} == six.live().keys()
    assert ("2", "deleted", "reconcile") == six.journal()[-1]


def test_an_object_that_is_gone_changes_nothing_more_until_it_is_back(six: Harness) -> None:
    six.vendor.objects["goods"]["1"] = {"v": 1}
    six.enqueue("1")
    six.sync()
    del six.vendor.objects["goods"]["1"]
    for _ in range(3):
        six.enqueue("1")
        six.sync()
    six.vendor.objects["goods"]["1"] = {"v": 1}
    six.enqueue("1")
    six.sync()
    assert ["created", "deleted", "restored"] == [kind for _, kind, _ in six.journal()]


@pytest.fixture
def full(connect: Connect) -> Iterator[Harness]:
    """A hundred goods, of which a tenth may go."""
    with connect(max_deletions=0.2) as connected:
        connected.vendor.objects["goods"] = {f"{number:03}": {"v": 1} for number in range(100)}
        connected.work()
        yield connected


def _lose(six: Harness, first: int, last: int) -> None:
    keys = [f"{number:03}" for number in range(first, last)]
    for key in keys:
        six.vendor.objects["goods"].pop(key, None)
    six.enqueue(*keys)
    six.sync()


def test_deletions_above_the_share_are_held_however_slowly_they_come(full: Harness) -> None:
    for number in range(30):
        _lose(full, number, number + 1)
        full.clock.advance(minutes=30)
    assert 80 == len(full.live())
    assert ["held"] * 10 == list(full.states().values())
    (reason,) = {row.reason for row in full.inbox().values()}
    assert "20%" in reason


def test_deletions_are_forgotten_after_a_day(full: Harness) -> None:
    _lose(full, 0, 20)
    full.clock.advance(hours=25)
    _lose(full, 20, 36)
    assert 64 == len(full.live())
    assert {} == full.states()


def test_ten_deletions_are_never_held_however_few_objects_there_are(connect: Connect) -> None:
    with connect(max_deletions=0.0) as six:
        six.vendor.objects["goods"] = {f"{number:03}": {"v": 1} for number in range(12)}
        six.work()
        _lose(six, 0, 12)
        assert 2 == len(six.live())
        assert ["held", "held"] == list(six.states().values())


def test_rows_of_registers_come_and_go(connect: Connect) -> None:
    with connect(kinds={"goods": {"register": True}}, max_deletions=0.0) as six:
        six.vendor.objects["goods"] = {f"{number:03}": {"v": 1} for number in range(40)}
        six.work()
        _lose(six, 0, 40)
        assert {} == six.live()


def test_approval_covers_exactly_the_held_keys_that_are_still_missing(full: Harness) -> None:
    _lose(full, 0, 40)
    held = sorted(key for key, state in full.states().items() if state == "held")
    assert 20 == len(held)
    full.vendor.objects["goods"][held[0]] = {"v": 2}
    assert 19 == full.retry(*held[:19])
    full.sync()
    assert held[0] in full.live(), "it came back"
    assert {held[19]: "held"} == full.states(), "this one was not approved"
    assert 100 - 20 - 18 == len(full.live())


def test_an_approval_is_used_up_by_the_fetch_that_found_the_object(full: Harness) -> None:
    """Else a deletion of years later would pass unseen."""
    _lose(full, 0, 21)
    ((key, _),) = full.states().items()
    full.vendor.objects["goods"][key] = {"v": 2}

    def gone_again() -> None:
        del full.vendor.objects["goods"][key]
        full.enqueue(key)

    full.vendor.meanwhile[f"goods/{key}"] = gone_again
    full.retry(key)
    full.sync()
    assert key in full.live()
    assert {key: "held"} == full.states()


def test_enqueuing_a_held_key_fetches_it_again_and_does_not_approve(full: Harness) -> None:
    _lose(full, 0, 21)
    ((key, _),) = full.states().items()
    full.enqueue(key)
    full.sync()
    assert {key: "held"} == full.states()
    full.vendor.objects["goods"][key] = {"v": 2}
    full.enqueue(key)
    full.sync()
    assert {} == full.states()
    assert {"v": 2} == full.live()[key]


def test_a_key_of_a_resource_that_is_not_configured_is_finished(six: Harness) -> None:
    six.enqueue("1", resource="unknown")
    six.sync()
    assert {} == six.inbox("unknown")
    assert "unknown/1" not in six.vendor.asked


@services.ON_POSTGRESQL
def test_a_row_that_the_database_refuses_is_parked_alone_and_can_be_retried(everywhere: Harness) -> None:
    """A rule that the mirror's owner made."""
    six = everywhere
    six.vendor.objects["goods"] = {"1": {"price": 1}, "2": {"price": -1}, "3": {"price": 3}}
    six.full_sync_again()
    with six.database.begin() as tx:
        tx.execute(sa.text("ALTER TABLE sixth_goods ADD CONSTRAINT dear CHECK (price > 0) NOT VALID"))
    six.vendor.objects["goods"] = {"1": {"price": 2}, "2": {"price": -2}, "3": {"price": 4}}
    six.enqueue("1", "2", "3")
    six.sync()
    assert [2, -1, 4] == [six.live()[key]["price"] for key in "123"]
    assert {"2": "parked"} == six.states()
    assert "dear" in six.inbox()["2"].reason
    with six.database.begin() as tx:
        tx.execute(sa.text("ALTER TABLE sixth_goods DROP CONSTRAINT dear"))
    six.retry("2")
    six.sync()
    assert -2 == six.live()["2"]["price"]


def test_a_resource_whose_keys_cannot_be_fetched_gets_a_full_sync_instead(connect: Connect) -> None:
    with connect(kinds={"goods": {"fetchable": False, "unpaged": True}}) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        six.work()
        six.vendor.objects["goods"] = {"1": {"v": 2}}
        six.clock.advance(seconds=1)
        six.webhook("1")
        six.work()
        assert {"1": {"v": 2}} == six.live()
        assert {} == six.inbox()
        assert "goods/1" not in six.vendor.asked


def test_metadata_that_is_no_json_is_not_asked_for_in_a_loop(connect: Connect) -> None:
    with connect(kinds={"goods": {"has_metadata": True}}) as six:
        six.vendor.stuck = True
        six.vendor.instead["goods/metadata"] = [(200, {}, "<html>a proxy</html>")]
        six.enqueue("1", "2")
        six.sync()
        assert 2 == len(six.vendor.asked)
        assert {"1": 1, "2": 1} == {key: row.attempts for key, row in six.inbox().items()}
        six.sync()
        assert 2 == len(six.vendor.asked)


def test_a_declared_field_has_its_column_before_any_object_has_it(connect: Connect) -> None:
    with connect(kinds={"goods": {"has_metadata": True}}) as six:
        six.vendor.objects["goods"]["1"] = {"v": 1}
        six.enqueue("1")
        six.sync()
        assert six.row("1")["declared"] is None


def test_a_worker_that_dies_during_a_fetch_costs_a_repeated_fetch(six: Harness) -> None:
    six.vendor.objects["goods"]["1"] = {"v": 1}
    six.enqueue("1")
    six.context.gate.acquire("goods\n1")  # and then died
    six.sync()
    assert {"1": "due"} == six.states()
    six.clock.advance(minutes=1)
    six.sync()
    assert {"1": {"v": 1}} == six.live()


def test_the_inbox_hands_out_live_before_bulk(six: Harness) -> None:
    six.vendor.objects["goods"] = {key: {"v": 1} for key in "abc"}
    six.enqueue("a", "b", lane=Lane.BULK, cause=Cause.RECONCILE)
    six.clock.advance(seconds=5)
    six.enqueue("c")
    six.sync()
    assert ["goods/c", "goods/a", "goods/b"] == [path for path in six.vendor.asked if "/" in path]


def test_a_live_key_that_arrives_between_bulk_keys_goes_next(six: Harness) -> None:
    six.vendor.objects["goods"] = {key: {"v": 1} for key in "abc"}
    six.enqueue("a", "b", lane=Lane.BULK, cause=Cause.RECONCILE)
    six.vendor.meanwhile["goods/a"] = lambda: six.webhook("c")
    six.sync()
    assert ["goods/a", "goods/c", "goods/b"] == [path for path in six.vendor.asked if "/" in path]


def test_a_postponed_key_is_tried_when_its_time_comes_and_not_before(six: Harness) -> None:
    six.vendor.objects["goods"]["1"] = {"v": 1}
    six.enqueue("1")
    with six.database.begin() as tx:
        (item,) = inbox.due(tx, connection="six", now=six.clock.now)
        until = six.clock.now + timedelta(minutes=1)
        inbox.postpone(tx, item, until=until, reason="later", counts=True)
    six.sync()
    assert {} == six.live()
    six.clock.advance(minutes=1)
    six.sync()
    assert {"1": {"v": 1}} == six.live()


def test_two_workers_lose_nothing_and_double_nothing(everywhere: Harness) -> None:
    six = everywhere
    six.vendor.objects["goods"] = {f"{number}": {"v": 1} for number in range(20)}
    six.enqueue(*six.vendor.objects["goods"])
    threads: list[threading.Thread] = [six.in_thread(six.sync) for _ in range(3)]
    for thread in threads:
        thread.join(30)
    six.work()
    assert six.vendor.objects["goods"] == six.live()
    assert 20 == len(six.journal())


def test_a_crash_of_ours_on_one_key_lets_the_others_go_first(six: Harness) -> None:
    six.vendor.objects["goods"] = {"1": {"crash": 1}, "2": {"v": 1}}
    six.enqueue("1")
    six.clock.advance(seconds=1)
    six.enqueue("2")
    with pytest.raises(RuntimeError):
        six.sync()
    six.sync()
    assert {"2": {"v": 1}} == six.live()
    waits = six.inbox()["1"]
    assert ("due", 1, "broke off: RuntimeError") == (waits.state, waits.attempts, waits.reason)
    assert waits.due_at > six.clock.now


def test_a_key_that_another_worker_has_fetched_is_not_requested_again(six: Harness) -> None:
    six.vendor.objects["goods"]["1"] = {"v": 1}
    six.enqueue("1")
    with six.database.read() as tx:
        (item,) = inbox.due(tx, connection="six", now=six.clock.now)
    six.sync()
    with six.context.work_session() as session:
        fetch.fetch(session, item)
    assert ["goods", "goods/1"] == six.vendor.asked
    assert 0 == six.leases()


def test_a_new_field_has_the_metadata_asked_again_once_and_gets_its_declared_type(connect: Connect) -> None:
    with connect(kinds={"goods": {"has_metadata": True}}) as six:
        six.work()
        six.clock.advance(minutes=2)
        six.vendor.asked.clear()
        six.vendor.objects["goods"] = {key: {"declared": "a", "fresh": "17.50"} for key in "12"}
        six.vendor.instead["goods/metadata"] = [(200, {}, '{"": {"declared": "text", "fresh": "number"}}')]
        six.enqueue("1", "2")
        six.sync()
        assert ["goods/1", "goods/metadata", "goods/2"] == six.vendor.asked
        with six.database.read() as tx:
            assert [17.5, 17.5] == list(tx.scalars(sa.text("SELECT fresh FROM sixth_goods")))


def test_a_field_that_is_never_declared_has_the_metadata_fetched_once(connect: Connect) -> None:
    with connect(kinds={"goods": {"has_metadata": True}}) as six:
        six.work()
        for value in range(3):
            six.clock.advance(minutes=2)
            six.vendor.objects["goods"] = {"1": {"declared": "a", "fresh": value}}
            six.enqueue("1")
            six.sync()
        assert 2 == six.vendor.asked.count("goods/metadata")


def test_one_approval_does_not_let_the_other_held_deletions_pass(six: Harness) -> None:
    six.vendor.objects["goods"] = {f"{number:02}": {"v": number} for number in range(30)}
    six.full_sync_again()
    six.vendor.objects["goods"] = {}
    six.enqueue(*six.live())
    six.work()
    held = sorted(six.states())
    assert (20, {"held"}) == (len(held), set(six.states().values()))
    six.retry(held[0])
    six.work()
    six.webhook(*held[1:])
    six.work()
    assert held[1:] == sorted(six.live())
