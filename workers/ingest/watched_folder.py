"""The watched folder: hands in the PDFs that lie in it, and moves each to `done` or `parked` once it is interpreted.

A scan sends no request, so it needs no lease. Two scans at the same time are harmless: a file handed in twice is one
document, and if two workers move a file, one finds it gone.
"""

from __future__ import annotations

import functools
import hashlib
import os
import stat as modes
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from models import failpoints, private
from models.bookkeeping import documents, folder_scans
from models.bookkeeping.documents import State
from models.exact import storable_text
from models.failpoints import Point
from models.settings.connections import TakesDocuments

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from models.bookkeeping.documents import DocumentRow
    from models.bookkeeping.streams import Stream
    from workers.context import ConnectionContext

log = structlog.get_logger()

DONE, PARKED = "done", "parked"
REASON_SUFFIX = ".why.txt"

_UNCHANGED_SECONDS = 2.0
"""Seconds for which a file must not have changed before it counts as completely written."""

_INCOMPLETE_SECONDS = 60.0
"""Seconds after which an unchanged file without an end counts as cut off."""

_MAX_NAME_BYTES = 255 - len(REASON_SUFFIX) - len(" (9999)")
"""The longest name on most file systems, less what is added here."""


def scan(context: ConnectionContext, stream: Stream, *, began_at: datetime) -> None:
    """Hand in the files of a kind's folder, move those that are interpreted or parked, and plan the next scan.

    `began_at`: by the database's clock. A failure of the whole folder becomes the stream's error, one of single files
    its warning.
    """
    kind, options = stream.resource, context.options
    folder = options.inbox / kind if isinstance(options, TakesDocuments) and options.inbox is not None else None
    warnings: list[str] = []
    try:
        if folder is not None:
            warnings = _Scan(context, kind, folder).run()
    except OSError as error:
        _record_failure(
            context, stream, f"{folder}: {error.strerror}; erpmirror must be able to read and change this folder"
        )
        return
    warning = storable_text(f"{folder}: {warnings[0]}") if warnings else None
    if warning is not None and len(warnings) > 1:
        warning += f" ({len(warnings) - 1} more)"
    with context.database.begin() as tx:
        now = tx.now
        next_at = now + context.resources[kind].full_every
        folder_scans.finish(tx, stream, began_at=began_at, next_at=next_at, now=now, warning=warning)


def _record_failure(context: ConnectionContext, stream: Stream, error: str) -> None:
    with context.database.begin() as tx:
        now = tx.now
        next_at = now + context.resources[stream.resource].full_every
        folder_scans.fail(tx, stream, next_at=next_at, now=now, error=storable_text(error))


@dataclass(frozen=True, slots=True)
class _Inspection:
    """What a file's content shows.

    `has_header`: it begins like a PDF. `may_get_header`: so far it is shorter than that, and begins like it.
    `has_eof`: the end marker is where PDF readers search for it.
    """

    sha256: str
    has_header: bool
    may_get_header: bool
    has_eof: bool


@dataclass
class _Scan:
    """One scan of one folder. `warnings`: about single files, for a person. `waiting`: documents that are not done."""

    context: ConnectionContext
    kind: str
    folder: Path
    warnings: list[str] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)

    def run(self) -> list[str]:
        private.make_folder(self.folder)
        for name in (DONE, PARKED):
            self._guarded(name, self._make_subfolder)
        with os.scandir(self.folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.lower().endswith(".pdf"))
        with self.context.database.read() as tx:
            self.waiting = documents.waiting(tx, connection=self.context.name, kind=self.kind)
        for name in names:
            self._guarded(name, lambda name: self._scan_file(self.folder / name))
        return self.warnings

    def _make_subfolder(self, name: str) -> None:
        if not (self.folder / name).is_dir():
            private.make_folder(self.folder / name)
            private.share_like(self.folder / name, self.folder)

    def _guarded(self, name: str, step: Callable[[str], None]) -> None:
        """Run a step for one file; its failure stops no other file."""
        try:
            step(name)
        except FileNotFoundError:
            pass  # another worker or a person has moved it
        except OSError as error:
            self.warnings.append(
                f"{name} cannot be read, made or moved ({error.strerror}); check who owns what is there"
            )

    def _scan_file(self, path: Path) -> None:
        status = path.lstat()
        if not modes.S_ISREG(status.st_mode):
            self.warnings.append(f"{path.name} is no plain file and is left alone; put the PDF itself here")
            return
        age = time.time() - status.st_mtime
        if abs(age) < _UNCHANGED_SECONDS:
            return
        if status.st_size > self._largest:
            why = f"It is larger than {self._largest} bytes; `largest` of the connection sets the limit."
            self._park(path, status, why)
            return
        found = _inspect(path, _identity(status))
        if not found.has_header and (not found.may_get_header or age > _INCOMPLETE_SECONDS):
            self._park(path, status, f"It does not begin like a PDF: {documents.NO_PDF}.")
        elif found.has_eof:
            self._move_or_hand_in(path, status, found.sha256)
        elif age > _INCOMPLETE_SECONDS:
            self._park(
                path,
                status,
                f"It has no end (%%EOF) and has not changed for {_INCOMPLETE_SECONDS:.0f} s: it is cut off.",
            )
        elif age < 0:
            self.warnings.append(f"{path.name} has no end yet and is dated in the future; check the clocks")

    @property
    def _largest(self) -> int:
        options = self.context.options
        return options.largest if isinstance(options, TakesDocuments) else 0

    def _move_or_hand_in(self, path: Path, status: os.stat_result, sha256: str) -> None:
        if sha256 in self.waiting:
            return
        document = self._document(sha256)
        if document is not None and document.state is State.INTERPRETED:
            _move(path, self.folder / DONE, status)
        elif document is not None and document.state is State.PARKED:
            self._move_to_parked(path, status, document)
        elif document is None or document.inbox_state is None:
            self._hand_in(path, status)

    def _move_to_parked(self, path: Path, status: os.stat_result, document: DocumentRow) -> None:
        if document.inbox_state is None:
            self._park(path, status, "It was parked, and then dropped. `erpmirror hand-in` hands it in again.")
        elif document.inbox_state == "parked":
            retry = f"erpmirror parked retry {self.context.name} {self.kind} {document.sha256}"
            self._park(path, status, f"{document.reason}\n`{retry}` has it tried again.")

    def _document(self, sha256: str) -> DocumentRow | None:
        with self.context.database.read() as tx:
            return documents.get(tx, connection=self.context.name, kind=self.kind, sha256=sha256)

    def _hand_in(self, path: Path, status: os.stat_result) -> None:
        content, status_when_read = _read(path)
        if _identity(status_when_read) != _identity(status):
            return  # it changed since: the next scan reads it
        with self.context.database.begin() as tx:
            receipt = documents.hand_in(
                tx,
                connection=self.context.name,
                kind=self.kind,
                name=path.name,
                content=content,
                order_id=None,
                again=False,
            )
        failpoints.hit(Point.FILE_KEPT)
        log.info("handed in", connection=self.context.name, resource=self.kind, key=receipt.sha256, new=receipt.new)

    def _park(self, path: Path, status: os.stat_result, reason: str) -> None:
        moved = _move(path, self.folder / PARKED, status)
        if moved is not None:
            log.warning("file parked", connection=self.context.name, resource=self.kind, reason=reason)
            why = moved.with_name(moved.name + REASON_SUFFIX)
            why.write_text(f"{reason}\n", encoding="utf-8", errors="replace")
            private.share_like(why, why.parent)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """What changes when a file's content does."""
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


@functools.lru_cache(maxsize=10_000)
def _inspect(path: Path, _identity: tuple[int, ...]) -> _Inspection:
    """Cached: a file whose document waits for its answer is scanned every few seconds, and need not be read again."""
    content, _ = _read(path)
    return _Inspection(
        sha256=hashlib.sha256(content).hexdigest(),
        has_header=documents.is_pdf(content),
        may_get_header=documents.may_become_pdf(content),
        has_eof=documents.has_end(content),
    )


def _read(path: Path) -> tuple[bytes, os.stat_result]:
    """A plain file's content, and its status when that was read. Does not follow a link or block on a pipe."""
    with open(path, "rb", opener=_open_plain) as file:
        content = file.read() or b""  # None from a pipe that took the file's place
        return content, os.fstat(file.fileno())


def _open_plain(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _move(path: Path, folder: Path, status: os.stat_result) -> Path | None:
    """Move the file that was scanned, without overwriting another; returns its new path.

    None if it was moved by another process, or replaced by another file, which is then put back.
    """
    target = _reserve_name(folder, path.name)
    try:
        path.replace(target)
    except OSError as error:
        with suppress(OSError):
            target.unlink()
        if isinstance(error, FileNotFoundError):
            return None
        raise
    if _same_file(target.lstat(), status):
        return target
    target.replace(_reserve_name(path.parent, path.name))
    return None


def _same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Whether both describe the same file; a rename changes the entry's time only."""
    return (one.st_ino, one.st_size, one.st_mtime_ns) == (other.st_ino, other.st_size, other.st_mtime_ns)


def _reserve_name(folder: Path, name: str) -> Path:
    """A free name in the folder, reserved by an empty file: a rename alone would overwrite a file of that name."""
    stem, suffix = Path(name).stem, Path(name).suffix
    while len(os.fsencode(stem + suffix)) > _MAX_NAME_BYTES:
        stem = stem[:-1]
    number = 1
    while True:
        target = folder / (f"{stem}{suffix}" if number == 1 else f"{stem} ({number}){suffix}")
        try:
            target.touch(exist_ok=False)
        except FileExistsError:
            number += 1
        else:
            return target
