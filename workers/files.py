"""What Celery needs on the filesystem broker: messages whole and heard at once, children that may be killed."""

from __future__ import annotations

import os
import select
import signal
import time
import uuid
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

import structlog
from celery.concurrency.prefork import TaskPool
from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.utils.json import dumps

log = structlog.get_logger()

_MANY = 4096

_STATUS = 70
"""Exit status of a worker that gives itself up."""


class Channel(filesystem.Channel):
    """Puts messages down by renaming them.

    kombu writes them under their final name, and a worker that finds one half written ends with an error.
    """

    def _put(self, queue: str, message: Any, **_: Any) -> None:  # type: ignore[override] # as its own has it
        # The time first: whoever takes messages takes them in the order of their names.
        final = Path(self.data_folder_out, f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg")
        part = final.with_suffix(".part")
        try:
            part.write_bytes(dumps(message).encode())
            part.replace(final)
        except OSError as error:
            raise ChannelError(f"Cannot add file {final.name!r} to directory") from error
        if _is_ours(queue):
            _wake(_pipe(self, queue))


class Transport(filesystem.Transport):
    """For Celery's `broker_transport`. Whoever puts a message down wakes one who waits for messages of its queue.

    kombu looks into the folder every now and then and sleeps meanwhile. That remains for a wake that was missed.
    """

    Channel = Channel

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self._ears: dict[str, int] = {}

    def drain_events(self, connection: Any, timeout: float | None = None) -> None:  # type: ignore[override]  # noqa: ARG002 - as its own has it
        """Deliver one message. TimeoutError when none came in time."""
        end = None if timeout is None else time.monotonic() + timeout
        rest = min(self.polling_interval, timeout or self.polling_interval)
        while True:
            with suppress(Empty):
                self.cycle.get(self._deliver, timeout=timeout)  # type: ignore[union-attr] # it is there until closing
                return
            if end is not None and time.monotonic() >= end:
                raise TimeoutError
            self._rest(rest)

    def close_connection(self, connection: Any) -> None:
        """Hear nothing any more."""
        super().close_connection(connection)
        while self._ears:
            os.close(self._ears.popitem()[1])

    def _rest(self, seconds: float) -> None:
        queues = {queue: channel for channel in self.channels for queue in channel._active_queues if _is_ours(queue)}  # noqa: SLF001 - they have no other name
        for queue, channel in queues.items():
            if queue not in self._ears:
                self._ears[queue] = _listening(_pipe(channel, queue))
        heard, _, _ = select.select([*self._ears.values()], [], [], seconds)
        for ear in heard:
            with suppress(BlockingIOError):  # another worker was quicker
                os.read(ear, _MANY)


def _is_ours(queue: str) -> bool:
    """Not one that a single process makes for itself, and would leave a pipe of."""
    return "." not in queue


def _pipe(channel: Channel, queue: str) -> Path:
    return Path(channel.control_folder, f"{queue}.wake")


def _listening(pipe: Path) -> int:
    with suppress(FileExistsError):
        os.mkfifo(pipe)
    # With a writing end of its own: else it would be ready all the time once somebody else's was closed.
    return os.open(pipe, os.O_RDWR | os.O_NONBLOCK)


def _wake(pipe: Path) -> None:
    with suppress(OSError):  # nobody listens, or he has been woken often enough
        writing = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(writing, b".")
        finally:
            os.close(writing)


class Pool(TaskPool):
    """Celery's pool of children, which ends the worker where a child was killed, for whoever started it to start again.

    Where messages cannot be waited for in a loop of events, the children share one pipe and one lock of it. Who waits
    for work holds the lock, and if he is killed it is held for ever: the others, and whoever takes his place, are deaf.
    """

    def on_start(self) -> None:
        """Start the children, and watch over them."""
        super().on_start()
        self._pool.on_process_down = self._down

    def _down(self, child: Any) -> None:
        asked = getattr(child, "_controlled_termination", False) or child.exitcode == -signal.SIGTERM
        if asked or (child.exitcode or 0) >= 0:
            return  # it ended by itself, or by Celery's will
        log.error("a child was killed, this worker gives itself up", child=child.pid)
        for other in self._pool._pool:  # noqa: SLF001 - it has no other name
            with suppress(ProcessLookupError):
                os.kill(other.pid, signal.SIGKILL)
        os._exit(_STATUS)  # ending in order would wait for that lock
