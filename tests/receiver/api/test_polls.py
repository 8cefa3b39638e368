from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.bookkeeping import stream_plans
from models.bookkeeping.stream_plans import Plan
from models.db import tables
from tests.receiver.wakers import FailingWaker, RecordingWaker

if TYPE_CHECKING:
    from models.db.database import Database
    from tests.receiver.conftest import Open

LATER = datetime.now(UTC) + timedelta(days=1)


def _streams_not_due(database: Database) -> None:
    hour = timedelta(hours=1)
    plans = [Plan(resource, hour, polls=False) for resource in ("catalogs.goods", "documents.saleOrder")]
    with database.begin() as tx:
        stream_plans.sync(tx, connection="shop", system="dilovod", plans=plans)
        tx.execute(sa.update(tables.streams).values(due_at=LATER, full_due_at=LATER))


def _due(database: Database) -> set[str]:
    table = tables.streams
    with database.read() as tx:
        return set(tx.execute(sa.select(table.c.resource).where(table.c.due_at < LATER)).scalars())


def test_a_poll_makes_every_resource_of_the_connection_due(database: Database, opened: Open) -> None:
    _streams_not_due(database)
    waker = RecordingWaker()
    with opened(database, waker=waker) as client:
        answer = client.post("/polls/shop")
    assert (202, {"ok": True}) == (answer.status_code, answer.json())
    assert {"catalogs.goods", "documents.saleOrder"} == _due(database)
    assert ["shop"] == waker.woken


def test_a_poll_may_name_its_resource(sqlite: Database, opened: Open) -> None:
    _streams_not_due(sqlite)
    with opened(sqlite) as client:
        assert 202 == client.post("/polls/shop/catalogs.goods").status_code
    assert {"catalogs.goods"} == _due(sqlite)


def test_a_poll_twice_is_harmless(sqlite: Database, opened: Open) -> None:
    _streams_not_due(sqlite)
    with opened(sqlite) as client:
        assert [202, 202] == [client.post("/polls/shop").status_code for _ in range(2)]
    assert 2 == len(_due(sqlite))


def test_a_poll_is_accepted_while_the_broker_is_away(sqlite: Database, opened: Open) -> None:
    _streams_not_due(sqlite)
    with opened(sqlite, waker=FailingWaker()) as client:
        assert 202 == client.post("/polls/shop").status_code
    assert 2 == len(_due(sqlite))


@pytest.mark.parametrize(
    ("code", "path"),
    [
        ("unknown_connection", "/polls/unknown"),
        ("unknown_connection", "/polls/unknown/catalogs.goods"),
        ("unknown_resource", "/polls/shop/catalogs.persons"),
        ("unknown_resource", "/polls/shop/items"),
        ("unknown_resource", "/polls/shop/a%00b"),
    ],
)
def test_an_unconfigured_connection_or_resource_is_404(sqlite: Database, opened: Open, code: str, path: str) -> None:
    waker = RecordingWaker()
    with opened(sqlite, waker=waker) as client:
        answer = client.post(path)
    assert (404, code) == (answer.status_code, answer.json()["error"])
    assert [] == waker.woken
