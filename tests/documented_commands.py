"""Runs the commands of README and the pages beside it in an empty folder, against sandboxes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx

from tests.documentation import README, ROOT, Curl, blocks
from tests.processes import free_port, kill_group, until
from tests.serving import served
from tests.workers.connectors import sandbox_harness
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
SECONDS = 120

STAYS = ("up", "receiver", "worker", "beat", "flower", "sandbox")
"""Verbs that run until they are stopped."""

SILENT = ("worker", "beat", "flower")
"""Those that print nothing while all is well."""

ELSEWHERE = (
    "python3 -m venv",  # the tests' own environment
    "python -m pip install",  # .ci/run
    "python -m pytest",  # .ci/run
    "ruff check",  # .ci/run
    "docker",  # tests/compose
    "cp .env.example",  # tests/compose
    "git pull",  # before an upgrade
    "sudo ",  # systemd: tests/test_systemd.py has the units
    "journalctl",  # likewise
)
"""Commands that another test or the continuous integration runs."""


def verb(command: str) -> str:
    """The command's verb, if it is one of ours."""
    found = re.match(r"(?:[A-Z_]+=\S+ )*erpmirror ([\w-]+)", command)
    return found[1] if found else ""


@dataclass
class CommandRunner:
    """Runs the pages' commands in an empty folder, as a user types them. The vendors are sandboxes.

    `results`: command -> exit status and output. `own_names`: the product's output that its names are looked up in.
    """

    folder: Path
    environment: dict[str, str]
    port: int
    results: dict[str, tuple[int, str]] = field(default_factory=dict)
    own_names: str = ""
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def token(self) -> str:
        """The receiver's token, as `init` wrote it."""
        text = (self.folder / "erpmirror.toml").read_text(encoding="utf-8")
        return str(tomllib.loads(text)["receiver"]["token"])

    def type_command(self, command: str) -> None:
        """Run one line of a page, unchanged but for the ports; each line once."""
        if command in self.results or command.startswith(ELSEWHERE) or (verb(command) == "init" and self.has_settings):
            return
        typed = command.replace("9001", str(free_port()))
        if typed.startswith("curl"):
            self.results[command] = self._request(typed)
        elif verb(typed) in STAYS:
            self.results[command] = self._start(typed)
        else:
            self.results[command] = self.run(typed)

    @property
    def has_settings(self) -> bool:
        return (self.folder / "erpmirror.toml").exists()

    def run(self, command: str) -> tuple[int, str]:
        """Run in a shell, answering yes to a question; the exit status and the output."""
        done = subprocess.run(
            ["bash", "-c", command],  # noqa: S607 - the PATH is the test's
            cwd=self.folder,
            env=self.environment,
            input="y\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=10 * SECONDS,
        )
        return done.returncode, done.stdout + done.stderr

    def _start(self, command: str) -> tuple[int, str]:
        """Start a verb that stays; 0 if it is alive and has printed no error."""
        log = self.folder / f"{len(self.running)}.log"
        if verb(command) == "flower":
            command += f" --port {free_port()}"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["bash", "-c", f"exec env {command}"],  # noqa: S607 - the PATH is the test's
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running.append(process)
        if verb(command) in SILENT:
            self.run("erpmirror status")  # takes longer than a refused command does
        else:
            answers = verb(command) in {"up", "receiver"}
            until(
                lambda: process.poll() is not None or (self._answers() if answers else log.stat().st_size > 0),
                seconds=SECONDS,
                what=lambda: f"{command}: {log.read_text(errors='replace')}",
            )
        printed = log.read_text(encoding="utf-8", errors="replace")
        return int("Usage:" in printed or "Error" in printed or process.poll() is not None), printed

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/livez", timeout=2).is_success
        except httpx.TransportError:
            return False

    def _request(self, command: str) -> tuple[int, str]:
        curl = Curl.read(command, folder=self.folder, TOKEN=self.token)
        upload = {"file": (curl.file.name, curl.file.read_bytes())} if curl.file is not None else None
        url = curl.url.replace("127.0.0.1:8000", f"127.0.0.1:{self.port}")
        answer = httpx.request(curl.method, url, headers=curl.headers, files=upload, timeout=SECONDS)
        return int(not answer.is_success), f"HTTP {answer.status_code} {answer.text}"

    def get(self, path: str) -> str:
        bearer = {"Authorization": f"Bearer {self.token}"}
        return httpx.get(f"http://127.0.0.1:{self.port}{path}", headers=bearer, timeout=SECONDS).text

    def stop(self) -> None:
        """Stop what is running, with SIGTERM, else by force."""
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            kill_group(process)
        self.running.clear()


CONNECTIONS = {"shop": "dilovod", "books": "directo", "loja": "wisedat", "flora": "easyflor", "goods_in": "interpreter"}
"""The README's connections and their systems."""

EDITOR = """\
import pathlib, re, sys
file = pathlib.Path(sys.argv[1])
text = re.sub("^port = .*$", "port = {port}", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
file.write_text(text + {tables!r}, encoding="utf-8")
"""


@contextmanager
def prepared(folder: Path) -> Iterator[CommandRunner]:
    """An empty folder, sandboxes of all vendors, and an editor that adds the README's connections to the settings."""
    (tables,) = [block for block in blocks(README, "toml") if "[connections.shop]" in block]
    port = free_port()
    secrets: dict[str, str] = {}
    with ExitStack() as stack:
        for name, system in CONNECTIONS.items():
            app = discovery.systems()[system].sandbox(seed=2)
            url = stack.enter_context(served(app))
            mine = tomllib.loads(tables)["connections"][name]
            sandbox = app.state.sandbox.settings()
            secrets |= {each[2:-1]: str(sandbox[key]) for key, each in mine.items() if str(each).startswith("${")}
            tables = re.sub(r'^url = "http://wisedat.local:8080"\n', "", tables, flags=re.MULTILINE)
            tables = tables.replace(f"[connections.{name}]\n", f'[connections.{name}]\nurl = "{url}"\n')
        editor = folder / "editor.py"
        editor.write_text(EDITOR.format(port=port, tables=f"\n{tables}"), encoding="utf-8")
        (folder / "note.pdf").write_bytes(sandbox_harness.document("a delivery").content)
        environment = (
            os.environ
            | secrets
            | {
                "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
                "EDITOR": f"{sys.executable} {editor}",
                "PYTHONPATH": str(ROOT),
                "NO_COLOR": "1",
            }
        )
        runner = CommandRunner(folder, environment, port)
        stack.callback(runner.stop)
        yield runner
