"""Where accepted webhooks wait while the database is away: files on this host, durable before the sender's answer."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import sqlite3
import threading
import time
from typing import TYPE_CHECKING

from receiver import spool_file
from receiver.spool_file import GONE, REFUSED, WAITING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from models.notices import Letter
    from receiver.spool_file import Row, SpoolFile

_LARGEST_FILE = 16 * 2**20
"""Bytes of webhooks after which a new file is begun, so that draining frees the disk file by file."""

MOST = 2**30
"""Bytes that all files of a folder may take together."""

_SPARE = 64 * 2**20
"""Bytes that are left to others on the same disk, to a SQLite database for one."""


class Spool:
    """The files of one folder, which need not exist yet. All receivers of a host share it. `most`: bytes."""

    def __init__(self, folder: Path, *, most: int = MOST) -> None:
        self.folder = folder
        self._most = most
        self._file: SpoolFile | None = None
        self._lock = threading.Lock()

    def append(self, letters: Sequence[Letter]) -> None:
        """Return once the webhooks are durable, in one commit. Raises `OSError` where they are not; none is kept then.

        Waits for the disk: not for the event loop's thread.
        """
        rows = [spool_file.encode(letter) for letter in letters]
        with self._lock:
            self._require_room(spool_file.size_of(rows))
            try:
                self._append(rows)
            except (sqlite3.Error, OSError) as error:
                self._close()  # what a failed write has left is not known: the next webhooks go to a new file
                raise error if isinstance(error, OSError) else OSError(errno.EIO, str(error)) from None
            if self._file is not None and self._file.size >= _LARGEST_FILE:
                self._close()

    def release(self) -> bool:
        """Close the file that is being written to; returns whether there was one. Waits for the disk."""
        with self._lock:
            return self._close()

    def is_empty(self) -> bool:
        """Whether no file waits to be drained."""
        return not self.files()

    def files(self) -> list[Path]:
        """The files that wait to be drained, oldest first."""
        return [path for path in self._paths(WAITING) if path.is_dir()]

    def waiting(self) -> int:
        """How many webhooks wait on this host."""
        return sum(map(spool_file.count, self.files()))

    def refused(self) -> int:
        """How many webhooks of this host were set aside for a person; what cannot be read as a file counts as one."""
        foreign = [path for path in self._paths(WAITING) if not path.is_dir()]
        return sum(map(spool_file.count, [*self._paths(REFUSED), *foreign]))

    def told(self) -> str:
        """The state in one line, for a person."""
        if not _can_be_written(self.folder):
            return f"{self.folder} cannot be written: webhooks are refused while the database is away"
        if refused := self.refused():
            return f"{refused} webhooks were set aside: see {self.folder}/*{REFUSED}"
        waiting = self.waiting()
        return f"{waiting} webhooks wait" if waiting else "ok"

    def remove_gone(self) -> None:
        """Free the disk of the files that were drained, here or by a process that died over it."""
        for path in self._paths(GONE):
            shutil.rmtree(path, ignore_errors=True)

    def _append(self, rows: Sequence[Row]) -> None:
        while self._file is None or not self._file.append(rows):
            self._close()
            name = f"{time.time_ns():020}-{secrets.token_hex(4)}"  # never used again
            self._file = spool_file.create(self.folder / f"{name}{WAITING}")

    def _close(self) -> bool:
        file, self._file = self._file, None
        if file is not None:
            file.close()
            if not file.size:  # nothing was committed to it
                shutil.rmtree(file.path, ignore_errors=True)
        return file is not None

    def _paths(self, ending: str) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.name.endswith(ending))
        except FileNotFoundError:
            return []

    def _require_room(self, size: int) -> None:
        if not self.folder.is_dir():
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self.folder.mkdir(mode=0o700, exist_ok=True)
            spool_file.sync(self.folder.parent)
        taken = sum(map(_size, self.folder.glob("*/*")))
        disk = os.statvfs(self.folder)
        if taken + size > self._most or disk.f_bavail * disk.f_frsize < _SPARE + size:
            raise OSError(errno.ENOSPC, "the spool is full")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _can_be_written(folder: Path) -> bool:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
