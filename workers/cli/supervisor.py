"""Runs several erpmirror processes in one terminal: restarts those that end, and stops all in order."""

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

from workers import lifeline
from workers.cli import errors

Print = Callable[[str, str], None]
"""Called with a process's name and a line of its output, from any thread."""

Unhealthy = Callable[[], Mapping[str, str]]
"""Returns the processes that run but do not work: name -> the reason, as the predicate of a sentence. May block."""

_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
"""Seconds until a process that ended is started again: at first, and after many failures."""

_STABLE_AFTER = 60.0
"""Seconds. A process that ran for longer was stable, so its restart delay is reset."""

_STOP_TIMEOUT = 15.0
"""Seconds in which all processes together may finish after SIGTERM; then they are killed."""

_STOP_INTERVAL = 2.0
"""Seconds until the next process gets SIGTERM if the one before has not ended."""

_POLL = 0.1

_HEALTH_CHECK_INTERVAL = 15.0
"""Seconds."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a service manager, a closed terminal."""


class Child:
    """One process, `python -m workers.cli …`, in its own process group: Ctrl-C reaches the supervisor only.

    It ends with the supervisor, however that ends: its standard input is its lifeline.
    """

    def __init__(self, name: str, arguments: Sequence[str], print_line: Print) -> None:
        self.name = name
        self._command = [sys.executable, "-m", "workers.cli", *arguments]
        self._print = print_line
        self._process: subprocess.Popen[str] | None = None
        self._started_at = 0.0
        self._restart_delay = _FIRST_DELAY
        self._start_at = 0.0
        self.cannot_start = False
        """It found that it can never run as it is configured, so it is not started again."""

    def start_if_due(self) -> None:
        """Start it, unless it runs or its restart delay is not over."""
        if self._process is not None and self._process.poll() is not None:
            self._reap(self._process)
        if self._process is None and not self.cannot_start and time.monotonic() >= self._start_at:
            self._start()

    def restart(self, why: str) -> None:
        """Kill it, so that `start_if_due` starts it again. A process that does not work may ignore SIGTERM."""
        self._print("up", f"{self.name} {why}; starting it again")
        self.kill()

    def terminate(self) -> None:
        """Send SIGTERM: the process finishes its task."""
        if self._process is not None:
            self._process.terminate()

    def wait(self, deadline: float) -> None:
        """Wait until it has ended, at most until the deadline."""
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(max(deadline - time.monotonic(), 0))

    def kill(self) -> None:
        """Kill its whole process group: a worker's child processes may outlive it."""
        if self._process is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def _start(self) -> None:
        self._started_at = time.monotonic()
        process = subprocess.Popen(  # noqa: S603 - our own command
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            bufsize=1,
            start_new_session=True,
            env=lifeline.environment() | {"PYTHONUNBUFFERED": "1"},
        )
        self._process = process
        self._print("up", f"{self.name} runs as process {process.pid}")
        assert process.stdout is not None  # noqa: S101 - it is a pipe
        threading.Thread(target=self._forward_output, args=(process.stdout,), daemon=True).start()

    def _reap(self, process: subprocess.Popen[str]) -> None:
        self.kill()
        self._process = None
        if process.stdin is not None:
            process.stdin.close()
        if process.returncode == errors.CannotStartError.status:
            self.cannot_start = True
            self._print("up", f"{self.name} cannot start, as it says above")
            return
        if time.monotonic() - self._started_at > _STABLE_AFTER:
            self._restart_delay = _FIRST_DELAY
        self._print(
            "up",
            f"{self.name} ended ({_exit_text(process.returncode)}); starting it again in {self._restart_delay:g} s",
        )
        self._start_at = time.monotonic() + self._restart_delay
        self._restart_delay = min(self._restart_delay * 2, _LONGEST_DELAY)

    def _forward_output(self, output: IO[str]) -> None:
        with output, suppress(ValueError):  # ValueError: closed during the read
            for line in output:
                self._print(self.name, line.rstrip("\n"))


class _HealthCheck(threading.Thread):
    """Looks for unhealthy processes in a thread of its own, because the check blocks while a database hangs."""

    def __init__(self, unhealthy: Unhealthy) -> None:
        super().__init__(name="health-check", daemon=True)
        self._unhealthy = unhealthy
        self._found: dict[str, str] = {}
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.wait(_HEALTH_CHECK_INTERVAL):
            self._found = dict(self._unhealthy())

    def found(self) -> dict[str, str]:
        """The processes that were found unhealthy since the last call."""
        found, self._found = self._found, {}
        return found

    def stop(self) -> None:
        """Stop checking."""
        self._stopped.set()


def run(children: Mapping[str, Sequence[str]], *, print_line: Print, unhealthy: Unhealthy = dict) -> int:
    """Keep the processes running until SIGINT, SIGTERM or SIGHUP, then stop them in the given order. Returns 0.

    `children`: name -> arguments of `erpmirror`. A process that `unhealthy` names is killed and started again. Where
    one cannot start at all, as with a port that is taken, all are stopped and the status is 1.
    """
    stop = threading.Event()
    lock = threading.Lock()

    def print_locked(name: str, line: str) -> None:
        with lock, suppress(OSError):  # without a terminal the processes must still be stopped
            print_line(name, line)

    previous_handlers = {number: signal.signal(number, lambda *_: stop.set()) for number in _SIGNALS}
    running = [Child(name, arguments, print_locked) for name, arguments in children.items()]
    checks = _HealthCheck(unhealthy)
    checks.start()
    try:
        while not (stop.wait(_POLL) or any(child.cannot_start for child in running)):
            found = checks.found()
            for child in running:
                if child.name in found:
                    child.restart(found[child.name])
                child.start_if_due()
    finally:
        checks.stop()
        _stop(running, print_locked)
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
    return 1 if any(child.cannot_start for child in running) else 0


def _stop(running: Sequence[Child], print_line: Print) -> None:
    print_line("up", "stopping")
    deadline = time.monotonic() + _STOP_TIMEOUT
    for child in running:
        child.terminate()
        child.wait(min(time.monotonic() + _STOP_INTERVAL, deadline))
    for child in running:
        child.wait(deadline)
        child.kill()


def _exit_text(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
