"""The door to the database: transactions that wait for the disk or not, statements alone, connections that died."""

from __future__ import annotations

from contextlib import suppress

import sqlalchemy as sa

from models.db.database import NO_SYNC, Database
from models.db.tables import seen_keys
from tests.services import ON_POSTGRESQL

ROW = {"connection": "shop", "resource": "goods", "key": "1"}


class _BrokenError(Exception):
    """What broke a transaction off."""


def rows(database: Database) -> int:
    with database.read() as tx:
        return tx.execute(sa.select(sa.func.count()).select_from(seen_keys)).scalar_one()


def durability(tx: sa.Connection) -> str:
    """What this transaction's end waits for, in the database's own words."""
    shown = "PRAGMA synchronous" if tx.dialect.name == "sqlite" else "SHOW synchronous_commit"
    return {"2": "durable", "on": "durable"}.get(str(tx.exec_driver_sql(shown).scalar()), "lazy")


def test_a_lazy_transaction_is_there_for_everybody_once_it_has_ended(database: Database) -> None:
    with database.begin(durable=False) as tx:
        tx.execute(sa.insert(seen_keys), ROW)
    assert 1 == rows(database)


def test_a_lazy_transaction_that_breaks_off_leaves_nothing(database: Database) -> None:
    with suppress(_BrokenError), database.begin(durable=False) as tx:
        tx.execute(sa.insert(seen_keys), ROW)
        raise _BrokenError
    assert 0 == rows(database)


def test_only_a_lazy_transaction_does_not_wait_for_the_disk(database: Database) -> None:
    found = []
    for durable in (True, False, True):
        with database.begin(durable=durable) as tx:
            found.append(durability(tx))
    assert ["durable", "lazy", "durable"] == found


def test_a_statement_alone_is_there_for_everybody_once_it_was_executed(database: Database) -> None:
    with database.autocommit(durable=False) as tx:
        tx.execute(sa.insert(seen_keys), ROW)
    with database.autocommit() as tx:
        assert ["1"] == tx.execute(sa.select(seen_keys.c.key)).scalars().all()


@ON_POSTGRESQL
def test_a_statement_that_need_not_wait_says_nothing_about_the_next_one(database: Database) -> None:
    with database.autocommit(durable=False) as tx:
        assert "off" == tx.execute(sa.insert(seen_keys).returning(NO_SYNC), ROW).scalar_one()
        assert "durable" == durability(tx)
    with database.begin() as tx:
        assert "durable" == durability(tx)


def test_after_a_statement_alone_transactions_are_transactions_again(database: Database) -> None:
    with database.autocommit(durable=False) as tx:
        tx.execute(sa.insert(seen_keys), ROW)
    with suppress(_BrokenError), database.begin() as tx:
        tx.execute(sa.delete(seen_keys))
        raise _BrokenError
    assert 1 == rows(database)


@ON_POSTGRESQL
def test_a_connection_that_died_while_it_rested_is_replaced(database: Database) -> None:
    with database.read() as tx:
        number = tx.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
    other = Database(database.url)
    with other.begin() as tx:
        tx.execute(sa.select(sa.func.pg_terminate_backend(number, 10_000)))
    other.close()
    assert 0 == rows(database)


def test_the_clock_of_a_statement_is_the_database_s(database: Database) -> None:
    with database.begin() as tx:
        before = database.now(tx)
        clocks = [database.clock_sql(), database.clock_sql(steady=True)]
        shown = [tx.execute(sa.select(clock.expression), clock.params).scalar_one() for clock in clocks]
        read = [before, *shown, database.now(tx)]
    assert sorted(read) == read
