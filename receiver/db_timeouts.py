"""Databases for the HTTP edge, where a caller waits: every wait for a connection, a lock or an answer has a limit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import sqlalchemy as sa

from models.db.database import Database

if TYPE_CHECKING:
    from collections.abc import Generator

    from sqlalchemy import URL

SECONDS = 10

_KEEPALIVES = {"keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3"}
"""TCP gives a host that vanished up after some ten seconds."""

Result = TypeVar("Result")


def database(url: str | URL, *, seconds: int = SECONDS) -> Database:
    """The database, where each wait (for a connection, a lock, an answer) fails after so many seconds.

    libpq rounds the limit for connecting up to two.
    """
    address = sa.make_url(url)
    if address.get_backend_name() == "postgresql":
        limits = {"connect_timeout": str(seconds), "tcp_user_timeout": str(seconds * 1000), **_KEEPALIVES}
        address = address.update_query_dict({name: limits[name] for name in limits if name not in address.query})
    made = Database(address)
    if made.is_sqlite:
        sa.event.listen(made.engine, "connect", lambda raw, _: raw.execute(f"PRAGMA busy_timeout={seconds * 1000}"))
    else:
        sa.event.listen(made.engine, "do_connect", _connect)
        sa.event.listen(made.engine, "connect", lambda raw, _: _hurry(raw, seconds))
    return made


def seconds_of(database: Database) -> int:
    """The limit of a database that `database` made."""
    return int(str(database.url.query.get("connect_timeout", SECONDS)))


class BoundedConnection(psycopg.Connection[Any]):
    """Fails when an answer takes longer than `patience`: a stopped or unreachable server sends not even an error."""

    patience: float = SECONDS

    def wait(self, gen: Generator[Any, Any, Result], *arguments: Any, **options: Any) -> Result:
        """As psycopg does, which resumes the generator several times a second."""
        return super().wait(self._bounded(gen), *arguments, **options)

    def _bounded(self, gen: Generator[Any, Any, Result]) -> Generator[Any, Any, Result]:
        deadline = time.monotonic() + self.patience
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"no answer within {self.patience:g} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            result: Result = done.value
            return result


def _connect(_dialect: object, _record: object, arguments: Any, options: Any) -> BoundedConnection:
    return BoundedConnection.connect(*arguments, **options)


def _hurry(connection: BoundedConnection, seconds: int) -> None:
    connection.patience = seconds
    connection.execute(f"SET lock_timeout = '{seconds}s'")
    # A transaction that was given up must not hold its locks until the server notices by its own, which takes hours.
    connection.execute(f"SET idle_in_transaction_session_timeout = '{seconds}s'")
    connection.commit()
