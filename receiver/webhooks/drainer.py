"""Brings what waits in the spool into the database once that is back, also what dead receivers have left there."""

from __future__ import annotations

import threading
from itertools import islice
from typing import TYPE_CHECKING

import structlog

from models import failpoints
from models.failpoints import Point
from receiver.webhooks import store
from receiver.webhooks.store import DatabaseDown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from models.bookkeeping.webhooks import AcceptedWebhook
    from models.db.database import Database
    from receiver.webhooks.spool import Spool, SpoolFile

log = structlog.get_logger(__name__)

_PAUSE = 1.0
"""Seconds between two looks at the folder, and so at a database that is away."""

_CHUNK = 500
_FAREWELL = 1.0
"""Seconds that shutting down waits for a chunk. One that is not done is drained again by the next receiver."""


class Drainer:
    """One background thread. Nothing connects while the spool is empty.

    `returned` is told when the database has taken letters again, `drained` the connections whose letters it took.
    """

    def __init__(
        self, database: Database, spool: Spool, *, returned: Callable[[], None], drained: Callable[[str], None]
    ) -> None:
        self._database = database
        self._spool = spool
        self._returned = returned
        self._drained = drained
        self._closing = threading.Event()
        self._complained: str | None = None
        # A daemon: a database that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="drainer", daemon=True)

    def start(self) -> None:
        """Look after the spool from now on."""
        self._thread.start()

    def close(self) -> None:
        """What is not drained stays where it is."""
        self._closing.set()
        self._thread.join(_FAREWELL)
        self._database.close()

    def _run(self) -> None:
        while True:
            try:
                self.look()
                self._complained = None
            except DatabaseDown:
                pass  # the letterbox has said so
            except OSError as error:
                self._complain(error)
            if self._closing.wait(_PAUSE):
                return

    def look(self) -> None:
        """Drain whatever no living process writes. Raises `Away`, and `OSError` of the folder."""
        if self._spool.is_empty():
            return
        store.ensure_writable(self._database)
        # Our own file comes last: only when the database has taken the others is a new one worth beginning.
        self._drain_all()
        if self._spool.release():
            self._drain_all()
        if not self._closing.is_set():
            self._returned()

    def _drain_all(self) -> None:
        for orphan in self._spool.orphans():
            if self._closing.is_set():
                return
            self._drain(orphan)

    def _drain(self, orphan: SpoolFile) -> None:
        contents = orphan.read()
        refused: list[AcceptedWebhook] = []
        for chunk in _chunks(contents.accepted):
            if self._closing.is_set():
                return
            refused += self._store(chunk)
        failpoints.hit(Point.SPOOL_DRAINED)
        if refused or contents.damaged:
            path = orphan.set_aside(refused, contents.damaged)
            log.error("notices set aside", file=str(path), refused=len(refused), damaged=len(contents.damaged))
        orphan.remove()
        log.info("spool drained", file=str(orphan.path), webhooks=len(contents.accepted) - len(refused))

    def _store(self, accepted: Sequence[AcceptedWebhook]) -> list[AcceptedWebhook]:
        refused = store.store(self._database, accepted)
        self._returned()
        taken = {webhook.id for webhook in accepted} - {webhook.id for webhook in refused}
        for name in {webhook.connection for webhook in accepted if webhook.id in taken and webhook.reason is None}:
            self._drained(name)
        return refused

    def _complain(self, error: OSError) -> None:
        if self._complained != str(error):
            self._complained = str(error)
            log.error("spool not drained", error=str(error))


def _chunks(accepted: Iterable[AcceptedWebhook]) -> Iterator[list[AcceptedWebhook]]:
    rest = iter(accepted)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
