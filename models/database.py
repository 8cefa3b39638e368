"""One door to the database: engines that open on first use, one clock, one counter."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models import exact, tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_READING = "erpmirror_reading"
_SQLITE_BUSY_SECONDS = 60


class Database:
    """SQLite or PostgreSQL behind one small face.

    `clock` replaces the database's clock (tests pass time in). Nothing connects before the first transaction, so the
    object may be made before a fork; call `dispose` in the child.
    """

    def __init__(self, url: str | sa.URL, *, clock: Callable[[], datetime] | None = None) -> None:
        self.url = sa.make_url(url)
        self._clock = clock

    def __repr__(self) -> str:
        return f"Database({self.url.render_as_string(hide_password=True)})"

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded default."""
        return self.url.get_backend_name() == "sqlite"

    @cached_property
    def engine(self) -> sa.Engine:
        """The engine, opened on first use."""
        arguments: dict[str, Any] = {
            "json_serializer": exact.dumps,
            "json_deserializer": exact.loads,
            "hide_parameters": True,  # an error's text must not repeat a customer's row
        }
        if self.is_sqlite:
            engine = sa.create_engine(self.url, connect_args={"timeout": _SQLITE_BUSY_SECONDS}, **arguments)
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
        else:
            engine = sa.create_engine(self.url, pool_pre_ping=True, **arguments)
            sa.event.listen(engine, "connect", _prepare_postgresql)
        return engine

    def dispose(self) -> None:
        """Forget the connections without closing them: they belong to the parent process."""
        if "engine" in self.__dict__:
            self.engine.dispose(close=False)

    def close(self) -> None:
        """Close the connections."""
        if "engine" in self.__dict__:
            self.engine.dispose()

    @contextmanager
    def begin(self) -> Iterator[sa.Connection]:
        """A transaction that writes. On SQLite it takes the write lock at once, so that it never fails half-way."""
        with self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction that only reads."""
        with self.engine.connect().execution_options(**{_READING: True}) as connection, connection.begin():
            yield connection

    def now(self, connection: sa.Connection) -> datetime:
        """The database's clock, aware. All hosts that share a database agree on it."""
        if self._clock is not None:
            return self._clock()
        if self.is_sqlite:
            return datetime.now(UTC)
        return connection.execute(sa.select(sa.func.clock_timestamp(type_=tables.Instant))).scalar_one()

    def draw(self, connection: sa.Connection) -> int:
        """The next number of the one counter, higher than every number drawn before, on any connection."""
        if self.is_sqlite:
            last = tables.counter.c.last
            statement = sa.update(tables.counter).values(last=last + 1).returning(last)
            return int(connection.execute(statement).scalar_one())
        return int(connection.execute(sa.select(tables.turns.next_value())).scalar_one())

    def insert(self, table: sa.Table) -> Any:
        """The dialect's own INSERT, which knows ON CONFLICT."""
        if self.is_sqlite:
            return sqlite.insert(table)
        return postgresql.insert(table)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")  # accepted means stored, also when the power fails
    connection.execute("PRAGMA foreign_keys=ON")


def _prepare_postgresql(connection: Any, _record: object) -> None:
    connection.execute("SET TIME ZONE 'UTC'")  # the server's zone is nobody's business
    connection.commit()


def _begin_sqlite(connection: sa.Connection) -> None:
    reading = connection.get_execution_options().get(_READING, False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")
