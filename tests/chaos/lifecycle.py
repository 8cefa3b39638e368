"""Servers that a test starts, stops, kills, pauses and starts again.

A server keeps its port over restarts. When its block ends, its processes and data are removed.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from abc import ABC, abstractmethod
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import IO, TYPE_CHECKING, NoReturn, Self

import pytest

from tests import services
from tests.processes import until

if TYPE_CHECKING:
    from collections.abc import Iterable

PATIENCE = 120.0
"""Seconds in which a server starts or ends, however busy the machine is: a safety net."""


def missing(what: str) -> NoReturn:
    """Skip naming what is missing, or fail where services are required."""
    if services.REQUIRED:
        pytest.fail(what)
    pytest.skip(what)


def program(name: str, *, folders: Iterable[Path] = ()) -> Path:
    """The path of the program: in one of the folders, else on PATH."""
    found = next((folder / name for folder in folders if (folder / name).exists()), None) or shutil.which(name)
    return Path(found or missing(f"the program {name} is not installed"))


def vacant_port(host: str) -> int:
    """An unused port, below those that the kernel gives to clients.

    While a server is away, no client's own end can take its port (nor can a client meet itself there).
    """
    while True:
        port = SystemRandom().randrange(16_000, 32_000)
        with suppress(OSError):
            socket.create_server((host, port)).close()
            return port


def process_tree(pid: int) -> list[int]:
    """A process and all that descend from it: servers put their children into groups of their own."""
    found, youngest = [pid], [pid]
    while youngest:
        of = ",".join(map(str, youngest))
        listed = subprocess.run(["pgrep", "-P", of], capture_output=True, text=True, check=False)  # noqa: S607 - wherever it lies
        youngest = [int(child) for child in listed.stdout.split()]
        found += youngest
    return found


def signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    """Signal processes, those that ended meanwhile excepted."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def freeze(pid: int) -> list[int]:
    """SIGSTOP a process and all that descend from it, also those it forks meanwhile; returns them all."""
    stopped: list[int] = []
    while running := [one for one in process_tree(pid) if one not in stopped]:
        signal_all(running, signal.SIGSTOP)
        stopped += running
    return stopped


def gone(pid: int) -> bool:
    """Whether a process has ended; a zombie counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state in ("Z", "X")


class Server(ABC):
    """One server, started by its block and ended with it."""

    name: str
    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path, *, host: str = "127.0.0.1") -> None:
        self.folder, self.host = folder / self.name, host
        self.port = vacant_port(host)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.folder.mkdir()
        try:
            self.prepare()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.clean()

    def start(self) -> None:
        """Start it, on the port and with the data it had; returns once it answers."""
        assert self._process is None, f"{self.name} runs already"
        with self.log.open("ab") as output:
            self._process = self.launch(output)
        until(self._started, seconds=PATIENCE, what=lambda: f"{self.name} answers: {self.log.read_text()}")

    def stop(self) -> None:
        """End it in its own orderly way."""
        if self._process is not None:
            self.resume()
            self._process.send_signal(self.stop_signal)
            self._process.wait(PATIENCE)
            self._process = None

    def kill(self) -> None:
        """SIGKILL it and all its children, as if it had crashed."""
        if self._process is not None:
            killed = freeze(self._process.pid)
            signal_all(killed, signal.SIGKILL)
            self._process.wait(PATIENCE)
            until(lambda: all(map(gone, killed)), seconds=PATIENCE, what=f"{self.name} is killed", every=0.01)
            self._process = None

    def pause(self) -> None:
        """SIGSTOP it and all its children: connections stay open, no request is answered."""
        if self._process is not None:
            freeze(self._process.pid)

    def resume(self) -> None:
        """SIGCONT it and all its children."""
        if self._process is not None:
            signal_all(process_tree(self._process.pid), signal.SIGCONT)

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} does not run"
        return self._process.pid

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    def _started(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"{self.name} ended: {self.log.read_text()}"
        return self.answers()

    def prepare(self) -> None:
        """Give it an empty place for its data; once, before the first start."""
        self.data.mkdir()

    @abstractmethod
    def launch(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        """Start the process."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether a client is served."""

    def clean(self) -> None:
        """Take away what it leaves behind, its log excepted."""
        shutil.rmtree(self.data, ignore_errors=True)
