"""Files and folders that hold customers' data are their owner's alone (0600, 0700), whatever the umask."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_OTHERS = 0o077


def keep_private() -> None:
    """From now on whatever this process and its children make, also through libraries, is their user's alone."""
    os.umask(_OTHERS)


def make_folder(folder: Path, *, setting: str | None = None) -> None:
    """Make the folder and those above it that are missing. FileExistsError if something else has its name.

    `setting`: what names the folder, for a person; the note of an error.
    """
    try:
        missing = [each for each in folder.parents if not each.exists()]
        for each in [*reversed(missing), folder]:
            each.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        if setting is not None:
            error.add_note(setting)
        raise


def share_like(path: Path, folder: Path) -> None:
    """Let those read and write the path who may read and write this folder: people have to see what was set aside."""
    mode = stat.S_IMODE(folder.stat().st_mode)
    path.chmod(mode if path.is_dir() else mode & 0o666)


def make_file(file: Path) -> None:
    """Make an empty file, unless there is one. SQLite gives its `-wal` and `-shm` the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def close_to_others(path: Path) -> None:
    """Take from others what rights they have on this file or folder; one of another user keeps its mode."""
    with suppress(OSError):
        found = path.lstat()
        if found.st_uid == os.geteuid() and found.st_mode & _OTHERS and not stat.S_ISLNK(found.st_mode):
            path.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS)
