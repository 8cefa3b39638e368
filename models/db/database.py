"""One door to the database: engines that open on first use, one clock, one counter."""

from __future__ import annotations

import select
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from models import exact
from models.db import tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.mirror.schemas import Schema

_READ_ONLY = "erpmirror_reading"
_NO_SYNC = "erpmirror_lazily"
_SQLITE_BUSY_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock as part of a statement: `reads` stands in it, and it is executed with `told`.

    Few different ones, so that whoever spells statements with them may remember those.
    """

    expression: sa.ColumnElement[datetime]
    params: Mapping[str, datetime]

    @classmethod
    def at(cls, moment: datetime) -> Clock:
        """One that stands."""
        return cls(_GIVEN, {"clock": moment})


_GIVEN = sa.bindparam("clock", type_=tables.Instant)
_RUNNING = Clock(sa.func.clock_timestamp(type_=tables.Instant), {})
_STEADY = Clock(sa.func.statement_timestamp(type_=tables.Instant), {})


NO_SYNC: sa.ColumnElement[str] = sa.func.set_config("synchronous_commit", "off", True, type_=sa.Text)
"""What a statement returns whose transaction is not to wait for the disk."""


@cache
def _number_and_clock(clock: sa.ColumnElement[datetime]) -> sa.Select[int, datetime]:
    return sa.select(tables.revisions.next_value(), clock)


class Tx(sa.Connection):
    """A transaction that knows its database's dialect, clock and counter, so that they need not travel beside it."""

    def __init__(self, database: Database) -> None:
        super().__init__(database.engine)
        self.database = database
        self._now: datetime | None = None
        self.schemas: dict[str, Schema] = {}
        """Of the tables whose rows this transaction has locked: they stay as they are until it ends."""

    @property
    def is_sqlite(self) -> bool:
        """Whether this is the embedded default."""
        return self.database.is_sqlite

    @property
    def now(self) -> datetime:
        """The database's clock, read once: a transaction happens at one moment."""
        if self._now is None:
            self._now = self.database.now(self)
        return self._now

    @now.setter
    def now(self, moment: datetime) -> None:
        """A statement has just read the clock."""
        self._now = moment

    def clock_sql(self) -> Clock:
        """The same as part of a statement; one that has not been read yet need not be asked for first."""
        return self.database.clock_sql() if self._now is None else Clock.at(self._now)

    def draw(self) -> int:
        """The next number of the one counter."""
        return self.database.draw(self)

    def draw_now(self) -> tuple[int, datetime]:
        """The next number, and the clock."""
        if self._now is not None:
            return self.draw(), self._now
        number, self._now = self.database.draw_now(self)
        return number, self._now

    def insert(self, table: sa.Table) -> Any:
        """The dialect's own INSERT, which knows ON CONFLICT."""
        return self.database.insert(table)


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
            engine = sa.create_engine(self.url, **arguments)
            sa.event.listen(engine, "connect", _prepare_postgresql)
            sa.event.listen(engine, "checkout", _require_quiet)
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
    def begin(self, *, lazily: bool = False) -> Iterator[Tx]:
        """A transaction that writes. On SQLite it takes the write lock at once, so that it never fails half-way.

        `lazily`: its end does not wait for the disk. Everybody sees it at once, and whatever is committed later and
        durably makes it durable, too; but if the server fails in that moment it was never there. Only for what is then
        found and done again.
        """
        options: dict[str, Any] = {_NO_SYNC: lazily}
        if lazily and not self.is_sqlite:
            options["isolation_level"] = "AUTOCOMMIT"  # the driver leaves the beginning to us
        with self._connected(**options) as tx, tx.begin():
            if lazily and not self.is_sqlite:
                tx.exec_driver_sql("BEGIN; SET LOCAL synchronous_commit = off")
            yield tx

    @contextmanager
    def read(self) -> Iterator[Tx]:
        """A transaction that only reads."""
        with self._connected(**{_READ_ONLY: True}) as tx, tx.begin():
            yield tx

    @contextmanager
    def autocommit(self, *, lazily: bool = False) -> Iterator[Tx]:
        """For a single statement, which on PostgreSQL then is a transaction without a beginning and an end to wait for.

        `lazily`: it writes, as `begin` has it; on PostgreSQL it has to return `unhurried` for that.
        """
        if self.is_sqlite:
            with self.begin(lazily=True) if lazily else self.read() as tx:
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
        """The database's clock, aware. All hosts that share a database agree on it."""
        if self._clock is not None:
            return self._clock()
        if self.is_sqlite:
            return datetime.now(UTC)
        return tx.execute(sa.select(sa.func.clock_timestamp(type_=tables.Instant))).scalar_one()

    def clock_sql(self, *, steady: bool = False) -> Clock:
        """The same clock as part of a statement, which then need not be asked for it first.

        `steady`: as of the statement's beginning, one moment for all its rows, so that an index may be used.
        """
        if self._clock is not None:
            return Clock.at(self._clock())
        if self.is_sqlite:
            return Clock.at(datetime.now(UTC))
        return _STEADY if steady else _RUNNING

    def draw(self, tx: sa.Connection) -> int:
        """The next number of the one counter, higher than every number drawn before, on any connection."""
        if self.is_sqlite:
            last = tables.counter.c.last
            statement = sa.update(tables.counter).values(last=last + 1).returning(last)
            return int(tx.execute(statement).scalar_one())
        return int(tx.execute(sa.select(tables.revisions.next_value())).scalar_one())

    def draw_now(self, tx: sa.Connection) -> tuple[int, datetime]:
        """The next number, and the clock."""
        if self.is_sqlite:
            return self.draw(tx), self.now(tx)
        clock = self.clock_sql()
        number, now = tx.execute(_number_and_clock(clock.expression), clock.params).one()
        return number, now

    def insert(self, table: sa.Table) -> Any:
        """The dialect's own INSERT, which knows ON CONFLICT."""
        if self.is_sqlite:
            return sqlite.insert(table)
        return postgresql.insert(table)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA foreign_keys=ON")


def _prepare_postgresql(connection: Any, _record: object) -> None:
    connection.execute("SET TIME ZONE 'UTC'")  # the server's zone is nobody's business
    connection.commit()


def _require_quiet(connection: Any, _record: object, _proxy: object) -> None:
    """Have a connection opened anew whose server has gone: an idle one says nothing else. Asking it costs an answer."""
    look = select.poll()
    if not connection.closed:
        look.register(connection, select.POLLIN)
    if connection.closed or look.poll(0):
        raise sa.exc.InvalidatePoolError("the server has ended the connection")


def _begin_sqlite(tx: sa.Connection) -> None:
    options = tx.get_execution_options()
    if options.get(_READ_ONLY, False):
        tx.exec_driver_sql("BEGIN")
        return
    # Accepted means stored, also when the power fails.
    tx.exec_driver_sql(f"PRAGMA synchronous={'NORMAL' if options.get(_NO_SYNC, False) else 'FULL'}")
    tx.exec_driver_sql("BEGIN IMMEDIATE")
