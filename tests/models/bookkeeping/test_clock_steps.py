"""After the database's clock was ahead and is right again, what was planned meanwhile is due, and it is told once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from models.bookkeeping import clock_steps, due, inbox, pending, stream_plans
from models.bookkeeping.stream_plans import Plan
from models.db.database import Database
from models.db.tables import canaries, gates, leases, wakeups
from models.db.tables import inbox as inbox_table
from models.db.tables import streams as streams_table
from models.durations import spell
from models.values import Cause, Lane, ObjectRef

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
AHEAD = timedelta(hours=3)
LEASE = timedelta(seconds=45)
GOODS = "catalogs.goods"


At = Callable[[datetime], Database]


@pytest.fixture
def at(database: Database) -> Iterator[At]:
    """The database with a clock that stands still at a given moment."""
    opened: list[Database] = []

    def open_(moment: datetime) -> Database:
        opened.append(Database(database.url, clock=lambda: moment))
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


@pytest.fixture
def ahead(at: At) -> Database:
    """The database, used for a while by a clock that was three hours ahead."""
    fast = at(NOW + AHEAD)
    with fast.begin() as tx:
        stream_plans.sync(tx, connection="shop", system="dilovod", plans=[Plan(GOODS, timedelta(hours=1), polls=True)])
        refs = [ObjectRef(GOODS, "1")]
        inbox.enqueue(tx, connection="shop", refs=refs, lane=Lane.LIVE, cause=Cause.WEBHOOK)
        later = tx.now + timedelta(hours=1)
        tx.execute(
            sa.update(streams_table).values(
                cursor="x",
                due_at=later,
                full_due_at=later,
                tried_at=tx.now,
                last_read_at=tx.now,
                full_started_at=tx.now,
                full_run=1,
                full_cursor="y",
                complete_as_of=tx.now,
                next_complete_as_of=tx.now,
                next_complete_cutoff_at=tx.now,
            )
        )
        tx.execute(
            sa.insert(gates).values(account="a", failures=1, next_start_at=later, closed_until=later, login_until=later)
        )
        tx.execute(sa.insert(leases).values(revision=7, account="a", until=tx.now + LEASE))
        tx.execute(sa.insert(wakeups).values(connection="shop", queue="sync", woken_at=tx.now))
        tx.execute(sa.insert(canaries).values(queue="sync", sent_at=tx.now, worker="w"))
    return at(NOW)


def _mended(database: Database) -> clock_steps.ClockStep | None:
    with database.begin() as tx:
        return clock_steps.mend(tx, longest_lease=LEASE)


def test_what_was_planned_by_a_clock_that_was_ahead_is_due(ahead: Database) -> None:
    before = due.load(ahead)
    assert (frozenset(), {}) == (before.with_keys, before.streams)
    step = _mended(ahead)
    assert step is not None
    assert AHEAD == step.by
    found = due.load(ahead)
    assert frozenset({"shop"}) == found.with_keys
    assert {False, True} == {each.full for each in found.streams["shop"]}
    assert frozenset() == found.closed
    assert all(at <= NOW for at in found.woken.values())
    with ahead.read() as tx:
        waiting = pending.load(tx, connection="shop", account="a", same_account=[], full=False)
        assert waiting.live_item is not None
        assert "1" == waiting.live_item.key


def test_no_time_of_what_happened_lies_ahead_afterwards_and_no_plan_that_began_then(ahead: Database) -> None:
    _mended(ahead)
    with ahead.read() as tx:
        found = [
            *tx.execute(sa.select(streams_table.c.tried_at, streams_table.c.last_read_at)).one(),
            *tx.execute(sa.select(gates.c.next_start_at, gates.c.closed_until, gates.c.login_until)).one(),
            *tx.execute(sa.select(wakeups.c.woken_at)).one(),
            *tx.execute(sa.select(canaries.c.sent_at)).one(),
            *tx.execute(sa.select(inbox_table.c.first_enqueued_at, inbox_table.c.due_at)).one(),
        ]
        lease = tx.execute(sa.select(leases.c.until)).scalar_one()
    assert {NOW} == set(found)
    assert NOW + LEASE == lease  # a request that is under way may end; then the gate opens


def test_nothing_is_called_complete_as_of_a_time_that_has_not_come(ahead: Database) -> None:
    _mended(ahead)
    c = streams_table.c
    with ahead.read() as tx:
        row = tx.execute(
            sa.select(c.complete_as_of, c.next_complete_as_of, c.next_complete_cutoff_at, c.full_run, c.full_cursor)
        ).one()
    assert (None,) * 5 == tuple(row)


def test_a_step_is_found_until_it_is_mended_and_told_once(ahead: Database) -> None:
    with ahead.read() as tx:
        found = clock_steps.find(tx)
    assert found is not None
    assert f"stepped back by {spell(AHEAD)}:" in found.problem
    assert _mended(ahead) is not None
    assert _mended(ahead) is None
    with ahead.read() as tx:
        assert clock_steps.find(tx) is None


@pytest.mark.usefixtures("ahead")
def test_a_clock_that_is_right_changes_nothing(at: At) -> None:
    right = at(NOW + AHEAD + timedelta(seconds=5))
    before = due.load(right)
    assert _mended(right) is None
    assert before == due.load(right)


@pytest.mark.usefixtures("ahead")
def test_a_correction_of_seconds_is_no_step(at: At) -> None:
    assert _mended(at(NOW + AHEAD - timedelta(seconds=30))) is None


@pytest.mark.parametrize("column", clock_steps._HAPPENED, ids=str)
def test_each_time_of_what_has_happened_shows_a_step(at: At, column: sa.Column[datetime]) -> None:
    right = at(NOW)
    with right.begin() as tx:
        stream_plans.sync(tx, connection="shop", system="dilovod", plans=[Plan(GOODS, timedelta(hours=1), polls=True)])
        tx.execute(sa.insert(gates).values(account="a", failures=0))
        tx.execute(sa.insert(wakeups).values(connection="shop", queue="sync"))
        tx.execute(sa.insert(canaries).values(queue="sync"))
        tx.execute(sa.update(column.table).values({column.name: NOW + AHEAD}))
    step = _mended(right)
    assert step is not None
    assert AHEAD == step.by
