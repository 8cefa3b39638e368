from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models import tables
from models.notices import Letter
from receiver import letterbox, patience
from receiver.letterbox import Letterbox, NotDurable
from tests import services

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.database import Database


def _letter(key: str) -> Letter:
    return Letter("shop", "{}", resource="catalogs.goods", key=key)


def _keys(database: Database) -> list[str]:
    with database.read() as connection:
        return list(connection.execute(sa.select(tables.notices.c.key).order_by(tables.notices.c.id)).scalars())


async def _post(box: Letterbox, keys: Iterable[str]) -> list[bool]:
    """Which of these letters, sent at the same time, were durable when `keep` returned."""
    answers = await asyncio.gather(*(box.keep(_letter(key)) for key in keys), return_exceptions=True)
    assert all(answer is None or isinstance(answer, NotDurable) for answer in answers), answers
    return [answer is None for answer in answers]


def _keep(database: Database, keys: Iterable[str]) -> tuple[list[bool], list[int]]:
    """The answers, and the sizes of the batches."""
    batches: list[int] = []

    async def run() -> list[bool]:
        box = Letterbox(patience.database(database.url), batched=batches.append)
        try:
            return await _post(box, keys)
        finally:
            await box.close()

    return asyncio.run(run()), batches


def _forbid(database: Database, key: str) -> None:
    """The database refuses every row with this key."""
    with database.begin() as connection:
        if not database.is_sqlite:
            connection.execute(sa.text(f"ALTER TABLE notices ADD CHECK (key <> '{key}')"))
            return
        connection.execute(
            sa.text(
                f"CREATE TRIGGER refuse BEFORE INSERT ON notices WHEN NEW.key = '{key}' "
                "BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        )


def test_letters_that_arrive_together_share_one_insert_and_one_commit(database: Database) -> None:
    keys = [str(number) for number in range(40)]
    inserts: list[str] = []
    commits: list[object] = []

    def count(_c: object, _cursor: object, statement: str, *_: object) -> None:
        inserts.extend([statement] if statement.startswith("INSERT") else [])

    async def run() -> list[bool]:
        own = patience.database(database.url)
        sa.event.listen(own.engine, "before_cursor_execute", count)
        sa.event.listen(own.engine, "commit", commits.append)
        box = Letterbox(own, batched=lambda _: None)
        durable = await _post(box, keys)
        await box.close()
        return durable

    assert all(asyncio.run(run()))
    assert (1, 1) == (len(inserts), len(commits))
    assert keys == _keys(database)


def test_letters_that_arrive_during_a_commit_are_the_next_batch(database: Database) -> None:
    batches: list[int] = []
    committing, go_on = threading.Event(), threading.Event()

    def hold_up(_: object) -> None:
        committing.set()
        assert go_on.wait(30)

    async def run() -> None:
        own = patience.database(database.url)
        sa.event.listen(own.engine, "commit", hold_up)
        box = Letterbox(own, batched=batches.append)
        first = asyncio.create_task(box.keep(_letter("first")))
        await asyncio.to_thread(committing.wait, 30)
        others = [asyncio.create_task(box.keep(_letter(str(number)))) for number in range(7)]
        await asyncio.sleep(0)  # they run up to their place in the letterbox
        assert not first.done()  # answered after the commit, not before
        go_on.set()
        await asyncio.gather(first, *others)
        await box.close()

    asyncio.run(run())
    assert [1, 7] == batches
    assert 8 == len(_keys(database))


def test_a_letter_that_the_database_refuses_harms_nobody_else(database: Database) -> None:
    _forbid(database, "poison")
    durable, _ = _keep(database, ["1", "2", "poison", "3"])
    assert [True, True, False, True] == durable
    assert ["1", "2", "3"] == _keys(database)


def test_text_that_no_database_stores_spoils_no_batch(database: Database) -> None:
    durable, _ = _keep(database, ["1", "a\x00b", "c\ud800d"])
    assert [True, True, True] == durable
    assert ["1", "a\\u0000b", "c\\ud800d"] == _keys(database)


def test_without_tables_nothing_is_durable(empty_url: sa.URL, capsys: pytest.CaptureFixture[str]) -> None:
    durable, batches = _keep(patience.database(empty_url), ["1", "2"])
    assert [False, False] == durable
    assert [2] == batches
    assert "catalogs.goods" not in capsys.readouterr().out


def test_a_full_letterbox_says_so_at_once_and_keeps_what_it_has(sqlite: Database) -> None:
    durable, _ = _keep(sqlite, [str(number) for number in range(letterbox._CAPACITY + 5)])
    assert [True] * letterbox._CAPACITY + [False] * 5 == durable
    assert letterbox._CAPACITY == len(_keys(sqlite))


def test_closing_writes_what_still_waits(database: Database) -> None:
    async def run() -> list[bool]:
        box = Letterbox(patience.database(database.url), batched=lambda _: None)
        posts = [asyncio.create_task(box.keep(_letter(str(number)))) for number in range(3)]
        await asyncio.sleep(0)
        await box.close()
        return [post.done() or await post is None for post in posts]

    assert all(asyncio.run(run()))
    assert 3 == len(_keys(database))


def test_a_caller_that_goes_away_harms_nobody(database: Database) -> None:
    async def run() -> list[bool]:
        box = Letterbox(patience.database(database.url), batched=lambda _: None)
        impatient = asyncio.create_task(box.keep(_letter("1")))
        patient = asyncio.create_task(box.keep(_letter("2")))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient
        await box.close()
        return [impatient.cancelled()]

    assert [True] == asyncio.run(run())
    assert ["1", "2"] == _keys(database)


def test_a_locked_table_is_not_durable_and_then_recovers(database: Database) -> None:
    async def run() -> tuple[list[bool], list[bool]]:
        own = patience.database(database.url)
        statement = "PRAGMA busy_timeout=100" if own.is_sqlite else "SET lock_timeout = '100ms'"
        sa.event.listen(own.engine, "connect", lambda raw, _: (raw.execute(statement), raw.commit()))
        box = Letterbox(own, batched=lambda _: None)
        with ThreadPoolExecutor(1) as elsewhere, database.engine.connect() as holder:
            transaction = holder.begin()
            if not database.is_sqlite:
                holder.execute(sa.text("LOCK TABLE notices"))
            locked = await _post(box, ["1", "2"])
            await asyncio.wrap_future(elsewhere.submit(transaction.rollback))
        free = await _post(box, ["3"])
        await box.close()
        return locked, free

    assert ([False, False], [True]) == asyncio.run(run())
    assert ["3"] == _keys(database)


@services.ON_POSTGRESQL
def test_a_connection_killed_before_the_commit_stores_nothing_twice(database: Database) -> None:
    killed: list[int] = []

    def kill(connection: sa.Connection) -> None:
        if not killed:
            killed.append(connection.connection.dbapi_connection.info.backend_pid)  # type: ignore[union-attr]
            with database.begin() as killer:
                killer.execute(sa.text(f"SELECT pg_terminate_backend({killed[0]}, 5000)"))

    async def run() -> tuple[list[bool], list[bool]]:
        own = patience.database(database.url)
        sa.event.listen(own.engine, "commit", kill)
        box = Letterbox(own, batched=lambda _: None)
        cut = await _post(box, ["1", "2"])
        healed = await _post(box, ["3"])
        await box.close()
        return cut, healed

    assert ([False, False], [True]) == asyncio.run(run())
    assert ["3"] == _keys(database)


@services.ON_POSTGRESQL
def test_connections_killed_while_idle_are_opened_anew(database: Database) -> None:

    async def run() -> list[bool]:
        own = patience.database(database.url)
        box = Letterbox(own, batched=lambda _: None)
        await _post(box, ["1"])
        with own.read() as connection:
            pid = connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        with database.begin() as killer:
            killer.execute(sa.text(f"SELECT pg_terminate_backend({pid}, 5000)"))
        durable = await _post(box, ["2"])
        await box.close()
        return durable

    assert [True] == asyncio.run(run())
    assert ["1", "2"] == _keys(database)
