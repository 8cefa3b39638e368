"""Runs several of our processes in one terminal: restarts those that end, and stops all in order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO

Print = Callable[[str, str], None]
"""Called with a process's name and a line of its output, from any thread."""

Unhealthy = Callable[[], Mapping[str, str]]
"""Which processes run but do not work, and why: name -> a sentence's end. May block."""

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_STEADY = 60.0
"""A process that ran for so many seconds was healthy: its next pause is short again."""

_PATIENCE = 15.0
"""Seconds for all of them together to stop by themselves."""

_TURN = 2.0
"""Seconds until the next process is stopped, if the one before takes longer."""

_POLL = 0.1

_ASK = 15.0
"""Seconds between two health checks."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a service manager, a closed terminal."""


class Child:
    """One process, started as `python -m workers.cli …`, in its own process group, so that Ctrl-C reaches only us."""

    def __init__(self, name: str, arguments: Sequence[str], print_line: Print) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "workers.cli", *arguments]
        self._print = print_line
        self._process: subprocess.Popen[str] | None = None
        self._started = 0.0
        self._pause = _FIRST_PAUSE
        self._due = 0.0

    def start_if_due(self) -> None:
        """Start it, unless it runs or its pause is not over."""
        if self._process is not None and self._process.poll() is not None:
            self._reap(self._process)
        if self._process is None and time.monotonic() >= self._due:
            self._start()

    def restart(self, why: str) -> None:
        """Kill it, so that it is started again: a process that does not work may ignore SIGTERM, too."""
        self._print("up", f"{self.name} {why}; starting it again")
        self.kill()

    def ask_to_stop(self) -> None:
        """Send SIGTERM: it finishes what it is doing."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait until it is gone, at most until the deadline."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(deadline - time.monotonic(), 0))

    def kill(self) -> None:
        """Kill the rest of its process group: a worker's children may survive even its clean exit."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _start(self) -> None:
        self._started = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - our own command
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            bufsize=1,
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        self._process = process
        self._print("up", f"{self.name} runs as process {process.pid}")
        assert process.stdout is not None  # noqa: S101 - we asked for a pipe
        threading.Thread(target=self._copy, args=(process.stdout,), daemon=True).start()

    def _reap(self, process: subprocess.Popen[str]) -> None:
        self.kill()
        self._process = None
        if time.monotonic() - self._started > _STEADY:
            self._pause = _FIRST_PAUSE
        self._print("up", f"{self.name} ended ({_exit(process.returncode)}); starting it again in {self._pause:g} s")
        self._due = time.monotonic() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)

    def _copy(self, output: IO[str]) -> None:
        with output, suppress(ValueError):  # ValueError: closed while we read
            for line in output:
                self._print(self.name, line.rstrip("\n"))


class _HealthCheck(threading.Thread):
    """Checks from time to time which processes are unhealthy, in a thread: the check may hang with a database."""

    def __init__(self, ailing: Unhealthy) -> None:
        super().__init__(name="health-check", daemon=True)
        self._ailing = ailing
        self._found: dict[str, str] = {}
        self._end = threading.Event()

    def run(self) -> None:
        while not self._end.wait(_ASK):
            self._found = dict(self._ailing())

    def found(self) -> dict[str, str]:
        """The processes that were found unhealthy since the last call."""
        found, self._found = self._found, {}
        return found

    def stop(self) -> None:
        """End the checks."""
        self._end.set()


def run(children: Mapping[str, Sequence[str]], *, print_line: Print, unhealthy: Unhealthy = dict) -> int:
    """Keep the processes running until SIGINT, SIGTERM or SIGHUP, then stop them in the given order; the exit status.

    `children`: name -> arguments of `erpmirror`. A process that is `ailing` is killed and started again.
    """
    stop = threading.Event()
    lock = threading.Lock()

    def print_whole(name: str, line: str) -> None:
        with lock, suppress(OSError):  # the terminal may be gone; the processes must still be stopped
            print_line(name, line)

    previous = {number: signal.signal(number, lambda *_: stop.set()) for number in _SIGNALS}
    running = [Child(name, arguments, print_whole) for name, arguments in children.items()]
    checks = _HealthCheck(unhealthy)
    checks.start()
    try:
        while not stop.wait(_POLL):
            found = checks.found()
            for child in running:
                if child.name in found:
                    child.restart(found[child.name])
                child.start_if_due()
    finally:
        checks.stop()
        _stop(running, print_whole)
        for number, handler in previous.items():
            signal.signal(number, handler)
    return 0


def _stop(running: Sequence[Child], print_line: Print) -> None:
    print_line("up", "stopping")
    deadline = time.monotonic() + _PATIENCE
    for child in running:
        child.ask_to_stop()
        child.wait(min(time.monotonic() + _TURN, deadline))
    for child in running:
        child.wait(deadline)
        child.kill()


def _exit(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
