"""Waits for new entries of the journal: by LISTEN on PostgreSQL, by short looks on SQLite.

News may be missed, as behind a pooler that shares connections: whoever waits looks at the journal after each wait, too.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.db.database import Tx

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.db.database import Database

CHANNEL = "erpmirror_changes"

NOTIFY: sa.ColumnElement[Any] = sa.func.pg_notify(CHANNEL, sa.func.current_schema())
"""Tells all listeners when the transaction commits. Schemas of one database share the channel, hence the payload."""

_LOOK = 0.02
"""Seconds between two looks at SQLite's file: one takes a few microseconds."""

_RECONNECT_AFTER = 1.0
"""Seconds until a lost connection is opened again."""


class Reading:
    """A statement that is run after each news: rendered once, and run by the driver's own cursor.

    After a silence SQLAlchemy's cursor takes as long as the query itself. Its parameters need default values. Of our
    types its columns may have `Instant` alone, which the driver reads in the connection's zone, UTC.
    """

    def __init__(self, statement: sa.Select[Any] | sa.CompoundSelect[Any]) -> None:
        self.statement = statement
        self._rendered: tuple[str, dict[str, Any]] | None = None

    def rendered(self, dialect: sa.Dialect) -> tuple[str, dict[str, Any]]:
        """As the driver takes it: the text, and the parameters that do not change."""
        if self._rendered is None:
            # Without it the values of IN would be left to SQLAlchemy's cursor.
            compiled = self.statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
            self._rendered = str(compiled), dict(compiled.params)
        return self._rendered


class JournalNews:
    """One connection that waits for new entries. For one thread; `close` may be called from any after it has ended."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Tx | None = None
        self._version: int | None = None
        self._schema = ""

    @property
    def is_open(self) -> bool:
        """Whether it listens; after a loss the next `wait` begins again."""
        return self._connection is not None

    def wait(self, seconds: float) -> bool:
        """Wait until there may be new entries, at most for so long; returns whether there was news.

        The first call begins to listen and returns at once: entries may have been written before it.
        """
        try:
            if self._connection is None:
                self._open()
                return True
            return self._wait_for_file(seconds) if self._database.is_sqlite else self._listen(seconds)
        except (sa.exc.OperationalError, sa.exc.InterfaceError):
            self.close()
            time.sleep(min(seconds, _RECONNECT_AFTER))
            return False

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """For single statements that read, between two waits. After an error call `close`.

        PostgreSQL runs them on the connection that listens: taking another from the pool takes as long as a query.
        """
        if self._connection is None or self._database.is_sqlite:
            with self._database.autocommit() as tx:
                yield tx
        else:
            yield self._connection

    def rows(self, reading: Reading, **parameters: Any) -> Sequence[Any]:
        """The rows of a statement. On PostgreSQL tuples of the driver's, by the connection that listens."""
        if self._connection is None or self._database.is_sqlite:
            with self.read() as tx:
                return tx.execute(reading.statement, parameters).all()
        text, constants = reading.rendered(self._database.engine.dialect)
        with _as_sqlalchemys_error(self._link):
            rows: list[Any] = self._link.execute(text, constants | parameters).fetchall()
            return rows

    def close(self) -> None:
        """Give the connection back."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()  # the pool must not hand out a connection that listens
            connection.close()

    def _open(self) -> None:
        connection = Tx(self._database)
        connection.execution_options(isolation_level="AUTOCOMMIT")
        self._connection = connection
        if self._database.is_sqlite:
            self._version = self._file_version()
            return
        self._connection.exec_driver_sql(f"LISTEN {CHANNEL}")
        self._schema = str(self._connection.exec_driver_sql("SELECT current_schema()").scalar())

    def _listen(self, seconds: float) -> bool:
        ends_at = time.monotonic() + seconds
        left = seconds
        with _as_sqlalchemys_error(self._link):
            while left >= 0:
                if any(each.payload == self._schema for each in self._link.notifies(timeout=left, stop_after=1)):
                    return True
                left = ends_at - time.monotonic() or -1
        return False

    def _wait_for_file(self, seconds: float) -> bool:
        ends_at = time.monotonic() + seconds
        while (version := self._file_version()) == self._version:
            left = ends_at - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, _LOOK))
        self._version = version
        return True

    def _file_version(self) -> int:
        """A number that changes when another connection has committed."""
        try:
            return int(self._link.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.Error as error:
            raise sa.exc.OperationalError(None, None, error) from error

    @property
    def _link(self) -> Any:
        assert self._connection is not None  # noqa: S101 - opened by `wait`
        return self._connection.connection.driver_connection


@contextmanager
def _as_sqlalchemys_error(link: Any) -> Iterator[None]:
    """Raise what psycopg raises as SQLAlchemy's `OperationalError`."""
    import psycopg  # noqa: PLC0415 - SQLite needs no psycopg, which takes 6 MB

    try:
        yield
    except psycopg.Error as error:
        raise sa.exc.OperationalError(None, None, error, connection_invalidated=link.closed) from error
