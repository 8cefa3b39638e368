from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.bookkeeping import webhooks
from models.bookkeeping.webhooks import AcceptedWebhook
from models.db import tables
from models.db.database import Tx
from models.values import Cause, Lane
from tests import services

if TYPE_CHECKING:
    from models.db.database import Database


def _append(database: Database, *accepted: AcceptedWebhook) -> None:
    with database.begin() as tx:
        webhooks.append(tx, accepted)


def _fold(database: Database, limit: int = 100) -> int:
    with database.begin() as tx:
        return webhooks.fold(tx, connection="shop", limit=limit)


def _states(database: Database) -> list[tuple[str | None, str]]:
    table = tables.webhooks
    with database.read() as tx:
        return [(row.key, row.state) for row in tx.execute(sa.select(table.c.key, table.c.state).order_by(table.c.id))]


def _wanted(database: Database) -> dict[tuple[str, str], int]:
    with database.read() as tx:
        return {(row.resource, row.key): row.wanted for row in tx.execute(sa.select(tables.inbox))}


def _webhook(key: str, *, connection: str = "shop") -> AcceptedWebhook:
    return AcceptedWebhook(connection, f'{{"id": "{key}"}}', resource="catalogs.goods", key=key)


def test_a_webhook_is_stored_as_it_was_received(database: Database) -> None:
    packet = '{"id": "1", "note": "ціна 1.50 \U0001f41d"}'
    _append(database, AcceptedWebhook("shop", packet, resource="catalogs.goods", key="1"))
    with database.read() as tx:
        row = tx.execute(sa.select(tables.webhooks)).one()
    assert ("shop", "new", "catalogs.goods", "1", packet, None) == (
        row.connection,
        row.state,
        row.resource,
        row.key,
        row.packet,
        row.reason,
    )
    assert row.at.tzinfo is not None


def test_an_ignored_webhook_is_stored_with_its_reason_and_enqueues_nothing(database: Database) -> None:
    _append(database, AcceptedWebhook("shop", "{}", reason="unknown action"))
    assert 0 == _fold(database)
    assert [(None, "ignored")] == _states(database)
    assert {} == _wanted(database)


def test_text_that_no_database_stores_is_escaped(database: Database) -> None:
    _append(database, AcceptedWebhook("shop", "a\x00b\ud800c", reason="\x00"))
    with database.read() as tx:
        row = tx.execute(sa.select(tables.webhooks)).one()
    assert ("a\\u0000b\\ud800c", "\\u0000") == (row.packet, row.reason)


def test_no_webhooks_store_nothing(database: Database) -> None:
    _append(database)
    assert [] == _states(database)


def test_folding_enqueues_each_object_once_however_many_webhooks_it_has(database: Database) -> None:
    _append(database, _webhook("1"), _webhook("2"), _webhook("1"), _webhook("1"))
    assert 4 == _fold(database)
    assert {("catalogs.goods", "1"), ("catalogs.goods", "2")} == set(_wanted(database))
    assert {"folded"} == {state for _, state in _states(database)}
    with database.read() as tx:
        rows = tx.execute(sa.select(tables.inbox.c.lane, tables.inbox.c.cause)).all()
    assert {(Lane.LIVE, Cause.WEBHOOK)} == {(row.lane, row.cause) for row in rows}


def test_folding_twice_folds_nothing_twice(database: Database) -> None:
    _append(database, _webhook("1"))
    assert [1, 0] == [_fold(database), _fold(database)]


def test_folding_takes_the_oldest_first_and_no_more_than_the_limit(database: Database) -> None:
    _append(database, *(_webhook(str(number)) for number in range(5)))
    assert [2, 2, 1, 0] == [_fold(database, 2) for _ in range(4)]
    _append(database, _webhook("5"), _webhook("6"))
    assert 1 == _fold(database, 1)
    assert [("5", "folded"), ("6", "new")] == _states(database)[5:]


def test_folding_leaves_other_connections_alone(database: Database) -> None:
    _append(database, _webhook("1"), _webhook("2", connection="second"))
    assert 1 == _fold(database)
    assert [("1", "folded"), ("2", "new")] == _states(database)


def test_a_webhook_after_a_fold_raises_wanted(database: Database) -> None:
    _append(database, _webhook("1"))
    _fold(database)
    before = _wanted(database)
    _append(database, _webhook("1"))
    _fold(database)
    assert _wanted(database)["catalogs.goods", "1"] > before["catalogs.goods", "1"]


def test_a_fold_that_is_rolled_back_loses_no_webhook(database: Database) -> None:
    _append(database, _webhook("1"))
    tx = Tx(database)
    with tx, tx.begin() as transaction:
        assert 1 == webhooks.fold(tx, connection="shop", limit=10)
        transaction.rollback()
    assert [("1", "new")] == _states(database)
    assert {} == _wanted(database)


@services.ON_POSTGRESQL
def test_webhooks_that_another_worker_folds_are_left_to_it(database: Database) -> None:
    _append(database, _webhook("1"), _webhook("2"))
    with database.begin() as tx:
        assert 1 == webhooks.fold(tx, connection="shop", limit=1)
        other: list[int] = []
        thread = threading.Thread(target=lambda: other.append(_fold(database)))
        thread.start()
    thread.join()
    assert [1] == other
    assert {"folded"} == {state for _, state in _states(database)}


def test_trimming_keeps_what_is_young_and_what_is_not_folded(database: Database) -> None:
    _append(database, _webhook("1"))
    _fold(database)
    _append(database, AcceptedWebhook("shop", "{}", reason="unknown action"), _webhook("2"))
    long_ago, soon = datetime(2000, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(days=1)
    with database.begin() as tx:
        assert 0 == webhooks.trim(tx, long_ago, limit=10)
        assert 2 == webhooks.trim(tx, soon, limit=10)
    assert [("2", "new")] == _states(database)
