from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from models import exact
from models.bookkeeping import journal, stream_plans
from models.db import tables
from models.values import Cause, Change, ChangeKind
from tests.receiver.api import journaling

if TYPE_CHECKING:
    import httpx

    from models.db.database import Database
    from tests.receiver.conftest import Open


def _page(client: httpx.Client, **question: Any) -> dict[str, Any]:
    answer = client.get("/changes", params=question)
    assert 200 == answer.status_code, answer.text
    assert "application/json" == answer.headers["Content-Type"]
    page: dict[str, Any] = exact.loads(answer.content)
    assert ["changes", "last", "oldest", "feed"] == list(page)
    return page


def _ids(page: dict[str, Any]) -> list[int]:
    return [change["id"] for change in page["changes"]]


def test_an_entry_is_complete_and_with_exact_numbers(database: Database, opened: Open) -> None:
    price = Decimal("1234567890123456789.0123456789")
    change = Change("7", ChangeKind.UPDATED, {"price": Decimal("1.50")}, {"price": price, "name": "мед \U0001f41d"})
    with database.begin() as tx:
        journal.append(tx, "shop", "catalogs.goods", [change], revision=42, cause=Cause.POLL, now=journaling.NOW)
    with opened(database) as client:
        answer = client.get("/changes")
    assert str(price) in answer.text
    assert [
        {
            "id": 1,
            "at": "2026-02-01T12:30:00+00:00",
            "connection": "shop",
            "resource": "catalogs.goods",
            "key": "7",
            "kind": "updated",
            "revision": 42,
            "cause": "poll",
            "before": {"price": Decimal("1.50")},
            "after": {"price": price, "name": "мед \U0001f41d"},
        }
    ] == exact.loads(answer.content)["changes"]


def test_a_deletion_has_no_after(sqlite: Database, opened: Open) -> None:
    with sqlite.begin() as tx:
        change = Change("7", ChangeKind.DELETED, None, None)
        journal.append(tx, "shop", "catalogs.goods", [change], revision=1, cause=Cause.WEBHOOK, now=journaling.NOW)
    with opened(sqlite) as client:
        change = _page(client)["changes"][0]
    assert ("deleted", None, None) == (change["kind"], change["before"], change["after"])


def test_an_empty_journal_is_an_empty_page(database: Database, opened: Open) -> None:
    with opened(database) as client:
        page = _page(client)
    assert ([], 0, 1) == (page["changes"], page["last"], page["oldest"])
    assert page["feed"]


def test_following_last_reads_every_entry_once(database: Database, opened: Open) -> None:
    journaling.write(database, *"abcdefg")
    seen, last = [], 0
    with opened(database) as client:
        while page := _page(client, after=last, limit=3):
            if not page["changes"]:
                break
            seen += _ids(page)
            last = page["last"]
        assert [1, 2, 3, 4, 5, 6, 7] == seen
        assert 7 == last
        journaling.write(database, "h")
        assert [8] == _ids(_page(client, after=last))


def test_a_filter_selects_entries_and_last_passes_over_the_others(database: Database, opened: Open) -> None:
    journaling.write(database, "a", "b")
    journaling.write(database, "c", connection="books", resource="items")
    journaling.write(database, "a", resource="documents.saleOrder")
    journaling.write(database, "a", kind=ChangeKind.DELETED)
    with opened(database) as client:
        assert [3] == _ids(_page(client, connection="books"))
        assert [1, 2, 4, 5] == _ids(_page(client, connection="shop"))
        assert [1, 2, 5] == _ids(_page(client, connection="shop", resource="catalogs.goods"))
        assert [4] == _ids(_page(client, resource="documents.saleOrder"))
        assert [5] == _ids(_page(client, kind="deleted"))
        assert [] == _ids(_page(client, kind="restored"))
        assert [1, 4, 5] == _ids(_page(client, key="a"))
        assert [1, 5] == _ids(_page(client, key="a", resource="catalogs.goods"))
        assert [] == _ids(_page(client, key="A"))
        assert 5 == _page(client, connection="books")["last"]
        assert 1 == _page(client, connection="shop", limit=1)["last"]


def test_a_name_that_neither_the_settings_nor_the_mirror_know_is_404_with_those_that_exist(
    database: Database, opened: Open
) -> None:
    with opened(database) as client:
        for question, code, known in (
            ({"connection": "shp"}, "unknown_connection", "there are books, shop"),
            (
                {"resource": "item"},
                "unknown_resource",
                "; there are catalogs.goods, deleted, documents.saleOrder, items",
            ),
            (
                {"connection": "books", "resource": "catalogs.goods"},
                "unknown_resource",
                "in this connection; there are deleted, items",
            ),
        ):
            for headers in ({}, {"Accept": "text/event-stream"}):
                answer = client.get("/changes", params=question, headers=headers)
                assert (404, code) == (answer.status_code, answer.json()["error"])
                assert answer.json()["message"].endswith(known)


def test_a_connection_that_is_configured_no_longer_is_known_by_what_the_mirror_has(
    database: Database, opened: Open
) -> None:
    with database.begin() as tx:
        plans = [stream_plans.Plan("things", timedelta(hours=1), polls=True)]
        stream_plans.sync(tx, connection="former", system="dilovod", plans=plans)
    journaling.write(database, "a", connection="former", resource="things")
    with opened(database) as client:
        assert [1] == _ids(_page(client, connection="former"))
        assert [1] == _ids(_page(client, connection="former", resource="things"))
        assert [1] == _ids(_page(client, resource="things"))


def test_an_after_below_the_oldest_entry_is_410(database: Database, opened: Open) -> None:
    journaling.write(database, *"abcdef")
    journaling.trim(database, 3)
    with opened(database) as client:
        for after in (1, 2):
            answer = client.get("/changes", params={"after": after})
            assert (410, "gone") == (answer.status_code, answer.json()["error"])
        # A caller that has entry 3 misses nothing.
        assert [[4, 5, 6], [5, 6], []] == [_ids(_page(client, after=after)) for after in (3, 4, 6)]
        page = _page(client, after=0)
        assert ([4, 5, 6], 4) == (_ids(page), page["oldest"])


def test_reading_from_the_start_is_never_410(database: Database, opened: Open) -> None:
    journaling.write(database, *"abc", at=journaling.NOW - timedelta(days=400))
    with database.begin() as tx:
        journal.trim(tx, journaling.NOW)
    with opened(database) as client:
        page = _page(client, after=0)
        assert ([], 3, 4) == (page["changes"], page["last"], page["oldest"])
        assert [] == _ids(_page(client, after=3))


@pytest.mark.parametrize(
    "query",
    [
        "after=",
        "after=-1",
        "after=1.5",
        "after=one",
        "after=1e3",
        "after=%D9%A1",
        "after=9223372036854775808",
        "after=99999999999999999999999",
        "after=1&after=2",
        "limit=0",
        "limit=-5",
        "limit=1001",
        "limit=all",
        "connection=",
        "connection=a%00b",
        "connection=a&connection=b",
        "resource=",
        "kind=",
        "kind=changed",
        "kind=Created",
        "key=",
        "wait=",
        "wait=61",
        "wait=-1",
        "wait=0.5",
        "since=5",
    ],
)
def test_malformed_parameters_are_400(sqlite: Database, opened: Open, query: str) -> None:
    with opened(sqlite) as client:
        answer = client.get(f"/changes?{query}")
    assert (400, "malformed") == (answer.status_code, answer.json()["error"])
    assert answer.json()["message"]


@pytest.mark.parametrize("beyond", [4, 100, 2**63 - 1])
def test_a_reader_that_has_read_beyond_the_end_shows_that_a_backup_was_restored(
    database: Database, opened: Open, beyond: int
) -> None:
    """Nothing else may know: a machine's snapshot brings back every file of ours, too."""
    journaling.write(database, *"abc")
    with opened(database) as client:
        before = _page(client, after=3)["feed"]
        answer = client.get("/changes", params={"after": beyond})
        assert (410, "gone") == (answer.status_code, answer.json()["error"])
        assert "a backup was restored" in answer.json()["message"]
        after = _page(client, after=0)["feed"]
        assert before != after  # so every other reader learns it, too
        client.get("/changes", params={"after": beyond})
        assert after == _page(client, after=3)["feed"]  # the same proof once more proves nothing new


def test_an_unknown_kind_is_answered_with_the_known_ones(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        answer = client.get("/changes", params={"kind": "changed"})
    assert "there is no such kind; there are created, updated, deleted, restored" == answer.json()["message"]


def test_a_database_without_tables_is_503(opened: Open, sqlite: Database) -> None:
    with sqlite.begin() as tx:
        tables.metadata.drop_all(tx)
    with opened(sqlite) as client:
        answer = client.get("/changes")
    assert (503, "database") == (answer.status_code, answer.json()["error"])
