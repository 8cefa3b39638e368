"""Limits of the waits for a PostgreSQL server."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.db.database import Database

Result = TypeVar("Result")


def limit(database: Database, seconds: int) -> None:
    """Have each wait for a lock or an answer fail after so many seconds, on connections that are opened from now on."""
    sa.event.listen(database.engine, "do_connect", _connect)
    sa.event.listen(database.engine, "connect", lambda raw, _: _set_timeouts(raw, seconds))


class BoundedConnection(psycopg.Connection[Any]):
    """Fails when an answer takes longer than `answer_seconds`: a stopped or unreachable server sends no error."""

    answer_seconds: float = 10
    """While the connection is opened; after that what `limit` was given."""

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
