"""The queue of deliveries: who is woken, by whom, and that its worker is missed only where there are subscriptions."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from models.bookkeeping import subscriptions
from models.bookkeeping.subscriptions import PausedBy
from tests.workers.deliveries.harness import NAME, OK, Listening, Posted, Reply, telling
from workers import cli
from workers.cli import processes
from workers.queue import app, broker, canary, retention, tasks, wakeup
from workers.queue.scheduler import DueScheduler

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.deliveries.harness import Told


@pytest.fixture
def endpoint() -> Listening:
    return Listening()


@pytest.fixture
def told(sqlite: Database, tmp_path: Path, endpoint: Listening) -> Iterator[Told]:
    with telling(sqlite, tmp_path, endpoint) as found:
        broker.prepare(found.settings)
        yield found


def woken(told: Told) -> list[str]:
    """Whom a look of the scheduler wakes."""
    celery = app.create_app(told.settings, told.database)
    scheduler = DueScheduler(celery, told.settings, told.database)
    waker = wakeup.Waker(celery, told.database)
    before = waker.depth(wakeup.DELIVER)
    scheduler.wake_due()
    names = [name for name, queue, _ in scheduler._due_work.pending() if queue == wakeup.DELIVER]
    assert [] == names, "whoever was woken is not due again"
    return [NAME] * (waker.depth(wakeup.DELIVER) - before)


def test_a_subscription_with_something_to_be_told_is_woken_once(told: Told) -> None:
    assert [] == woken(told)
    told.change("1")
    assert [NAME] == woken(told)
    assert [] == woken(told)


def test_one_that_is_paused_or_backs_off_or_is_served_is_not_woken(told: Told) -> None:
    told.change("1")
    told.set(due_at=told.clock.now + timedelta(hours=1))
    assert [] == woken(told)
    told.set(due_at=told.clock.now, lease=1, leased_until=told.clock.now + timedelta(seconds=20))
    assert [] == woken(told)
    told.set(lease=None, leased_until=None)
    with told.database.begin() as tx:
        subscriptions.pause(tx, NAME, by=PausedBy.PERSON, reason="by hand")
    assert [] == woken(told)


def test_a_retry_that_is_due_wakes_it(told: Told, endpoint: Listening) -> None:
    endpoint.reply = lambda _: (500, b"", {})
    told.change("1")
    told.deliver()
    assert [] == woken(told)
    told.later(timedelta(seconds=6))
    assert [NAME] == woken(told)


def test_a_session_ends_when_its_worker_is_told_to_stop_and_what_is_left_is_woken_for(
    told: Told, endpoint: Listening
) -> None:
    def reply(_: Posted) -> Reply:
        tasks.stopping.set()
        return OK

    endpoint.reply = reply
    told.change(*map(str, range(50)))
    celery = app.create_app(told.settings, told.database)
    try:
        celery.tasks[tasks.DELIVER].apply(args=[NAME]).get()
    finally:
        tasks.stopping.clear()
    assert 1 <= told.row.delivered < 50
    assert told.row.delivered == len(endpoint.posted)
    assert 1 == wakeup.Waker(celery, told.database).depth(wakeup.DELIVER)


def test_a_worker_for_deliveries_is_missed_only_where_there_are_subscriptions(told: Told) -> None:
    without = replace(told.settings, subscriptions={})
    assert wakeup.QUEUES == wakeup.queues_of(without)
    assert (*wakeup.QUEUES, wakeup.DELIVER) == wakeup.queues_of(told.settings)
    found = canary.queue_health(told.database, wakeup.queues_of(told.settings))
    assert ["sync", "full_sync", "deliver"] == [each.queue for each in found]


def test_up_starts_a_worker_for_deliveries_only_where_there_are_subscriptions(told: Told) -> None:
    assert "deliver" in processes.of_up(told.settings, concurrency=None)
    assert "deliver" not in processes.of_up(replace(told.settings, subscriptions={}), concurrency=None)


def test_each_subscription_has_a_thread_of_its_own(told: Told) -> None:
    [options] = told.settings.subscriptions.values()
    many = {f"s{number}": options for number in range(7)}
    assert 8 == processes.deliver_tasks(replace(told.settings, subscriptions=many))


@pytest.mark.parametrize("queues", ["deliver,sync", "sync,deliver", "deliveries", ""])
def test_deliveries_share_no_worker_with_what_reads_the_erps(told: Told, queues: str) -> None:
    result = CliRunner().invoke(cli.app, ["worker", "--queues", queues, "--config", str(told.settings.file)])
    assert 2 == result.exit_code
    assert "deliver alone" in " ".join(result.output.split())


def test_retention_keeps_the_wakeups_of_subscriptions(told: Told) -> None:
    wakeup.Waker(app.create_app(told.settings, told.database), told.database).wake(NAME, wakeup.DELIVER)
    told.later(timedelta(days=60))
    retention.prune(told.database, told.settings)
    with told.database.read() as tx:
        assert 1 == tx.exec_driver_sql("SELECT count(*) FROM erpmirror_wakeups").scalar_one()
