"""Ctrl-C ends a verb without a traceback at every moment from the program's first on."""

from __future__ import annotations

import signal
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest

_INTERRUPTED = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.argv = ["erpmirror", "check"]
from workers.console_script import main
main()
"""
"""Gets SIGINT when it imports the module."""


@pytest.mark.parametrize(
    ("module", "status"),
    [
        ("typer", -signal.SIGINT),
        ("workers.cli.vendor_query", 130),
        ("sqlalchemy", 130),
        ("httpx", 130),
    ],
)
def test_an_interrupt_prints_no_traceback(shop: Any, module: str, status: int) -> None:  # noqa: ARG001 - its settings
    script = _INTERRUPTED.format(module=module)
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (status, False) == (ran.returncode, "Traceback" in ran.stderr), ran.stderr


def test_the_installed_program_begins_where_an_interrupt_is_quiet() -> None:
    (program,) = entry_points(group="console_scripts", name="erpmirror")
    assert "workers.console_script:main" == program.value
