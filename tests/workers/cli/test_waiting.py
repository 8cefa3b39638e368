"""Processes wait for a database and a broker that are not there yet when a machine boots."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.bookkeeping import due
from models.db import migration
from models.db.database import Database
from tests import processes, services
from tests.processes import TcpProxy, free_port
from tests.workers.cli.runner import process, refused, until, write_settings
from workers.queue import canary

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.postgresql


class Late:
    """A PostgreSQL that is behind a proxy, which a test opens later."""

    def __init__(self, database: Database) -> None:
        self.database = database
        plain = database.url.set(drivername="postgresql").render_as_string(hide_password=False)
        self.proxy = TcpProxy(plain)
        self.proxy.cut()
        self.url = sa.make_url(self.proxy.address).set(
            drivername="postgresql+psycopg", password="hunter2"
        )  # the server trusts without one

    def settings(self, more: str = "") -> None:
        url = self.url.render_as_string(hide_password=False)
        write_settings(f'[database]\nurl = "{url}"\n{more}')


@pytest.fixture
def late() -> Iterator[Late]:
    with processes.own_postgresql() as database:
        found = Late(database)
        yield found
        found.proxy.cut()


def _read(log: Any) -> str:
    return str(log.read_text(encoding="utf-8"))


def test_up_waits_for_its_database(late: Late) -> None:
    late.settings(f"[receiver]\nport = {free_port()}\n")
    with process("up", "--concurrency", "1") as (started, log):
        until(lambda: "Waiting" in _read(log), log)
        assert "`url` of [database]" in _read(log)
        assert "hunter2" not in _read(log)
        assert "answers at" not in _read(log)
        late.proxy.mend()
        until(lambda: "full_sync runs as process" in _read(log), log)
        assert 1 == _read(log).count("Waiting")
        assert started.poll() is None


@pytest.mark.parametrize("verb", ["worker", "beat"])
def test_a_process_waits_for_its_database(late: Late, verb: str) -> None:
    migration.migrate(late.database)
    late.settings()
    with process(verb) as (started, log):
        until(lambda: "Waiting" in _read(log), log)
        late.proxy.mend()
        if verb == "beat":
            until(lambda: any(each.waiting_since for each in canary.queue_health(late.database)), log)
        else:
            until(lambda: started.poll() is None and processes.children(started), log)
        assert "Traceback" not in _read(log)


@pytest.mark.redis
def test_a_worker_and_beat_wait_for_their_broker() -> None:
    with ExitStack() as stack:
        database = stack.enter_context(processes.own_postgresql())
        migration.migrate(database)
        proxy = stack.enter_context(TcpProxy(stack.enter_context(processes.own_redis())))
        proxy.cut()
        url = database.url.render_as_string(hide_password=False)
        write_settings(f'[database]\nurl = "{url}"\n[broker]\nurl = "{proxy.address}"\n')
        _, beat_log = stack.enter_context(process("beat"))
        _, worker_log = stack.enter_context(process("worker", "--concurrency", "1"))
        until(lambda: "unreachable" in _read(beat_log), beat_log)
        until(lambda: "Connection refused; start the broker, or correct" in _read(worker_log), worker_log)
        proxy.mend()
        until(lambda: all(each.worker for each in canary.queue_health(database)), worker_log)
        assert due.load(database).now


@pytest.mark.parametrize("wrong", ["database", "user"])
def test_a_database_that_a_person_must_correct_is_not_waited_for(wrong: str) -> None:
    url = sa.make_url(services.need(services.POSTGRESQL))
    url = url.set(database="cli_none") if wrong == "database" else url.set(username="cli_nobody")
    write_settings(f'[database]\nurl = "{url.render_as_string(hide_password=False)}"\n')
    assert "`url` of [database]" in refused("up")
