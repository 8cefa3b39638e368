"""`receiver`, `sandbox` and `up` as processes, and their log."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from tests.processes import free_port
from tests.slow_params import slow_except
from tests.workers.cli.runner import GOODS, TIMEOUT, ok, process, rows_of, until, write_settings
from workers.connectors import discovery

SYSTEMS = [name for name, each in discovery.systems().items() if each.has_sandbox]


def answers(port: int, path: str) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return bool(200 == response.status)
    except (URLError, OSError):
        return False


def test_the_receiver_starts_without_a_database() -> None:
    port = free_port()
    write_settings(
        f'[receiver]\nport = {port}\n[database]\nurl = "postgresql://me:hunter2@127.0.0.1:{free_port()}/mirror"\n'
    )
    with process("receiver") as (_, log):
        until(lambda: answers(port, "/livez"), log)
        assert not answers(port, "/readyz")
        assert "hunter2" not in log.read_text(encoding="utf-8")


@pytest.mark.parametrize("system", slow_except(SYSTEMS, quick="directo"))
def test_a_sandbox_prints_the_settings_of_a_working_connection(system: str) -> None:
    with process("sandbox", system, "--edits-per-minute", "6000") as (_, log):
        until(lambda: "Ctrl-C stops it" in log.read_text(encoding="utf-8"), log)
        table = log.read_text(encoding="utf-8").partition("# The sandbox")[0]
        write_settings(table)
        ok("migrate")
        ok("check")
        lines = log.read_text(encoding="utf-8").count("\n")
        until(lambda: log.read_text(encoding="utf-8").count("\n") > lines, log)


def test_up_runs_all_processes_and_stops_them(shop: Any) -> None:
    port = free_port()
    file = write_settings(Path("erpmirror.toml").read_text(encoding="utf-8") + f"[receiver]\nport = {port}\n")
    with process("up", "--config", str(file), "--concurrency", "1") as (started, log):
        until(lambda: answers(port, "/readyz"), log)
        until(lambda: rows_of(GOODS) == len(shop.truth(GOODS)), log)
        started.send_signal(signal.SIGINT)
        assert 0 == started.wait(TIMEOUT)
        text = log.read_text(encoding="utf-8")
    pids = [int(pid) for pid in re.findall(r"runs as process (\d+)", text)]
    assert 4 == len(pids)
    assert [] == [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    assert "Traceback" not in text


def test_the_log_contains_no_url_and_no_local_variable() -> None:
    script = (
        "import logging, structlog\n"
        "from workers.cli import logs\n"
        "logs.configure()\n"
        "logging.getLogger('httpx').info('GET https://erp.example.com/?key=hunter2')\n"
        "logging.getLogger('ours').info('standard words')\n"
        "def fail():\n"
        "    packet = 'hunter' + '2'\n"
        "    raise ValueError('no')\n"
        "try:\n"
        "    fail()\n"
        "except ValueError:\n"
        "    structlog.get_logger().exception('structured words')\n"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "" == ran.stdout
    assert "standard words" in ran.stderr
    assert "structured words" in ran.stderr
    assert "ValueError: no" in ran.stderr
    assert "hunter2" not in ran.stderr
