"""Ends a process after its parent has ended, also when the parent was killed and could end nothing itself.

The parent holds the one end of a pipe and does nothing with it; a thread of the child reads the other end, which the
kernel closes with the parent. Linux's PR_SET_PDEATHSIG is not used: it fires when the *thread* that forked the child
ends, and Celery replaces its children from threads; nor does it exist on macOS.
"""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "ERPMIRROR_LIFELINE"
"""Set by a parent that gave its child a pipe as standard input."""

_GRACE = 5.0
"""Seconds between SIGTERM and SIGKILL."""


def environment() -> dict[str, str]:
    """The environment for a child whose standard input is a pipe that nothing is written to."""
    return os.environ | {VARIABLE: "stdin"}


def follow_parent() -> None:
    """End this process after its parent, if the parent asked for that through `environment`."""
    if os.environ.pop(VARIABLE, None) is not None:
        end_when_closed(0)


def parent_ended() -> Callable[[], bool]:
    """For a process that may start no thread: a function that says whether a parent that asked for it has ended."""
    if os.environ.pop(VARIABLE, None) is None:
        return bool
    poller = select.poll()
    poller.register(0, 0)  # 0: only that the other end is closed
    return lambda: bool(poller.poll(0))


def end_when_closed(reader: int) -> None:
    """Watch the pipe in a daemon thread: once its other end is closed, SIGTERM, and SIGKILL if that was not enough."""
    threading.Thread(target=_watch, args=[reader], name="lifeline", daemon=True).start()


def _watch(reader: int) -> None:
    while os.read(reader, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE)
    os.kill(os.getpid(), signal.SIGKILL)
