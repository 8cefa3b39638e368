"""The supervisor restarts processes that end, and stops all of them on a signal."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa

from models.db import tables
from models.db.database import Database
from tests.processes import free_port
from workers.queue import canary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TIMEOUT = 60


class Running:
    """A running supervisor and its output."""

    def __init__(self, process: subprocess.Popen[bytes], output: Path) -> None:
        self.process = process
        self._file = output

    def output(self) -> str:
        return self._file.read_text(encoding="utf-8")

    def pids(self, name: str) -> list[int]:
        return [int(pid) for pid in re.findall(rf"(?<!\w){name} runs as process (\d+)", self.output())]

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + TIMEOUT
        while not condition():
            assert self.process.poll() is None, self.output()
            assert time.monotonic() < deadline, self.output()
            time.sleep(0.02)


@contextmanager
def supervising(folder: Path, verbs: dict[str, list[str]]) -> Iterator[Running]:
    output = folder / "output"
    script = (
        "from functools import partial\n"
        "from workers import cli\n"
        "from workers.cli import supervisor\n"
        f"children = {{name: partial(cli.app, verb) for name, verb in {verbs!r}.items()}}\n"
        "supervisor.run(children, print_line=lambda name, line: print(name, line, flush=True))\n"
    )
    with started(output, "-c", script) as running:
        yield running


@contextmanager
def started(output: Path, *arguments: str) -> Iterator[Running]:
    with output.open("wb") as file:
        process = subprocess.Popen([sys.executable, *arguments], stdout=file, stderr=subprocess.STDOUT)
    try:
        yield Running(process, output)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(TIMEOUT)


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def group(pid: int) -> list[int]:
    """The running processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, of = stat.read_text(encoding="utf-8").rpartition(")")[2].split()[:3]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.fixture
def beat(tmp_path: Path) -> list[str]:
    """The arguments of a process that runs until it is stopped."""
    file = tmp_path / "erpmirror.toml"
    file.write_text(f"[receiver]\nport = {free_port()}\n", encoding="utf-8")
    ran = subprocess.run([sys.executable, "-m", "workers.cli", "migrate", "--config", str(file)], check=False)
    assert 0 == ran.returncode
    return ["beat", "--config", str(file)]


def test_a_killed_process_is_started_again(tmp_path: Path, beat: list[str]) -> None:
    with supervising(tmp_path, {"one": beat, "two": beat}) as running:
        running.until(lambda: running.pids("one") and running.pids("two"))
        first, other = running.pids("one")[0], running.pids("two")[0]
        os.kill(first, signal.SIGKILL)
        running.until(lambda: len(running.pids("one")) > 1)
        assert "one ended (killed by SIGKILL); starting it again in 0.5 s" in running.output()
        assert alive(running.pids("one")[1])
        assert [other] == running.pids("two")


def test_the_child_processes_of_a_killed_worker_are_killed(tmp_path: Path, beat: list[str]) -> None:
    with supervising(tmp_path, {"sync": ["worker", "--concurrency", "1", *beat[1:]]}) as running:
        running.until(lambda: running.pids("sync"))
        first = running.pids("sync")[0]
        running.until(lambda: len(group(first)) > 1)
        os.kill(first, signal.SIGKILL)
        running.until(lambda: len(running.pids("sync")) > 1)
        running.until(lambda: not group(first))


@pytest.mark.slow
def test_a_running_worker_that_takes_no_messages_is_started_again(tmp_path: Path, beat: list[str]) -> None:
    database = Database(f"sqlite:///{tmp_path / 'var' / 'erpmirror.db'}")
    c = tables.canaries.c

    def healthy() -> bool:
        return [None] == [
            each.problem for each in canary.queue_health(database) if each.queue == "sync" and each.worker
        ]

    def waiting() -> bool:
        return any(each.waiting_since is not None for each in canary.queue_health(database) if each.queue == "sync")

    with started(tmp_path / "output", "-m", "workers.cli", "up", "--concurrency", "1", *beat[1:]) as running:
        running.until(healthy)
        stopped = running.pids("sync")[0]
        assert alive(stopped), running.output()
        os.killpg(stopped, signal.SIGSTOP)
        running.until(waiting)
        with database.begin() as tx:  # as if an hour had passed
            earlier = database.now(tx) - timedelta(hours=1)
            tx.execute(sa.update(tables.canaries).where(c.queue == "sync").values(sent_at=earlier))
            tx.execute(sa.update(tables.canaries).where(c.queue == "sync").values(answered_at=None))
        running.until(lambda: len(running.pids("sync")) > 1)
        assert "sync has taken no message for 60 min; starting it again" in running.output()
        assert not alive(stopped)
        running.until(lambda: healthy() and not waiting())
        assert 1 == len(running.pids("full_sync"))
    database.close()


def test_the_restart_delay_doubles_while_a_process_keeps_ending(tmp_path: Path) -> None:
    with supervising(tmp_path, {"one": ["no-such-verb"]}) as running:
        running.until(lambda: "starting it again in 1 s" in running.output())
        assert "one ended (status 2); starting it again in 0.5 s" in running.output()
        assert "No such command 'no-such-verb'" in running.output()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_all_processes(tmp_path: Path, beat: list[str], number: signal.Signals) -> None:
    with supervising(tmp_path, {"one": beat, "two": beat}) as running:
        running.until(lambda: running.pids("one") and running.pids("two"))
        children = running.pids("one") + running.pids("two")
        running.process.send_signal(number)
        assert 0 == running.process.wait(TIMEOUT)
        assert [] == [pid for pid in children if alive(pid)]
