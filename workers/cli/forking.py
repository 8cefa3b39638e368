"""Forks processes that share the memory of what this one has imported.

Each inherits this process as it is. So this one stays clean: it starts no thread, opens no database and holds no lock.
"""

from __future__ import annotations

import functools
import gc
import multiprocessing
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workers import lifeline

if TYPE_CHECKING:
    from collections.abc import Callable

_FORK = multiprocessing.get_context("fork")

_SIGNALS: dict[signal.Signals, Any] = {
    signal.SIGINT: signal.default_int_handler,
    signal.SIGTERM: signal.SIG_DFL,
    signal.SIGHUP: signal.SIG_DFL,
}
"""What a new interpreter does with the signals that this process may handle."""

_PIPE_SIZE = 2**16

_OUR_ENDS: set[int] = set()
"""This process's ends of the pipes to its children. Each new child closes them.

A child that kept them would hold its siblings' lifeline, and their output would not fail when nobody can read it.
"""


def warm(import_shared: Callable[[], object]) -> None:
    """Import what the processes share, and keep the garbage collector off it: it writes to each object it looks at."""
    gc.disable()
    import_shared()
    gc.collect()
    gc.freeze()
    gc.enable()


class Forked:
    """A process that runs a function in a session of its own, so that Ctrl-C does not reach it.

    It ends with this one, however this one ends. `shares_output`: it writes to this process's standard output and
    error; else `read` returns what it writes.
    """

    def __init__(self, name: str, function: Callable[[], object], *, shares_output: bool = False) -> None:
        lifeline_reader = _lifeline()
        self._output: int | None = None
        output: int | None = None
        if not shares_output:
            self._output, output = os.pipe()
            _OUR_ENDS.add(self._output)
            os.set_blocking(self._output, False)
        self._process = _FORK.Process(name=name, target=_run, args=(name, function, lifeline_reader, output))
        # A signal that comes before the child has its own handlers would call ours, and be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            if output is not None:
                os.close(output)

    @property
    def pid(self) -> int:
        """The id of the process, and of its group."""
        assert self._process.pid is not None  # noqa: S101 - it was started
        return self._process.pid

    @property
    def status(self) -> int | None:
        """The exit status, negative for a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float) -> None:
        """Wait until it has ended, at most that long."""
        self._process.join(seconds)

    def fileno(self) -> int:
        """What `select` waits for before `read`."""
        assert self._output is not None  # noqa: S101 - it does not share this process's output
        return self._output

    def read(self) -> bytes:
        """What it has written since the last call, as much as a pipe holds."""
        with suppress(BlockingIOError):
            return os.read(self.fileno(), _PIPE_SIZE)
        return b""

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self) -> None:
        """Kill its whole process group: its child processes may outlive it."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.kill()  # it may have had no group yet
        self._process.join()

    def close(self) -> None:
        """Release what is kept of a process that has ended."""
        if self._output is not None:
            _OUR_ENDS.remove(self._output)
            os.close(self._output)
        self._process.close()


@functools.cache
def _lifeline() -> int:
    """The end of a pipe that the kernel closes the other end of when this process ends."""
    reader, writer = os.pipe()
    _OUR_ENDS.add(writer)
    return reader


def _run(name: str, function: Callable[[], object], lifeline_reader: int, output: int | None) -> None:
    """What the child does."""
    os.setsid()
    for number, handler in _SIGNALS.items():
        signal.signal(number, handler)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    while _OUR_ENDS:
        os.close(_OUR_ENDS.pop())
    lifeline.end_when_closed(lifeline_reader)
    if output is not None:
        _redirect(output)
    with suppress(OSError):  # Linux only: `ps` and `top` show this name beside the command line, which is the parent's
        Path("/proc/self/comm").write_text(f"erpm-{name}", encoding="utf-8")
    function()


def _redirect(output: int) -> None:
    """Write to the pipe, line by line, and read nothing: the terminal is the parent's."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nothing, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(output)
    sys.stdout, sys.stderr = (
        open(number, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - for good
        for number in (1, 2)
    )
