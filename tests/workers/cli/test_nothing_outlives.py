"""No process outlives the one that started it, whatever ends that; and a log that nobody reads stops no work."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.processes import descendants, free_port
from tests.workers.cli.runner import GOODS, TIMEOUT, rows_of, until, write_settings
from tests.workers.cli.test_processes import answers

if TYPE_CHECKING:
    from collections.abc import Iterator


def alive(pid: int) -> bool:
    """Whether it runs; one that has ended may wait for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def up(file: Path, *, log: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """`erpmirror up` in a session of its own, until its receiver answers and its workers have forked."""
    with log.open("wb") as output:
        command = [sys.executable, "-m", "workers.cli", "up", "--concurrency", "1", "--config", str(file)]
        started = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        until(lambda: answers(port, "/livez") and len(descendants(started.pid)) >= 6, log)
        yield started
    finally:
        for pid in (*descendants(started.pid), started.pid):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        started.wait(TIMEOUT)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_nothing_outlives_up(tmp_path: Path, number: signal.Signals) -> None:
    port = free_port()
    file = write_settings(f"[receiver]\nport = {port}\n")
    with up(file, log=tmp_path / "up.log", port=port) as started:
        processes = descendants(started.pid)
        os.kill(started.pid, number)
        until(lambda: not any(map(alive, processes)), tmp_path / "up.log")
        assert not answers(port, "/livez")


def test_nothing_outlives_the_demo(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "workers.cli", "demo", "--folder", str(tmp_path / "demo")]
        started = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    processes: list[int] = []
    try:
        until(lambda: len(descendants(started.pid)) >= 5, log)  # `up`, the receiver, two workers and beat
        processes += descendants(started.pid)
        os.kill(started.pid, signal.SIGKILL)
        until(lambda: not any(map(alive, processes)), log)
    finally:
        for pid in (*descendants(started.pid), *processes, started.pid):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        started.wait(TIMEOUT)


def test_the_processes_that_a_worker_forked_end_with_it(tmp_path: Path) -> None:
    port = free_port()
    with up(write_settings(f"[receiver]\nport = {port}\n"), log=tmp_path / "up.log", port=port) as started:
        text = (tmp_path / "up.log").read_text(encoding="utf-8")
        worker = int(re.findall(r"full_sync runs as process (\d+)", text)[0])
        forked = descendants(worker)
        os.kill(started.pid, signal.SIGSTOP)  # so that it does not clear away after the worker
        os.kill(worker, signal.SIGKILL)
        until(lambda: not any(map(alive, forked)), tmp_path / "up.log")
        assert forked
        assert not alive(worker)


def test_a_closed_terminal_ends_a_worker_instead_of_starting_it_again(tmp_path: Path) -> None:
    write_settings("")
    subprocess.run([sys.executable, "-m", "workers.cli", "migrate"], check=True, capture_output=True)
    log = tmp_path / "worker.log"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "workers.cli", "worker", "--concurrency", "1"]
        started = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        until(lambda: descendants(started.pid), log)
        forked = descendants(started.pid)
        started.send_signal(signal.SIGHUP)
        started.wait(TIMEOUT)  # a worker that starts itself again keeps its process id and never ends
        until(lambda: not any(map(alive, forked)), log)
    finally:
        if started.poll() is None:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait(TIMEOUT)


def test_a_log_whose_reader_has_ended_stops_no_work(shop: Any) -> None:
    """As after `erpmirror up 2>&1 | tee log`, where Ctrl-C ends `tee`, or `| head`."""
    port = free_port()
    file = write_settings(Path("erpmirror.toml").read_text(encoding="utf-8") + f"[receiver]\nport = {port}\n")
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "workers.cli", "up", "--concurrency", "1", "--config", str(file)]
    started = subprocess.Popen(command, stdout=writer, stderr=writer, start_new_session=True)
    os.close(writer)
    first = os.read(reader, 10)
    os.close(reader)
    processes: list[int] = []
    try:
        until(lambda: answers(port, "/readyz") and rows_of(GOODS) == len(shop.truth(GOODS)), file)
        processes += descendants(started.pid)
        started.send_signal(signal.SIGINT)
        assert 0 == started.wait(TIMEOUT)
    finally:
        for pid in (*descendants(started.pid), started.pid):
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        started.wait(TIMEOUT)
    assert first
    assert len(processes) >= 6
    assert [] == [pid for pid in processes if alive(pid)]


def test_a_worker_logs_on_although_nobody_reads(shop: Any) -> None:  # noqa: ARG001 - its settings are used
    """The work itself logs, in the process that does it: a failing line must not fail the work."""
    script = (
        "import os, sys, logging\n"
        "from workers import configuration, context\n"
        "from workers.cli import logs\n"
        "from workers.ingest import loop\n"
        "from models.db.database import Database\n"
        "reader, writer = os.pipe()\n"
        "answer = os.fdopen(os.dup(1), 'w')\n"
        "os.dup2(writer, 1); os.dup2(writer, 2); os.close(writer); os.close(reader)\n"
        "logs.configure()\n"
        "settings = configuration.load()\n"
        "database = Database(settings.database.url)\n"
        "context.sync_streams(database, settings)\n"
        "shop = context.connection_context(database, settings, 'shop')\n"
        "loop.full_sync(shop); loop.sync(shop)\n"
        "logging.getLogger('ours').warning('words')\n"
        "print('lost'); sys.stdout.flush()\n"
        "answer.write('done'); answer.close()\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ("done", 0) == (ran.stdout, ran.returncode)
    assert rows_of(GOODS)
