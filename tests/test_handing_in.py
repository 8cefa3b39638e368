"""Documents through the whole product as real processes: sent once, however handed in, whichever process is killed."""

from __future__ import annotations

import hashlib
import os
import signal
import threading
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa

from models.bookkeeping import documents
from models.db import tables
from tests import processes
from tests.processes import FULL_SYNC, SYNC, children, installed, kill_group, until
from tests.slow_params import slow_except
from tests.test_product import ON_REDIS, place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from models.db.database import Database
    from tests.processes import Installation

NOTE = "deliverynote"
PDF = b"%PDF-1.7\none\n%%EOF\n"
KEY = hashlib.sha256(PDF).hexdigest()

PLACES = pytest.mark.parametrize("kind", ["files", ON_REDIS])


@contextmanager
def installation_on(kind: str, folder: Path) -> Iterator[tuple[Installation, Database, Any]]:
    """An installation without running processes, its database, and the vendor's sandbox."""
    systems: dict[str, dict[str, Any]] = {"interpreter": {"inbox": folder / "incoming"}}
    with (
        place(kind, folder) as (database, broker),
        installed(database, folder, broker=broker, systems=systems) as (installation, mirror),
    ):
        yield installation, database, mirror.sandboxes["interpreter"]


def state(database: Database) -> str | None:
    with database.read() as tx:
        found = documents.get(tx, connection="interpreter", kind=NOTE, sha256=KEY)
    return None if found is None else found.state.value


def post(installation: Installation) -> httpx.Response:
    address = f"{installation.address}/documents/interpreter/{NOTE}"
    return httpx.post(address, files={"file": ("a.pdf", PDF)}, timeout=60)


def journaled(database: Database) -> list[tuple[str, str, str]]:
    c = tables.changes.c
    with database.read() as tx:
        return [tuple(row) for row in tx.execute(sa.select(c.key, c.kind, c.cause))]


@PLACES
def test_a_file_handed_in_ten_times_at_once_in_every_way_is_interpreted_once(kind: str, tmp_path: Path) -> None:
    with installation_on(kind, tmp_path) as (installation, database, sandbox):
        sandbox.latency = 1.0  # so that the others arrive during its request
        installation.start_all()
        installation.start(*SYNC)
        (tmp_path / "a.pdf").write_bytes(PDF)
        answers: list[httpx.Response] = []
        doors: list[Callable[[], object]] = [lambda: answers.append(post(installation))] * 4
        doors += [partial(sandbox.drop, NOTE, PDF, name) for name in ("one", "two", "three")]
        threads = [threading.Thread(target=door) for door in doors]
        verb = ("hand-in", "interpreter", NOTE, str(tmp_path / "a.pdf"))
        people = [installation.start(*verb, *words) for words in ((), (), ("--no-wait",))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [0, 0, 0] == [person.wait(90) for person in people], installation.logs()
        done = sandbox.inbox / NOTE / "done"
        until(lambda: len(list(done.glob("*.pdf"))) == 3, seconds=60, what=installation.logs)
        assert [202] * 4 == [answer.status_code for answer in answers]
        assert "interpreted" == state(database)
        assert {KEY: 1} == dict(sandbox.calls)
        assert [(KEY, "created", "document")] == journaled(database)
        assert {"document": KEY, "new": False} == post(installation).json()


def time_passes(database: Database) -> None:
    """Expire all leases and make all keys due, as after a long time."""
    with database.begin() as tx:
        past = database.now(tx)
        tx.execute(sa.update(tables.leases).values(until=past))
        tx.execute(sa.update(tables.inbox).where(tables.inbox.c.due_at > past).values(due_at=past))


@PLACES
@pytest.mark.parametrize("killed", slow_except(["worker", "child"], quick="child"))
def test_a_document_whose_worker_is_killed_during_its_request_is_parked(kind: str, killed: str, tmp_path: Path) -> None:
    with installation_on(kind, tmp_path) as (installation, database, sandbox):
        sandbox.latency = 600.0
        installation.start("receiver")
        until(installation.answers, seconds=60, what=installation.logs)
        worker = installation.start(*SYNC)
        installation.start("beat")
        assert 202 == post(installation).status_code
        until(lambda: sandbox.uploads, seconds=60, what=installation.logs)
        assert "sending" == state(database)
        if killed == "worker":
            kill_group(worker)
        else:
            for pid in children(worker):
                os.kill(pid, signal.SIGKILL)
        installation.start(*SYNC)
        installation.start(*FULL_SYNC)
        sandbox.latency = 0.0
        time_passes(database)
        until(lambda: state(database) == "parked", seconds=60, what=installation.logs)
        sandbox.drop(NOTE, PDF)
        assert {"document": KEY, "new": False} == post(installation).json()
        parked = sandbox.inbox / NOTE / "parked"
        until(lambda: list(parked.glob("*.why.txt")), seconds=60, what=installation.logs)
        [why] = parked.glob("*.why.txt")
        assert f"erpmirror parked retry interpreter {NOTE} {KEY}" in why.read_text()
        assert 1 == len(sandbox.uploads)
        retry = installation.start("parked", "retry", "interpreter", NOTE, KEY)
        assert 0 == retry.wait(60), installation.logs()
        until(lambda: state(database) == "interpreted", seconds=60, what=installation.logs)
        time.sleep(2)
        assert 2 == len(sandbox.uploads)
        assert [(KEY, "created", "document")] == journaled(database)
        assert "sandbox-key" not in installation.logs()


def test_an_unreachable_vendor_gets_a_document_once_when_it_is_back(tmp_path: Path) -> None:
    with installation_on("files", tmp_path) as (installation, database, sandbox):
        text = installation.file.read_text()
        address = next(line for line in text.splitlines() if line.startswith("url") and "127.0.0.1" in line)
        with processes.TcpProxy(address.split('"')[1]) as proxy:
            installation.file.write_text(text.replace(address.split('"')[1], proxy.address))
            proxy.cut()
            installation.start_all()
            assert 202 == post(installation).status_code
            until(lambda: _reason(database), seconds=60, what=installation.logs)
            assert ("waiting", []) == (state(database), sandbox.uploads)
            proxy.mend()
            until(lambda: state(database) == "interpreted", seconds=90, what=installation.logs)
            assert 1 == len(sandbox.uploads)


def _reason(database: Database) -> str | None:
    with database.read() as tx:
        return tx.execute(sa.select(tables.inbox.c.reason)).scalar()
