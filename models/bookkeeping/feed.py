"""The name of the journal's history. It changes when a backup was restored, because an id may then mean something else.

PostgreSQL identifies the history itself: the identifier of its data directory (initdb), the timeline of its log (a
restored base backup and a promoted replica begin a new one) and the number of the table `erpmirror_changes` (a restored
dump makes a new one). A file or data folder can be copied back at any time, so a small file, the witness, keeps the
newest entry that was ever served: a journal that ends before it, or has another entry in its place, is a restored one
and gets a new name. SQLite's witness lies beside its file, as `<database>.feed`; each receiver over PostgreSQL keeps
one in its spool folder. Where a machine's snapshot brings back the witness too, readers know better: one that asks for
what follows an entry that does not exist has read it before (`read_beyond`).
"""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa
import structlog

from models import private
from models.db.tables import changes, feed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.db.database import Database

log = structlog.get_logger(__name__)

_NAMES_KEPT = 20

_IDENTITY_QUERIES = (
    "SELECT to_regclass('erpmirror_changes')::oid::text",
    "SELECT system_identifier::text FROM pg_control_system()",
    "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)",
)


@dataclass(frozen=True, slots=True)
class _LastServed:
    """The newest entry that was served: its feed, its id and when it was written (None if it was trimmed by then).

    `former`: earlier names of the feed. One of them that comes back was restored.
    """

    name: str
    last: int
    at: str | None
    former: Sequence[str] = ()

    def follow(self, name: str) -> Sequence[str]:
        """What is former once the feed has this name."""
        return self.former if name == self.name else [*self.former, self.name][-_NAMES_KEPT:]


class Feed:
    """The history of one database's journal. Thread-safe; processes share it through the database and the file.

    `witness`: the file that a receiver over PostgreSQL keeps; without one it remembers only in memory.
    """

    def __init__(self, database: Database, *, witness: Path | None = None) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._file = Path(f"{database.url.database}.feed") if database.is_sqlite else witness
        self._read_beyond = 0
        self._memory: _LastServed | None = None

    def name(self, last: int) -> str:
        """The name to serve together with the journal up to the entry `last`."""
        with self._lock:
            served = self._load_last_served()
            with self._database.read() as tx:
                name, newest = tx.execute(sa.select(feed.c.name, feed.c.last)).one()
                continues = served is None or self._continues(tx, served, name=name, newest=newest)
                at = _written_at(tx, last)
            if not continues:
                name = self._rename(name)
            if served is None or served.name != name or last > served.last:
                self._save_last_served(_LastServed(name, last, at, () if served is None else served.follow(name)))
            return self._with_identity(name)

    def read_beyond(self, after: int) -> None:
        """A reader has read the entry `after`, which does not exist: give the feed a new name, once for this proof."""
        with self._lock:
            if after <= self._read_beyond:
                return
            self._read_beyond = after
            served = self._load_last_served()
            with self._database.read() as tx:
                old, newest = tx.execute(sa.select(feed.c.name, feed.c.last)).one()
                at = _written_at(tx, newest)
            name = self._rename(old)
            former = [old] if served is None else served.follow(name)
            self._save_last_served(_LastServed(name, newest, at, former))

    def _continues(self, tx: sa.Connection, served: _LastServed, *, name: str, newest: int) -> bool:
        if served.name != name:
            # Another receiver over PostgreSQL may have renamed the feed. All of SQLite's share one witness.
            return not self._database.is_sqlite and name not in served.former
        return newest >= served.last and _written_at(tx, served.last) in {served.at, None}

    def _rename(self, old: str) -> str:
        with self._database.begin() as tx:
            # If two processes rename at once, the first one's name stays.
            tx.execute(sa.update(feed).where(feed.c.name == old).values(name=secrets.token_hex(6)))
            return str(tx.execute(sa.select(feed.c.name)).scalar_one())

    def _with_identity(self, name: str) -> str:
        if self._database.is_sqlite:
            return name
        digest = hashlib.blake2b(name.encode(), digest_size=6)
        with self._database.read() as tx:
            for query in _IDENTITY_QUERIES:
                # A managed server may refuse some of these to ordinary roles. The others then have to suffice.
                with suppress(sa.exc.ProgrammingError), tx.begin_nested():
                    digest.update(f"/{tx.execute(sa.text(query)).scalar()}".encode())
        return digest.hexdigest()

    def _load_last_served(self) -> _LastServed | None:
        if self._file is not None:
            with suppress(OSError, ValueError, TypeError):  # a witness that is missing or damaged is written anew
                self._memory = _LastServed(**json.loads(self._file.read_text("utf-8")))
        return self._memory

    def _save_last_served(self, served: _LastServed) -> None:
        self._memory = served
        if self._file is not None:
            # Renamed into place, so that no reader sees half of it. The name is random, because processes in two
            # containers may have the same id.
            temporary = self._file.with_name(f"{self._file.name}.{secrets.token_hex(4)}")
            try:
                private.make_folder(self._file.parent)
                private.make_file(temporary)
                temporary.write_text(json.dumps(asdict(served)), "utf-8")
                temporary.replace(self._file)
            except OSError as error:  # as on a full disk: readers must still be served
                log.warning("feed not remembered", file=str(self._file), error=error.strerror)
                with suppress(OSError):
                    temporary.unlink(missing_ok=True)


def _written_at(tx: sa.Connection, entry_id: int) -> str | None:
    at = tx.execute(sa.select(changes.c.at).where(changes.c.id == entry_id)).scalar()
    return None if at is None else at.isoformat()
