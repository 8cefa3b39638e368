"""Waiting for the journal's news on every database."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models import exact
from models.bookkeeping import journal
from models.bookkeeping.journal_news import JournalNews, Reading
from models.db import faults, tables
from models.db.database import Database, Tx
from models.db.faults import Fault
from models.db.tables import changes
from models.values import Cause, Change, ChangeKind
from tests import processes

if TYPE_CHECKING:
    from collections.abc import Iterator


A_MINUTE = 60.0
A_MOMENT = 0.05


@pytest.fixture
def news(database: Database) -> Iterator[JournalNews]:
    opened = JournalNews(database)
    yield opened
    opened.close()


def _change(database: Database) -> None:
    with database.begin() as tx:
        change = Change("7", ChangeKind.CREATED, None, {"id": "7"})
        journal.append(tx, "shop", "catalogs.goods", [change], revision=1, cause=Cause.WEBHOOK, now=tx.now)


def test_rows_are_the_same_by_the_driver_and_before_it_listens(database: Database, news: JournalNews) -> None:
    _change(database)
    chosen = changes.c.key.in_(["7", "50%", ":x"])
    reading = Reading(
        sa.select(changes.c.id, changes.c.at, changes.c.key, sa.cast(changes.c.after, sa.Text), sa.null())
        .where(changes.c.id > sa.bindparam("after", 0, type_=sa.BigInteger), chosen)
        .order_by(changes.c.id)
    )
    before = [tuple(row) for row in news.rows(reading, after=0)]
    news.wait(0)
    assert before == [tuple(row) for row in news.rows(reading, after=0)]
    [(id_, at, key, after, nothing)] = before
    assert (1, timedelta(0), "7", {"id": "7"}, None) == (id_, at.utcoffset(), key, exact.loads(after), nothing)
    assert [] == list(news.rows(reading, after=1))


@pytest.mark.postgresql
def test_a_connection_that_is_lost_in_between_is_an_error_that_callers_know() -> None:
    with processes.own_postgresql() as database:
        tables.metadata.create_all(database.engine)
        news = JournalNews(database)
        news.wait(0)
        news._link.close()
        with pytest.raises(sa.exc.OperationalError) as lost:
            news.rows(Reading(sa.select(changes.c.id)))
        assert Fault.AWAY is faults.of(lost.value)
        news.close()
        news.wait(0)
        assert [] == list(news.rows(Reading(sa.select(changes.c.id))))
        news.close()


def test_the_first_wait_returns_at_once_because_entries_may_have_been_written_before(news: JournalNews) -> None:
    assert news.wait(A_MINUTE)


def test_a_commit_ends_the_wait(database: Database, news: JournalNews) -> None:
    news.wait(0)
    threading.Timer(A_MOMENT, _change, [database]).start()
    assert news.wait(A_MINUTE)


def test_an_entry_that_was_written_between_two_waits_is_news(database: Database, news: JournalNews) -> None:
    news.wait(0)
    _change(database)
    assert news.wait(A_MINUTE)


def test_without_news_the_wait_ends(news: JournalNews) -> None:
    news.wait(0)
    assert not news.wait(A_MOMENT)


def test_what_is_rolled_back_is_no_news(database: Database, news: JournalNews) -> None:
    news.wait(0)
    tx = Tx(database)
    with tx:
        change = Change("7", ChangeKind.CREATED, None, {"id": "7"})
        journal.append(tx, "shop", "catalogs.goods", [change], revision=1, cause=Cause.WEBHOOK, now=tx.now)
        tx.rollback()
    assert not news.wait(A_MOMENT)


@pytest.mark.parametrize("empty_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_a_lost_connection_is_opened_again(database: Database) -> None:
    listening = Database(database.url.update_query_dict({"application_name": "test_journal_news"}))
    news = JournalNews(listening)
    news.wait(0)
    own = "application_name = 'test_journal_news' AND datname = current_database()"
    with database.begin() as tx:
        tx.exec_driver_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {own}")
    assert not news.wait(A_MOMENT)
    assert news.wait(A_MINUTE)
    threading.Timer(A_MOMENT, _change, [database]).start()
    began = time.monotonic()
    assert news.wait(A_MINUTE)
    assert time.monotonic() - began < A_MINUTE
    news.close()
    listening.close()
