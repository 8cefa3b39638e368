"""Limits of waiting readers: how many there may be, what they cost, and those that do not read."""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa

from models.db import migration
from models.db.database import Database
from receiver import app
from receiver.http import server
from tests.chaos.servers import PostgreSQL
from tests.receiver.api import events, journaling
from tests.receiver.http import tcp
from tests.receiver.wakers import RecordingWaker
from tests.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.settings.load import Settings
    from tests.receiver.conftest import Open

ON_POSTGRESQL = pytest.mark.parametrize(
    "empty_url", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)
WEBHOOK = {"packet": tcp.PACKET}


def _begun(reader: events.Reader) -> events.Reader:
    """Wait until the receiver has begun to serve it."""
    assert 200 == reader.status
    assert "feed" == next(reader.events()).kind
    return reader


def _next_ids(reader: events.Reader, count: int) -> list[int]:
    found = (event.data["id"] for event in reader.events() if event.kind != "feed")
    return list(itertools.islice(found, count))


def _require_too_many(client: httpx.Client) -> None:
    for question, accept in (({}, "text/event-stream"), ({"wait": "1"}, "*/*")):
        answer = client.get("/changes", params=question, headers={"Accept": accept})
        assert (503, "too_many_readers") == (answer.status_code, answer.json()["error"])
        assert int(answer.headers["Retry-After"])


def test_above_the_limit_readers_get_503_while_all_else_is_served(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, most_readers=3) as client, ExitStack() as stack:
        for _ in range(3):
            _begun(stack.enter_context(events.opened(client)))
        _require_too_many(client)
        assert 200 == client.get("/changes").status_code
        assert 200 == client.get("/changes", params={"wait": 0}).status_code
        assert 200 == client.get("/hooks/shop", params=WEBHOOK).status_code


def test_a_long_poll_is_a_reader_as_long_as_it_waits(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, most_readers=1) as client, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.get, "/changes", params={"wait": 60})
        _until_there_are_readers(client)
        _require_too_many(client)
        journaling.write(sqlite, "a")
        assert [1] == [change["id"] for change in waiting.result().json()["changes"]]
        with events.opened(client) as reader:
            _begun(reader)


def _until_there_are_readers(client: httpx.Client) -> None:
    deadline = time.monotonic() + 30
    while not _has_readers():
        assert 200 == client.get("/livez").status_code
        assert time.monotonic() < deadline


def _has_readers() -> bool:
    """The thread that follows the journal begins with the first."""
    return "journal" in {thread.name for thread in threading.enumerate()}


def test_a_reader_that_goes_makes_room_for_another(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, most_readers=1) as client:
        for _ in range(3):
            deadline = time.monotonic() + 30
            while (reader := events.opened(client)).status == 503:
                reader.sock.close()
                assert time.monotonic() < deadline
            with reader:
                _begun(reader)


def test_many_that_come_at_once_are_served_up_to_the_limit_and_webhooks_go_on(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, most_readers=20) as client, ExitStack() as stack:
        readers = [stack.enter_context(events.opened(client)) for _ in range(60)]
        statuses = [reader.status for reader in readers]
        assert (20, 40) == (statuses.count(200), statuses.count(503))
        assert 200 == client.get("/hooks/shop", params=WEBHOOK).status_code
        journaling.write(sqlite, "a")
        assert all([1] == _next_ids(reader, 1) for reader in readers if reader.status == 200)


@ON_POSTGRESQL
def test_all_readers_share_one_thread_and_one_connection(database: Database, opened: Open) -> None:
    name = uuid.uuid4().hex
    named = Database(database.url.update_query_dict({"application_name": name}))

    def sessions() -> int:
        with database.read() as tx:
            statement = sa.text("SELECT count(*) FROM pg_stat_activity WHERE application_name = :name")
            return int(tx.execute(statement, {"name": name}).scalar_one())

    with opened(named) as client, ExitStack() as stack:
        client.get("/changes")
        without = sessions()
        readers = [stack.enter_context(events.opened(client, f"?key={number % 3}")) for number in range(30)]
        for reader in readers:
            _begun(reader)
        journaling.write(database, "0", "1", "2")
        assert [[1 + number % 3] for number in range(30)] == [_next_ids(reader, 1) for reader in readers]
        assert 1 == [thread.name for thread in threading.enumerate()].count("journal")
        # One follows; first pages are read by four at a time at most.
        assert sessions() - without <= 1 + 4
    assert 0 == [thread.name for thread in threading.enumerate()].count("journal")


class _Recording(tcp.ShortLimits):
    """Remembers how much was not sent at any check."""

    unsent: list[int]

    def _check_idle(self) -> None:
        self.unsent.append(self._unsent)
        super()._check_idle()


def _limited(
    database: Database, configure: Callable[..., Settings], stack: ExitStack, **attributes: Any
) -> tuple[httpx.Client, list[int]]:
    unsent: list[int] = []
    protocol = type("Recording", (_Recording,), {"unsent": unsent, **attributes})
    made = app.create_app(configure(database.url), waker=RecordingWaker())
    url = stack.enter_context(served(made, **server.OPTIONS | {"http": protocol, "log_level": "info"}))
    return stack.enter_context(httpx.Client(base_url=url, trust_env=False)), unsent


LARGE = {"text": "x" * 20_000}


def _write_large(database: Database, transactions: int) -> int:
    for number in range(transactions):
        journaling.write(database, *(f"{number}-{each}" for each in range(50)), more=LARGE)
    return transactions * 50


def test_a_reader_that_does_not_read_is_cut_off_with_little_in_memory_and_resumes(
    sqlite: Database, configure: Callable[..., Settings]
) -> None:
    with ExitStack() as stack:
        client, unsent = _limited(sqlite, configure, stack)
        reader = _begun(stack.enter_context(events.opened(client)))
        count = _write_large(sqlite, 20)  # 20 MB: more than the kernel's buffers
        got: list[int] = []
        time.sleep(4 * _Recording.idle_seconds)
        with suppress(ConnectionResetError):
            got.extend(event.data["id"] for event in reader.events())
        assert 0 < len(got) < count  # what the kernel held
        assert max(unsent) < 1_000_000
        with events.opened(client, last_id=reader.last_id) as again:
            got += _next_ids(again, count - len(got))
        assert list(range(1, count + 1)) == got


def test_a_reader_that_always_has_more_to_read_is_not_cut_off(
    sqlite: Database, configure: Callable[..., Settings]
) -> None:
    with ExitStack() as stack:
        client, unsent = _limited(sqlite, configure, stack)
        count = _write_large(sqlite, 20)
        reader = stack.enter_context(events.opened(client))
        got: list[int] = []
        while len(got) < count:
            got += _next_ids(reader, 25)
            time.sleep(_Recording.idle_seconds / 8)
        assert list(range(1, count + 1)) == got
        assert len([each for each in unsent if each > 0]) > 1


def test_at_shutdown_streams_end_and_long_polls_get_their_empty_page(
    database: Database, configure: Callable[..., Settings]
) -> None:
    journaling.write(database, "a")
    with ExitStack() as outer, ThreadPoolExecutor(1) as threads:
        with ExitStack() as stack:
            client, _ = _limited(database, configure, stack, idle_seconds=120)
            outer.callback(client.close)
            other = httpx.Client(base_url=client.base_url, trust_env=False, timeout=30)
            outer.callback(other.close)
            waiting = threads.submit(other.get, "/changes", params={"after": 1, "wait": 60})
            _until_there_are_readers(client)
            reader = _begun(outer.enter_context(events.opened(client, "?after=1")))
        assert [] == list(reader.blocks())  # its end, not a broken connection
        page = waiting.result()
        assert (200, [], 1) == (page.status_code, page.json()["changes"], page.json()["last"])


def test_a_reader_that_does_not_read_does_not_hold_up_the_shutdown(
    sqlite: Database, configure: Callable[..., Settings]
) -> None:
    with ExitStack() as outer:
        with ExitStack() as stack:
            client, _ = _limited(sqlite, configure, stack, idle_seconds=120, linger_seconds=0.1)
            reader = _begun(outer.enter_context(events.opened(client)))
            _write_large(sqlite, 20)
        with pytest.raises(ConnectionResetError):
            list(reader.blocks())


@pytest.mark.postgresql
def test_while_the_database_is_away_readers_wait_and_new_ones_get_503(tmp_path: Path, opened: Open) -> None:
    with PostgreSQL(tmp_path) as postgresql:
        database = Database(postgresql.address)
        migration.migrate(database)
        journaling.write(database, "a")
        with opened(database, beat_seconds=0.2) as client, events.opened(client) as reader:
            assert [1] == _next_ids(reader, 1)
            database.close()
            postgresql.stop()
            assert "" == next(reader.blocks()).kind  # its stream goes on
            with events.opened(client) as refused:
                assert 503 == refused.status
            postgresql.start()
            journaling.write(database, "b", "c")
            assert [2, 3] == _next_ids(reader, 2)
        database.close()
