from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.workers.connectors.directo.conftest import Account, Listing, options
from workers.connectors.directo import resources
from workers.connectors.directo.sandbox import DeletionShape
from workers.connectors.directo.sandbox_books import Deleted
from workers.errors import SetAside

if TYPE_CHECKING:
    from models.values import Mention

KNOWN = resources.catalogue(options("http://localhost"))


def mentions(reading: Listing) -> list[Mention]:
    return [mention for chunk in reading.chunks for mention in chunk.mentions]


@pytest.mark.parametrize(
    ("row", "mention"),
    [
        ({"resource": "orders", "number": 7, "ts": "2026-01-01 10:00:00"}, ("orders", "7")),
        ({"resource_type": "customers", "code": "CUST1"}, ("customers", "CUST1")),
        ({"Table": "ITEM", "Key": "1011"}, ("items", "1011")),
        ({"type": "itemclass", "id": "KAUP"}, ("itemclasses", "KAUP")),
        ({"RESOURCE": "transactions", "TYPE": "OST", "NUMBER": 7}, ("transactions", "OST:7")),
        ({"table": "transactions", "key": "OST:7"}, ("transactions", "OST:7")),
        ({"table": "transactions", "number": 7}, None),
        ({"type": "transactions", "number": 7}, None),
        ({"resource": "orders"}, None),
        ({"resource": "orders", "number": ""}, None),
        ({"resource": "unheard", "number": 7}, None),
        ({"number": 7, "ts": "2026-01-01 10:00:00"}, None),
        ({"resource": 5, "number": 7}, None),
        ({}, None),
    ],
)
def test_a_row_is_understood_by_the_usual_names(row: dict[str, Any], mention: tuple[str, str] | None) -> None:
    told = resources.parse_deletion(row, KNOWN)
    assert mention == (None if told is None else (told.ref.resource, told.ref.key))


@pytest.mark.parametrize("shape", [DeletionShape.PLAIN, DeletionShape.TABLE, DeletionShape.CAPITALS])
def test_a_deletion_is_a_mention_and_its_row_is_kept(account: Account, shape: DeletionShape) -> None:
    account.sandbox.shape = shape
    account.sandbox.books.delete_order(Random(1))
    account.sandbox.books.remove("transactions", account.sandbox.books.tables["transactions"][0])
    reading = account.list_all("deleted")
    assert account.sandbox.truth("deleted") == reading.objects
    assert {"orders", "transactions"} == {mention.resource for mention in mentions(reading)}
    assert "MYYK:1" in {mention.key for mention in mentions(reading)}
    assert not reading.end.complete


def test_a_row_that_is_not_understood_is_set_aside_as_sent(account: Account) -> None:
    account.sandbox.shape = DeletionShape.STRANGE
    account.sandbox.books.delete_order(Random(1))
    reading = account.list_all("deleted")
    assert [] == mentions(reading)
    assert [3] == [each.raw["action"] for chunk in reading.chunks for each in chunk.unreadable]


@pytest.mark.parametrize("account", [{"resources": ["items"]}], indirect=True)
def test_a_deletion_in_a_resource_that_is_not_mirrored_mentions_nothing(account: Account) -> None:
    account.sandbox.books.delete_order(Random(1))
    reading = account.list_all("deleted")
    assert [] == mentions(reading)
    assert account.sandbox.truth("deleted") == reading.objects


def test_a_deletion_is_mentioned_once_though_the_overlap_brings_it_again(account: Account) -> None:
    cursor = account.list_all("deleted").end.cursor
    account.clock.advance(minutes=10)
    account.sandbox.books.delete_order(Random(1))
    first = account.list_all("deleted", cursor)
    account.clock.advance(minutes=1)
    account.sandbox.books.delete_order(Random(2))
    second = account.list_all("deleted", first.end.cursor)
    third = account.list_all("deleted", second.end.cursor)
    assert [1, 1, 0] == [len(mentions(reading)) for reading in (first, second, third)]
    assert [1, 2, 2] == [len(reading.objects) for reading in (first, second, third)]


def test_a_deletion_without_a_time_is_mentioned_once(account: Account) -> None:
    account.sandbox.shape = DeletionShape.TIMELESS
    cursor = None
    told = []
    for turn in range(4):
        if turn < 2:
            account.sandbox.books.delete_order(Random(turn))
        reading = account.list_all("deleted", cursor)
        told.append(len(mentions(reading)))
        cursor = reading.end.cursor
        account.clock.advance(minutes=10)
    assert [1, 1, 0, 0] == told


def test_of_deletions_without_a_time_no_more_are_mentioned_than_can_be_remembered(account: Account) -> None:
    account.sandbox.shape = DeletionShape.TIMELESS
    books = account.sandbox.books
    books.deleted = [Deleted("orders", {"number": number}, books.stamp()) for number in range(2100)]
    first = account.list_all("deleted")
    assert 2000 == len(mentions(first))
    assert [] == mentions(account.list_all("deleted", first.end.cursor))


def test_history_is_no_news(account: Account) -> None:
    account.sandbox.books.delete_order(Random(1))
    account.clock.advance(days=3)
    reading = account.list_all("deleted")
    assert account.sandbox.truth("deleted") == reading.objects
    assert [] == mentions(reading)


def test_an_ignored_filter_does_not_mention_history(account: Account) -> None:
    account.sandbox.books.delete_order(Random(1))
    cursor = account.list_all("deleted").end.cursor
    account.clock.advance(days=3)
    account.sandbox.books.delete_order(Random(2))
    cursor = account.list_all("deleted", cursor).end.cursor
    account.sandbox.ignored.add("ts")
    reading = account.list_all("deleted", cursor)
    assert [] == mentions(reading)
    assert "ignored" in str(reading.end.warning)


def test_the_date_of_a_document_is_not_taken_for_the_time_of_its_deletion() -> None:
    told = resources.parse_deletion({"resource": "orders", "number": 7, "date": "2020-01-01T00:00:00"}, KNOWN)
    assert told is not None
    assert told.deleted_at == ""


def test_a_list_of_deletions_that_nobody_understands_is_set_aside_whole(account: Account) -> None:
    account.sandbox.shape = DeletionShape.STRANGE
    books = account.sandbox.books
    books.deleted = [Deleted("orders", {"number": number}, books.stamp()) for number in range(500)]
    with pytest.raises(SetAside, match="it has action, rid, ts") as raised:
        account.list_all("deleted")
    assert raised.value.whole_resource


@pytest.mark.parametrize("account", [{"timeout": timedelta(seconds=1)}], indirect=True)
def test_a_history_that_takes_too_long_is_read_from_where_it_may_be_news(account: Account) -> None:
    books = account.sandbox.books
    account.clock.now = datetime.now(UTC) - timedelta(days=90)
    for _ in range(3):
        books.delete_order(Random(1))
    account.clock.advance(days=90)
    books.delete_order(Random(1))
    account.sandbox.slow_above = 2
    reading = account.list_all("deleted")
    assert [True, False] == [end.more for end in reading.ends]
    assert 1 == len(mentions(reading))
