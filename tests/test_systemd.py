"""The systemd units: they parse, run verbs that exist, are confined, and let a request under way finish."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documentation import ROOT
from tests.workers.cli import runner
from workers.cli.errors import CannotStartError
from workers.queue import wakeup

UNITS = sorted((ROOT / ".github" / "systemd").iterdir())
PROGRAM = "/opt/erpmirror/bin/erpmirror"

pytestmark = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze")


def settings(unit: Path) -> dict[str, str]:
    """The unit's last value of each key."""
    return dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(encoding="utf-8"), re.MULTILINE))


def arguments(unit: Path) -> list[list[str]]:
    """The command lines, of a template one for each queue."""
    program, *words = settings(unit)["ExecStart"].split()
    assert program == PROGRAM
    return [[word.replace("%i", queue) for word in words] for queue in (wakeup.QUEUES if "%i" in words else ("",))]


@pytest.fixture
def installed(tmp_path: Path) -> list[Path]:
    """The units as installed, with this environment's program; the template's for each queue."""
    ours = str(Path(sys.executable).with_name("erpmirror"))
    files = []
    for unit in UNITS:
        names = [unit.name.replace("@", f"@{queue}") for queue in wakeup.QUEUES] if "@" in unit.name else [unit.name]
        for name in names:
            file = tmp_path / name
            file.write_text(unit.read_text(encoding="utf-8").replace(PROGRAM, ours), encoding="utf-8")
            files.append(file)
    return files


def analyzed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, text=True, check=False)  # noqa: S607 - wherever it lies


def test_there_is_a_unit_for_each_process() -> None:
    assert ["beat", "migrate", "receiver", "worker@"] == [unit.stem.removeprefix("erpmirror-") for unit in UNITS]


def test_systemd_understands_every_line(installed: list[Path]) -> None:
    found = analyzed("verify", "--man=no", *installed)
    assert (0, "") == (found.returncode, found.stderr)


def test_each_unit_runs_a_verb_that_exists() -> None:
    for words in (line for unit in UNITS for line in arguments(unit)):
        runner.parse(words)


def test_each_unit_is_confined(installed: list[Path]) -> None:
    for file in installed:
        found = analyzed("security", "--offline=yes", "--threshold=15", "--no-pager", file)  # 1.5 of 10
        assert found.returncode == 0, found.stdout


def test_all_units_are_confined_alike() -> None:
    confined = {
        unit.read_text(encoding="utf-8").partition("User=")[2].partition("\n\n[Install]")[0].strip() for unit in UNITS
    }
    assert 1 == len(confined)


def test_a_unit_whose_configuration_is_wrong_is_not_started_again() -> None:
    restarted = [unit for unit in UNITS if "Restart" in settings(unit)]
    assert 3 == len(restarted)
    assert {str(CannotStartError.status)} == {settings(unit)["RestartPreventExitStatus"] for unit in restarted}


def test_a_worker_has_longer_to_stop_than_its_longest_task() -> None:
    (worker,) = [unit for unit in UNITS if "@" in unit.name]
    assert ("mixed", "150s") == (settings(worker)["KillMode"], settings(worker)["TimeoutStopSec"])
