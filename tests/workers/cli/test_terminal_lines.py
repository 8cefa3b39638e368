"""On a terminal of 80 columns no word, path or command that a person has to type is cut."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console

from tests.processes import free_port
from tests.workers.cli.runner import TIMEOUT, ok, run, write_settings
from workers.cli import common, status

LONG = "informationRegisters.goodsPrices"
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)


def lines(message: str, *, terminal: bool = True) -> list[str]:
    console = Console(width=80, file=io.StringIO(), force_terminal=terminal, color_system=None)
    common.print_lines(console, message)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined, no-any-return]


def test_lines_end_between_words_and_never_in_a_command() -> None:
    printed = lines(
        "to be mended by a person, who has to type the following: `erpmirror parked retry shop goods`; then"
    )
    assert [True, True] == [len(line) <= 80 for line in printed]
    assert printed[1].startswith("`erpmirror parked retry shop goods`")


def test_a_path_that_is_longer_than_a_line_stays_whole() -> None:
    path = "/srv" + "/erpmirror" * 9
    assert f"{path}:" in lines(f"there is no settings file {path}: write one")


def test_a_line_of_a_list_goes_on_below_its_beginning() -> None:
    printed = lines("two mistakes\n  one: " + "word " * 30)
    assert ["two mistakes", "  one: word", "    word wor"] == [printed[0], printed[1][:11], printed[2][:12]]


def test_in_a_file_each_line_stays_one_line() -> None:
    assert ["word " * 60 + "end"] == lines("word " * 60 + "end", terminal=False)


@pytest.mark.usefixtures("terminal")
def test_an_error_names_a_long_path_whole() -> None:
    folder = Path.cwd().joinpath("a" * 40, "b" * 40)
    printed = run("status", "--config", str(folder / "erpmirror.toml")).stderr
    assert str(folder / "erpmirror.toml") in printed


@pytest.mark.parametrize("age", [timedelta(seconds=9), timedelta(minutes=14), timedelta(days=400)])
def test_the_table_of_status_fits_and_breaks_no_word(age: timedelta) -> None:
    blank = {"rows": 12345, "pending": 0, "parked": 0, "held": 0, "last_error": None, "bound": 86400}
    moment = NOW - age
    rows = [blank | {"resource": name, "last_read": moment, "complete_as_of": moment} for name in (LONG, "items")]
    console = Console(width=80, file=io.StringIO(), color_system=None)
    console.print(status.table_within(rows, NOW, console), crop=False)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, printed.splitlines())) <= 80
    assert {LONG, "items", "complete", "synced", "pending", "ago"} <= set(printed.split())


@pytest.mark.parametrize(
    ("verb", "line"),
    [
        (["receiver"], "The receiver answers at http://127.0.0.1:{port}. Ctrl-C stops it."),
        (["worker", "--queues", "sync"], "The worker takes sync. Ctrl-C stops it."),
        (["beat"], "The scheduler wakes the workers. Ctrl-C stops it."),
        (["flower", "--port", "{port}"], "Flower answers at http://127.0.0.1:{port}. Ctrl-C stops it."),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_process_that_a_person_starts_says_that_it_runs(verb: list[str], line: str) -> None:
    port = free_port()
    write_settings(f"[receiver]\nport = {port}\n")
    ok("migrate")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "workers.cli", *(word.format(port=port) for word in verb)]
    environment = os.environ | {"COLUMNS": "80", "TERM": "dumb"}
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        printed = os.read(ours, 1000).decode()
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT)
    os.close(ours)
    assert line.format(port=port) in printed
