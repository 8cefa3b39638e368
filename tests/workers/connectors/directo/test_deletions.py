from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from tests.workers.connectors.directo.conftest import Account, Listing, options
from workers.connectors.directo import resources
from workers.connectors.directo.sandbox import DeletionShape
from workers.connectors.directo.sandbox_data import Deleted

if TYPE_CHECKING:
    from models.values import ObjectRef

KNOWN = resources.catalogue(options("http://localhost"))


def refs(listing: Listing) -> list[ObjectRef]:
    return [ref for chunk in listing.chunks for ref in chunk.refs]


@pytest.mark.parametrize(
    ("row", "ref"),
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
        ({"resource": "unknown", "number": 7}, None),
        ({"number": 7, "ts": "2026-01-01 10:00:00"}, None),
        ({"resource": 5, "number": 7}, None),
        ({}, None),
    ],
)
def test_a_deletion_is_parsed_by_common_field_names(row: dict[str, Any], ref: tuple[str, str] | None) -> None:
    deletion = resources.parse_deletion(row, KNOWN)
    assert ref == (None if deletion is None else (deletion.ref.resource, deletion.ref.key))


@pytest.mark.parametrize("shape", [DeletionShape.PLAIN, DeletionShape.TABLE, DeletionShape.CAPITALS])
def test_a_deletion_enqueues_its_object_and_its_row_is_kept(account: Account, shape: DeletionShape) -> None:
    account.sandbox.shape = shape
    account.sandbox.books.delete_order(Random(1))
    account.sandbox.books.remove("transactions", account.sandbox.books.tables["transactions"][0])
    listing = account.list_all("deleted")
    assert account.sandbox.truth("deleted") == listing.objects
    assert {"orders", "transactions"} == {ref.resource for ref in refs(listing)}
    assert "MYYK:1" in {ref.key for ref in refs(listing)}
    assert not listing.end.complete


def test_an_unknown_row_of_deletions_is_unreadable_and_kept_as_sent(account: Account) -> None:
    account.sandbox.shape = DeletionShape.UNKNOWN
    account.sandbox.books.delete_order(Random(1))
    listing = account.list_all("deleted")
    assert [] == refs(listing)
    assert [3] == [each.raw["action"] for chunk in listing.chunks for each in chunk.unreadable]


@pytest.mark.parametrize("account", [{"resources": ["items"]}], indirect=True)
def test_a_deletion_in_a_resource_that_is_not_mirrored_enqueues_nothing(account: Account) -> None:
    account.sandbox.books.delete_order(Random(1))
    listing = account.list_all("deleted")
    assert [] == refs(listing)
    assert account.sandbox.truth("deleted") == listing.objects


def test_a_deletion_that_the_overlap_repeats_is_enqueued_once(account: Account) -> None:
    cursor = account.list_all("deleted").end.cursor
    account.clock.advance(minutes=10)
    account.sandbox.books.delete_order(Random(1))
    first = account.list_all("deleted", cursor)
    account.clock.advance(minutes=1)
    account.sandbox.books.delete_order(Random(2))
    second = account.list_all("deleted", first.end.cursor)
    third = account.list_all("deleted", second.end.cursor)
    assert [1, 1, 0] == [len(refs(listing)) for listing in (first, second, third)]
    assert [1, 2, 2] == [len(listing.objects) for listing in (first, second, third)]


def test_a_deletion_without_a_time_is_enqueued_once(account: Account) -> None:
    account.sandbox.shape = DeletionShape.TIMELESS
    cursor = None
    counts = []
    for number in range(4):
        if number < 2:
            account.sandbox.books.delete_order(Random(number))
        listing = account.list_all("deleted", cursor)
        counts.append(len(refs(listing)))
        cursor = listing.end.cursor
        account.clock.advance(minutes=10)
    assert [1, 1, 0, 0] == counts


def test_deletions_without_a_time_are_enqueued_up_to_the_limit_of_the_cursor(account: Account) -> None:
    account.sandbox.shape = DeletionShape.TIMELESS
    books = account.sandbox.books
    books.deleted = [Deleted("orders", {"number": number}, books.stamp()) for number in range(2100)]
    first = account.list_all("deleted")
    assert 2000 == len(refs(first))
    assert [] == refs(account.list_all("deleted", first.end.cursor))


def test_a_deletion_covered_by_a_full_sync_is_not_enqueued(account: Account) -> None:
    account.sandbox.books.delete_order(Random(1))
    account.clock.advance(days=3)
    listing = account.list_all("deleted")
    assert account.sandbox.truth("deleted") == listing.objects
    assert [] == refs(listing)


def test_old_deletions_are_not_enqueued_if_the_filter_is_ignored(account: Account) -> None:
    account.sandbox.books.delete_order(Random(1))
    cursor = account.list_all("deleted").end.cursor
    account.clock.advance(days=3)
    account.sandbox.books.delete_order(Random(2))
    cursor = account.list_all("deleted", cursor).end.cursor
    account.sandbox.ignored.add("ts")
    listing = account.list_all("deleted", cursor)
    assert [] == refs(listing)
    assert "ignored" in str(listing.end.warning)


def test_the_date_of_a_document_is_not_the_time_of_its_deletion() -> None:
    deletion = resources.parse_deletion({"resource": "orders", "number": 7, "date": "2020-01-01T00:00:00"}, KNOWN)
    assert deletion is not None
    assert deletion.deleted_at == ""


def test_rows_that_name_no_object_share_a_reason_and_stop_nothing(account: Account) -> None:
    account.sandbox.shape = DeletionShape.UNKNOWN
    for number in range(10):
        account.sandbox.books.delete_order(Random(number))
    listing = account.list_all("deleted")
    reasons = {each.reason for chunk in listing.chunks for each in chunk.unreadable}
    assert ([], {"a row of /deleted that does not identify an object"}) == (refs(listing), reasons)


@pytest.mark.parametrize("account", [{"timeout": timedelta(seconds=1)}], indirect=True)
def test_a_list_of_deletions_that_times_out_is_read_from_a_recent_time(account: Account) -> None:
    books = account.sandbox.books
    account.clock.now = datetime.now(UTC) - timedelta(days=90)
    for _ in range(3):
        books.delete_order(Random(1))
    account.clock.advance(days=90)
    books.delete_order(Random(1))
    account.sandbox.slow_above = 2
    listing = account.list_all("deleted")
    assert [True, False] == [end.more for end in listing.ends]
    assert 1 == len(refs(listing))
