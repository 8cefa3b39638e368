"""Through outages of the database and kills of the receiver, each webhook that was answered 200 becomes one row."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

import httpx
import pytest
import sqlalchemy as sa

from models import failpoints
from models.db import migration, tables
from models.db.database import Database
from models.failpoints import Point
from receiver.webhooks.spool import Spool
from tests.chaos.lifecycle import PATIENCE
from tests.chaos.servers import PostgreSQL
from tests.processes import Installation, free_port, kill_group, until
from tests.slow_params import slow_except

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from models.settings.load import Settings

PACKET = '{"action":"objectChanged","params":{"objectName":"catalogs.goods","id":"1100300%09d"}}'
SENDERS = 8
MANY = 300


@dataclass
class Sending:
    """The packets that the senders sent, each with its status; 0 if the receiver died before it answered."""

    answers: dict[str, int] = field(default_factory=dict)

    def answered(self, status: int) -> list[str]:
        return [packet for packet, answer in self.answers.copy().items() if answer == status]

    def wait_for(self, more: int) -> None:
        """Until so many more were answered 200."""
        before = len(self.answered(200))
        until(lambda: len(self.answered(200)) >= before + more, seconds=PATIENCE, what=lambda: f"{self._counted()}")
        assert {0, 200} >= set(self.answers.values())

    def _counted(self) -> Counter[int]:
        return Counter(self.answers.values())


@contextmanager
def sending(address: str, *, first: int = 0) -> Iterator[Sending]:
    """Several senders, each sending one webhook after another while the block runs, numbered from `first` on."""
    known, stopping, numbers = Sending(), threading.Event(), count(first)

    def send() -> None:
        with httpx.Client(timeout=60, trust_env=False) as client:
            while not stopping.is_set():
                packet = PACKET % next(numbers)
                try:
                    answer = client.get(f"{address}/hooks/shop", params={"packet": packet}).status_code
                except httpx.TransportError:
                    answer = 0
                    stopping.wait(0.05)
                known.answers[packet] = answer

    senders = [threading.Thread(target=send, daemon=True) for _ in range(SENDERS)]
    for sender in senders:
        sender.start()
    try:
        yield known
    finally:
        stopping.set()
        for sender in senders:
            sender.join(PATIENCE)


@dataclass
class ReceiverHarness:
    """A receiver in a process of its own, and its database."""

    database: Database
    installation: Installation
    spool: Spool
    armed: Path

    def begin(self) -> subprocess.Popen[bytes]:
        """Start a receiver."""
        return self.installation.start("receiver", **{failpoints.VARIABLE: str(self.armed)})

    def start(self) -> subprocess.Popen[bytes]:
        """Start a receiver; returns once it answers."""
        process = self.begin()
        until(self.installation.answers, seconds=PATIENCE, what=self.installation.logs)
        return process

    def strike(self, point: Point, process: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """Let the receiver die at the point, and start another."""
        self.armed.joinpath(point).touch()
        assert -signal.SIGKILL == process.wait(PATIENCE)
        return self.start()

    def require_each_once(self, sent: Sending) -> None:
        """Wait until nothing is left in the spool; each packet that was answered 200 is one row, and no other is."""
        until(
            self.spool.is_empty,
            seconds=PATIENCE,
            what=lambda: f"{self.spool.status_line()} {self.installation.logs()}",
        )
        with self.database.read() as tx:
            rows = Counter(tx.execute(sa.select(tables.webhooks.c.packet)).scalars())
        assert {1} == set(rows.values())
        assert set() == set(sent.answered(200)) - set(rows)
        assert set() == set(rows) - set(sent.answered(200)) - set(sent.answered(0))
        assert 0 == self.spool.refused()


@contextmanager
def receiver_harness(database: Database, configure: Callable[..., Settings], folder: Path) -> Iterator[ReceiverHarness]:
    port = free_port()
    settings = configure(database.url, f"port = {port}")
    installation = Installation(settings.file, port)
    armed = folder / "armed"
    armed.mkdir()
    try:
        yield ReceiverHarness(database, installation, Spool(settings.receiver.spool), armed)
    finally:
        installation.stop()
        database.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[PostgreSQL]:
    with PostgreSQL(tmp_path) as running:
        yield running


@pytest.fixture
def harness(server: PostgreSQL, configure: Callable[..., Settings], tmp_path: Path) -> Iterator[ReceiverHarness]:
    database = Database(server.address)
    migration.migrate(database)
    with receiver_harness(database, configure, tmp_path) as made:
        yield made


OUTAGES: dict[str, tuple[Callable[[PostgreSQL], None], Callable[[PostgreSQL], None]]] = {
    "stopped": (PostgreSQL.stop, PostgreSQL.start),
    "killed": (PostgreSQL.kill, PostgreSQL.start),
    "paused": (PostgreSQL.pause, PostgreSQL.resume),
}


@pytest.mark.postgresql
@pytest.mark.timeout(600)
@pytest.mark.parametrize("outage", slow_except(OUTAGES, quick="paused"))
def test_while_the_database_is_down_every_webhook_is_answered_200_and_stored_once(
    harness: ReceiverHarness, server: PostgreSQL, outage: str
) -> None:
    begin_outage, end_outage = OUTAGES[outage]
    harness.start()
    with sending(harness.installation.address) as sent:
        sent.wait_for(MANY)
        for _ in range(2):
            begin_outage(server)
            sent.wait_for(MANY)
            end_outage(server)
            sent.wait_for(MANY)
    assert {200} == set(sent.answers.values())
    harness.require_each_once(sent)


@pytest.mark.postgresql
@pytest.mark.timeout(600)
@pytest.mark.parametrize("outage", slow_except(OUTAGES, quick="killed"))
def test_the_spool_of_a_killed_receiver_is_drained_by_the_next(
    harness: ReceiverHarness, server: PostgreSQL, outage: str
) -> None:
    begin_outage, end_outage = OUTAGES[outage]
    process = harness.start()
    with sending(harness.installation.address) as sent:
        sent.wait_for(MANY)
        begin_outage(server)
        sent.wait_for(MANY)
        kill_group(process)
        process = harness.start()
        sent.wait_for(MANY)
        kill_group(process)
    end_outage(server)
    harness.start()
    assert {0, 200} == set(sent.answers.values())
    harness.require_each_once(sent)


@pytest.mark.postgresql
@pytest.mark.timeout(600)
@pytest.mark.parametrize("point", slow_except([Point.SPOOL_WRITTEN, Point.SPOOL_SYNCED], quick=Point.SPOOL_SYNCED))
def test_when_killed_while_writing_the_spool_each_answered_webhook_is_stored_once(
    harness: ReceiverHarness, server: PostgreSQL, point: Point
) -> None:
    process = harness.start()
    with sending(harness.installation.address) as sent:
        server.stop()
        for _ in range(2):
            sent.wait_for(MANY // 3)
            process = harness.strike(point, process)
        sent.wait_for(MANY // 3)
        server.start()
        sent.wait_for(MANY // 3)
    harness.require_each_once(sent)


@pytest.mark.postgresql
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "point", slow_except([Point.WEBHOOKS_INSERTED, Point.SPOOL_DRAINED], quick=Point.SPOOL_DRAINED)
)
def test_when_killed_while_draining_the_spool_each_answered_webhook_is_stored_once(
    harness: ReceiverHarness, server: PostgreSQL, point: Point
) -> None:
    process = harness.start()
    with sending(harness.installation.address) as sent:
        server.stop()
        sent.wait_for(MANY)
        until(lambda: not harness.spool.is_empty(), seconds=PATIENCE, what="webhooks wait in the spool")
    harness.armed.joinpath(point).touch()
    server.start()
    assert -signal.SIGKILL == process.wait(PATIENCE)
    assert not harness.spool.is_empty()
    with sending(harness.installation.address, first=1_000_000) as later:
        harness.armed.joinpath(point).touch()  # before the start, because the rest is drained within a moment
        harness.strike(point, harness.begin())
        later.wait_for(MANY)
    sent.answers.update(later.answers)
    harness.require_each_once(sent)


@pytest.mark.postgresql
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "point", slow_except([Point.WEBHOOKS_INSERTED, Point.WEBHOOKS_COMMITTED], quick=Point.WEBHOOKS_COMMITTED)
)
def test_when_killed_around_a_commit_each_answered_webhook_is_stored_once(
    harness: ReceiverHarness, point: Point
) -> None:
    process = harness.start()
    with sending(harness.installation.address) as sent:
        for _ in range(2):
            sent.wait_for(MANY)
            process = harness.strike(point, process)
        sent.wait_for(MANY)
        kill_group(process)
    harness.start()
    harness.require_each_once(sent)


@pytest.mark.postgresql
@pytest.mark.timeout(600)
@pytest.mark.parametrize("outage", slow_except(OUTAGES, quick="stopped"))
def test_a_terminated_receiver_does_not_wait_for_the_database(
    harness: ReceiverHarness, server: PostgreSQL, outage: str
) -> None:
    begin_outage, end_outage = OUTAGES[outage]
    process = harness.start()
    with sending(harness.installation.address) as sent:
        sent.wait_for(MANY)
        begin_outage(server)
        sent.wait_for(2 * MANY)  # the first answers may be of webhooks that were stored before
    process.terminate()
    process.wait(PATIENCE)
    assert MANY <= harness.spool.waiting()
    end_outage(server)
    harness.start()
    harness.require_each_once(sent)


@pytest.mark.timeout(600)
def test_a_database_file_that_another_program_has_locked_delays_no_webhook(
    configure: Callable[..., Settings], tmp_path: Path
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'mirror.db'}")
    migration.migrate(database)
    with receiver_harness(database, configure, tmp_path) as harness:
        harness.start()
        with sending(harness.installation.address) as sent:
            sent.wait_for(MANY)
            with database.begin():
                sent.wait_for(2 * MANY)  # the first answers may be of webhooks that were stored before
                assert MANY <= harness.spool.waiting()
            sent.wait_for(MANY)
        assert {200} == set(sent.answers.values())
        harness.require_each_once(sent)
