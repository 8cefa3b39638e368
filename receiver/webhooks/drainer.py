"""Moves webhooks from the spool into the database once that is back, including those that killed receivers left."""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from models import failpoints
from models.failpoints import Point
from receiver.webhooks import store
from receiver.webhooks.store import DatabaseDownError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from models.bookkeeping.webhooks import AcceptedWebhook
    from models.db.database import Database
    from receiver.webhooks.spool import Spool
    from receiver.webhooks.spool_file import SpoolFile

log = structlog.get_logger(__name__)

_INTERVAL = 1.0
"""Seconds between two checks of the folder, and so between two attempts to reach a database that is down."""

_CHUNK = 500
_CLOSE_TIMEOUT = 1.0
"""Seconds that shutting down waits for a chunk. The next receiver drains an unfinished one again."""


class Drainer:
    """One background thread. It does not connect to the database while the spool is empty.

    `on_database_up` is called when the database has taken webhooks again, `on_drained` with each connection whose
    webhooks were stored.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        *,
        on_database_up: Callable[[], None],
        on_drained: Callable[[str], None],
    ) -> None:
        self._database = database
        self._spool = spool
        self._on_database_up = on_database_up
        self._on_drained = on_drained
        self._closing = threading.Event()
        self._logged_error: str | None = None
        # A daemon: a database that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="drainer", daemon=True)

    def start(self) -> None:
        """Check the spool every second from now on."""
        self._thread.start()

    def close(self) -> None:
        """Stop. What is not drained stays in the spool."""
        self._closing.set()
        self._thread.join(_CLOSE_TIMEOUT)
        self._database.close()

    def _run(self) -> None:
        while True:
            try:
                self.drain()
                self._logged_error = None
            except DatabaseDownError:
                pass  # the batcher has logged it
            except OSError as error:
                self._log_error(error)
            if self._closing.wait(_INTERVAL):
                return

    def drain(self) -> None:
        """Drain every file that no living process writes. Raises `DatabaseDownError`, and `OSError` of the folder."""
        if self._spool.is_empty():
            return
        store.ensure_writable(self._database)
        # Our own file comes last: releasing it begins a new one, so the database must have taken the others first.
        self._drain_files()
        if self._spool.release():
            self._drain_files()
        if not self._closing.is_set():
            self._on_database_up()

    def _drain_files(self) -> None:
        for file in self._spool.claim_files():
            if self._closing.is_set():
                return
            self._drain_file(file)

    def _drain_file(self, file: SpoolFile) -> None:
        contents = file.read()
        refused: list[AcceptedWebhook] = []
        for chunk in _chunks(contents.accepted):
            if self._closing.is_set():
                return
            refused += self._store(chunk)
        failpoints.hit(Point.SPOOL_DRAINED)
        if refused or contents.damaged:
            path = file.keep_refused(refused, contents.damaged)
            log.error("webhooks refused", file=str(path), refused=len(refused), damaged=len(contents.damaged))
        file.remove()
        log.info("spool drained", file=str(file.path), webhooks=len(contents.accepted) - len(refused))

    def _store(self, accepted: Sequence[AcceptedWebhook]) -> list[AcceptedWebhook]:
        refused = store.store(self._database, accepted)
        self._on_database_up()
        stored = {webhook.id for webhook in accepted} - {webhook.id for webhook in refused}
        for name in {webhook.connection for webhook in accepted if webhook.id in stored and webhook.reason is None}:
            self._on_drained(name)
        return refused

    def _log_error(self, error: OSError) -> None:
        if self._logged_error != str(error):
            self._logged_error = str(error)
            log.error("spool not drained", error=str(error))


def _chunks(accepted: Iterable[AcceptedWebhook]) -> Iterator[list[AcceptedWebhook]]:
    rest = iter(accepted)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
