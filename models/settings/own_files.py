"""The files and folders that an installation's settings name as its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models import private

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.settings.load import Settings


def tighten(settings: Settings) -> None:
    """Take from others what an earlier version or a looser umask left them of this installation's data.

    A folder that a person chose outside the settings file's own keeps its mode, and so does what belongs to another
    user.
    """
    for path in _data(settings):
        private.close_to_others(path)


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
