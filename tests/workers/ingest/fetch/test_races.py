"""One key and several workers, webhooks and leases: the mirror never goes backwards and loses no enqueued key."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.bookkeeping import inbox
from models.db import tables
from models.db.database import Database
from models.mirror import apply, prepare
from models.values import Snapshot
from workers.ingest import fetch

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Harness


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


def test_a_worker_that_dies_during_a_fetch_costs_a_repeated_fetch(six: Harness) -> None:
    six.vendor.objects["goods"]["1"] = {"v": 1}
    six.enqueue("1")
    six.context.gate.acquire("goods\n1")  # and then died
    six.sync()
    assert {"1": "due"} == six.states()
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
