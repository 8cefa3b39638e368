"""Every verb has a help text with an example, and `--help` and `--version` need nothing else."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import version

import pytest
import typer
from rich.text import Text
from typer.core import TyperGroup

from tests.workers.cli.runner import ok, run, write_settings
from workers.cli import app

VERBS = [
    ["ask"],
    ["backfill"],
    ["beat"],
    ["changes"],
    ["check"],
    ["command"],
    ["commands"],
    ["commands", "cancel"],
    ["commands", "list"],
    ["commands", "resolve"],
    ["commands", "retry"],
    ["commands", "show"],
    ["demo"],
    ["dilovod-node"],
    ["export"],
    ["flower"],
    ["forget"],
    ["hand-in"],
    ["init"],
    ["migrate"],
    ["parked"],
    ["parked", "drop"],
    ["parked", "list"],
    ["parked", "retry"],
    ["poll"],
    ["rebuild"],
    ["receiver"],
    ["sandbox"],
    ["settings-schema"],
    ["status"],
    ["subscriptions"],
    ["subscriptions", "list"],
    ["subscriptions", "pause"],
    ["subscriptions", "redeliver"],
    ["subscriptions", "resume"],
    ["subscriptions", "secret"],
    ["subscriptions", "show"],
    ["up"],
    ["worker"],
]


_HEAVY = {"alembic", "celery", "cryptography", "httpx", "kombu", "psycopg", "starlette", "uvicorn"}

_IMPORTED = """
import sys
from workers import cli

sys.argv = ["erpmirror", *sys.argv[1:]]
try:
    cli.main()
finally:
    print(*{name.partition(".")[0] for name in sys.modules}, file=sys.stderr)
"""
"""Prints the packages that a verb has imported in its last line."""


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_the_help_of_every_verb_has_an_example(verb: list[str]) -> None:
    assert f"Example: {'ERPMIRROR_FLOWER_AUTH=me:secret ' if verb == ['flower'] else ''}erpmirror" in " ".join(
        ok(*verb, "--help").output.replace("│", " ").split()
    )


def test_the_list_of_verbs_above_is_complete() -> None:
    listed = {line.split()[1] for line in ok("--help").output.splitlines() if re.match(r"│ [a-z]", line)}
    assert {verb[0] for verb in VERBS} == listed


def _imported(*words: str) -> set[str]:
    """The packages that a verb imports."""
    ran = subprocess.run([sys.executable, "-c", _IMPORTED, *words], capture_output=True, text=True, check=False)
    assert "Traceback" not in ran.stderr
    return set(ran.stderr.splitlines()[-1].split())


@pytest.mark.parametrize("verb", [[], ["status"], ["up"]], ids=["program", "status", "up"])
def test_help_imports_nothing_heavy(verb: list[str]) -> None:
    assert set() == _imported(*verb, "--help") & {*_HEAVY, "sqlalchemy"}


@pytest.mark.usefixtures("shop")
def test_status_imports_neither_the_queue_nor_what_other_databases_and_verbs_need() -> None:
    imported = _imported("status")
    assert {"pydantic", "sqlalchemy"} <= imported
    assert set() == imported & {*_HEAVY, "structlog"}


def test_the_version_is_printed_without_settings() -> None:
    assert f"erpmirror {version('erpmirror')}\n" == ok("--version").stdout


def test_no_help_text_loses_what_stands_in_brackets() -> None:
    """Rich takes `[receiver]` for a tag and prints nothing in its place."""
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    context = typer.Context(group)
    lost = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        for text in [command.help or "", *(getattr(each, "help", None) or "" for each in command.params)]:
            shown = Text.from_markup(text).plain
            lost += [
                (name, tag)
                for tag in re.findall(r"\[([^\]]*)\]", text)
                if tag not in {"bold", "/"} and tag not in shown
            ]
    assert [] == lost


def test_a_usage_error_has_exit_status_2() -> None:
    assert 2 == run("no-such-verb").exit_code
    assert 2 == run("poll").exit_code
    write_settings("")
    ok("migrate")
    assert 2 == run("worker", "--queues", "lokos").exit_code


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_paragraph_of_a_help_text_fills_its_lines(width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = ok("status", "--help").output.partition("Options")[0]
    (paragraph,) = [block for block in re.split(r"\n *\n", text) if "complete as of:" in block]
    lines = [line.strip() for line in paragraph.splitlines()]
    following = [line.split()[0] for line in lines[1:]]
    assert [] == [line for line, word in zip(lines, following, strict=False) if len(line) + 1 + len(word) <= width - 2]
