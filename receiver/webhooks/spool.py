"""Where webhooks wait while the database is down: files on this host, synced before the sender gets its 200.

A file belongs to the process that holds its lock: to its writer, and once that has ended or released it, to the first
process that claims it in order to drain it.

Hand-written because SQLite was measured and was worse: as many lines (465 instead of 443), a first commit of 86 to
91 ms instead of 15 to 44 ms when an outage begins, and 1.5 times as long to drain 10,000 webhooks.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from functools import partial
from typing import TYPE_CHECKING

from models import private
from receiver.webhooks import spool_file
from receiver.webhooks.line_counter import LineCounter
from receiver.webhooks.spool_file import REFUSED, WAITING, OpenSpoolFile, SpoolFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from models.bookkeeping.webhooks import AcceptedWebhook

_MAX_FILE = 16 * 2**20
"""Bytes after which a new file is begun. Draining removes whole files, so several small ones free the disk sooner."""

MAX_BYTES = 2**30
"""Bytes that all files of a folder may take together."""

_RESERVED = 64 * 2**20
"""Bytes that are left free for others on the same disk, such as a SQLite database."""


class Spool:
    """The files of one folder, which is created when it is first needed. All receivers of a host share it."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self._max_bytes = max_bytes
        self._file: OpenSpoolFile | None = None
        self._lock = threading.Lock()
        self._waiting = LineCounter(partial(self._paths, WAITING))
        self._refused = LineCounter(partial(self._paths, REFUSED))

    def append(self, accepted: Sequence[AcceptedWebhook]) -> None:
        """Return once the webhooks are durable. Raises `OSError`; then none of them is stored."""
        data = spool_file.encode(accepted)
        with self._lock:
            self._require_room(len(data))
            if self._file is not None and self._file.is_removed():
                self._close()
            if self._file is None:
                self._file = OpenSpoolFile.create(self.folder)
            try:
                self._file.append(data)
            except OSError:
                self._close()  # the file's end is in an unknown state, so the next webhooks go to a new file
                raise
            if self._file.size >= _MAX_FILE:
                self._close()

    def release(self) -> bool:
        """Close and unlock the file that is being written, so that it can be drained; returns whether there was one."""
        with self._lock:
            return self._close()

    def is_empty(self) -> bool:
        """Whether there is nothing to drain, here or by another process."""
        return not self._paths(WAITING)

    def claim_files(self) -> Iterator[SpoolFile]:
        """The files that no living process writes, oldest first. Each stays locked until the next one is requested."""
        for path in self._paths(WAITING):
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                if spool_file.try_lock(descriptor):
                    yield SpoolFile(path)
            finally:
                os.close(descriptor)

    def waiting(self) -> int:
        """How many webhooks wait on this host."""
        return self._waiting.lines()

    def refused(self) -> int:
        """How many webhooks of this host the database refused; they wait for a person."""
        return self._refused.lines()

    def status_line(self) -> str:
        """One line for a person: "ok", what waits, or what is wrong."""
        if not _is_writable(self.folder):
            return f"{self.folder} cannot be written: webhooks are refused while the database is down"
        if not self._has_room(0):
            return f"no room in {self.folder}: webhooks are refused while the database is down; free disk space"
        if refused := self.refused():
            return f"{refused} webhooks were refused by the database: see {self.folder}/*{REFUSED}"
        waiting = self.waiting()
        return f"{waiting} webhooks wait" if waiting else "ok"

    def _close(self) -> bool:
        if self._file is None:
            return False
        self._file.close()
        self._file = None
        return True

    def _paths(self, suffix: str) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.name.endswith(suffix))
        except FileNotFoundError:
            return []

    def _require_room(self, size: int) -> None:
        _make_folder(self.folder)
        if not self._has_room(size):
            raise OSError(errno.ENOSPC, "the spool is full")

    def _has_room(self, size: int) -> bool:
        used = sum(_size(path) for suffix in (WAITING, REFUSED) for path in self._paths(suffix))
        free = shutil.disk_usage(_existing(self.folder)).free
        return used + size <= self._max_bytes and free >= _RESERVED + size


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        private.make_folder(folder)
        spool_file.sync_folder(folder.parent)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # drained since it was listed
        return 0


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def _is_writable(folder: Path) -> bool:
    existing = _existing(folder)
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)
