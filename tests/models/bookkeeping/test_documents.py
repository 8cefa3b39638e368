from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.bookkeeping import documents, inbox, parked
from models.bookkeeping.documents import State, StoredDocument
from models.db import tables
from models.values import Cause, Document, Lane

if TYPE_CHECKING:
    from models.bookkeeping.inbox import Item
    from models.db.database import Database

PDF = b"%PDF-1.7\none\n%%EOF\n"
KEY = "80e90e1c75cff86e96e166dd61e1322b360e9b646dcdd7ccf4b79925bc621b82"


def hand_in(database: Database, content: bytes = PDF, **values: Any) -> StoredDocument:
    given = {"connection": "in", "kind": "note", "name": "a.pdf", "order_id": None} | values
    with database.begin() as tx:
        return documents.hand_in(tx, content=content, **given)


def stored(database: Database) -> documents.DocumentRow:
    with database.read() as tx:
        found = documents.get(tx, connection="in", kind="note", sha256=KEY)
    assert found is not None
    return found


def waiting(database: Database) -> list[Item]:
    with database.read() as tx:
        return inbox.due(tx, connection="in", now=database.now(tx), limit=10)


def park(database: Database) -> None:
    [item] = waiting(database)
    with database.begin() as tx:
        documents.park(tx, item, reason="no")


def interpret(database: Database) -> None:
    [item] = waiting(database)
    with database.begin() as tx:
        assert documents.mark_interpreted(tx, item, now=database.now(tx))
        inbox.finish(tx, item)


def drop(database: Database) -> None:
    with database.begin() as tx:
        assert 1 == parked.drop(tx, connection="in")


def test_a_document_is_stored_and_enqueued_once(database: Database) -> None:
    assert [StoredDocument(KEY, new=True), StoredDocument(KEY, new=False)] == [hand_in(database) for _ in range(2)]
    [item] = waiting(database)
    assert ("note", KEY, Lane.LIVE, Cause.DOCUMENT) == (item.resource, item.key, item.lane, item.cause)
    with database.begin() as tx:
        assert Document(KEY, "a.pdf", PDF) == documents.load(tx, item)
    document = stored(database)
    assert ("a.pdf", len(PDF), State.WAITING, "due") == (
        document.name,
        document.size,
        document.state,
        document.inbox_state,
    )


def test_of_many_concurrent_requests_with_one_document_one_stores_it(database: Database) -> None:
    start, answers = threading.Barrier(8), []

    def one_of_many() -> None:
        start.wait()
        answers.append(hand_in(database).new)

    threads = [threading.Thread(target=one_of_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [False] * 7 + [True] == sorted(answers)
    assert 1 == len(waiting(database))


def test_an_interpreted_document_is_not_enqueued_again(database: Database) -> None:
    hand_in(database)
    interpret(database)
    hand_in(database)
    assert ([], State.INTERPRETED) == (waiting(database), stored(database).state)


def test_a_parked_document_stays_parked_when_it_is_handed_in_again(database: Database) -> None:
    hand_in(database)
    park(database)
    hand_in(database)
    document = stored(database)
    assert ([], State.PARKED, "parked", "no") == (
        waiting(database),
        document.state,
        document.inbox_state,
        document.reason,
    )


@pytest.mark.parametrize(("again", "enqueued"), [(True, 1), (False, 0)])
def test_a_dropped_document_is_enqueued_for_a_person_only(
    database: Database,
    again: bool,  # noqa: FBT001 - a column of a truth table
    enqueued: int,
) -> None:
    hand_in(database)
    park(database)
    drop(database)
    hand_in(database, again=again)
    assert enqueued == len(waiting(database))


@pytest.mark.parametrize("again", [True, False])
def test_a_waiting_document_without_an_inbox_row_is_enqueued(database: Database, again: bool) -> None:  # noqa: FBT001 - likewise
    hand_in(database)
    with database.begin() as tx:
        inbox.forget(tx, connection="in", resource="note")
    hand_in(database, again=again)
    assert 1 == len(waiting(database))


def test_an_order_may_be_added_while_the_document_waits(database: Database) -> None:
    for given, kept in ((None, None), ("17", "17"), (None, "17"), ("18", "18")):
        hand_in(database, order_id=given)
        assert kept == stored(database).order_id


def test_a_person_may_change_the_order_of_a_parked_document_and_the_folder_may_not(database: Database) -> None:
    hand_in(database, order_id="17")
    park(database)
    hand_in(database, again=False)
    assert "17" == stored(database).order_id
    hand_in(database)
    assert stored(database).order_id is None


def test_a_document_that_is_sending_or_interpreted_keeps_its_order(database: Database) -> None:
    hand_in(database, order_id="17")
    [item] = waiting(database)
    with database.begin() as tx:
        now = database.now(tx)
        documents.begin_sending(tx, item, now=now, until=now)
    hand_in(database, order_id="18")
    interpret(database)
    hand_in(database, order_id="18")
    assert "17" == stored(database).order_id


def test_a_document_that_is_handed_in_while_it_is_sending_is_not_enqueued_again(database: Database) -> None:
    """A new `wanted` would leave the row in the inbox after the answer."""
    hand_in(database)
    [item] = waiting(database)
    hand_in(database)
    with database.begin() as tx:
        assert inbox.finish(tx, item)


def test_each_kind_and_connection_has_its_own_documents(database: Database) -> None:
    assert hand_in(database).new
    assert hand_in(database, kind="other").new
    assert hand_in(database, connection="out").new
    with database.begin() as tx:
        documents.forget(tx, connection="in", kind="note")
    with database.read() as tx:
        left = tx.execute(sa.select(tables.documents.c.connection, tables.documents.c.kind)).all()
    assert {("in", "other"), ("out", "note")} == {tuple(row) for row in left}
    assert hand_in(database).new


def test_names_that_no_database_takes_are_stored_escaped(database: Database) -> None:
    hand_in(database, name=f"a\0\udce9{'x' * 400}.pdf", order_id="\0")
    assert (r"a\u0000\udce9xxx", 255) == (stored(database).name[:16], len(stored(database).name))


@pytest.mark.parametrize(
    ("expected", "content"),
    [
        (True, PDF),
        (True, b"\xef\xbb\xbf\r\n%PDF-1.4"),
        (True, b" " * 1019 + b"%PDF-"),
        (False, b" " * 1020 + b"%PDF-"),
        (False, b"%PDF"),
        (False, b"<html>"),
        (False, b""),
    ],
)
def test_a_pdf_is_recognised_by_its_beginning(expected: bool, content: bytes) -> None:  # noqa: FBT001 - a truth table
    assert expected == documents.is_pdf(content)


@pytest.mark.parametrize(
    ("expected", "content"),
    [
        (True, PDF),
        (True, PDF + b"\0" * 5000),
        (True, PDF + b" \r\n" * 2000),
        (True, PDF + b"x" * 1018),
        (False, PDF + b"x" * 1024),
        (False, b"%PDF-1.7"),
    ],
)
def test_a_pdf_may_be_padded_after_its_end(expected: bool, content: bytes) -> None:  # noqa: FBT001 - a truth table
    assert expected == documents.has_end(content)
