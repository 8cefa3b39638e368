"""The scheduler wakes for what is due and for nothing else, and survives a service that is down."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from kombu.exceptions import OperationalError

from models.bookkeeping import due, inbox, streams, webhooks
from models.bookkeeping.webhooks import AcceptedWebhook
from models.db import tables
from models.db.database import Database
from models.values import Cause, Lane, ObjectRef
from tests import processes
from tests.mirroring import Mirror, mirrored
from workers import configuration
from workers.ingest import loop
from workers.queue import app, broker, wakeup
from workers.queue.scheduler import DueScheduler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SHOP, BOOKS = "dilovod", "directo"


class Clock:
    """A database's clock that the test moves."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC)

    def __call__(self) -> datetime:
        return self.now

    def pass_(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mirror(sqlite: Database, tmp_path: Path, clock: Clock) -> Iterator[Mirror]:
    """Two connections with everything synced and nothing due, on a clock that the test moves."""
    timed = Database(sqlite.url, clock=clock)
    quiet = {"options": {"every": "1d", "full_every": "30d"}}
    shop = {"options": {"reconcile_every": "30d"}}
    with mirrored(timed, tmp_path, dilovod=shop, directo=quiet) as made:
        broker.prepare(made.settings)
        far = clock() + timedelta(days=30)
        with timed.begin() as tx:
            tx.execute(sa.update(tables.streams).values(due_at=far, full_due_at=far, cursor="x"))
        yield made
    timed.close()


@pytest.fixture
def scheduler(mirror: Mirror) -> DueScheduler:
    return scheduler_of(mirror)


def scheduler_of(mirror: Mirror) -> DueScheduler:
    return DueScheduler(app.create_app(mirror.settings, mirror.database), mirror.settings, mirror.database)


def depths(mirror: Mirror) -> dict[str, int]:
    """How many messages wait in each queue."""
    waker = wakeup.Waker(app.create_app(mirror.settings, mirror.database), mirror.database)
    return {"sync": waker.depth("sync"), "full_sync": waker.depth("full_sync")}


def enqueue(mirror: Mirror, name: str, resource: str) -> None:
    with mirror.database.begin() as tx:
        inbox.enqueue(
            tx,
            connection=name,
            refs=[ObjectRef(resource, "1")],
            lane=Lane.BULK,
            cause=Cause.POLL,
        )


def webhook(mirror: Mirror) -> None:
    webhook = AcceptedWebhook(SHOP, "{}", resource="catalogs.goods", key="1")
    with mirror.database.begin() as tx:
        webhooks.append(tx, [webhook])


def poll(mirror: Mirror) -> None:
    with mirror.database.begin() as tx:
        streams.poll_now(tx, connection=BOOKS, resource="items")


def full_sync(mirror: Mirror) -> None:
    with mirror.database.begin() as tx:
        streams.backfill_now(tx, connection=BOOKS, resource="items")


def test_a_stop_whose_exception_was_dropped_ends_the_next_tick(scheduler: DueScheduler) -> None:
    scheduler.tick()
    scheduler.close()
    with pytest.raises(SystemExit):
        scheduler.tick()


def test_no_wake_up_is_sent_while_nothing_is_due(mirror: Mirror, scheduler: DueScheduler) -> None:
    scheduler.wake_due()
    assert {"sync": 0, "full_sync": 0} == depths(mirror)


@pytest.mark.parametrize(
    ("due", "expected"),
    [
        (webhook, {"sync": 1, "full_sync": 0}),
        (lambda mirror: enqueue(mirror, BOOKS, "items"), {"sync": 1, "full_sync": 0}),
        (poll, {"sync": 1, "full_sync": 0}),
        (full_sync, {"sync": 0, "full_sync": 1}),
    ],
    ids=["webhook", "inbox", "poll", "full sync"],
)
def test_what_is_due_is_woken_for(
    mirror: Mirror, scheduler: DueScheduler, due: Callable[[Mirror], None], expected: dict[str, int]
) -> None:
    due(mirror)
    scheduler.wake_due()
    assert expected == depths(mirror)


def test_two_schedulers_wake_once(mirror: Mirror, scheduler: DueScheduler) -> None:
    poll(mirror)
    other = scheduler_of(mirror)
    for each in (scheduler, other, scheduler):
        each.wake_due()
    assert {"sync": 1, "full_sync": 0} == depths(mirror)


def test_a_week_without_workers_leaves_one_message_for_each_connection(
    mirror: Mirror, scheduler: DueScheduler, clock: Clock
) -> None:
    webhook(mirror)
    poll(mirror)
    for _ in range(7 * 24):
        clock.pass_(hours=1)
        scheduler.wake_due()
    assert {"sync": 2, "full_sync": 0} == depths(mirror)


def test_a_lost_wake_up_is_repeated(mirror: Mirror, scheduler: DueScheduler, clock: Clock) -> None:
    poll(mirror)
    scheduler.wake_due()
    with scheduler.app.connection_for_write() as link:
        link.default_channel.queue_purge(app.SYNC)
    clock.pass_(seconds=5)
    scheduler.wake_due()
    assert 0 == depths(mirror)["sync"]
    clock.pass_(seconds=6)
    scheduler.wake_due()
    assert 1 == depths(mirror)["sync"]


def _close(mirror: Mirror, name: str, *, until: datetime) -> None:
    closed = {"failures": 1, "closed_until": until, "closed_reason": "429"}
    insert = mirror.database.insert(tables.gates).values(account=mirror.context(name).gate.account, **closed)
    with mirror.database.begin() as tx:
        tx.execute(insert.on_conflict_do_update(index_elements=[tables.gates.c.account], set_=closed))


def test_a_closed_gate_is_not_woken_for_until_it_opens(mirror: Mirror, scheduler: DueScheduler, clock: Clock) -> None:
    poll(mirror)
    _close(mirror, BOOKS, until=clock() + timedelta(minutes=1))
    scheduler.wake_due()
    assert 0 == depths(mirror)["sync"]
    clock.pass_(minutes=1)
    scheduler.wake_due()
    assert 1 == depths(mirror)["sync"]


def test_webhooks_move_to_the_inbox_also_while_the_gate_is_closed(
    mirror: Mirror, scheduler: DueScheduler, clock: Clock
) -> None:
    """Otherwise a vendor that is down for a week would leave a week of webhooks, which may not be deleted."""
    _close(mirror, SHOP, until=clock() + timedelta(days=7))
    scheduler.wake_due()
    assert {"sync": 0, "full_sync": 0} == depths(mirror)
    webhook(mirror)
    scheduler.wake_due()
    assert {"sync": 1, "full_sync": 0} == depths(mirror)
    assert not loop.sync(mirror.context(SHOP)).requests
    assert SHOP not in due.load(mirror.database).with_webhooks
    wakeup.Waker(scheduler.app, mirror.database).acknowledge(SHOP, wakeup.SYNC)
    scheduler.wake_due()
    assert {"sync": 1, "full_sync": 0} == depths(mirror), "the rest waits until the gate opens"


def test_a_watched_folder_is_scanned_also_while_the_gate_is_closed(
    sqlite: Database, tmp_path: Path, clock: Clock
) -> None:
    timed = Database(sqlite.url, clock=clock)
    with mirrored(timed, tmp_path, interpreter={}) as mirror:
        broker.prepare(mirror.settings)
        mirror.work()
        clock.pass_(minutes=10)
        _close(mirror, "interpreter", until=clock() + timedelta(days=7))
        mirror.sandboxes["interpreter"]._delivery_note()
        scheduler_of(mirror).wake_due()
        assert {"sync": 0, "full_sync": 1} == depths(mirror)
        assert not loop.full_sync(mirror.context("interpreter")).requests
        with timed.read() as tx:
            states = tx.execute(sa.select(tables.documents.c.state)).scalars().all()
        assert ["waiting"] == states
    timed.close()


def test_a_parked_resource_is_woken_for_when_it_is_tried_again(
    mirror: Mirror, scheduler: DueScheduler, clock: Clock
) -> None:
    poll(mirror)
    with mirror.database.begin() as tx:
        refusal, until = streams.Refusal("no licence", streams.LISTING, ""), clock() + timedelta(days=1)
        streams.park(tx, BOOKS, "items", refusal, until=until, by_full_sync=True)
    clock.pass_(hours=2)
    scheduler.wake_due()
    assert {"sync": 0, "full_sync": 0} == depths(mirror)
    clock.pass_(hours=22)
    scheduler.wake_due()
    assert 1 == depths(mirror)["full_sync"]


def test_a_broker_that_is_down_does_not_end_the_scheduler(
    mirror: Mirror, scheduler: DueScheduler, tmp_path: Path, clock: Clock
) -> None:
    poll(mirror)
    messages = tmp_path / "var" / "broker" / "messages"
    messages.rmdir()
    with pytest.raises(OperationalError):
        scheduler.wake_due()
    clock.pass_(seconds=1)
    assert scheduler.tick() > 0
    messages.mkdir()
    clock.pass_(seconds=1)
    scheduler.tick()
    assert 1 == depths(mirror)["sync"]


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_server_that_is_down_does_not_end_the_scheduler(mirror: Mirror, tmp_path: Path, scheme: str) -> None:
    poll(mirror)
    file = tmp_path / "erpmirror.toml"
    address = f"{scheme}://127.0.0.1:{processes.free_port()}/0"
    file.write_text(f'[broker]\nurl = "{address}"\n{file.read_text()}')
    away = Mirror(mirror.database, configuration.load(file), mirror.sandboxes)
    scheduler = scheduler_of(away)
    with mirror.database.begin() as tx:  # an outstanding wake-up: the queue's depth is read instead
        wakeups = {"connection": BOOKS, "queue": "sync", "woken_at": mirror.database.now(tx)}
        tx.execute(sa.insert(tables.wakeups).values(**wakeups))
    assert [True, True] == [scheduler.tick() > 0, scheduler.tick() > 0]


def test_a_database_that_is_down_does_not_end_the_scheduler(mirror: Mirror) -> None:
    nowhere = Database(f"postgresql+psycopg://nobody@127.0.0.1:{processes.free_port()}/none")
    scheduler = DueScheduler(app.create_app(mirror.settings, nowhere), mirror.settings, nowhere)
    assert [True, True] == [scheduler.tick() > 0, scheduler.tick() > 0]


def test_webhooks_are_kept_for_thirty_days_and_those_not_in_the_inbox_for_ever(
    mirror: Mirror, clock: Clock, scheduler: DueScheduler
) -> None:
    webhook(mirror)
    webhook(mirror)
    with mirror.database.begin() as tx:
        tx.execute(sa.update(tables.webhooks).where(tables.webhooks.c.id == 1).values(state="folded"))
    scheduler.wake_due()
    assert [1, 2] == webhook_ids(mirror)
    clock.pass_(days=31)
    scheduler_of(mirror).wake_due()
    assert [2] == webhook_ids(mirror)


def webhook_ids(mirror: Mirror) -> list[int]:
    with mirror.database.read() as tx:
        return list(tx.execute(sa.select(tables.webhooks.c.id).order_by(tables.webhooks.c.id)).scalars())
