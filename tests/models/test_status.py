"""What `status` says of each resource."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models import status
from models.bookkeeping import full_syncs, inbox, stream_plans, streams, webhooks
from models.values import Cause, Lane, ObjectRef
from tests.models import write_path

if TYPE_CHECKING:
    from models.db.database import Database
    from models.status import ResourceStatus


def sync_streams(database: Database, *resources: str) -> None:
    plans = [stream_plans.Plan(name, timedelta(hours=1), polls=True) for name in resources]
    with database.begin() as tx:
        stream_plans.sync(tx, connection="books", system="directo", plans=plans)


def status_of(database: Database, resource: str = "invoices") -> ResourceStatus:
    (found,) = (row for row in status.resources(database) if row.resource == resource)
    return found


def enqueue(database: Database, *keys: str) -> list[inbox.Item]:
    with database.begin() as tx:
        inbox.enqueue(
            tx,
            connection="books",
            refs=[ObjectRef("invoices", key) for key in keys],
            lane=Lane.LIVE,
            cause=Cause.WEBHOOK,
        )
        return inbox.due(tx, connection="books", now=database.now(tx), limit=100)


def test_a_resource_without_a_full_sync_is_complete_as_of_never(database: Database) -> None:
    sync_streams(database, "invoices")
    row = status_of(database)
    assert ("books", "directo", "invoices", "open", 0) == (
        row.connection,
        row.system,
        row.resource,
        row.state,
        row.rows,
    )
    assert (None, None, 3600, None, None) == (
        row.last_read,
        row.complete_as_of,
        row.bound,
        row.last_error,
        row.full_sync,
    )


def test_rows_are_the_live_ones(database: Database) -> None:
    sync_streams(database, "invoices")
    write_path.write(database, {key: {"n": 1} for key in "123"})
    write_path.write(database, tombstones=["2"], revision=2)
    assert 2 == status_of(database).rows


def test_what_waits_is_counted_by_how_it_waits(database: Database) -> None:
    sync_streams(database, "invoices")
    first, second, *_ = enqueue(database, "1", "2", "3")
    with database.begin() as tx:
        inbox.park(tx, first, reason="Ви не маєте доступу")
        inbox.hold(tx, second, reason="many")
        webhooks.append(tx, [webhooks.AcceptedWebhook("books", "{}", "invoices", "9")])
    row = status_of(database)
    assert (2, 1, 1) == (row.pending, row.parked, row.held)
    assert row.last_error in {"Ви не маєте доступу", "many"}


def test_a_parked_resource_counts_as_one_parked_and_says_why(database: Database) -> None:
    sync_streams(database, "invoices", "orders")
    with database.begin() as tx:
        refusal, until = streams.Refusal("API not enabled", streams.LISTING, ""), tx.now + timedelta(hours=1)
        streams.park(tx, "books", "invoices", refusal, until=until, by_full_sync=True)
    assert (1, "API not enabled") == (status_of(database).parked, status_of(database).last_error)
    assert (until, None) == (status_of(database).retry_at, status_of(database, "orders").retry_at)
    assert (0, None) == (status_of(database, "orders").parked, status_of(database, "orders").last_error)


def test_a_full_sync_under_way_shows_its_progress(database: Database) -> None:
    sync_streams(database, "invoices")
    with database.begin() as tx:
        stream = streams.get(tx, "books", "invoices")
        assert stream is not None
        now = database.now(tx)
        run = full_syncs.begin(tx, stream, revision=1, cause=Cause.BACKFILL, now=now)
        full_syncs.advance(tx, stream, run=run, cursor="p2", pages=1, objects=500)
    assert 500 == status_of(database).full_sync


def test_many_connections_take_as_many_statements_as_one(database: Database) -> None:
    def count_statements(*names: str) -> int:
        with database.begin() as tx:
            for name in names:
                plans = [stream_plans.Plan("invoices", timedelta(hours=1), polls=True)]
                stream_plans.sync(tx, connection=name, system="directo", plans=plans)
        statements: list[str] = []
        status.resources(database)

        def count(_connection: object, _cursor: object, statement: str, *_: object) -> None:
            statements.append(statement)

        sa.event.listen(database.engine, "before_cursor_execute", count)
        status.resources(database)
        sa.event.remove(database.engine, "before_cursor_execute", count)
        return len(statements)

    write_path.write(database, {"1": {"v": 1}})
    assert count_statements("books") == count_statements(*(f"c{number}" for number in range(30)))
