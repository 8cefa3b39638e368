"""The processes of `up` are forked from one that stays clean, and inherit nothing that binds them to each other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from tests.processes import descendants, free_port
from tests.workers.cli.runner import TIMEOUT, ok, until, write_settings
from tests.workers.cli.test_nothing_outlives import up
from tests.workers.cli.test_processes import answers


def _open_files(pid: int) -> set[str]:
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.add(str(descriptor.readlink()))
    return found


def _ran(script: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script]
    # Without coverage, which would print warnings of its own among the output that is tested.
    own = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False, env=own)


def test_up_itself_starts_no_thread_and_opens_no_database(tmp_path: Path) -> None:
    port = free_port()
    with up(write_settings(f"[receiver]\nport = {port}\n"), log=tmp_path / "up.log", port=port) as started:
        assert 1 == len(list(Path(f"/proc/{started.pid}/task").iterdir()))
        opened = {Path(each).name for each in _open_files(started.pid)}
    assert not any(name.startswith("erpmirror.db") for name in opened)


_IMPORTS_OF_A_WORKER = """
import os, signal, sys
from celery import signals
from workers import configuration
from workers.cli import processes
from workers.queue import app

loaded = configuration.load()
processes.import_shared(loaded)
shared = set(sys.modules)
assert "psycopg" not in shared, "SQLite needs none"

@signals.worker_process_init.connect(weak=False)
def report(**_):
    print("imported", *sorted(set(sys.modules) - shared), flush=True)
    os.kill(os.getppid(), signal.SIGTERM)

app.run_worker(loaded, queues=["sync"], concurrency=1)
"""


def test_a_worker_and_its_children_import_nothing_that_up_has_not_imported() -> None:
    """Else each process has a copy of its own."""
    write_settings("")
    ok("migrate")
    ran = _ran(_IMPORTS_OF_A_WORKER)
    assert "imported" == ran.stdout.splitlines()[0], ran.stderr


def test_no_process_of_up_holds_the_output_of_another(tmp_path: Path) -> None:
    """Else a write would block, instead of failing, where `up` reads no more."""
    port = free_port()
    with up(write_settings(f"[receiver]\nport = {port}\n"), log=tmp_path / "up.log", port=port) as started:
        processes = {pid: os.getpgid(pid) for pid in descendants(started.pid)}
        outputs = {group: str(Path(f"/proc/{group}/fd/1").readlink()) for group in processes.values()}
        held = {
            (pid, group)
            for pid, own in processes.items()
            for group, output in outputs.items()
            if own != group and output in _open_files(pid)
        }
    assert 4 == len(set(outputs.values()))
    assert set() == held


def test_a_killed_process_of_up_is_forked_again_and_works(tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "up.log"
    with up(write_settings(f"[receiver]\nport = {port}\n"), log=log, port=port) as started:
        before = set(descendants(started.pid))
        for pid in before:
            if os.getpgid(pid) == pid:
                os.kill(pid, signal.SIGKILL)
        until(lambda: not before & set(descendants(started.pid)) and len(descendants(started.pid)) >= 6, log)
        until(lambda: answers(port, "/readyz"), log)


def test_a_process_that_is_stopped_while_it_starts_stops() -> None:
    ran = _ran(
        "import signal, time\n"
        "from workers.cli import forking\n"
        "signal.signal(signal.SIGTERM, lambda *_: None)\n"
        "for _ in range(20):\n"
        "    process = forking.Forked('one', lambda: time.sleep(60))\n"
        "    process.terminate()\n"
        "    process.wait(30)\n"
        "    print(process.status)\n"
        "    process.close()\n"
    )
    assert ["-15"] * 20 == ran.stdout.split(), ran.stderr


def test_everything_that_a_process_wrote_is_printed_also_what_is_no_line() -> None:
    ran = _ran(
        "import signal, sys, os\n"
        "from workers.cli import supervisor\n"
        "def write():\n"
        "    for number in range(30_000):\n"
        "        print(number)\n"
        "    sys.stderr.write('last'); sys.stderr.flush()\n"
        "    sys.exit(78)\n"  # cannot start: the supervisor ends
        "supervisor.run({'one': write}, print_line=lambda name, line: print(name, line))\n"
    )
    written = [line.partition(" ")[2] for line in ran.stdout.splitlines() if line.startswith("one ")]
    assert [*map(str, range(30_000)), "last"] == written
