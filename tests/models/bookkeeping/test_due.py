"""What is due is asked for all connections at once, by the same rules as for each alone."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.bookkeeping import due, inbox, stream_plans, streams, webhooks
from models.bookkeeping.due import DueStream
from models.bookkeeping.webhooks import AcceptedWebhook
from models.db import tables
from models.values import Cause, Lane, ObjectRef

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.db.database import Database

SOON = timedelta(minutes=1)
PLANS = [stream_plans.Plan("items", SOON, polls=True), stream_plans.Plan("stocklevels", SOON, polls=False)]


def sync_streams(database: Database, *names: str, **changes: object) -> None:
    """Connections of two resources each, both synced and due for nothing but these changes."""
    with database.begin() as tx:
        later = database.now(tx) + timedelta(hours=1)
        for name in names:
            stream_plans.sync(tx, connection=name, system="directo", plans=PLANS)
            for plan in PLANS:
                values = {"cursor": "x", "due_at": later, "full_due_at": later} | changes
                streams.update(tx, name, plan.resource, **values)


def enqueue(database: Database, name: str, *keys: str, resource: str = "items", after: timedelta = -SOON) -> None:
    with database.begin() as tx:
        inbox.enqueue(
            tx,
            connection=name,
            refs=[ObjectRef(resource, key) for key in keys],
            lane=Lane.BULK,
            cause=Cause.POLL,
            after=after,
        )


def receive(database: Database, *names: str) -> None:
    with database.begin() as tx:
        webhooks.append(tx, [AcceptedWebhook(name, "{}", resource="items", key="1") for name in names])


def now_plus(database: Database, delta: timedelta) -> object:
    with database.read() as tx:
        return database.now(tx) + delta


def test_nothing_is_due(database: Database) -> None:
    sync_streams(database, "a", "b")
    enqueue(database, "a", "1", after=SOON)
    assert set() == due.load(database).connections


def test_each_connection_with_new_webhooks_is_named_once(database: Database) -> None:
    receive(database, "c", "a", "a", "c", "a")
    assert {"a", "c"} == due.load(database).with_webhooks


def test_each_connection_with_a_key_that_is_due_is_named_once(database: Database) -> None:
    sync_streams(database, "a", "b", "c")
    enqueue(database, "a", "1", "2", "3")
    enqueue(database, "b", "1", after=SOON)
    enqueue(database, "c", "1")
    assert {"a", "c"} == due.load(database).with_keys


def test_a_parked_key_is_not_due(database: Database) -> None:
    sync_streams(database, "a")
    enqueue(database, "a", "1")
    with database.begin() as tx:
        tx.execute(sa.update(tables.inbox).values(state="parked"))
    assert set() == due.load(database).with_keys


def test_keys_of_a_parked_resource_are_due(database: Database) -> None:
    sync_streams(database, "a", state="parked")
    enqueue(database, "a", "1")
    assert {"a"} == due.load(database).with_keys


def test_keys_of_a_retired_resource_are_not_due_and_those_of_an_unknown_one_are(database: Database) -> None:
    sync_streams(database, "a", state="retired")
    enqueue(database, "a", "1", "2")
    assert set() == due.load(database).with_keys
    enqueue(database, "a", "3", resource="unknown")
    assert {"a"} == due.load(database).with_keys


def test_keys_of_an_open_resource_beside_a_retired_one_are_due(database: Database) -> None:
    sync_streams(database, "a", "b", "c", state="retired")
    with database.begin() as tx:
        for name in ("a", "b"):
            streams.update(tx, name, "stocklevels", state="open")
    for name in ("a", "b", "c"):
        enqueue(database, name, "1", "2")
        enqueue(database, name, "1", resource="stocklevels", after=-SOON if name == "a" else SOON)
    assert {"a"} == due.load(database).with_keys


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"due_at": -SOON}, [DueStream("items", full=False)]),
        ({"full_due_at": -SOON}, [DueStream("items", full=True), DueStream("stocklevels", full=True)]),
        ({"due_at": -SOON, "cursor": None}, []),
        ({"due_at": -SOON, "state": "parked"}, []),
        (
            {"due_at": -SOON, "full_due_at": -SOON, "state": "parked"},
            [DueStream("items", full=True), DueStream("stocklevels", full=True)],
        ),
        ({"due_at": -SOON, "full_due_at": -SOON, "state": "retired"}, []),
        ({"due_at": -SOON, "failures": 10, "tried_at": -timedelta(seconds=2)}, []),
        ({"due_at": -SOON, "failures": 2, "tried_at": -timedelta(seconds=5)}, [DueStream("items", full=False)]),
    ],
    ids=[
        "poll",
        "full sync",
        "poll before the first full sync",
        "parked",
        "parked and tried again",
        "retired",
        "tried just now",
        "backoff over",
    ],
)
def test_a_resource_is_due_as_its_own_row_says(
    database: Database, changes: dict[str, object], expected: list[DueStream]
) -> None:
    timed = {
        name: now_plus(database, value) if isinstance(value, timedelta) else value for name, value in changes.items()
    }
    sync_streams(database, "a", "b")
    sync_streams(database, "b", **timed)
    found = due.load(database).streams
    assert ({"b"} if expected else set(), expected) == (
        set(found),
        sorted(found.get("b", []), key=lambda stream: stream.resource),
    )
    with database.read() as tx:
        now = database.now(tx)
        rows = [row for name in ("items", "stocklevels") if (row := streams.get(tx, "b", name)) is not None]
    alone = {DueStream(row.resource, full) for row in rows for full in (False, True) if row.is_due(now, full=full)}
    assert set(expected) == alone


@contextmanager
def executed(database: Database) -> Iterator[list[str]]:
    """The statements that are executed inside the block."""
    statements: list[str] = []

    def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        statements.append(statement)

    sa.event.listen(database.engine, "before_cursor_execute", count)
    yield statements
    sa.event.remove(database.engine, "before_cursor_execute", count)


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_many_connections_take_as_many_statements_as_one(database: Database, *, busy: bool) -> None:
    def count(*names: str) -> int:
        sync_streams(database, *names)
        for name in names if busy else ():
            receive(database, name)
            enqueue(database, name, "1")
        due.load(database)
        with executed(database) as statements:
            due.load(database)
        return len(statements)

    assert count("one") == count(*(f"c{number}" for number in range(30)))


def test_closed_accounts_and_unanswered_wake_ups_come_with_what_is_due(database: Database) -> None:
    receive(database, "a")
    with database.begin() as tx:
        now = database.now(tx)
        gates = [
            {"account": name, "failures": 0, "closed_until": now + wait} for name, wait in (("x", SOON), ("y", -SOON))
        ]
        tx.execute(sa.insert(tables.gates), gates)
        wakeups = [
            ("a", "sync", now, None),
            ("b", "sync", now, now),
            ("c", "full_sync", now, now - SOON),
            ("d", "full_sync", None, now),
        ]
        names = ("connection", "queue", "woken_at", "answered_at")
        tx.execute(sa.insert(tables.wakeups), [dict(zip(names, row, strict=True)) for row in wakeups])
    found = due.load(database)
    assert (frozenset({"x"}), {("a", "sync"): now, ("c", "full_sync"): now}) == (found.closed, found.woken)
