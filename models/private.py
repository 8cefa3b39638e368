"""Files and folders that hold customers' data are their owner's alone (0600, 0700), whatever the umask."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.settings.load import Settings

_OTHERS = 0o077


def keep_private() -> None:
    """From now on whatever this process and its children make, also through libraries, is their user's alone."""
    os.umask(_OTHERS)


def make_folder(folder: Path) -> None:
    """Make the folder and those above it that are missing."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(mode=0o700, exist_ok=True)


def make_file(file: Path) -> None:
    """Make an empty file, unless there is one. SQLite gives its `-wal` and `-shm` the same mode."""
    with suppress(FileExistsError):
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def tighten(settings: Settings) -> None:
    """Take from others what an earlier version or a looser umask left them of this installation's data.

    A folder that a person chose outside the settings file's own keeps its mode, and so does what belongs to another
    user.
    """
    for path in _data(settings):
        with suppress(OSError):
            mode = stat.S_IMODE(path.lstat().st_mode)
            if mode & _OTHERS and not path.is_symlink():
                path.chmod(mode & ~_OTHERS)


def _data(settings: Settings) -> Iterator[Path]:
    ours = [settings.receiver.spool]
    if settings.broker.folder is not None:
        ours.append(settings.broker.folder)
    for folder in ours:
        yield folder
        yield from folder.rglob("*")
    url = sa.make_url(settings.database.url)
    if url.get_backend_name() == "sqlite":
        database = Path(str(url.database))
        ours.append(database)
        yield from (database.with_name(database.name + suffix) for suffix in ("", "-wal", "-shm", ".feed"))
    home = settings.file.parent
    yield from (folder for folder in {each.parent for each in ours} if home in folder.parents)
