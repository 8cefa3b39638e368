"""One file of the spool: a SQLite database in WAL mode with synchronous=FULL: a commit returns when it is on the disk.

It has a folder of its own, together with SQLite's companion files. One process appends to it. Any process may drain it,
and holds its write lock from reading to removing it: a commit comes either before, and is drained, or finds the file
locked or gone and goes to another file.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
import sqlite3
import zlib
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from models import faults
from models.exact import storable_text
from models.faults import Point
from models.notices import Letter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

WAITING, REFUSED, GONE = ".spool", ".refused", ".gone"
_NAME = "webhooks.db"

_CREATE = """
PRAGMA synchronous=OFF;
PRAGMA journal_mode=WAL;
CREATE TABLE webhooks (position INTEGER PRIMARY KEY, checksum INTEGER, webhook TEXT)
"""
_INSERT = "INSERT INTO webhooks (checksum, webhook) VALUES (?, CAST(? AS TEXT))"
_READ = "SELECT checksum, CAST(webhook AS BLOB) FROM webhooks ORDER BY position"
_COUNT = "SELECT coalesce(max(position), 0) FROM webhooks"
"""No row is removed alone, so the last one's position is the number of rows, found without reading them."""

_BUSY = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
_UNREADABLE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR}
"""Damaged pages, no SQLite file, or one without our table."""

Row = tuple[Any, bytes | None]
"""The checksum and the webhook as JSON. In a damaged row either may be anything."""


@dataclasses.dataclass(frozen=True, slots=True)
class Contents:
    """What a file holds. `damaged`: rows that are not what was written; `whole`: whether every row could be read."""

    letters: list[Letter]
    damaged: list[Row]
    whole: bool


class SpoolFile:
    """A file that is open. Its methods raise `sqlite3.Error` where the disk fails."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = 0
        self._connection = _connect(path, "rw")

    def append(self, rows: Sequence[Row]) -> bool:
        """Commit the rows; False where another process drains this file or has removed it."""
        with self._connection:  # rolls back what is not committed
            if not self.lock():
                return False
            self._connection.executemany(_INSERT, rows)
            faults.reach(Point.SPOOL_WRITTEN)
            self._connection.commit()
        self.size += size_of(rows)
        faults.reach(Point.SPOOL_SYNCED)
        return True

    def lock(self) -> bool:
        """Keep others from writing until a commit or `close`; False where another process does that or has removed it.

        A file that is no database cannot be locked and counts as locked: only a drainer can do anything with it.
        """
        try:
            self._connection.execute("PRAGMA synchronous=FULL")  # also where SQLite was built with another default
            self._connection.execute("BEGIN IMMEDIATE")
        except sqlite3.DatabaseError as error:
            if _code(error) in _BUSY:
                return False
            if _code(error) not in _UNREADABLE:
                raise
        return self.path.exists()

    def read(self) -> Contents:
        """As much of it as can be read."""
        letters, damaged = [], []
        try:
            for row in self._connection.execute(_READ):
                letter = _decode(row)
                if letter is None:
                    damaged.append(row)
                else:
                    letters.append(letter)
        except sqlite3.DatabaseError as error:
            if _code(error) not in _UNREADABLE:
                raise
            return Contents(letters, damaged, whole=False)
        return Contents(letters, damaged, whole=True)

    def set_aside(self, rows: Sequence[Row]) -> Path:
        """Keep only these rows, for a person. Needs the lock, and gives it up."""
        aside = self.set_aside_whole()
        self._connection.execute("DELETE FROM webhooks")
        self._connection.executemany(_INSERT, rows)
        self._connection.commit()
        return aside

    def set_aside_whole(self) -> Path:
        """Keep the file as it is, for a person, who may recover what cannot be read by SQLite's own means."""
        return self.path.rename(self.path.with_suffix(REFUSED))

    def remove(self) -> None:
        """Take it out of the spool at once; `Spool.remove_gone` frees the disk."""
        self.path.rename(self.path.with_suffix(GONE))

    def close(self) -> None:
        """Close it; what is not committed is rolled back."""
        self._connection.close()


def create(path: Path) -> SpoolFile:
    """A new file, which nobody sees before it is complete. These are customers' data: only the owner may read them."""
    new = path.with_suffix(".new")
    new.mkdir(mode=0o700)
    try:
        with closing(_connect(new, "rwc")) as connection:
            connection.executescript(_CREATE)
        sync(new / _NAME)
        new.rename(path)
        sync(path.parent)
        return SpoolFile(path)
    except (sqlite3.Error, OSError):
        shutil.rmtree(new, ignore_errors=True)
        raise


@contextmanager
def claimed(path: Path) -> Iterator[SpoolFile | None]:
    """The file, locked while the block runs; None where others have it. Raises `OSError` where the disk fails."""
    try:
        with closing(SpoolFile(path)) as file:
            yield file if file.lock() else None
    except sqlite3.Error as error:
        if path.exists():
            raise OSError(errno.EIO, str(error), str(path)) from error


def count(path: Path) -> int:
    """How many webhooks a file holds; 1 where that cannot be read."""
    try:
        with closing(_connect(path, "ro")) as connection:
            return int(connection.execute(_COUNT).fetchone()[0])
    except sqlite3.Error:
        return int(path.exists())


def encode(letter: Letter) -> Row:
    """A webhook as a file keeps it: storable text, since JSON's own escapes would merge two lone surrogates."""
    values = {each.name: getattr(letter, each.name) for each in dataclasses.fields(letter)}
    storable = {name: None if value is None else storable_text(value) for name, value in values.items()}
    text = json.dumps(storable, ensure_ascii=False).encode()
    return zlib.crc32(text), text


def size_of(rows: Sequence[Row]) -> int:
    """Bytes of webhooks."""
    return sum(len(text or b"") for _, text in rows)


def sync(path: Path) -> None:
    """Return once a file, or the names in a folder, are durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _decode(row: Row) -> Letter | None:
    checksum, text = row
    if text is None or checksum != zlib.crc32(text):
        return None
    try:
        return Letter(**json.loads(text))
    except (ValueError, TypeError):  # written by another version: a person decides
        return None


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}/{_NAME}?mode={mode}",
        uri=True,
        timeout=0,
        isolation_level=None,  # statements begin the transactions
        check_same_thread=False,  # the spool lets one thread at a time use it
    )


def _code(error: sqlite3.Error) -> int | None:
    """SQLite's primary code; None for an error of Python's own."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF
