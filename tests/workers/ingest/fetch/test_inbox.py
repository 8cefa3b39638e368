"""In which order the inbox's keys are fetched, and what becomes of a key that fails or cannot be fetched."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.bookkeeping import inbox
from models.values import Cause, Lane
from tests import services

if TYPE_CHECKING:
    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Harness


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


def test_a_key_of_a_resource_that_is_not_configured_is_finished(six: Harness) -> None:
    six.enqueue("1", resource="unknown")
    six.sync()
    assert {} == six.inbox("unknown")
    assert "unknown/1" not in six.vendor.asked


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
