"""Databases for the HTTP edge: because a caller waits, each wait for a connection, lock or answer has a limit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import sqlalchemy as sa

from models.db.database import Database

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import URL

DEFAULT_SECONDS = 10

_KEEPALIVES = {"keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3"}
"""TCP gives up on a host that vanished after about eleven seconds."""

Result = TypeVar("Result")


def database(url: str | URL, *, seconds: int = DEFAULT_SECONDS) -> Database:
    """A database on which each wait for a connection, a lock or an answer fails after so many seconds.

    libpq waits at least two seconds for a connection.
    """
    full_url = sa.make_url(url)
    if full_url.get_backend_name() == "postgresql":
        limits = {"connect_timeout": str(seconds), "tcp_user_timeout": str(seconds * 1000), **_KEEPALIVES}
        full_url = full_url.update_query_dict({name: limits[name] for name in limits if name not in full_url.query})
    bounded = Database(full_url)
    if bounded.is_sqlite:
        sa.event.listen(bounded.engine, "connect", lambda raw, _: raw.execute(f"PRAGMA busy_timeout={seconds * 1000}"))
    else:
        sa.event.listen(bounded.engine, "do_connect", _connect)
        sa.event.listen(bounded.engine, "connect", lambda raw, _: _set_timeouts(raw, seconds))
    return bounded


def seconds_of(database: Database) -> int:
    """The limit of a database that `database` returned."""
    return int(str(database.url.query.get("connect_timeout", DEFAULT_SECONDS)))


class BoundedConnection(psycopg.Connection[Any]):
    """Fails when an answer takes longer than `answer_seconds`: a stopped or unreachable server sends no error."""

    answer_seconds: float = DEFAULT_SECONDS

    def wait(self, gen: Generator[Any, Any, Result], *arguments: Any, **options: Any) -> Result:
        """Run the generator as psycopg does, which resumes it several times a second."""
        return super().wait(self._bounded(gen), *arguments, **options)

    def _bounded(self, gen: Generator[Any, Any, Result]) -> Generator[Any, Any, Result]:
        deadline = time.monotonic() + self.answer_seconds
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {self.answer_seconds:g} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            result: Result = done.value
            return result


def _connect(_dialect: object, _record: object, arguments: Any, options: Any) -> BoundedConnection:
    return BoundedConnection.connect(*arguments, **options)


def _set_timeouts(connection: BoundedConnection, seconds: int) -> None:
    connection.answer_seconds = seconds
    connection.execute(f"SET lock_timeout = '{seconds}s'")
    # Otherwise an abandoned transaction holds its locks until the server detects the dead connection, after hours.
    connection.execute(f"SET idle_in_transaction_session_timeout = '{seconds}s'")
    connection.commit()
