"""Every reader of the journal gets every entry once and in order, while others write."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.db.database import Database
from tests.receiver.api import events, journaling

if TYPE_CHECKING:
    import httpx

    from tests.receiver.conftest import Open

WRITERS = 8


def _write(url: sa.URL, writer: int, *, transactions: int) -> None:
    """Transactions of one to three entries, as workers write them."""
    random_ = random.Random(writer)
    database = Database(url)
    connection, resource = (("shop", "catalogs.goods"), ("books", "items"))[writer % 2]
    for number in range(transactions):
        keys = [f"{writer}-{number}-{each}" for each in range(random_.randint(1, 3))]
        journaling.write(database, *keys, connection=connection, resource=resource)
    journaling.write(database, "end", connection=connection, resource=resource)
    database.close()


Seen = list[tuple[int, str]]
"""Id and key of what a reader got, in its order. A writer's last entry has the key "end"."""


def _ends(seen: Seen) -> int:
    return sum(key == "end" for _, key in seen)


def _read_sql(url: sa.URL, ends: int, *, limit: int) -> Seen:
    """As README's statement does."""
    seen: Seen = []
    missing = ends
    database = Database(url)
    statement = sa.text("SELECT id, key FROM erpmirror_changes WHERE id > :last ORDER BY id LIMIT :limit")
    while missing:
        with database.read() as tx:
            rows = tx.execute(statement, {"last": seen[-1][0] if seen else 0, "limit": limit}).all()
        seen += [(row.id, row.key) for row in rows]
        missing -= _ends([(row.id, row.key) for row in rows])
    database.close()
    return seen


def _read_pages(client: httpx.Client, query: dict[str, str], ends: int, *, limit: int) -> Seen:
    seen: Seen = []
    last, missing = 0, ends
    while missing:
        answer = client.get("/changes", params={**query, "after": last, "limit": limit})
        assert 200 == answer.status_code, answer.text
        page = answer.json()
        news = [(change["id"], change["key"]) for change in page["changes"]]
        seen += news
        missing -= _ends(news)
        last = page["last"]
    return seen


def _read_stream(client: httpx.Client, query: str, ends: int, *, cut_every: int) -> Seen:
    """By events; the connection is cut again and again, in the middle of whatever comes."""
    seen: Seen = []
    last_id: str | None = None
    missing = ends
    while missing:
        with events.opened(client, query, last_id=last_id) as reader:
            assert 200 == reader.status
            found = (event for event in reader.events() if event.kind != "feed")
            for _, event in zip(range(cut_every), found, strict=False):
                seen.append((event.data["id"], event.data["key"]))
                last_id = event.last_id
                missing -= event.data["key"] == "end"
                if not missing:
                    break
    return seen


def _follow(database: Database, opened: Open, *, transactions: int, cut_every: int, limit: int = 7) -> int:
    """Returns how many entries all readers got."""
    start = threading.Barrier(WRITERS + 1, timeout=60)

    def write(writer: int) -> None:
        start.wait()
        _write(database.url, writer, transactions=transactions)

    half = WRITERS // 2
    with opened(database) as client, ThreadPoolExecutor(WRITERS + 7) as threads:
        writing = [threads.submit(write, writer) for writer in range(WRITERS)]
        everything = [
            threads.submit(_read_sql, database.url, WRITERS, limit=limit),
            threads.submit(_read_pages, client, {}, WRITERS, limit=limit),
            threads.submit(_read_pages, client, {"wait": "20"}, WRITERS, limit=limit),
            threads.submit(_read_stream, client, "", WRITERS, cut_every=cut_every),
        ]
        of_books = [
            threads.submit(_read_pages, client, {"wait": "20", "connection": "books"}, half, limit=limit),
            threads.submit(_read_stream, client, "?connection=books", half, cut_every=cut_every),
        ]
        start.wait()
        for each in writing:
            each.result()
        complete = _read_pages(client, {}, WRITERS, limit=limit)
        assert list(range(1, len(complete) + 1)) == [id_ for id_, _ in complete]
        for reader in everything:
            assert complete == reader.result()
        expected = _read_pages(client, {"connection": "books"}, half, limit=limit)
        assert 0 < len(expected) < len(complete)
        for reader in of_books:
            assert expected == reader.result()
    return len(complete)


def test_no_reader_misses_or_repeats_an_entry_while_eight_write(database: Database, opened: Open) -> None:
    _follow(database, opened, transactions=20, cut_every=60)


@pytest.mark.slow
def test_no_reader_misses_or_repeats_one_of_many_thousands(database: Database, opened: Open) -> None:
    assert _follow(database, opened, transactions=400, cut_every=900, limit=70) > 5000
