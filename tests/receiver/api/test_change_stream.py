"""`GET /changes` as Server-Sent Events, over real sockets."""

from __future__ import annotations

import itertools
import uuid
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.db import tables
from models.db.database import Database
from models.values import ChangeKind
from tests.receiver.api import events, journaling

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.receiver.api.events import Event, Reader
    from tests.receiver.conftest import Open


def _next(reader: Reader, count: int) -> list[Event]:
    """So many events after the first, which names the feed."""
    return list(itertools.islice((event for event in reader.events() if event.kind != "feed"), count))


def _ids(found: Iterable[Event]) -> list[int]:
    return [event.data["id"] for event in found]


def test_an_event_has_the_entrys_id_and_kind_and_the_row_as_pages_have_it(database: Database, opened: Open) -> None:
    journaling.write(database, "a\nb", "мед")
    journaling.write(database, "a\nb", kind=ChangeKind.DELETED)
    with opened(database) as client, events.opened(client) as reader:
        found = _next(reader, 3)
        page: list[dict[str, Any]] = client.get("/changes").json()["changes"]
    assert page == [event.data for event in found]
    assert [("created", "1"), ("created", "2"), ("deleted", "3")] == [(event.kind, event.last_id) for event in found]


def test_the_response_is_one_that_proxies_neither_keep_nor_collect(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client, events.opened(client) as reader:
        assert 200 == reader.status
        head = reader.head.lower()
    for line in (b"content-type: text/event-stream", b"cache-control: no-store", b"x-accel-buffering: no"):
        assert line in head
    assert b"content-length" not in head


def test_the_stream_begins_with_the_time_to_come_back_after_and_the_feed(database: Database, opened: Open) -> None:
    journaling.write(database, "a", "b", "c")
    journaling.trim(database, 1)
    with opened(database) as client, events.opened(client, "?after=2") as reader:
        first = next(reader.events())
        page = client.get("/changes").json()
    assert reader.retry
    assert ("feed", {"feed": page["feed"], "oldest": 2}) == (first.kind, first.data)
    assert "" == first.last_id


def test_what_is_written_later_follows(database: Database, opened: Open) -> None:
    journaling.write(database, "a")
    with opened(database) as client, events.opened(client) as reader:
        assert [1] == _ids(_next(reader, 1))
        for key in "bcd":
            journaling.write(database, key)
            assert [key] == [event.data["key"] for event in _next(reader, 1)]
        journaling.write(database, "e", "f")
        assert [5, 6] == _ids(_next(reader, 2))


def test_the_last_event_id_resumes_and_counts_more_than_after(database: Database, opened: Open) -> None:
    journaling.write(database, *"abcd")
    with opened(database) as client:
        for query, last_id, expected in (
            ("?after=1", None, [2, 3, 4]),
            ("?after=1", "3", [4]),
            ("", "0", [1, 2, 3, 4]),
        ):
            with events.opened(client, query, last_id=last_id) as reader:
                assert expected == _ids(_next(reader, len(expected)))


@pytest.mark.parametrize("last_id", ["", "x", "-1", "1.5", "9223372036854775808", "1\r\nLast-Event-ID: 2"])
def test_a_malformed_last_event_id_is_400(sqlite: Database, opened: Open, last_id: str) -> None:
    with opened(sqlite) as client, events.opened(client, last_id=last_id) as reader:
        assert 400 == reader.status


@pytest.mark.parametrize(
    ("accept", "is_stream"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; charset=utf-8", True),
        ("text/event-stream, */*", True),
        ("text/event-stream; q=0.0, */*", False),
        ("text/event-stream;\tq=0", False),
        ("application/json;q=0, text/event-stream;q=0.5", True),
        ("text/event-stream, application/json", True),
        ("application/json, text/event-stream", False),
        ("application/json", False),
        ("*/*", False),
        ("text/html", False),
        ("", False),
    ],
)
def test_accept_decides_between_events_and_json(sqlite: Database, opened: Open, accept: str, is_stream: bool) -> None:  # noqa: FBT001 - a parameter
    with opened(sqlite) as client, client.stream("GET", "/changes", headers={"Accept": accept}) as answer:
        kind = "text/event-stream" if is_stream else "application/json"
        assert (200, kind) == (answer.status_code, answer.headers["Content-Type"])


def test_a_filter_leaves_out_the_other_entries(database: Database, opened: Open) -> None:
    journaling.write(database, "a", "b")
    with (
        opened(database) as client,
        events.opened(client, "?connection=books") as of_books,
        events.opened(client, "?key=b&kind=deleted") as of_b,
        events.opened(client, "?resource=catalogs.goods") as of_goods,
    ):
        for reader in (of_books, of_b, of_goods):
            assert "feed" == next(reader.events()).kind
        journaling.write(database, "b", connection="books", resource="items")
        journaling.write(database, "b", kind=ChangeKind.DELETED)
        journaling.write(database, "c")
        journaling.write(database, "d", connection="books", resource="items")
        assert [3, 6] == _ids(_next(of_books, 2))
        assert [4] == _ids(_next(of_b, 1))
        assert [1, 2, 4, 5] == _ids(_next(of_goods, 4))


def test_a_quiet_stream_keeps_proxies_and_the_readers_position_alive(database: Database, opened: Open) -> None:
    with opened(database, beat_seconds=0.1) as client, events.opened(client, "?key=never") as reader:
        blocks = reader.blocks()
        assert "feed" == next(blocks).kind
        assert ("", "0") == (next(blocks).kind, next(blocks).last_id)
        journaling.write(database, "a", "b")
        while reader.last_id != "2":
            assert "" == next(blocks).kind
        journaling.trim(database, 2)
        with events.opened(client, "?key=never", last_id=reader.last_id) as again:
            assert 200 == again.status


def test_an_id_below_the_oldest_or_beyond_the_newest_is_410(database: Database, opened: Open) -> None:
    journaling.write(database, *"abcdef")
    journaling.trim(database, 4)
    with opened(database) as client:
        for last_id, expected in (("3", 410), ("7", 410), ("4", 200), ("6", 200), ("0", 200)):
            with events.opened(client, last_id=last_id) as reader:
                assert expected == reader.status, last_id
            headers = {"Accept": "text/event-stream", "Last-Event-ID": last_id}
            assert expected == client.head("/changes", headers=headers).status_code


def test_a_changed_feed_is_told_and_ends_the_stream(database: Database, opened: Open) -> None:
    journaling.write(database, *"abcd")
    with opened(database) as client, events.opened(client) as reader, events.opened(client, "?key=x") as filtered:
        assert "feed" == next(filtered.events()).kind
        assert [1, 2, 3, 4] == _ids(_next(reader, 4))
        journaling.set_back(database, last=2)
        for each in (reader, filtered):
            told = list(each.events())
            assert ["feed"] == [event.kind for event in told]
        page = client.get("/changes").json()
        assert {"feed": page["feed"], "oldest": 1} == told[0].data
        journaling.write(database, "e")
        with events.opened(client) as again:
            assert ["feed", "created", "created", "created"] == [
                event.kind for event in itertools.islice(again.events(), 4)
            ]


def test_a_renamed_feed_is_told_although_no_entry_follows(database: Database, opened: Open) -> None:
    """As by another receiver, whose reader has proved that a backup was restored."""
    journaling.write(database, "a")
    with opened(database) as client, events.opened(client) as reader:
        first, entry = itertools.islice(reader.events(), 2)
        client.get("/changes", params={"after": 99})
        (last,) = reader.events()
    assert ("feed", "created", "feed") == (first.kind, entry.kind, last.kind)
    assert first.data["feed"] != last.data["feed"]


def test_head_is_answered_without_a_stream(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        answer = client.head("/changes", headers={"Accept": "text/event-stream"})
        assert (200, "text/event-stream") == (answer.status_code, answer.headers["Content-Type"])
        assert 200 == client.head("/changes", params={"wait": 60}).status_code


def test_a_database_without_tables_is_503(sqlite: Database, opened: Open) -> None:
    with sqlite.begin() as tx:
        tables.metadata.drop_all(tx)
    with opened(sqlite) as client:
        answer = client.get("/changes", headers={"Accept": "text/event-stream"})
    assert (503, "database") == (answer.status_code, answer.json()["error"])


@pytest.mark.parametrize("empty_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_a_lost_database_connection_loses_nothing(database: Database, opened: Open) -> None:
    name = uuid.uuid4().hex
    named = Database(database.url.update_query_dict({"application_name": name}))
    with opened(named) as client, events.opened(client) as reader:
        journaling.write(database, "a")
        assert [1] == _ids(_next(reader, 1))
        with database.begin() as tx:
            sessions = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = :name"
            assert tx.execute(sa.text(sessions), {"name": name}).scalar_one()
        journaling.write(database, "b")
        journaling.write(database, "c")
        assert [2, 3] == _ids(_next(reader, 2))
