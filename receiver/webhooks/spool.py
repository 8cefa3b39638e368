"""Where webhooks wait while the database is away: files on this host, durable before the sender has its answer.

A line is a checksum and one letter as JSON. A file belongs to whoever holds its lock: to the process that writes it,
and once that is dead, or has released it, to the first that takes it to drain it.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import secrets
import threading
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from models import failpoints
from models.bookkeeping.webhooks import AcceptedWebhook
from models.exact import storable_text
from models.failpoints import Point
from receiver.webhooks.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_WAITING, _REFUSED = ".spool", ".refused"

_LARGEST_FILE = 16 * 2**20
"""Bytes after which a new file is begun, so that draining goes on file by file."""

MOST = 2**30
"""Bytes that all files of a folder may take together."""

_SPARE = 64 * 2**20
"""Bytes that are left to others on the same disk, to a SQLite database for one."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds. `damaged`: lines that are whole but are not what was written."""

    accepted: list[AcceptedWebhook]
    damaged: list[bytes]


class Spool:
    """The files of one folder, which need not exist yet. All receivers of a host share it. `most`: bytes."""

    def __init__(self, folder: Path, *, most: int = MOST) -> None:
        self.folder = folder
        self._most = most
        self._file: _File | None = None
        self._lock = threading.Lock()
        self._waiting = Tally(partial(self._paths, _WAITING))
        self._refused = Tally(partial(self._paths, _REFUSED))

    def append(self, accepted: Sequence[AcceptedWebhook]) -> None:
        """Return once the letters are durable. Raises `OSError` where they cannot be; then they are not kept."""
        data = b"".join(_line(webhook) for webhook in accepted)
        with self._lock:
            self._require_room(len(data))
            if self._file is not None and self._file.is_gone():
                self._close()
            if self._file is None:
                self._file = _File.new(self.folder)
            try:
                self._file.append(data)
            except OSError:
                self._close()  # what became of it is not known: the next letters go into a file of their own
                raise
            if self._file.size >= _LARGEST_FILE:
                self._close()

    def release(self) -> bool:
        """Give the file that is being written to whoever drains; returns whether there was one."""
        with self._lock:
            return self._close()

    def is_empty(self) -> bool:
        """Whether there is nothing to drain, here or by another process."""
        return not self._paths(_WAITING)

    def orphans(self) -> Iterator[SpoolFile]:
        """The files that no living process writes, oldest first, each locked while the caller has it."""
        for path in self._paths(_WAITING):
            try:
                descriptor = os.open(path, os.O_RDONLY)
            except FileNotFoundError:
                continue
            try:
                if _locked(descriptor):
                    yield SpoolFile(path, descriptor)
            finally:
                os.close(descriptor)

    def waiting(self) -> int:
        """How many letters wait on this host."""
        return self._waiting.lines()

    def refused(self) -> int:
        """How many letters of this host were set aside for a person."""
        return self._refused.lines()

    def refusal_notes(self) -> str:
        """One line for a person."""
        if not _can_be_written(self.folder):
            return f"{self.folder} cannot be written: webhooks are refused while the database is away"
        if refused := self.refused():
            return f"{refused} notices were refused by the database: see {self.folder}/*{_REFUSED}"
        waiting = self.waiting()
        return f"{waiting} notices wait" if waiting else "ok"

    def _close(self) -> bool:
        if self._file is None:
            return False
        self._file.close()
        self._file = None
        return True

    def _paths(self, ending: str) -> list[Path]:
        try:
            return sorted(path for path in self.folder.iterdir() if path.name.endswith(ending))
        except FileNotFoundError:
            return []

    def _require_room(self, size: int) -> None:
        _make(self.folder)
        taken = sum(_size(path) for ending in (_WAITING, _REFUSED) for path in self._paths(ending))
        disk = os.statvfs(self.folder)
        if taken + size > self._most or disk.f_bavail * disk.f_frsize < _SPARE + size:
            raise OSError(errno.ENOSPC, "the spool is full")


class _File:
    """A file that this process writes. Its name begins with the time."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.size = 0

    @classmethod
    def new(cls, folder: Path) -> _File:
        while True:
            path = folder / f"{time.time_ns():020}-{secrets.token_hex(4)}{_WAITING}"
            # Customers' data: only their owner may read it.
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            if _locked(descriptor):
                break
            os.close(descriptor)  # somebody took it for a dead process's before we had the lock
        try:
            _sync_folder(folder)
        except OSError:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def append(self, data: bytes) -> None:
        """Return once it is durable; what was written of it is cut off again where that fails."""
        try:
            _write(self._descriptor, data)
            failpoints.hit(Point.SPOOL_WRITTEN)
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)
        failpoints.hit(Point.SPOOL_SYNCED)

    def is_gone(self) -> bool:
        """Whether somebody removed it under our hands."""
        return os.fstat(self._descriptor).st_nlink == 0

    def close(self) -> None:
        if not self.size and not os.fstat(self._descriptor).st_size:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """A file to be drained."""

    path: Path
    descriptor: int

    def read(self) -> Contents:
        """All of it. A last line that is not whole was never answered, and is left out."""
        contents = Contents([], [])
        *lines, _ = self.path.read_bytes().split(b"\n")
        for line in lines:
            webhook = _webhook(line)
            if webhook is None:
                contents.damaged.append(line)
            else:
                contents.accepted.append(webhook)
        return contents

    def set_aside(self, accepted: Iterable[AcceptedWebhook], damaged: Iterable[bytes]) -> Path:
        """Keep these in a file beside, for a person. Doing it again changes nothing."""
        path = self.path.with_suffix(_REFUSED)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write(descriptor, b"".join([*map(_line, accepted), *(line + b"\n" for line in damaged)]))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        _sync_folder(path.parent)
        return path

    def remove(self) -> None:
        """All of it is in the database, or set aside."""
        self.path.unlink()


def _line(webhook: AcceptedWebhook) -> bytes:
    # As the database will store it: JSON's own escapes would merge two lone surrogates into one character.
    values = dataclasses.asdict(webhook)
    storable = {name: None if text is None else storable_text(text) for name, text in values.items()}
    text = json.dumps(storable, ensure_ascii=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _webhook(line: bytes) -> AcceptedWebhook | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        return AcceptedWebhook(**json.loads(text))
    except (ValueError, TypeError):  # written by another version: a person decides
        return None


def _locked(descriptor: int) -> bool:
    """Take the lock of an open file that is still there; False where somebody else has it or has drained it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _make(folder: Path) -> None:
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _can_be_written(folder: Path) -> bool:
    there = next(path for path in (folder, *folder.parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)
