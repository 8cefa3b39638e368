from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.bookkeeping import webhooks
from models.bookkeeping.webhooks import AcceptedWebhook
from models.db import migration
from models.db.database import Database, Tx
from receiver import db_timeouts
from tests import services
from tests.chaos.servers import PostgreSQL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.receiver.conftest import Open


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgreSQL]:
    with PostgreSQL(tmp_path) as running:
        yield running


def _query(database: Database, *, once_begun: Callable[[], None] = lambda: None) -> int:
    with database.read() as tx:
        tx.execute(sa.text("SELECT 1"))
        once_begun()
        return int(tx.execute(sa.text("SELECT 1")).scalar_one())


@pytest.mark.postgresql
def test_a_server_that_stops_answering_fails_in_time_and_then_answers_again(server: PostgreSQL) -> None:
    with closing(db_timeouts.database(server.address, seconds=1)) as database:
        assert 1 == _query(database)
        with pytest.raises(sa.exc.OperationalError):
            _query(database, once_begun=server.pause)
        for _ in range(2):
            with pytest.raises(sa.exc.OperationalError):
                _query(database)
        server.resume()
        assert 1 == _query(database)


@pytest.mark.postgresql
def test_while_the_database_does_not_answer_the_receiver_does(server: PostgreSQL, opened: Open) -> None:
    database = Database(server.address)
    migration.migrate(database)
    with opened(database) as client:
        assert 200 == client.get("/changes").status_code
        server.pause()
        answers = {path: client.get(path, timeout=60) for path in ("/changes", "/readyz", "/metrics", "/livez")}
        assert {"/changes": 503, "/readyz": 503, "/metrics": 200, "/livez": 200} == {
            path: answer.status_code for path, answer in answers.items()
        }
        assert "erpmirror_database_up 0.0" in answers["/metrics"].text
        server.resume()
        assert 200 == client.get("/changes").status_code
    database.close()


@services.ON_POSTGRESQL
def test_an_abandoned_transaction_does_not_keep_its_locks(database: Database) -> None:
    webhook = AcceptedWebhook("shop", "{}", resource="catalogs.goods", key="1")
    with closing(db_timeouts.database(database.url, seconds=1)) as first:
        left = Tx(first)
        webhooks.append(left, [webhook])  # the server does not learn that the transaction is abandoned
        with database.begin() as tx:
            tx.execute(sa.text("SET LOCAL lock_timeout = '60s'"))
            webhooks.append(tx, [webhook])
        left.invalidate()
        left.close()
