"""Retention: old rows are deleted in batches, and rows that are still needed stay."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.bookkeeping import journal, streams
from models.db import tables
from models.values import Cause, Change, ChangeKind
from tests.workers import vendor_harness
from tests.workers.ingest import command_harness
from workers import configuration, context
from workers.ingest import listing
from workers.queue import retention

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from models.db.database import Database
    from models.settings.load import Settings
    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Harness

KEPT = '[database]\nkeep_webhooks = "10d"\nkeep_changes = "5d"\n'


@pytest.fixture
def connect(database: Database, tmp_path: Path) -> Connect:
    return partial(vendor_harness.connected, database, tmp_path)


@pytest.fixture
def six(connect: Connect) -> Iterator[Harness]:
    with connect() as connected:
        connected.work()
        yield connected


def _with_retention(six: Harness, text: str = KEPT) -> Settings:
    """The same settings with retention times."""
    file = six.settings.file
    file.write_text(text + file.read_text())
    return configuration.load(file)


def _ids(six: Harness, table: sa.Table) -> list[int]:
    with six.database.read() as tx:
        return list(tx.execute(sa.select(table.c.id).order_by(table.c.id)).scalars())


def _count(six: Harness, table: sa.Table) -> int:
    with six.database.read() as tx:
        return tx.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()


def _journal(six: Harness, count: int) -> None:
    changes = [Change(str(number), ChangeKind.CREATED, None, {}) for number in range(count)]
    with six.database.begin() as tx:
        journal.append(tx, "six", "goods", changes, revision=1, cause=Cause.POLL, now=six.clock.now)


def _one_page(six: Harness, resource: str = "goods") -> None:
    with six.context.work_session() as session:
        listing.advance(session, six.context.resources[resource], now=six.clock.now, full=True)


def _largest_deletion(six: Harness, work: Callable[[], None]) -> int:
    """How many rows the largest transaction deleted."""
    deleted, sizes = [0], []

    def executed(_connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE"):
            deleted[0] += max(0, cursor.rowcount)

    def committed(_connection: Any) -> None:
        sizes.append(deleted[0])
        deleted[0] = 0

    sa.event.listen(six.database.engine, "after_cursor_execute", executed)
    sa.event.listen(six.database.engine, "commit", committed)
    work()
    return max(sizes)


def test_webhooks_and_the_journal_are_kept_as_long_as_the_settings_say(six: Harness) -> None:
    settings = _with_retention(six)
    six.webhook("1", "2")
    six.sync()
    _journal(six, 2)
    six.clock.advance(days=4)
    retention.prune(six.database, settings)
    assert ([1, 2], [1, 2]) == (_ids(six, tables.webhooks), _ids(six, tables.changes))
    six.clock.advance(days=2)
    _journal(six, 1)
    retention.prune(six.database, settings)
    assert ([1, 2], [3]) == (_ids(six, tables.webhooks), _ids(six, tables.changes))
    six.clock.advance(days=5)
    six.webhook("3")
    retention.prune(six.database, settings)
    assert [3] == _ids(six, tables.webhooks)


def test_by_default_the_journal_is_kept_for_ever_and_webhooks_for_thirty_days(six: Harness) -> None:
    _journal(six, 2)
    six.webhook("1")
    six.sync()
    six.clock.advance(days=29)
    retention.prune(six.database, six.settings)
    assert [1] == _ids(six, tables.webhooks)
    six.clock.advance(days=4000)
    retention.prune(six.database, six.settings)
    assert ([], [1, 2]) == (_ids(six, tables.webhooks), _ids(six, tables.changes))


def test_a_webhook_that_is_not_in_the_inbox_yet_is_never_deleted(six: Harness) -> None:
    six.webhook("1")
    six.clock.advance(days=400)
    retention.prune(six.database, _with_retention(six))
    assert [1] == _ids(six, tables.webhooks)


def test_many_rows_are_deleted_in_small_transactions(six: Harness) -> None:
    settings = _with_retention(six)
    six.webhook(*map(str, range(25)))
    six.sync()
    _journal(six, 25)
    six.clock.advance(days=20)
    assert 10 == _largest_deletion(six, lambda: retention.prune(six.database, settings, batch_size=10))
    assert ([], []) == (_ids(six, tables.webhooks), _ids(six, tables.changes))


def test_the_journal_is_trimmed_from_its_oldest_entry_without_a_gap(six: Harness) -> None:
    """Also if the clock was set back."""
    settings = _with_retention(six)
    _journal(six, 3)
    six.clock.advance(days=4)
    _journal(six, 1)
    six.clock.advance(days=-4)
    _journal(six, 1)
    six.clock.advance(days=6)
    retention.prune(six.database, settings, batch_size=2)
    assert [4, 5] == _ids(six, tables.changes)
    with six.database.read() as tx:
        assert (4, 5) == journal.bounds(tx)[:2]


def test_full_syncs_are_deleted_also_those_that_were_abandoned(six: Harness) -> None:
    settings = _with_retention(six)
    end = {"cursor": "page 2", "more": True}
    six.vendor.listing["goods"] = lambda _: [{"end": end}]
    for _ in range(3):
        with six.database.begin() as tx:
            streams.backfill_now(tx, connection="six")
        six.change(full_requested=False)
        _one_page(six)
    under_way = six.stream().full_run
    assert under_way is not None
    assert len(_ids(six, tables.runs)) > 2
    six.clock.advance(days=11)
    retention.prune(six.database, settings)
    assert [under_way] == _ids(six, tables.runs), "the full sync that is still running is needed"


def test_the_keys_that_a_full_sync_saw_are_deleted_with_their_resource(connect: Connect) -> None:
    with connect(kinds={"goods": {}, "orders": {}}) as six:
        six.vendor.listing["goods"] = lambda _: [{"lines": [["1", "a"]], "end": {"cursor": "2", "more": True}}]
        six.vendor.listing["orders"] = six.vendor.listing["goods"]
        for resource in ("goods", "orders"):
            _one_page(six, resource)
        file = six.settings.file
        file.write_text(file.read_text().replace(r", \"orders\": {}", ""))
        fewer = _with_retention(six)
        context.sync_streams(six.database, fewer)
        assert 2 == _count(six, tables.seen_keys)
        six.clock.advance(days=9)
        retention.prune(six.database, fewer)
        assert 2 == _count(six, tables.seen_keys), "a worker with older settings may still run the full sync"
        six.clock.advance(days=2)
        retention.prune(six.database, fewer)
        assert 1 == _count(six, tables.seen_keys)


def test_gates_leases_and_wake_ups_that_are_no_longer_used_are_deleted(six: Harness) -> None:
    settings = _with_retention(six)
    six.context.gate.acquire("goods\n1")  # by a worker that was killed
    with six.database.begin() as tx:
        for name in ("six", "gone"):
            woken = {"connection": name, "queue": "sync", "woken_at": six.clock.now, "answered_at": six.clock.now}
            tx.execute(sa.insert(tables.wakeups).values(**woken))
    six.clock.advance(days=9)
    retention.prune(six.database, settings)
    assert (1, 1, 2) == (_count(six, tables.gates), _count(six, tables.leases), _count(six, tables.wakeups))
    six.clock.advance(days=2)
    retention.prune(six.database, settings)
    assert (0, 0, 1) == (_count(six, tables.gates), _count(six, tables.leases), _count(six, tables.wakeups))
    six.vendor.objects["goods"] = {"1": {"v": 1}}
    six.enqueue("1")
    six.sync()
    assert {"1": {"v": 1}} == six.live(), "the next request makes the gate anew"


def test_a_gate_that_is_closed_for_long_stays(six: Harness) -> None:
    six.vendor.instead["goods/1"] = [(429, {"Retry-After": str(40 * 86400)}, "quota used up")]
    six.enqueue("1")
    six.sync()
    six.clock.advance(days=11)
    retention.prune(six.database, _with_retention(six))
    assert 1 == _count(six, tables.gates)


def test_webhooks_for_an_unknown_resource_leave_no_row_in_the_inbox(six: Harness) -> None:
    for _ in range(3):
        six.webhook("1", resource="unknown")
        six.sync()
    assert {} == six.inbox("unknown")


@pytest.mark.parametrize("days", [1, 7])
def test_a_week_without_the_vendor_leaves_one_row_for_each_object(six: Harness, days: int) -> None:
    six.vendor.outage = (503, {}, "closed for repairs")
    for _ in range(days):
        six.webhook(*"12345" * 20)
        six.sync()
        six.clock.advance(days=1)
    assert 5 == len(six.inbox())
    six.clock.advance(days=31)
    retention.prune(six.database, six.settings)
    assert [] == _ids(six, tables.webhooks)


def test_a_full_sync_that_fails_for_long_leaves_one_run(six: Harness) -> None:
    six.vendor.outage = (503, {}, "closed for repairs")
    before = len(_ids(six, tables.runs))
    six.change(full_due_at=six.clock.now)
    for _ in range(24):
        six.full_sync()
        six.clock.advance(hours=1)
    assert before + 1 == len(_ids(six, tables.runs))


def test_final_commands_are_kept_as_long_as_the_settings_say(database: Database, tmp_path: Path) -> None:
    with command_harness.connected(database, tmp_path) as six:
        six.vendor.objects["goods"]["1"] = {"name": "Nail"}
        done = six.send("update", id="1", name="Hook")
        six.work()
        six.vendor.faults = [(403, "the role lacks it")]
        waiting = six.send("update", id="1", name="Nail")
        six.work()
        six.clock.advance(hours=24 * 399)
        retention.prune(six.database, six.settings)
        assert [waiting, done] == [each.id for each in six.all()]
        six.clock.advance(hours=25)
        retention.prune(six.database, six.settings)
        assert [waiting] == [each.id for each in six.all()]
