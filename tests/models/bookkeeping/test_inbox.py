"""The inbox: bursts collapse into one fetch, and nothing that arrives during a fetch is lost."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import inbox, parked, refused_keys, stream_plans, streams
from models.db import tables
from models.values import Cause, Lane, ObjectRef
from tests import services

if TYPE_CHECKING:
    from models.db.database import Database


def enqueue(database: Database, *keys: str, lane: Lane = Lane.LIVE, cause: Cause = Cause.WEBHOOK, **more: Any) -> int:
    with database.begin() as tx:
        return inbox.enqueue(
            tx,
            connection="shop",
            refs=[ObjectRef("goods", key) for key in keys],
            lane=lane,
            cause=cause,
            **more,
        )


def due(database: Database, limit: int = 100) -> list[inbox.Item]:
    with database.read() as tx:
        return inbox.due(tx, connection="shop", now=database.now(tx), limit=limit)


def rows(database: Database) -> list[sa.Row[tuple[object, ...]]]:
    with database.read() as tx:
        return list(tx.execute(sa.select(tables.inbox).order_by(tables.inbox.c.key)))


def test_a_burst_is_one_row(database: Database) -> None:
    for _ in range(5):
        enqueue(database, "7")
    assert ["7"] == [item.key for item in due(database)]


def test_a_key_enqueued_during_a_fetch_is_fetched_again(database: Database) -> None:
    enqueue(database, "7")
    (item,) = due(database)
    enqueue(database, "7")
    with database.begin() as tx:
        assert not inbox.finish(tx, item)
    (again,) = due(database)
    with database.begin() as tx:
        assert inbox.finish(tx, again)
    assert [] == due(database)


def test_wanted_never_returns_to_an_earlier_number(database: Database) -> None:
    enqueue(database, "7")
    (first,) = due(database)
    with database.begin() as tx:
        inbox.finish(tx, first)
    enqueue(database, "7")
    (second,) = due(database)
    assert second.wanted > first.wanted


def test_live_goes_before_bulk_and_a_webhook_raises_the_lane(database: Database) -> None:
    enqueue(database, "1", "2", "3", lane=Lane.BULK, cause=Cause.RECONCILE)
    enqueue(database, "3")
    assert "3" == due(database)[0].key
    enqueue(database, "3", lane=Lane.BULK, cause=Cause.RECONCILE)
    first = due(database)[0]
    assert ("3", Lane.LIVE, Cause.RECONCILE) == (first.key, first.lane, first.cause)


def test_a_postponed_key_waits_and_its_attempts_count(database: Database) -> None:
    enqueue(database, "7")
    (item,) = due(database)
    with database.begin() as tx:
        until = database.now(tx) + timedelta(hours=1)
        inbox.postpone(tx, item, until=until, reason="HTTP 500", counts=True)
    assert [] == due(database)
    (row,) = rows(database)
    assert (1, "HTTP 500") == (row.attempts, row.reason)


def test_enqueuing_makes_parked_and_held_keys_due(database: Database) -> None:
    enqueue(database, "1", "2")
    first, second = due(database)
    with database.begin() as tx:
        inbox.park(tx, first, reason="odd")
        inbox.hold(tx, second, reason="many")
    assert [] == due(database)
    enqueue(database, "1", "2")
    assert ["1", "2"] == sorted(item.key for item in due(database))


def test_a_key_that_is_still_missing_stays_held(database: Database) -> None:
    enqueue(database, "1")
    (item,) = due(database)
    with database.begin() as tx:
        inbox.hold(tx, item, reason="many")
    enqueue(database, "1", "2", lane=Lane.BULK, cause=Cause.RECONCILE, unless_known=True)
    assert ["held", "due"] == [row.state for row in rows(database)]


def test_a_key_enqueued_meanwhile_keeps_its_own_time(database: Database) -> None:
    enqueue(database, "7")
    (item,) = due(database)
    enqueue(database, "7")
    with database.begin() as tx:
        inbox.park(tx, item, reason="odd")
        inbox.postpone(tx, item, until=database.now(tx) + timedelta(hours=1), reason="late", counts=True)
    assert ["7"] == [again.key for again in due(database)]


def test_approval_covers_exactly_the_held_keys(database: Database) -> None:
    enqueue(database, "1", "2")
    first, second = due(database)
    with database.begin() as tx:
        inbox.hold(tx, first, reason="many")
        inbox.park(tx, second, reason="odd")
    with database.begin() as tx:
        assert 2 == parked.retry(tx, connection="shop")
    assert {"1": True, "2": False} == {item.key: item.approved for item in due(database)}


def test_keys_wait_for_a_resource_whose_fetches_are_refused_and_later_ones_are_tried(database: Database) -> None:
    with database.begin() as tx:
        plan = stream_plans.Plan("goods", timedelta(hours=1), polls=False)
        stream_plans.sync(tx, connection="shop", system="dilovod", plans=[plan])
        refusal, until = streams.Refusal("access denied", streams.FETCH, ""), tx.now + timedelta(hours=1)
        streams.park(tx, "shop", "goods", refusal, until=until, by_full_sync=True)
    enqueue(database, "5", "6")
    first, _ = due(database)
    with database.begin() as tx:
        refused_keys.wait_until_allowed(tx, first, until=until)
    assert [] == due(database)
    enqueue(database, "7")
    assert ["7"] == [item.key for item in due(database)]
    with database.begin() as tx:
        assert 1 == streams.reopen(tx, connection="shop")
    assert {"5", "6", "7"} == {item.key for item in due(database)}


def test_keys_of_a_retired_resource_are_not_due(database: Database) -> None:
    with database.begin() as tx:
        plan = stream_plans.Plan("goods", timedelta(hours=1), polls=False)
        stream_plans.sync(tx, connection="shop", system="dilovod", plans=[plan])
        stream_plans.sync(tx, connection="shop", system="dilovod", plans=[])
    enqueue(database, "7")
    assert [] == due(database)


@services.ON_POSTGRESQL
def test_two_writers_in_opposite_orders_do_not_deadlock(database: Database) -> None:
    keys = [f"{letter}{number}" for letter in "aAzZäÄ_-" for number in range(20)]
    failures: list[BaseException] = []

    def write(order: list[str]) -> None:
        try:
            for _ in range(15):
                enqueue(database, *order)
        except BaseException as error:  # noqa: BLE001 - a thread's failure must reach the test
            failures.append(error)

    threads = [threading.Thread(target=write, args=(order,)) for order in (keys, keys[::-1])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [] == failures


def test_a_key_that_changes_all_the_time_keeps_its_place(database: Database) -> None:
    enqueue(database, "busy")
    enqueue(database, "quiet")
    enqueue(database, "busy")
    assert ["busy", "quiet"] == [item.key for item in due(database)]


def due_together(database: Database, limit: int = 100) -> dict[str, str | None]:
    with database.read() as tx:
        return inbox.due_together(
            tx, connection="shop", resource="goods", cause=Cause.RECONCILE, now=database.now(tx), limit=limit
        )


def test_keys_that_wait_for_the_same_reason_are_due_together_with_their_tokens(database: Database) -> None:
    bulk: dict[str, Any] = {"lane": Lane.BULK, "cause": Cause.RECONCILE}
    enqueue(database, "2", "1", **bulk, tokens={"2": "v7"})
    enqueue(database, "3", **bulk, after=timedelta(hours=1))
    enqueue(database, "4", lane=Lane.BULK, cause=Cause.BACKFILL)
    enqueue(database, "5")
    enqueue(database, "6", **bulk)
    assert {"1": None, "2": "v7", "6": None} == due_together(database)
    assert ["1", "2"] == list(due_together(database, limit=2))


def test_a_key_that_failed_or_was_left_alone_or_approved_is_not_due_together_with_others(database: Database) -> None:
    enqueue(database, "1", "2", "3", "4", lane=Lane.BULK, cause=Cause.RECONCILE)
    items = {item.key: item for item in due(database)}
    with database.begin() as tx:
        inbox.postpone(tx, items["1"], until=tx.now, reason="503", counts=True)
        inbox.leave_alone(tx, connection="shop", resource="goods", keys={"2": "it was saved meanwhile", "9": "gone"})
        inbox.hold(tx, items["3"], reason="many are gone")
        parked.retry(tx, connection="shop", key="3")
    assert ["4"] == list(due_together(database))
    assert {"1", "2", "3", "4"} == {item.key for item in due(database)}
    enqueue(database, "2", lane=Lane.BULK, cause=Cause.RECONCILE)  # it stays as it is until it was fetched
    assert ["4"] == list(due_together(database))
