"""Transactions on SQLite or PostgreSQL: engines that open on first use, one clock, one counter of revisions."""

from __future__ import annotations

import select
import sqlite3
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models import exact
from models.db import clock, tables
from models.db.types import Instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import psycopg

    from models.db.clock import Clock

_READ_ONLY = "erpmirror_read_only"
_DURABLE = "erpmirror_durable"
_SQLITE_LOCK_SECONDS = 60
_POSTGRESQL_LOCK_SECONDS = 5
"""How long a statement waits for a lock before it fails. SQLite has one for all writers, PostgreSQL one per table."""

_OLDEST_SQLITE = (3, 35, 0)
"""The first with RETURNING."""

_OLDEST_POSTGRESQL = 12
"""The first with `ANALYZE (SKIP_LOCKED)`."""

NO_SYNC: sa.ColumnElement[str] = sa.func.set_config("synchronous_commit", "off", True, type_=sa.Text)
"""Turns synchronous_commit off for this transaction; to be returned by its only statement."""


class UnsupportedDatabaseError(sa.exc.SQLAlchemyError):
    """The database cannot hold a mirror. The message says why, and what to do."""


@cache
def _revision_and_clock(now: sa.ColumnElement[datetime]) -> sa.Select[int, datetime]:
    return sa.select(tables.revisions.next_value(), now)


_lock_name = sa.func.concat(sa.func.current_schema(), " ", sa.bindparam("name", type_=sa.Text))
_LOCK, _LOCK_SHARED = (
    sa.select(lock(sa.func.hashtextextended(_lock_name, 0)))
    for lock in (sa.func.pg_advisory_xact_lock, sa.func.pg_advisory_xact_lock_shared)
)
"""Each schema of the database has locks of its own."""


class Tx(sa.Connection):
    """A transaction that also gives its database's dialect, clock and counter."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.engine)
        self.database = database
        self._now: datetime | None = None

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, the embedded default."""
        return self.database.is_sqlite

    @property
    def now(self) -> datetime:
        """The database's clock, read once: everything that a transaction writes has the same time."""
        if self._now is None:
            self._now = self.database.now(self)
        return self._now

    @now.setter
    def now(self, moment: datetime) -> None:
        """Use the time that a statement has just read from the database's clock."""
        self._now = moment

    def clock_sql(self) -> Clock:
        """The same time as part of a statement, which saves the statement that would read the clock."""
        return self.database.clock_sql() if self._now is None else clock.at(self._now)

    def draw(self) -> int:
        """The next revision: higher than every one drawn before."""
        return self.database.draw(self)

    def draw_now(self) -> tuple[int, datetime]:
        """The next revision and the time, in one statement."""
        if self._now is not None:
            return self.draw(), self._now
        revision, self._now = self.database.draw_now(self)
        return revision, self._now

    def lock(self, name: str, *, shared: bool = False) -> None:
        """Hold the lock of this name until the transaction ends, alone or `shared` with others that share it.

        SQLite needs none: a writing transaction has locked the whole database.
        """
        if not self.is_sqlite:
            self.execute(_LOCK_SHARED if shared else _LOCK, {"name": name})

    def insert(self, table: sa.Table) -> Any:
        """The dialect's own INSERT, which knows ON CONFLICT."""
        return self.database.insert(table)


class Database:
    """A SQLite or PostgreSQL database.

    `clock` replaces the database's clock, for tests. `lock_seconds`: how long a statement waits for a lock. Nothing
    connects before the first transaction, so the object may be created before a fork; call `dispose` in the child.
    """

    def __init__(
        self, url: str | sa.URL, *, clock: Callable[[], datetime] | None = None, lock_seconds: int | None = None
    ) -> None:
        self.url = sa.make_url(url)
        self._clock = clock
        self._lock_seconds = lock_seconds
        self._closed = False

    def __repr__(self) -> str:
        return f"Database({self.url.render_as_string(hide_password=True)})"

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite, the embedded default."""
        return self.url.get_backend_name() == "sqlite"

    @cached_property
    def engine(self) -> sa.Engine:
        """The engine, opened on first use."""
        arguments: dict[str, Any] = {
            "json_serializer": exact.dumps,
            "json_deserializer": exact.loads,
            "hide_parameters": True,  # an error message must not show a customer's data
        }
        if self.is_sqlite:
            seconds = self._lock_seconds or _SQLITE_LOCK_SECONDS
            engine = sa.create_engine(self.url, connect_args={"timeout": seconds}, **arguments)
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
        else:
            # Whatever $PGCLIENTENCODING says: in another encoding the driver could not send every text.
            engine = sa.create_engine(self.url, connect_args={"client_encoding": "UTF8"}, **arguments)
            seconds = self._lock_seconds or _POSTGRESQL_LOCK_SECONDS
            sa.event.listen(engine, "connect", lambda link, _: _prepare_postgresql(link, seconds))
            sa.event.listen(engine, "checkout", _discard_dead_link)
        sa.event.listen(engine, "checkin", self._close_if_late)
        return engine

    def _close_if_late(self, _link: object, record: sa.pool.ConnectionPoolEntry) -> None:
        """Close a connection that a thread gives back after `close`: nobody would take it from the pool again."""
        if self._closed:
            record.invalidate()

    def dispose(self) -> None:
        """Drop the connections without closing them: after a fork they belong to the parent process."""
        if "engine" in self.__dict__:
            self.engine.dispose(close=False)

    def close(self) -> None:
        """Close the connections, those in use as soon as they are given back."""
        self._closed = True
        if "engine" in self.__dict__:
            self.engine.dispose()

    @contextmanager
    def begin(self, *, durable: bool = True) -> Iterator[Tx]:
        """A writing transaction. On SQLite it takes the write lock at once, so that it cannot fail half-way.

        Without `durable` the commit does not wait for the disk. Other transactions see it at once, and the next durable
        commit makes it durable too, but a crash of the server in between loses it. Only for what would be found and
        done again.
        """
        if durable or self.is_sqlite:
            with self._connected(**{_DURABLE: durable}) as tx, tx.begin():
                yield tx
            return
        # AUTOCOMMIT keeps the driver from sending its own BEGIN: ours also turns the setting off, in one round trip.
        with self._connected(isolation_level="AUTOCOMMIT") as tx, tx.begin():
            tx.exec_driver_sql("BEGIN; SET LOCAL synchronous_commit = off")
            yield tx

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A transaction that only reads."""
        with self._connected(**{_READ_ONLY: True}) as tx, tx.begin():
            yield tx

    @contextmanager
    def autocommit(self, *, durable: bool = True) -> Iterator[Tx]:
        """For a single statement: PostgreSQL then needs no BEGIN and no COMMIT, which are round trips of their own.

        Without `durable` the statement writes and need not survive a crash, as in `begin`; on PostgreSQL it has to
        return `NO_SYNC` for that. On SQLite only such a statement may write.
        """
        if self.is_sqlite:
            with self.read() if durable else self.begin(durable=False) as tx:
                yield tx
            return
        with self._connected(isolation_level="AUTOCOMMIT") as tx:
            yield tx

    @contextmanager
    def _connected(self, **options: Any) -> Iterator[Tx]:
        tx = Tx(self)
        with tx:
            tx.execution_options(**options)
            yield tx

    def now(self, tx: sa.Connection) -> datetime:
        """The database's clock, aware: the same for all hosts that share the database."""
        if self._clock is not None:
            return self._clock()
        if self.is_sqlite:
            return datetime.now(UTC)
        return tx.execute(sa.select(sa.func.clock_timestamp(type_=Instant))).scalar_one()

    def clock_sql(self, *, steady: bool = False) -> Clock:
        """The same clock as part of a statement.

        `steady`: as of the statement's start, one moment for all its rows, so that an index can be used.
        """
        if self._clock is not None:
            return clock.at(self._clock())
        if self.is_sqlite:
            return clock.at(datetime.now(UTC))
        return clock.STATEMENT if steady else clock.RUNNING

    def draw(self, tx: sa.Connection) -> int:
        """The next revision: higher than every one drawn before, by any transaction."""
        if self.is_sqlite:
            last = tables.counter.c.last
            statement = sa.update(tables.counter).values(last=last + 1).returning(last)
            return int(tx.execute(statement).scalar_one())
        return int(tx.execute(sa.select(tables.revisions.next_value())).scalar_one())

    def draw_now(self, tx: sa.Connection) -> tuple[int, datetime]:
        """The next revision and the time, on PostgreSQL in one statement."""
        if self.is_sqlite:
            return self.draw(tx), self.now(tx)
        running = self.clock_sql()
        revision, now = tx.execute(_revision_and_clock(running.expression), running.params).one()
        return revision, now

    def insert(self, table: sa.Table) -> Any:
        """The dialect's own INSERT, which knows ON CONFLICT."""
        if self.is_sqlite:
            return sqlite.insert(table)
        return postgresql.insert(table)


def unsupported_sqlite(version: tuple[int, ...]) -> str | None:
    """Why this version of SQLite's library cannot be used; None if it can."""
    if version >= _OLDEST_SQLITE:
        return None
    found, oldest = (".".join(map(str, each)) for each in (version, _OLDEST_SQLITE))
    return f"this Python has SQLite {found}, and erpmirror needs {oldest}: install a newer Python, or use PostgreSQL"


def unsupported_postgresql(version: int, encoding: str, name: str) -> str | None:
    """Why this server or its database cannot be used; None if it can.

    `version`: as libpq counts, such as 150004. `encoding`: the database's. `name`: the database.
    """
    if version // 10_000 < _OLDEST_POSTGRESQL:
        return f"the server is PostgreSQL {version // 10_000}, and erpmirror needs {_OLDEST_POSTGRESQL} or later"
    if encoding.upper().replace("-", "") == "UTF8":
        return None
    return (
        f"the database {name} is encoded in {encoding}, which cannot hold every text that a vendor sends. Make "
        f"another, `createdb --encoding UTF8 --template template0 {name}_utf8`, and name it in [database] url"
    )


def _require(reason: str | None) -> None:
    if reason is not None:
        raise UnsupportedDatabaseError(reason)


def _prepare_sqlite(link: Any, _record: object) -> None:
    _require(unsupported_sqlite(sqlite3.sqlite_version_info))
    link.isolation_level = None  # the driver sends no BEGIN; `_begin_sqlite` does
    link.execute("PRAGMA journal_mode=WAL")
    link.execute("PRAGMA foreign_keys=ON")


def require_supported(link: psycopg.Connection[Any] | psycopg.AsyncConnection[Any]) -> None:
    """Raise `UnsupportedDatabaseError` unless the server and its database can be used. Costs no round trip."""
    info = link.info
    encoding = info.parameter_status("server_encoding") or "UTF8"
    _require(unsupported_postgresql(info.server_version, encoding, info.dbname))


def _prepare_postgresql(link: psycopg.Connection[Any], lock_seconds: int) -> None:
    require_supported(link)
    # Else the driver shows instants in the server's zone, and reads none in another style.
    link.execute(f"SET TIME ZONE 'UTC'; SET datestyle = 'ISO'; SET lock_timeout = '{lock_seconds}s'")
    link.commit()


def _discard_dead_link(link: Any, _record: object, _proxy: object) -> None:
    """Have the pool replace a connection that the server has closed.

    An idle connection becomes readable only when the server closes it. This costs no round trip, unlike a ping.
    """
    poller = select.poll()
    if not link.closed:
        poller.register(link, select.POLLIN)
    if link.closed or poller.poll(0):
        raise sa.exc.InvalidatePoolError("the server has ended the connection")


def _begin_sqlite(tx: sa.Connection) -> None:
    options = tx.get_execution_options()
    if options.get(_READ_ONLY, False):
        tx.exec_driver_sql("BEGIN")
        return
    # In WAL mode only FULL survives a power failure: accepted means stored.
    tx.exec_driver_sql(f"PRAGMA synchronous={'FULL' if options.get(_DURABLE, True) else 'NORMAL'}")
    tx.exec_driver_sql("BEGIN IMMEDIATE")
