"""A verb whose reader has ended, as after `| head -1`, ends quietly."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from tests.slow_params import slow_except
from tests.workers.cli.runner import ok

VERBS = {
    "status": ["status"],
    "status as JSON": ["status", "--json"],
    "check": ["check"],
    "check as JSON": ["check", "--json"],
    "export": ["export", "shop", "catalogs.goods"],
    "export as CSV": ["export", "shop", "catalogs.goods", "--format", "csv"],
    "changes": ["changes"],
    "changes as JSON": ["changes", "--json", "--since", "0"],
    "changes that are followed": ["changes", "--follow"],
    "parked": ["parked", "list"],
    "subscriptions": ["subscriptions"],
    "poll": ["poll", "shop"],
    "backfill": ["backfill", "shop"],
    "ask": ["ask", "shop", "getObject", "1"],
    "rebuild": ["rebuild", "shop"],
    "migrate": ["migrate"],
    "init": ["init", "--config", "another.toml"],
    "dilovod-node": ["dilovod-node", "shop", "--url", "https://mirror.example.com"],
    "sandbox": ["sandbox", "directo"],
    "settings-schema": ["settings-schema"],
    "an error": ["status", "--config", "none.toml"],
    "a typo": ["statsu"],
    "help": ["status", "--help"],
    "version": ["--version"],
}
QUICK = ["status", "check as JSON", "export", "backfill", "a typo", "help"]


def _run(words: list[str], *, broken_stderr: bool) -> tuple[int, str]:
    """Run a verb whose standard output nobody reads; returns its status and what it printed on standard error."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ran = subprocess.run(
            [sys.executable, "-m", "workers.cli", *words],
            stdin=subprocess.DEVNULL,
            stdout=writer,
            stderr=writer if broken_stderr else subprocess.PIPE,
            timeout=120,
            check=False,
        )
    finally:
        os.close(writer)
    return ran.returncode, (ran.stderr or b"").decode()


@pytest.mark.parametrize("verb", slow_except(VERBS, quick=QUICK))
def test_a_verb_whose_reader_has_ended_ends_quietly(shop: Any, verb: str) -> None:  # noqa: ARG001 - its settings are used
    ok("backfill", "shop")
    _, printed = _run(VERBS[verb], broken_stderr=False)
    assert "Traceback" not in printed
    assert "BrokenPipe" not in printed
    assert "Exception ignored" not in printed


@pytest.mark.parametrize("verb", slow_except(["status", "export", "check", "an error"], quick="export"))
def test_a_verb_of_which_nothing_is_read_ends(shop: Any, verb: str) -> None:  # noqa: ARG001 - its settings are used
    ok("backfill", "shop")
    status, _ = _run(VERBS[verb], broken_stderr=True)
    assert 141 == status
