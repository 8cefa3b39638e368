"""Runs the command line in tests: in this process, or as a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
import typer.main
from typer.testing import CliRunner

from models.db.database import Database
from workers import cli, configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typer.testing import Result

TIMEOUT = 60
"""Seconds for a process to do what a test waits for."""

GOODS = "catalogs.goods"


def run(*words: str, answer: str = "") -> Result:
    """Run `erpmirror WORDS…` in this process; `answer` is its standard input."""
    result = CliRunner().invoke(cli.app, list(words), input=answer)
    assert "Traceback" not in result.output
    return result


def ok(*words: str) -> Result:
    """Run a command that succeeds."""
    result = run(*words)
    assert 0 == result.exit_code, result.output
    return result


def refused(*words: str) -> str:
    """Run a command that fails with exit status 1. Returns its error message on one line."""
    if words[0] == "up":  # it forks, and what a fork writes here is seen by nobody
        ran = ended(*words)
        assert 1 == ran.returncode, ran.stderr
        return " ".join(ran.stderr.split())
    result = run(*words)
    assert 1 == result.exit_code, result.output
    return " ".join(result.stderr.split())


def parse(words: Sequence[str]) -> None:
    """Read `erpmirror WORDS…` without running it. Raises for an unknown verb, option or value."""
    group = typer.main.get_group(cli.app)
    command = group.get_command(typer.Context(group), words[0])
    assert command is not None, words[0]
    command.make_context(words[0], list(words[1:])).close()


def ended(*words: str) -> subprocess.CompletedProcess[str]:
    """Run `erpmirror WORDS…` as a process of its own, to its end."""
    command = [sys.executable, "-m", "workers.cli", *words]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    assert "Traceback" not in ran.stderr
    return ran


def write_settings(text: str) -> Path:
    """Write `erpmirror.toml` in the working directory."""
    file = Path("erpmirror.toml").absolute()
    file.write_text(text, encoding="utf-8")
    return file


@contextmanager
def database() -> Iterator[Database]:
    """The database of the settings file."""
    opened = Database(configuration.load().database.url)
    yield opened
    opened.close()


def rows_of(resource: str) -> int:
    """The number of rows that `status` shows for a resource."""
    rows = json.loads(ok("status", "--json").output)
    return int(next(row["rows"] for row in rows if row["resource"] == resource))


# Processes


@contextmanager
def process(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Run `erpmirror WORDS…` as a process inside the block. Yields it and the file with its output."""
    log = Path(f"{words[0]}.log").absolute()
    with log.open("wb") as file:
        started = subprocess.Popen([sys.executable, "-m", "workers.cli", *words], stdout=file, stderr=subprocess.STDOUT)
    try:
        yield started, log
    finally:
        if started.poll() is None:
            started.send_signal(signal.SIGTERM)
        started.wait(TIMEOUT)


def until(condition: Callable[[], Any], log: Path) -> None:
    """Wait until the condition holds; fails with the process's output."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, log.read_text(encoding="utf-8")
        time.sleep(0.05)
