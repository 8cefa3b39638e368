from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models import exact
from models.bookkeeping import journal
from models.db import tables
from models.values import Cause, Change, ChangeKind

if TYPE_CHECKING:
    import httpx

    from models.db.database import Database
    from tests.receiver.conftest import Open

NOW = datetime(2026, 2, 1, 12, 30, tzinfo=UTC)


def _journal(
    database: Database, *keys: str, connection: str = "shop", resource: str = "catalogs.goods", at: datetime = NOW
) -> None:
    changes = [Change(key, ChangeKind.CREATED, None, {"id": key}) for key in keys]
    with database.begin() as db:
        journal.append(db, connection, resource, changes, revision=1, cause=Cause.WEBHOOK, now=at)


def _trim(database: Database, upto: int) -> None:
    with database.begin() as tx:
        tx.execute(sa.delete(tables.changes).where(tables.changes.c.id <= upto))


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
        journal.append(tx, "shop", "catalogs.goods", [change], revision=42, cause=Cause.POLL, now=NOW)
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
        journal.append(tx, "shop", "catalogs.goods", [change], revision=1, cause=Cause.WEBHOOK, now=NOW)
    with opened(sqlite) as client:
        change = _page(client)["changes"][0]
    assert ("deleted", None, None) == (change["kind"], change["before"], change["after"])


def test_an_empty_journal_is_an_empty_page(database: Database, opened: Open) -> None:
    with opened(database) as client:
        page = _page(client)
    assert ([], 0, 1) == (page["changes"], page["last"], page["oldest"])
    assert page["feed"]


def test_following_last_reads_every_entry_once(database: Database, opened: Open) -> None:
    _journal(database, *"abcdefg")
    seen, last = [], 0
    with opened(database) as client:
        while page := _page(client, after=last, limit=3):
            if not page["changes"]:
                break
            seen += _ids(page)
            last = page["last"]
        assert [1, 2, 3, 4, 5, 6, 7] == seen
        assert 7 == last
        _journal(database, "h")
        assert [8] == _ids(_page(client, after=last))


def test_a_filter_selects_entries_and_last_passes_over_the_others(database: Database, opened: Open) -> None:
    _journal(database, "a", "b")
    _journal(database, "c", connection="second")
    _journal(database, "d", resource="catalogs.persons")
    with opened(database) as client:
        assert [3] == _ids(_page(client, connection="second"))
        assert [1, 2, 4] == _ids(_page(client, connection="shop"))
        assert [1, 2] == _ids(_page(client, connection="shop", resource="catalogs.goods"))
        assert [] == _ids(_page(client, connection="unknown"))
        assert 4 == _page(client, connection="second")["last"]
        assert 1 == _page(client, connection="shop", limit=1)["last"]


def test_an_after_below_the_oldest_entry_is_410(database: Database, opened: Open) -> None:
    _journal(database, *"abcdef")
    _trim(database, 3)
    with opened(database) as client:
        for after in (1, 2):
            answer = client.get("/changes", params={"after": after})
            assert (410, "gone") == (answer.status_code, answer.json()["error"])
        # A caller that has entry 3 misses nothing.
        assert [[4, 5, 6], [5, 6], []] == [_ids(_page(client, after=after)) for after in (3, 4, 6)]
        page = _page(client, after=0)
        assert ([4, 5, 6], 4) == (_ids(page), page["oldest"])


def test_reading_from_the_start_is_never_410(database: Database, opened: Open) -> None:
    _journal(database, *"abc", at=NOW - timedelta(days=400))
    with database.begin() as tx:
        journal.trim(tx, NOW)
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
    _journal(database, *"abc")
    with opened(database) as client:
        before = _page(client, after=3)["feed"]
        answer = client.get("/changes", params={"after": beyond})
        assert (410, "gone") == (answer.status_code, answer.json()["error"])
        assert "a backup was restored" in answer.json()["message"]
        after = _page(client, after=0)["feed"]
        assert before != after  # so every other reader learns it, too
        client.get("/changes", params={"after": beyond})
        assert after == _page(client, after=3)["feed"]  # the same proof once more proves nothing new


def test_a_database_without_tables_is_503(opened: Open, sqlite: Database) -> None:
    with sqlite.begin() as tx:
        tables.metadata.drop_all(tx)
    with opened(sqlite) as client:
        answer = client.get("/changes")
    assert (503, "database") == (answer.status_code, answer.json()["error"])
