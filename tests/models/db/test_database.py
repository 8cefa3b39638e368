"""Transactions that wait for the disk or do not, single statements, connections that the server closed."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import sqlalchemy as sa

from models.db.database import NO_SYNC, Database
from models.db.tables import seen_keys
from tests.services import ON_POSTGRESQL

ROW = {"connection": "shop", "resource": "goods", "keys": ["1"]}


class _BrokenError(Exception):
    """Raised to roll a transaction back."""


def rows(database: Database) -> int:
    with database.read() as tx:
        return tx.execute(sa.select(sa.func.count()).select_from(seen_keys)).scalar_one()


def durability(tx: sa.Connection) -> str:
    """Whether this transaction's commit waits for the disk, by the database's own settings."""
    shown = "PRAGMA synchronous" if tx.dialect.name == "sqlite" else "SHOW synchronous_commit"
    return {"2": "durable", "on": "durable"}.get(str(tx.exec_driver_sql(shown).scalar()), "not durable")


def test_a_transaction_that_is_not_durable_is_visible_once_committed(database: Database) -> None:
    with database.begin(durable=False) as tx:
        tx.execute(sa.insert(seen_keys), ROW)
    assert 1 == rows(database)


def test_a_transaction_that_is_not_durable_can_be_rolled_back(database: Database) -> None:
    with suppress(_BrokenError), database.begin(durable=False) as tx:
        tx.execute(sa.insert(seen_keys), ROW)
        raise _BrokenError
    assert 0 == rows(database)


def test_only_a_transaction_that_is_not_durable_does_not_wait_for_the_disk(database: Database) -> None:
    found = []
    for durable in (True, False, True):
        with database.begin(durable=durable) as tx:
            found.append(durability(tx))
    assert ["durable", "not durable", "durable"] == found


def test_a_single_statement_is_visible_once_executed(database: Database) -> None:
    with database.autocommit(durable=False) as tx:
        tx.execute(sa.insert(seen_keys), ROW)
    with database.autocommit() as tx:
        assert [["1"]] == tx.execute(sa.select(seen_keys.c["keys"])).scalars().all()


@ON_POSTGRESQL
def test_a_statement_that_is_not_durable_does_not_change_the_next_one(database: Database) -> None:
    with database.autocommit(durable=False) as tx:
        assert "off" == tx.execute(sa.insert(seen_keys).returning(NO_SYNC), ROW).scalar_one()
        assert "durable" == durability(tx)
    with database.begin() as tx:
        assert "durable" == durability(tx)


def test_after_a_single_statement_transactions_roll_back_again(database: Database) -> None:
    with database.autocommit(durable=False) as tx:
        tx.execute(sa.insert(seen_keys), ROW)
    with suppress(_BrokenError), database.begin() as tx:
        tx.execute(sa.delete(seen_keys))
        raise _BrokenError
    assert 1 == rows(database)


@ON_POSTGRESQL
def test_a_connection_in_use_when_the_database_is_closed_is_closed_once_given_back(database: Database) -> None:
    own = Database(database.url)
    links = []
    with own.read() as tx:
        links.append(tx.connection.driver_connection)
        own.close()
        assert 1 == tx.execute(sa.text("SELECT 1")).scalar_one()
    with own.read() as tx:  # a thread that the end did not wait for may begin once more
        links.append(tx.connection.driver_connection)
    assert [True, True] == [link is not None and link.closed for link in links]


@ON_POSTGRESQL
def test_an_idle_connection_that_the_server_closed_is_replaced(database: Database) -> None:
    with database.read() as tx:
        number = tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    other = Database(database.url)
    with other.begin() as tx:
        tx.execute(sa.select(sa.func.pg_terminate_backend(number, 10_000)))
    other.close()
    assert 0 == rows(database)


def test_a_statements_clock_is_the_databases(database: Database) -> None:
    with database.begin() as tx:
        before = database.now(tx)
        clocks = [database.clock_sql(), database.clock_sql(steady=True)]
        shown = [tx.execute(sa.select(clock.expression), clock.params).scalar_one() for clock in clocks]
        read = [before, *shown, database.now(tx)]
    assert sorted(read) == read


@ON_POSTGRESQL
def test_how_the_server_shows_dates_makes_no_difference(database: Database) -> None:
    other = Database(database.url.update_query_dict({"options": "-c datestyle=German -c timezone=Asia/Tokyo"}))
    try:
        with database.begin() as tx, other.read() as elsewhere:
            assert timedelta(minutes=-1) < elsewhere.now - tx.now < timedelta(minutes=1)
    finally:
        other.close()
