"""A reader of the journal by `id > last` misses nothing, and no id comes twice."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from models.bookkeeping import journal
from models.db.database import Database, Tx
from models.values import Cause, Change, ChangeKind
from tests.models.write_path import START

if TYPE_CHECKING:
    from datetime import datetime


def append(database: Database, count: int = 1, *, at: datetime = START, resource: str = "invoices") -> None:
    changes = [Change(str(number), ChangeKind.CREATED, None, {"n": number}) for number in range(count)]
    with database.begin() as tx:
        journal.append(tx, "books", resource, changes, revision=1, cause=Cause.POLL, now=at)


def ids(database: Database, after: int = 0, limit: int = 1000) -> list[int]:
    with database.read() as tx:
        return [entry.id for entry in journal.read(tx, after=after, limit=limit)]


def test_ids_have_no_gaps_also_after_a_rollback(database: Database) -> None:
    append(database, 2)
    tx = Tx(database)
    with tx:
        change = Change("x", ChangeKind.DELETED, None, None)
        journal.append(tx, "books", "invoices", [change], revision=1, cause=Cause.POLL, now=START)
        tx.rollback()
    append(database, 3)
    assert [1, 2, 3, 4, 5] == ids(database)


def test_no_changes_take_no_id_and_no_lock(database: Database) -> None:
    with database.begin() as tx:
        journal.append(tx, "books", "invoices", [], revision=1, cause=Cause.POLL, now=START)
        assert (1, 0) == journal.bounds(tx)[:2]


def test_a_reader_pages_and_chooses(database: Database) -> None:
    append(database, 3)
    append(database, 1, resource="items")
    assert [2, 3] == ids(database, after=1, limit=2)
    with database.read() as tx:
        (entry,) = journal.read(tx, after=0, limit=9, connection="books", resource="items")
        assert [] == journal.read(tx, after=0, limit=9, connection="unknown")
    assert (4, START, "books", "items", "0", "created", 1, "poll", None, {"n": 0}) == tuple(entry)


def test_trimming_leaves_no_gap_and_reuses_no_id(database: Database) -> None:
    append(database, 2, at=START)
    append(database, 1, at=START + timedelta(days=2))
    append(database, 1, at=START)  # a clock that stepped back
    with database.begin() as tx:
        assert 2 == journal.trim(tx, START + timedelta(days=1))
        assert (3, 4) == journal.bounds(tx)[:2]
        assert 2 == journal.trim(tx, START + timedelta(days=9))
        assert (5, 4) == journal.bounds(tx)[:2]
    append(database)
    assert [5] == ids(database)


def test_a_reader_by_id_never_misses_an_entry_while_many_commit(database: Database) -> None:
    writers, each, size = 4, 15, 3
    expected = writers * each * size

    def run() -> None:
        mine = Database(database.url)
        for _ in range(each):
            append(mine, size)
        mine.close()

    threads = [threading.Thread(target=run) for _ in range(writers)]
    for thread in threads:
        thread.start()
    read: list[int] = []
    while len(read) < expected and (news := ids(database, after=read[-1] if read else 0)) is not None:
        read.extend(news)
        if not news and not any(thread.is_alive() for thread in threads):
            read.extend(ids(database, after=read[-1] if read else 0))
            break
    for thread in threads:
        thread.join(timeout=60)
    assert list(range(1, expected + 1)) == read
