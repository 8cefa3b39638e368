"""Waiting for the journal's news on every database."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from models.bookkeeping import journal
from models.bookkeeping.journal_news import JournalNews
from models.values import Cause, Change, ChangeKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.db.database import Database

A_MINUTE = 60.0
A_MOMENT = 0.05


@pytest.fixture
def news(database: Database) -> Iterator[JournalNews]:
    opened = JournalNews(database)
    yield opened
    opened.close()


def _change(database: Database, *, fails: bool = False) -> None:
    with database.begin() as tx:
        change = Change("7", ChangeKind.CREATED, None, {"id": "7"})
        journal.append(tx, "shop", "catalogs.goods", [change], revision=1, cause=Cause.WEBHOOK, now=tx.now)
        if fails:
            raise RuntimeError


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
    with pytest.raises(RuntimeError):
        _change(database, fails=True)
    assert not news.wait(A_MOMENT)


@pytest.mark.parametrize("empty_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_a_lost_connection_is_opened_again(database: Database) -> None:
    news = JournalNews(database)
    news.wait(0)
    with database.begin() as tx:
        tx.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT current_schema%%' "
            "AND pid <> pg_backend_pid()"
        )
    assert not news.wait(A_MOMENT)
    assert news.wait(A_MINUTE)
    threading.Timer(A_MOMENT, _change, [database]).start()
    began = time.monotonic()
    assert news.wait(A_MINUTE)
    assert time.monotonic() - began < A_MINUTE
    news.close()
