"""A port that is taken is found before anything is said to answer, and named with its setting and a remedy."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import free_port
from tests.workers.cli import runner
from tests.workers.cli.runner import ended, ok, write_settings
from workers.cli import errors, ports


@pytest.mark.parametrize("verb", ["up", "receiver", "flower", "sandbox"])
def test_a_taken_port_is_named_with_its_setting_and_a_remedy(verb: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        write_settings(f"[receiver]\nport = {port}\n")
        ok("migrate")
        own_option = {"flower": ["--port", str(port)], "sandbox": ["directo", "--port", str(port)]}
        ran = ended(verb, *own_option.get(verb, []))
    assert errors.CannotStartError.status == ran.returncode
    assert f"port {port} of 127.0.0.1 is taken" in ran.stderr
    assert "--port" in ran.stderr or "`port` in [receiver]" in ran.stderr
    assert f"lsof -i :{port}" in ran.stderr
    assert "answers" not in ran.stdout + ran.stderr


def test_up_stops_when_its_receiver_finds_the_port_taken_later(tmp_path: Path) -> None:
    """Between the look at the port and the receiver's start another program may take it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        file = write_settings(f"[receiver]\nport = {other.getsockname()[1]}\n")
        ok("migrate")
        children = {
            "beat": ["beat", "--config", str(file)],
            "receiver": ["receiver", "--config", str(file)],
        }
        script = (
            "import sys\n"
            "from functools import partial\n"
            "from workers import cli\n"
            "from workers.cli import supervisor\n"
            f"children = {{name: partial(cli.app, verb) for name, verb in {children!r}.items()}}\n"
            "sys.exit(supervisor.run(children, print_line=lambda name, line: print(name, line, flush=True)))\n"
        )
        command = [sys.executable, "-c", script]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=runner.TIMEOUT, check=False, cwd=tmp_path)
    assert 1 == ran.returncode
    assert 1 == ran.stdout.count("is taken by another program")
    assert "receiver cannot start" in ran.stdout


@pytest.mark.parametrize(
    ("host", "says"), [("203.0.113.7", "no address of this machine"), ("no-such-host.invalid", "no address")]
)
def test_a_host_that_is_not_this_machine_is_named(host: str, says: str) -> None:
    with pytest.raises(errors.CannotStartError, match=says):
        ports.require_free(host, free_port(), setting="--port", host_setting="--host")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "0.0.0.0"])  # noqa: S104 - it is closed at once
def test_a_free_port_is_free(host: str) -> None:
    ports.require_free(host, free_port(), setting="--port", host_setting="--host")
