"""`GET /changes?wait=`: the page that comes as soon as there is an entry."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.receiver.api import journaling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    import httpx

    from models.db.database import Database
    from tests.receiver.conftest import Open


@contextmanager
def _asking(client: httpx.Client, **question: Any) -> Iterator[Future[dict[str, Any]]]:
    """Ask in a thread."""

    def ask() -> dict[str, Any]:
        answer = client.get("/changes", params=question)
        assert 200 == answer.status_code, answer.text
        page: dict[str, Any] = answer.json()
        assert ["changes", "last", "oldest", "feed"] == list(page)
        return page

    with ThreadPoolExecutor(1) as threads:
        yield threads.submit(ask)


def _ids(page: dict[str, Any]) -> list[int]:
    return [change["id"] for change in page["changes"]]


def test_a_page_with_an_entry_is_answered_at_once(database: Database, opened: Open) -> None:
    journaling.write(database, "a", "b")
    with opened(database) as client:
        assert client.get("/changes").content == client.get("/changes", params={"wait": 60}).content
        for limit, expected in ((1, [1]), (2, [1, 2])):
            page = client.get("/changes", params={"wait": 60, "limit": limit}).json()
            assert (expected, expected[-1]) == (_ids(page), page["last"])


def test_an_entry_ends_the_wait(database: Database, opened: Open) -> None:
    journaling.write(database, "a")
    with opened(database) as client, _asking(client, after=1, wait=60) as answer:
        assert not answer.done()
        journaling.write(database, "b", "c")
        assert [2, 3] == _ids(answer.result())
        assert client.get("/changes", params={"after": 1}).json() == answer.result()


def test_only_an_entry_that_is_asked_for_ends_the_wait(database: Database, opened: Open) -> None:
    with opened(database) as client, _asking(client, key="c", wait=60) as answer:
        for key in "abc":
            journaling.write(database, key)
        page = answer.result()
        assert ([3], 3) == (_ids(page), page["last"])


def test_the_empty_page_comes_when_the_time_is_up_and_passes_over_the_other_entries(
    database: Database, opened: Open
) -> None:
    journaling.write(database, "a")
    with opened(database) as client, _asking(client, key="z", wait=1) as answer:
        journaling.write(database, "b")
        page = answer.result()
    assert ([], 2, 1) == (page["changes"], page["last"], page["oldest"])


def test_an_after_that_is_gone_is_410_without_waiting(database: Database, opened: Open) -> None:
    journaling.write(database, *"abcd")
    journaling.trim(database, 3)
    with opened(database) as client:
        for after in (1, 5):
            answer = client.get("/changes", params={"after": after, "wait": 60})
            assert (410, "gone") == (answer.status_code, answer.json()["error"])


def test_a_journal_that_is_set_back_during_the_wait_is_410(database: Database, opened: Open) -> None:
    journaling.write(database, *"abcd")
    with opened(database) as client, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.get, "/changes", params={"after": 4, "wait": 60})
        page = client.get("/changes", params={"after": 3, "wait": 60}).json()
        journaling.set_back(database, last=2)
        answer = waiting.result()
        assert (410, "gone") == (answer.status_code, answer.json()["error"])
        assert page["feed"] != client.get("/changes").json()["feed"]


@pytest.mark.parametrize("readers", [40])
def test_one_change_answers_all_who_wait(database: Database, opened: Open, readers: int) -> None:
    journaling.write(database, "a")
    arrived = threading.Barrier(readers + 1, timeout=60)

    def ask(client: httpx.Client) -> list[int]:
        arrived.wait()
        return _ids(client.get("/changes", params={"after": 1, "wait": 60}).json())

    with opened(database) as client, ThreadPoolExecutor(readers) as threads:
        answers = [threads.submit(ask, client) for _ in range(readers)]
        arrived.wait()
        journaling.write(database, "b")
        assert [[2]] * readers == [answer.result() for answer in answers]
