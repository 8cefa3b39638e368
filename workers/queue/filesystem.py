"""The filesystem broker: messages that appear whole, and a pool that survives the killing of a child."""

from __future__ import annotations

import os
import signal
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from celery.concurrency.prefork import TaskPool
from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.utils.json import dumps

log = structlog.get_logger()

_STATUS = 70
"""Exit status of a worker that ends because a child was killed."""


class Channel(filesystem.Channel):
    """Writes a message under a temporary name and then renames it.

    kombu writes under the final name, and a worker that reads half a message ends with an error.
    """

    def _put(self, queue: str, message: Any, **_: Any) -> None:  # type: ignore[override] # as the base class has it
        # Messages are taken in the order of their names, so the time comes first.
        final = Path(self.data_folder_out, f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg")
        part = final.with_suffix(".part")
        try:
            part.write_bytes(dumps(message).encode())
            part.replace(final)
        except OSError as error:
            raise ChannelError(f"Cannot add file {final.name!r} to directory") from error


class Transport(filesystem.Transport):
    """kombu's transport with our channel, for Celery's `broker_transport`."""

    Channel = Channel


class Pool(TaskPool):
    """Celery's pool of child processes, which ends the whole worker when a child was killed.

    The filesystem transport has no event loop, so the children share one pipe and one lock on it. The child that waits
    for work holds the lock; if it is killed, the lock is never released, and neither the other children nor its
    replacement get work. The supervisor restarts the worker.
    """

    def on_start(self) -> None:
        """Start the children, with a callback for when one exits."""
        super().on_start()
        self._pool.on_process_down = self._on_child_exit

    def _on_child_exit(self, child: Any) -> None:
        stopped = getattr(child, "_controlled_termination", False) or child.exitcode == -signal.SIGTERM
        if stopped or (child.exitcode or 0) >= 0:
            return  # it exited by itself, or Celery stopped it
        log.error("child was killed, worker exits", child=child.pid)
        for other in self._pool._pool:  # noqa: SLF001 - billiard offers no public access
            with suppress(ProcessLookupError):
                os.kill(other.pid, signal.SIGKILL)
        os._exit(_STATUS)  # an orderly exit would wait for the lock
