"""One file of the spool: written and synced by one process, drained by another once the writer's lock is free.

A line is a CRC-32 in eight hexadecimal digits, a space, and one accepted webhook as JSON.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import secrets
import time
import zlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from models import failpoints
from models.bookkeeping.webhooks import AcceptedWebhook
from models.exact import storable_text
from models.failpoints import Point

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

WAITING, REFUSED = ".spool", ".refused"
"""Suffixes of file names: webhooks to be drained, and those that wait for a person."""


@dataclass(frozen=True, slots=True)
class SpoolContents:
    """What a file holds. `damaged`: complete lines that do not match their checksum or do not decode."""

    accepted: list[AcceptedWebhook]
    damaged: list[bytes]


class OpenSpoolFile:
    """The file that this process appends to and has locked. Its name begins with the time."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self.size = 0

    @classmethod
    def create(cls, folder: Path) -> OpenSpoolFile:
        """A new, empty file. Raises `OSError`."""
        while True:
            path = folder / f"{time.time_ns():020}-{secrets.token_hex(4)}{WAITING}"
            # Readable by the owner only: webhooks are customers' data.
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
            if try_lock(descriptor):
                break
            os.close(descriptor)  # another process drained the empty file before it was locked here
        try:
            sync_folder(folder)
        except OSError:
            os.close(descriptor)
            raise
        return cls(path, descriptor)

    def append(self, data: bytes) -> None:
        """Return once the lines are durable. Raises `OSError`, after truncating what was written of them."""
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

    def is_removed(self) -> bool:
        """Whether the file was deleted from outside: what is appended would be lost."""
        return os.fstat(self._descriptor).st_nlink == 0

    def close(self) -> None:
        """Release the lock; an empty file is removed."""
        if not self.size and not os.fstat(self._descriptor).st_size:
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)


@dataclass(frozen=True, slots=True)
class SpoolFile:
    """A file to be drained, locked by the caller."""

    path: Path

    def read(self) -> SpoolContents:
        """The whole file. An incomplete last line is left out: its webhook was never answered 200."""
        contents = SpoolContents([], [])
        *lines, _ = self.path.read_bytes().split(b"\n")
        for line in lines:
            webhook = _decode_line(line)
            if webhook is None:
                contents.damaged.append(line)
            else:
                contents.accepted.append(webhook)
        return contents

    def keep_refused(self, accepted: Iterable[AcceptedWebhook], damaged: Iterable[bytes]) -> Path:
        """Write these to a `.refused` file of the same name, for a person. Repeating it changes nothing."""
        path = self.path.with_suffix(REFUSED)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            _write(descriptor, encode(accepted) + b"".join(line + b"\n" for line in damaged))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_folder(path.parent)
        return path

    def remove(self) -> None:
        """Delete the file, once every webhook is in the database or in a `.refused` file."""
        self.path.unlink()


def encode(accepted: Iterable[AcceptedWebhook]) -> bytes:
    """The webhooks as lines of a file."""
    return b"".join(map(_encode_line, accepted))


def _encode_line(webhook: AcceptedWebhook) -> bytes:
    # The text as the database stores it: JSON's own escapes would merge two lone surrogates into one character.
    values = dataclasses.asdict(webhook)
    storable = {name: None if text is None else storable_text(text) for name, text in values.items()}
    text = json.dumps(storable, ensure_ascii=False).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _decode_line(line: bytes) -> AcceptedWebhook | None:
    checksum, _, text = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(text):
        return None
    try:
        return AcceptedWebhook(**json.loads(text))
    except (ValueError, TypeError):  # written by another version of this program
        return None


def try_lock(descriptor: int) -> bool:
    """Lock an open file. False if another process holds the lock, or has drained and removed the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return os.fstat(descriptor).st_nlink > 0


def sync_folder(folder: Path) -> None:
    """Make the folder's entries durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
