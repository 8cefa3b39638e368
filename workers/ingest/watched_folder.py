"""The watched folder: PDFs that are put into it are handed in, and move on once their fate is known.

Nothing is asked of the vendor here, so a look waits for no gate. Two looks at once are harmless: what is handed in
twice is one document, and of two who move a file one finds it gone.
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

from models import failpoints
from models.bookkeeping import documents, streams
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
"""Seconds for which a file must not have changed before it is believed to be whole."""

_INCOMPLETE_SECONDS = 60.0
"""Seconds after which a file that still has no end is no longer on its way."""

_EOF = b"%%EOF"
_EOF_WINDOW = 1024
"""Bytes. PDF readers look so far from the end."""

_MAX_NAME_BYTES = 255 - len(REASON_SUFFIX) - len(" (9999)")
"""Bytes of a name on most file systems, less what may be added."""


def scan(context: ConnectionContext, stream: Stream, *, began_at: datetime) -> None:
    """Hand in what lies in the folder of a kind, move on what is known; plan the next look.

    `began_at`: the database's clock. What keeps a look from working at all becomes the stream's error, what concerns
    single files its warning.
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
        streams.finish_scan(tx, stream, began_at=began_at, next_at=next_at, now=now, warning=warning)


def _record_failure(context: ConnectionContext, stream: Stream, error: str) -> None:
    with context.database.begin() as tx:
        now = tx.now
        next_at = now + context.resources[stream.resource].full_every
        streams.fail_scan(tx, stream, next_at=next_at, now=now, error=storable_text(error))


@dataclass(frozen=True, slots=True)
class _FileFacts:
    """What the content of a file shows."""

    sha256: str
    begins: bool
    may_begin: bool
    ends: bool


@dataclass
class _Scan:
    """One look into one folder. `told`: what a person should know of single files. `waiting`: keys to leave alone."""

    context: ConnectionContext
    kind: str
    folder: Path
    warnings: list[str] = field(default_factory=list)
    waiting: set[str] = field(default_factory=set)

    def run(self) -> list[str]:
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in (DONE, PARKED):
            self._guarded(name, lambda name: (self.folder / name).mkdir(exist_ok=True))
        with os.scandir(self.folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.lower().endswith(".pdf"))
        with self.context.database.read() as tx:
            self.waiting = documents.waiting(tx, connection=self.context.name, kind=self.kind)
        for name in names:
            self._guarded(name, lambda name: self._scan_file(self.folder / name))
        return self.warnings

    def _guarded(self, name: str, step: Callable[[str], None]) -> None:
        """One file that makes trouble stops no other."""
        try:
            step(name)
        except FileNotFoundError:
            pass  # somebody else has moved it
        except OSError as error:
            self.warnings.append(
                f"{name} cannot be read, made or moved ({error.strerror}); check who owns what is there"
            )

    def _scan_file(self, path: Path) -> None:
        seen = path.lstat()
        if not modes.S_ISREG(seen.st_mode):
            self.warnings.append(f"{path.name} is no plain file and is left alone; put the PDF itself here")
            return
        age = time.time() - seen.st_mtime
        if abs(age) < _UNCHANGED_SECONDS:
            return
        if seen.st_size > self._largest:
            why = f"It is larger than {self._largest} bytes; `largest` of the connection sets the limit."
            self._park(path, seen, why)
            return
        facts = _facts(path, _identity(seen))
        if not facts.begins and (not facts.may_begin or age > _INCOMPLETE_SECONDS):
            self._park(path, seen, "It does not begin like a PDF (%PDF-).")
        elif facts.ends:
            self._settle(path, seen, facts.sha256)
        elif age > _INCOMPLETE_SECONDS:
            self._park(
                path, seen, f"It has no end (%%EOF) and has not changed for {_INCOMPLETE_SECONDS:.0f} s: it is cut off."
            )
        elif age < 0:
            self.warnings.append(f"{path.name} has no end yet and is dated in the future; check the clocks")

    @property
    def _largest(self) -> int:
        options = self.context.options
        return options.largest if isinstance(options, TakesDocuments) else 0

    def _settle(self, path: Path, seen: os.stat_result, sha256: str) -> None:
        if sha256 in self.waiting:
            return
        document = self._document(sha256)
        if document is not None and document.state is State.INTERPRETED:
            _move(path, self.folder / DONE, seen)
        elif document is not None and document.state is State.PARKED:
            self._move_to_parked(path, seen, document)
        elif document is None or document.inbox_state is None:
            self._hand_in(path, seen)

    def _move_to_parked(self, path: Path, seen: os.stat_result, document: DocumentRow) -> None:
        if document.inbox_state is None:
            self._park(path, seen, "It was parked, and then dropped. `erpmirror hand-in` hands it in again.")
        elif document.inbox_state == "parked":
            retry = f"erpmirror parked retry {self.context.name} {self.kind} {document.sha256}"
            self._park(path, seen, f"{document.reason}\n`{retry}` has it tried again.")

    def _document(self, sha256: str) -> DocumentRow | None:
        with self.context.database.read() as tx:
            return documents.get(tx, connection=self.context.name, kind=self.kind, sha256=sha256)

    def _hand_in(self, path: Path, seen: os.stat_result) -> None:
        content, now = _content(path)
        if _identity(now) != _identity(seen):
            return  # it changed under our eyes: the next look sees what it is
        with self.context.database.begin() as tx:
            handed = documents.hand_in(
                tx,
                connection=self.context.name,
                kind=self.kind,
                name=path.name,
                content=content,
                order=None,
                again=False,
            )
        failpoints.hit(Point.FILE_KEPT)
        log.info("handed in", connection=self.context.name, resource=self.kind, key=handed.sha256, new=handed.new)

    def _park(self, path: Path, seen: os.stat_result, reason: str) -> None:
        moved = _move(path, self.folder / PARKED, seen)
        if moved is not None:
            log.warning("file parked", connection=self.context.name, resource=self.kind, why=reason)
            moved.with_name(moved.name + REASON_SUFFIX).write_text(f"{reason}\n", encoding="utf-8", errors="replace")


def _identity(seen: os.stat_result) -> tuple[int, ...]:
    """What changes when a file's content does."""
    return seen.st_dev, seen.st_ino, seen.st_size, seen.st_mtime_ns, seen.st_ctime_ns


@functools.lru_cache(maxsize=10_000)
def _facts(path: Path, _identity: tuple[int, ...]) -> _FileFacts:
    """Remembered: a file that waits for its answer is looked at every few seconds, and need not be read each time."""
    content, _ = _content(path)
    begins = documents.is_pdf(content)
    whole = hashlib.sha256(content).hexdigest()
    return _FileFacts(whole, begins, begins or b"%PDF-".startswith(content), _EOF in content[-_EOF_WINDOW:])


def _content(path: Path) -> tuple[bytes, os.stat_result]:
    """A plain file's content, and how it was when that was read. No link is followed, no pipe waited for."""
    with open(path, "rb", opener=_open_plain) as file:
        content = file.read() or b""  # None from a pipe that took the file's place
        return content, os.fstat(file.fileno())


def _open_plain(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _move(path: Path, folder: Path, seen: os.stat_result) -> Path | None:
    """Move the file that was seen, without covering another; where it lies now.

    None if somebody else moved it first, or put another one in its place, which is then back where it was.
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
    if _same_file(target.lstat(), seen):
        return target
    target.replace(_reserve_name(path.parent, path.name))
    return None


def _same_file(one: os.stat_result, other: os.stat_result) -> bool:
    """Also after a renaming, which changes the time of the entry."""
    return (one.st_ino, one.st_size, one.st_mtime_ns) == (other.st_ino, other.st_size, other.st_mtime_ns)


def _reserve_name(folder: Path, name: str) -> Path:
    """A free name in the folder, taken by an empty file: renaming alone would cover what has the name already."""
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
