"""Moves what waits in the spool into the database once that is back, also what dead receivers have left there."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog

from models import faults
from models.faults import Point
from receiver import spool_file, storing
from receiver.storing import Away

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.database import Database
    from models.notices import Letter
    from receiver.spool import Spool
    from receiver.spool_file import SpoolFile

log = structlog.get_logger(__name__)

_PAUSE = 1.0
"""Seconds between two checks of the folder, and so of a database that is down."""

_CHUNK = 500
"""Webhooks that are stored in one transaction."""

_FAREWELL = 1.0
"""Seconds that shutting down waits for a chunk. One that is not done is drained again by the next receiver."""


class Drainer:
    """One background thread. It does not connect to the database while the spool is empty.

    `returned`: called when the database has taken webhooks again; `drained`: called with each connection whose webhooks
    were stored.
    """

    def __init__(
        self, database: Database, spool: Spool, *, returned: Callable[[], None], drained: Callable[[str], None]
    ) -> None:
        self._database = database
        self._spool = spool
        self._returned = returned
        self._drained = drained
        self._closing = threading.Event()
        self._complaints: set[str] = set()
        # A daemon: a database that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="drainer", daemon=True)

    def start(self) -> None:
        """Drain the spool from now on, whenever something waits there."""
        self._thread.start()

    def close(self) -> None:
        """Stop. What is not drained stays where it is."""
        self._closing.set()
        self._thread.join(_FAREWELL)
        self._database.close()

    def _run(self) -> None:
        while True:
            with suppress(Away):  # the batcher has logged it
                self.drain()
            if self._closing.wait(_PAUSE):
                return

    def drain(self) -> None:
        """Drain every file once. Raises `Away`. A file whose disk fails is logged and left, the others are drained."""
        self._spool.remove_gone()
        if self._spool.is_empty():
            return
        # First: while the database is down no file is locked, so that receivers go on writing to those they have.
        storing.require(self._database)
        self._spool.release()
        for path in self._spool.files():
            try:
                with spool_file.claimed(path) as file:
                    if file is not None:
                        self._drain(file)
            except OSError as error:
                self._complain(error)
        if not self._closing.is_set():
            self._returned()

    def _drain(self, file: SpoolFile) -> None:
        contents = file.read()
        refused: list[Letter] = []
        for start in range(0, len(contents.letters), _CHUNK):
            if self._closing.is_set():
                return
            refused += self._store(contents.letters[start : start + _CHUNK])
        faults.reach(Point.SPOOL_DRAINED)
        if not contents.whole:
            log.error("damaged spool file set aside", file=str(file.set_aside_whole()))
        elif refused or contents.damaged:
            aside = file.set_aside([*map(spool_file.encode, refused), *contents.damaged])
            log.error("webhooks set aside", file=str(aside), refused=len(refused), damaged=len(contents.damaged))
        else:
            file.remove()
        log.info("spool drained", file=str(file.path), webhooks=len(contents.letters) - len(refused))

    def _store(self, letters: Sequence[Letter]) -> list[Letter]:
        refused = storing.store(self._database, letters)
        self._returned()
        stored = {letter.id for letter in letters} - {letter.id for letter in refused}
        for name in {letter.connection for letter in letters if letter.id in stored and letter.reason is None}:
            self._drained(name)
        return refused

    def _complain(self, error: OSError) -> None:
        if str(error) not in self._complaints:
            self._complaints.add(str(error))
            log.error("spool not drained", error=str(error))
