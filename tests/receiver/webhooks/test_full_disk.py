"""A disk that is full: `/readyz` says so, and the log says it once, not once a batch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.processes import free_port, until
from tests.receiver import samples
from workers import configuration

if TYPE_CHECKING:
    from pathlib import Path

RECEIVER = """
set -e
mount -t tmpfs -o size=2m,mode=700 none "$DISK"
"$PYTHON" -m workers.cli migrate
dd if=/dev/zero of="$DISK/filling" bs=4k 2>/dev/null || true
exec "$PYTHON" -m workers.cli receiver
"""
"""A small file system of its own, which ends with the process."""


def _namespaces() -> list[str]:
    """The command before one that may mount; skips where that is not allowed."""
    words = ["unshare", *(() if os.geteuid() == 0 else ("--map-root-user",)), "--mount"]
    if not shutil.which("unshare") or subprocess.run([*words, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    return words


def test_a_full_disk_is_told_and_logged_once(tmp_path: Path) -> None:
    port = free_port()
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / configuration.FILE).write_text(
        f'[database]\nurl = "sqlite:///{disk}/mirror.db"\n'
        f'[receiver]\nport = {port}\nspool = "{disk}/spool"\n'
        '[connections.shop]\nsystem = "dilovod"\napi_key = "K"\nresources = ["catalogs.goods"]\n'
        'webhook_sources = ["127.0.0.1"]\n'
    )
    log = tmp_path / "receiver.log"
    with log.open("wb") as output:
        started = subprocess.Popen(
            [*_namespaces(), "sh", "-c", RECEIVER],
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env=os.environ | {"DISK": str(disk), "PYTHON": sys.executable},
        )
    try:
        until(lambda: _answers(port), seconds=120, what=log.read_text)
        address = f"http://127.0.0.1:{port}"
        padding = "x" * 20_000  # more than the free end of a page of the database
        for number in range(5):
            packet = samples.packet(key=f"{samples.GOODS[:-1]}{number}").replace("{", f'{{"padding":"{padding}",', 1)
            answer = httpx.post(f"{address}/hooks/shop", content=packet, headers={"Content-Type": "application/json"})
            assert 503 == answer.status_code, answer.text
        # A probe that is late on a busy host says so, not what is wrong: the next answer counts.
        until(lambda: _both_are_full(_ready(address)), seconds=60, what=lambda: _ready(address).text)
        assert 1 == log.read_text().count("webhooks go to the spool")
        assert 1 == log.read_text().count("webhooks not stored")
    finally:
        started.terminate()
        started.wait(60)


def _ready(address: str) -> httpx.Response:
    return httpx.get(f"{address}/readyz", timeout=30)


def _both_are_full(ready: httpx.Response) -> bool:
    components = ready.json()
    return ready.status_code == 503 and "full" in components["database"] and "no room" in components["spool"]


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez", timeout=2).is_success
    except httpx.TransportError:
        return False
