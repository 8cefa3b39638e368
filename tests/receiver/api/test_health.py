from __future__ import annotations

import asyncio
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.db import migration, tables
from models.db.database import Database
from receiver.api.health import Probe
from tests.receiver.wakers import Broken
from workers.queue import canary

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.receiver.conftest import Open


def test_ready_is_when_database_tables_and_broker_answer(empty_url: sa.URL, opened: Open) -> None:
    database = Database(empty_url)
    migration.migrate(database)
    with opened(database) as client:
        answer = client.get("/readyz")
    assert 200 == answer.status_code
    assert {"ok": True, "database": "ok", "broker": "ok", "spool": "ok"}.items() <= answer.json().items()
    database.close()


def test_silent_workers_are_named_but_a_receiver_that_stores_webhooks_stays_ready(tmp_path: Path, opened: Open) -> None:
    database = Database(f"sqlite:///{tmp_path / 'migrated.db'}")
    migration.migrate(database)
    with database.begin() as tx:
        now = database.now(tx)
        asked = {"queue": "sync", "sent_at": now - timedelta(minutes=5)}
        answered = {"queue": "full_sync", "sent_at": now, "answered_at": now}
        tx.execute(sa.insert(tables.canaries), asked)
        tx.execute(sa.insert(tables.canaries), answered)
    with opened(database) as client:
        answer = client.get("/readyz")
        assert (200, "sync: no worker has answered for 5 min; is `erpmirror worker` running?") == (
            answer.status_code,
            answer.json()["workers"],
        )
        canary.record_answer(database, "sync", worker="sync@host")
        assert "ok" == client.get("/readyz").json()["workers"]
    database.close()


def test_missing_tables_are_named_with_their_remedy(empty_url: sa.URL, opened: Open) -> None:
    database = Database(empty_url)
    with opened(database) as client:
        answer = client.get("/readyz")
        assert 200 == client.get("/livez").status_code
    assert 503 == answer.status_code
    assert "erpmirror migrate" in answer.json()["database"]
    assert "ok" == answer.json()["broker"]


def test_a_broker_that_is_away_is_named_without_its_password(
    sqlite: Database, opened: Open, capfd: pytest.CaptureFixture[str]
) -> None:
    with opened(sqlite, waker=Broken("amqp://guest:pa55word@broker")) as client:
        answer = client.get("/readyz")
        assert 200 == client.get("/livez").status_code
    assert (503, "away: ConnectionError") == (answer.status_code, answer.json()["broker"])
    output = capfd.readouterr()
    assert "pa55word" not in answer.text + output.out + output.err


def test_a_component_that_hangs_is_away_and_is_not_asked_twice() -> None:
    asked: list[int] = []
    let_go = threading.Event()

    def hang() -> str:
        asked.append(1)
        assert let_go.wait(60)
        return "ok"

    async def run() -> tuple[list[str], str]:
        probe = Probe(hang, seconds=0.02)
        hanging = [await probe.ask() for _ in range(3)]
        let_go.set()
        while (answer := await probe.ask()) != "ok":
            pass
        return hanging, answer

    hanging, healed = asyncio.run(run())
    assert ["away: no answer within 0.02 s"] * 3 == hanging
    assert "ok" == healed
    assert 1 == len(asked)


def test_without_database_and_spool_a_webhook_is_sent_again_later(opened: Open, tmp_path: Path) -> None:
    tmp_path.joinpath("var").write_text("a file stands where a folder belongs")
    nowhere = Database("postgresql+psycopg://postgres:pa55word@127.0.0.1:1/nothing")
    with opened(nowhere) as client:
        packet = '{"action":"objectChanged","params":{"objectName":"catalogs.goods","id":"1100300000000001"}}'
        answer = client.post("/hooks/shop", content=packet)
        assert (503, "not_durable", "5") == (
            answer.status_code,
            answer.json()["error"],
            answer.headers["Retry-After"],
        )
        assert "cannot be written" in client.get("/readyz").json()["spool"]


def test_the_receiver_starts_without_a_database(opened: Open) -> None:
    nowhere = Database("postgresql+psycopg://postgres:pa55word@127.0.0.1:1/nothing")
    with opened(nowhere) as client:
        assert 200 == client.get("/livez").status_code
        answer = client.get("/readyz")
        assert (503, "away: OperationalError", "ok") == (
            answer.status_code,
            answer.json()["database"],
            answer.json()["broker"],
        )
        packet = '{"action":"objectChanged","params":{"objectName":"catalogs.goods","id":"1100300000000001"}}'
        assert 200 == client.post("/hooks/shop", content=packet).status_code
        assert "1 webhooks wait" == client.get("/readyz").json()["spool"]
        assert 503 == client.get("/changes").status_code
        assert 503 == client.post("/polls/shop").status_code
        assert 200 == client.get("/metrics").status_code
