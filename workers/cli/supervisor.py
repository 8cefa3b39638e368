"""Runs several erpmirror processes in one terminal: restarts those that end, and stops all in order.

They are forked from this process, and so are those that start again: see `forking`.
"""

from __future__ import annotations

import json
import select
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from workers.cli import errors, forking

Print = Callable[[str, str], None]
"""Called with a process's name and a line of its output."""

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
"""Seconds between two looks at the processes and at what they have written."""

_HEALTH_CHECK_INTERVAL = 15.0
"""Seconds from the end of one check to the next."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, a service manager, a closed terminal."""


class Child:
    """One process that is to run for long."""

    def __init__(self, name: str, function: Callable[[], object], print_line: Print) -> None:
        self.name = name
        self._function = function
        self._print = print_line
        self._process: forking.Forked | None = None
        self._unfinished = b""
        self._is_silent = False
        self._started_at = 0.0
        self._restart_delay = _FIRST_DELAY
        self._start_at = 0.0
        self.cannot_start = False
        """It found that it can never run as it is configured, so it is not started again."""

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.status is None

    def start_if_due(self) -> None:
        """Start it, unless it runs or its restart delay is not over."""
        if self._process is not None and not self.is_running:
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

    def kill(self) -> None:
        """Kill it, and the processes that it has started."""
        if self._process is not None:
            self._process.kill()

    @property
    def has_output(self) -> bool:
        """Whether something may still come from it."""
        return self._process is not None and not self._is_silent

    def fileno(self) -> int:
        """What `select` waits for."""
        assert self._process is not None  # noqa: S101 - see `has_output`
        return self._process.fileno()

    def forward_output(self) -> None:
        """Print the lines that it has written."""
        if self._process is not None:
            written = self._process.read()
            self._is_silent = not written  # at its end; `select` would return at once
            *lines, self._unfinished = (self._unfinished + written).split(b"\n")
            self._print_lines(lines)

    def forward_rest(self) -> None:
        """Print what is left of the output of a process that has ended."""
        self.forward_output()
        if self._unfinished:
            self._print_lines([self._unfinished])
            self._unfinished = b""

    def _print_lines(self, lines: Sequence[bytes]) -> None:
        for line in lines:
            self._print(self.name, line.decode(errors="replace").rstrip("\r"))

    def _start(self) -> None:
        self._started_at, self._is_silent = time.monotonic(), False
        self._process = forking.Forked(self.name, self._function)
        self._print("up", f"{self.name} runs as process {self._process.pid}")

    def _reap(self, process: forking.Forked) -> None:
        process.kill()
        self.forward_rest()
        status = process.status or 0
        process.close()
        self._process = None
        if status == errors.CannotStartError.status:
            self.cannot_start = True
            self._print("up", f"{self.name} cannot start, as it says above")
            return
        if time.monotonic() - self._started_at > _STABLE_AFTER:
            self._restart_delay = _FIRST_DELAY
        self._print(
            "up",
            f"{self.name} ended ({_exit_text(status)}); starting it again in {self._restart_delay:g} s",
        )
        self._start_at = time.monotonic() + self._restart_delay
        self._restart_delay = min(self._restart_delay * 2, _LONGEST_DELAY)


class _HealthCheck:
    """Looks for unhealthy processes, each time in a process of its own: the check opens the database, and may hang."""

    def __init__(self, unhealthy: Unhealthy, print_line: Print) -> None:
        self._unhealthy = unhealthy
        self._print = print_line
        self._process: forking.Forked | None = None
        self._next_at = time.monotonic() + _HEALTH_CHECK_INTERVAL

    def found(self) -> dict[str, str]:
        """The processes that were found unhealthy since the last call. Begins the next check when it is due."""
        if self._process is None and time.monotonic() >= self._next_at:
            self._process = forking.Forked("health", self._check)
        if self._process is None or self._process.status is None:
            return {}
        process, self._process = self._process, None
        self._next_at = time.monotonic() + _HEALTH_CHECK_INTERVAL
        *others, last = process.read().decode(errors="replace").splitlines() or [""]
        succeeded = process.status == 0
        process.close()
        for line in others if succeeded else [*others, last]:
            self._print("up", line)
        return dict(json.loads(last)) if succeeded else {}

    def stop(self) -> None:
        """End the check that runs."""
        if self._process is not None:
            self._process.kill()

    def _check(self) -> None:
        sys.stdout.write(json.dumps(dict(self._unhealthy())) + "\n")


def run(
    children: Mapping[str, Callable[[], object]],
    *,
    print_line: Print,
    unhealthy: Unhealthy | None = None,
    parent_ended: Callable[[], bool] = bool,
) -> int:
    """Keep the processes running until SIGINT, SIGTERM or SIGHUP, then stop them in the given order. Returns 0.

    `children`: name -> what the process does. A process that `unhealthy` names is killed and started again. Where one
    cannot start at all, as with a port that is taken, all are stopped and the status is 1.
    """
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True

    def print_if_possible(name: str, line: str) -> None:
        with suppress(OSError):  # without a terminal the processes must still be stopped
            print_line(name, line)

    previous_handlers = {number: signal.signal(number, stop) for number in _SIGNALS}
    running = [Child(name, function, print_if_possible) for name, function in children.items()]
    checks = _HealthCheck(unhealthy, print_if_possible) if unhealthy is not None else None
    try:
        while not (stopping or parent_ended() or any(child.cannot_start for child in running)):
            found = checks.found() if checks is not None else {}
            for child in running:
                if child.name in found:
                    child.restart(found[child.name])
                child.start_if_due()
            _forward(running, _POLL)
    finally:
        if checks is not None:
            checks.stop()
        _stop(running, print_if_possible)
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
    return 1 if any(child.cannot_start for child in running) else 0


def run_once(name: str, function: Callable[[], object], *, parent_ended: Callable[[], bool]) -> int:
    """The exit status of a process that runs the function to its end."""
    process = forking.Forked(name, function, shares_output=True)
    try:
        while process.status is None and not parent_ended():
            process.wait(_POLL)
    finally:
        process.kill()
    return process.status or 0


def _stop(running: Sequence[Child], print_line: Print) -> None:
    print_line("up", "stopping")
    deadline = time.monotonic() + _STOP_TIMEOUT
    for child in running:
        child.terminate()
        _wait(running, child, min(time.monotonic() + _STOP_INTERVAL, deadline))
    for child in running:
        _wait(running, child, deadline)
        child.kill()
        child.forward_rest()


def _wait(running: Sequence[Child], child: Child, deadline: float) -> None:
    """Wait until the child has ended. All are read meanwhile: one that cannot write cannot end."""
    while child.is_running and time.monotonic() < deadline:
        _forward(running, _POLL)


def _forward(running: Sequence[Child], seconds: float) -> None:
    """Print what the processes write, after waiting so long for something."""
    written, _, _ = select.select([child for child in running if child.has_output], [], [], seconds)
    for child in written:
        child.forward_output()


def _exit_text(status: int) -> str:
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
