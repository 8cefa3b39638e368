from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.bookkeeping.webhooks import AcceptedWebhook
from models.db import tables
from receiver import db_timeouts
from receiver.webhooks.batcher import CAPACITY, NotDurableError, Placement, WebhookBatcher
from receiver.webhooks.drainer import Drainer
from receiver.webhooks.spool import Spool
from tests import services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from models.db.database import Database


def _webhook(key: str) -> AcceptedWebhook:
    return AcceptedWebhook("shop", "{}", resource="catalogs.goods", key=key)


def _keys(database: Database) -> list[str]:
    with database.read() as tx:
        return list(tx.execute(sa.select(tables.webhooks.c.key).order_by(tables.webhooks.c.id)).scalars())


async def _post(batcher: WebhookBatcher, keys: Iterable[str]) -> list[Placement]:
    """Where these webhooks, stored at the same time, were when `store` returned."""
    answers = await asyncio.gather(*(batcher.store(_webhook(key)) for key in keys), return_exceptions=True)
    assert all(isinstance(answer, Placement | NotDurableError) for answer in answers), answers
    return [answer if isinstance(answer, Placement) else Placement.NOWHERE for answer in answers]


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "var" / "spool")


def _open_batcher(database: Database, spool: Spool, batched: Callable[[int], None] = lambda _: None) -> WebhookBatcher:
    return WebhookBatcher(database, spool, on_batch=batched, on_spooled=lambda _: None)


def _store(database: Database, spool: Spool, keys: Iterable[str]) -> tuple[list[Placement], list[int]]:
    """Where they are afterwards, and the sizes of the batches."""
    batches: list[int] = []

    async def run() -> list[Placement]:
        own = db_timeouts.database(database.url)
        batcher = _open_batcher(own, spool, batches.append)
        try:
            return await _post(batcher, keys)
        finally:
            await batcher.close()
            own.close()

    return asyncio.run(run()), batches


def _drain(database: Database, spool: Spool) -> None:
    Drainer(database, spool, on_database_up=lambda: None, on_drained=lambda _: None).drain()
    assert spool.is_empty()


def _forbid(database: Database, key: str) -> None:
    """The database refuses every row with this key."""
    with database.begin() as tx:
        if not database.is_sqlite:
            tx.execute(sa.text(f"ALTER TABLE erpmirror_webhooks ADD CHECK (key <> '{key}')"))
            return
        tx.execute(
            sa.text(
                f"CREATE TRIGGER refuse BEFORE INSERT ON erpmirror_webhooks WHEN NEW.key = '{key}' "
                "BEGIN SELECT RAISE(ABORT, 'refused'); END"
            )
        )


def test_webhooks_that_arrive_together_share_one_insert_and_one_commit(database: Database, spool: Spool) -> None:
    keys = [str(number) for number in range(40)]
    inserts: list[str] = []
    commits: list[object] = []

    def count(_c: object, _cursor: object, statement: str, *_: object) -> None:
        inserts.extend([statement] if statement.startswith("INSERT") else [])

    async def run() -> list[Placement]:
        own = db_timeouts.database(database.url)
        sa.event.listen(own.engine, "before_cursor_execute", count)
        sa.event.listen(own.engine, "commit", commits.append)
        batcher = _open_batcher(own, spool)
        placements = await _post(batcher, keys)
        await batcher.close()
        return placements

    assert [Placement.STORED] * 40 == asyncio.run(run())
    assert keys == _keys(database)
    if database.is_sqlite:
        assert (1, 1) == (len(inserts), len(commits))
        return
    with database.read() as tx:  # the transaction and the command in it that inserted each row
        made = tx.execute(sa.text("SELECT DISTINCT xmin::text, cmin::text FROM erpmirror_webhooks")).all()
    assert [(made[0][0], "0")] == [tuple(row) for row in made]


def test_webhooks_that_arrive_during_a_commit_are_the_next_batch(database: Database, spool: Spool) -> None:
    batches: list[int] = []

    async def run() -> None:
        batcher = _open_batcher(db_timeouts.database(database.url), spool, batches.append)
        with _locked(database):
            first = asyncio.create_task(batcher.store(_webhook("first")))
            await asyncio.sleep(0.1)  # the insert has to wait
            others = [asyncio.create_task(batcher.store(_webhook(str(number)))) for number in range(7)]
            await asyncio.sleep(0.1)
            assert not first.done()  # answered after the commit, not before
        await asyncio.gather(first, *others)
        await batcher.close()

    asyncio.run(run())
    assert [1, 7] == batches
    assert 8 == len(_keys(database))


def test_a_webhook_that_the_database_refuses_goes_to_the_spool_alone(database: Database, spool: Spool) -> None:
    _forbid(database, "poison")
    placements, _ = _store(database, spool, ["1", "2", "poison", "3"])
    assert [Placement.STORED, Placement.STORED, Placement.SPOOLED, Placement.STORED] == placements
    assert ["1", "2", "3"] == _keys(database)
    assert 1 == spool.waiting()


def test_a_refused_webhook_does_not_make_the_database_count_as_down(database: Database, spool: Spool) -> None:
    _forbid(database, "poison")

    async def run() -> list[Placement]:
        batcher = _open_batcher(db_timeouts.database(database.url), spool)
        placements = [(await _post(batcher, [key]))[0] for key in ("poison", "1")]
        await batcher.close()
        return placements

    assert [Placement.SPOOLED, Placement.STORED] == asyncio.run(run())


def test_text_that_no_database_stores_does_not_fail_its_batch(database: Database, spool: Spool) -> None:
    placements, _ = _store(database, spool, ["1", "a\x00b", "c\ud800d"])
    assert [Placement.STORED] * 3 == placements
    assert ["1", "a\\u0000b", "c\\ud800d"] == _keys(database)


def test_without_tables_webhooks_wait_in_the_spool(
    empty_url: sa.URL, spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    placements, batches = _store(db_timeouts.database(empty_url), spool, ["1", "2"])
    assert [Placement.SPOOLED] * 2 == placements
    assert [2] == batches
    assert 2 == spool.waiting()
    assert "catalogs.goods" not in capsys.readouterr().out


def test_a_webhook_beyond_the_capacity_is_refused_at_once_and_those_before_it_are_stored(
    sqlite: Database, spool: Spool
) -> None:
    placements, _ = _store(sqlite, spool, [str(number) for number in range(CAPACITY + 5)])
    assert [Placement.STORED] * CAPACITY + [Placement.NOWHERE] * 5 == placements
    assert CAPACITY == len(_keys(sqlite))


def test_closing_writes_what_still_waits(database: Database, spool: Spool) -> None:
    async def run() -> list[Placement]:
        batcher = _open_batcher(db_timeouts.database(database.url), spool)
        posts = [asyncio.create_task(batcher.store(_webhook(str(number)))) for number in range(3)]
        await asyncio.sleep(0)
        await batcher.close()
        return [await post for post in posts]

    assert [Placement.STORED] * 3 == asyncio.run(run())
    assert 3 == len(_keys(database))


def test_a_sender_that_disconnects_delays_no_other(database: Database, spool: Spool) -> None:
    async def run() -> list[bool]:
        batcher = _open_batcher(db_timeouts.database(database.url), spool)
        impatient = asyncio.create_task(batcher.store(_webhook("1")))
        patient = asyncio.create_task(batcher.store(_webhook("2")))
        await asyncio.sleep(0)
        impatient.cancel()
        await patient
        await batcher.close()
        return [impatient.cancelled()]

    assert [True] == asyncio.run(run())
    assert ["1", "2"] == _keys(database)


@contextmanager
def _locked(database: Database) -> Iterator[None]:
    """No other connection inserts a webhook while the block runs."""
    with database.engine.connect() as holder, holder.begin():
        if not database.is_sqlite:
            holder.execute(sa.text("LOCK TABLE erpmirror_webhooks"))
        yield


def test_a_database_that_is_busy_too_long_counts_as_down_until_resume(database: Database, spool: Spool) -> None:
    async def run() -> list[list[Placement]]:
        own = db_timeouts.database(database.url, seconds=1)
        statement = "PRAGMA busy_timeout=100" if own.is_sqlite else "SET lock_timeout = '100ms'"
        sa.event.listen(own.engine, "connect", lambda raw, _: (raw.execute(statement), raw.commit()))
        batcher = _open_batcher(own, spool)
        with _locked(database):
            placements = [await _post(batcher, ["1", "2"])]
        placements.append(await _post(batcher, ["3"]))
        batcher.resume()
        placements.append(await _post(batcher, ["4"]))
        await batcher.close()
        return placements

    assert [[Placement.SPOOLED] * 2, [Placement.SPOOLED], [Placement.STORED]] == asyncio.run(run())
    _drain(database, spool)
    assert ["4", "1", "2", "3"] == _keys(database)


def test_a_batch_that_is_both_spooled_and_committed_late_is_stored_once(database: Database, spool: Spool) -> None:
    async def run() -> list[Placement]:
        batcher = _open_batcher(db_timeouts.database(database.url, seconds=60), spool)
        await _post(batcher, ["0"])
        with _locked(database):
            placements = await _post(batcher, ["1", "2"])  # the commit goes on in the background
        while len(_keys(database)) < 3:
            time.sleep(0.01)  # noqa: ASYNC251 - nothing else runs on this loop
        await batcher.close()
        return placements

    assert [Placement.SPOOLED] * 2 == asyncio.run(run())
    assert 2 == spool.waiting()
    _drain(database, spool)
    assert ["0", "1", "2"] == _keys(database)


def test_closing_does_not_wait_for_a_database_that_hangs(database: Database, spool: Spool) -> None:
    closed = threading.Event()

    async def run() -> None:
        batcher = _open_batcher(db_timeouts.database(database.url, seconds=600), spool)
        post = asyncio.create_task(batcher.store(_webhook("1")))
        await asyncio.sleep(0)
        await batcher.close()
        assert Placement.SPOOLED is await post
        closed.set()

    with _locked(database):
        asyncio.run(run())
        assert closed.is_set()  # while the lock is held


def test_without_database_and_spool_nothing_is_durable_until_the_database_is_back(
    database: Database, spool: Spool, capsys: pytest.CaptureFixture[str]
) -> None:
    spool.folder.parent.write_text("a file in the place of the folder")

    async def run() -> list[list[Placement]]:
        own = db_timeouts.database(database.url, seconds=1)
        batcher = _open_batcher(own, spool)
        with _locked(database):
            placements = [await _post(batcher, ["1", "2"])]
        placements.append(await _post(batcher, ["3"]))
        await batcher.close()
        return placements

    assert [[Placement.NOWHERE] * 2, [Placement.STORED]] == asyncio.run(run())
    assert ["3"] == _keys(database)
    assert 1 == capsys.readouterr().out.count("webhooks not stored")


def _with_own_name(database: Database) -> Database:
    """The same database, with sessions that `_kill` finds."""
    return db_timeouts.database(database.url.update_query_dict({"application_name": "webhook-store"}))


def _kill(database: Database, *, waiting: bool) -> int:
    """End the sessions of `_with_own_name`, all or only those that wait for a lock; returns how many."""
    where = "application_name = 'webhook-store'" + (" AND wait_event_type = 'Lock'" if waiting else "")
    mine = " AND query LIKE '%erpmirror_webhooks%' AND datname = current_database()"
    with database.begin() as killer:
        killed = killer.execute(
            sa.text(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {where}{mine}")
        )
        return len(killed.all())


@services.ON_POSTGRESQL
def test_a_connection_killed_before_the_commit_stores_nothing_twice(database: Database, spool: Spool) -> None:
    async def run() -> list[Placement]:
        batcher = _open_batcher(_with_own_name(database), spool)
        with _locked(database):
            post = asyncio.create_task(_post(batcher, ["1", "2"]))
            while not await asyncio.to_thread(_kill, database, waiting=True):
                pass
        placements = await post
        await batcher.close()
        return placements

    placements = asyncio.run(run())
    assert Placement.NOWHERE not in placements
    _drain(database, spool)
    assert ["1", "2"] == _keys(database)


@services.ON_POSTGRESQL
def test_a_webhook_whose_commit_fails_after_its_statement_was_answered_is_not_stored(
    database: Database, spool: Spool
) -> None:
    with database.begin() as tx:
        tx.execute(
            sa.text(
                "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'refused at commit'; END $$"
            )
        )
        tx.execute(
            sa.text(
                "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON erpmirror_webhooks DEFERRABLE INITIALLY DEFERRED "
                "FOR EACH ROW WHEN (NEW.connection = 'shop') EXECUTE FUNCTION refuse()"
            )
        )
    assert [Placement.SPOOLED] == _store(database, spool, ["1"])[0]
    assert [] == _keys(database)


@services.ON_POSTGRESQL
def test_connections_killed_while_idle_are_opened_anew(database: Database, spool: Spool) -> None:
    async def run() -> list[Placement]:
        batcher = _open_batcher(_with_own_name(database), spool)
        await _post(batcher, ["1"])
        assert 1 <= _kill(database, waiting=False)
        placements = await _post(batcher, ["2"])
        await batcher.close()
        return placements

    assert [Placement.STORED] == asyncio.run(run())
    assert ["1", "2"] == _keys(database)
