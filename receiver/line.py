"""The letterbox's own line to PostgreSQL: the event loop waits for the answer itself, no thread stands between.

It only ever says that letters are committed. Why they are not, `storing` finds out.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors, pq

from models import faults, notices
from models.faults import Point
from receiver import patience
from receiver.storing import Away

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.database import Database
    from models.notices import Letter

_APPEND = b"append"
"""The statement's name in the session, where it is prepared once."""


class Line:
    """One connection, opened with the first letters and again after each failure."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def append(self, letters: Sequence[Letter]) -> bool:
        """Whether the letters are known to be committed, in one statement that is its own transaction.

        Raises `Away` where the database says that it takes nothing now. May be cancelled at any time; what becomes of
        the letters is unknown then.
        """
        try:
            if self._connection is None or self._connection.closed:
                await self._open()
            assert self._connection is not None  # noqa: S101 - it was opened
            self._connection.pgconn.send_query_prepared(_APPEND, [notices.packed(letters).encode()])
            await _answered(self._connection.pgconn)
        except (psycopg.Error, OSError, ValueError) as error:
            answered = self._connection is not None and not self._connection.closed
            if answered and isinstance(error, psycopg.OperationalError):
                raise Away(type(error).__name__) from None
            self.close()
            return False
        except asyncio.CancelledError:
            self.close()  # psycopg would ask the server, and wait, to cancel what is under way
            raise
        faults.reach(Point.NOTICES_INSERTED)
        faults.reach(Point.NOTICES_COMMITTED)
        return True

    def close(self) -> None:
        """Hang up, whatever is under way, until it is used again."""
        if self._connection is not None:
            self._connection.pgconn.finish()
            self._connection = None

    async def _open(self) -> None:
        arguments, options = self._database.engine.dialect.create_connect_args(self._database.url)
        self._connection = await psycopg.AsyncConnection.connect(*arguments, **options, autocommit=True)
        session = self._connection.pgconn
        for limit in (f"SET lock_timeout = '{patience.seconds_of(self._database)}s'", "SET client_encoding = 'UTF8'"):
            session.send_query(limit.encode())
            await _answered(session)
        session.send_prepare(_APPEND, notices.APPEND.replace("%s", "NULL", 1).replace("%s", "$1").encode())
        await _answered(session)


async def _answered(session: pq.abc.PGconn) -> None:
    """Return once what was sent is done. Raises what the server says against it."""
    loop, handle = asyncio.get_running_loop(), session.socket
    while session.flush():
        await _until(handle, loop.add_writer, loop.remove_writer)
    results = []
    while True:
        while session.is_busy():
            await _until(handle, loop.add_reader, loop.remove_reader)
            session.consume_input()
        if (result := session.get_result()) is None:
            break
        results.append(result)
    # A statement's own word comes before its commit: a server that is being stopped says afterwards that it failed.
    if not results:
        raise errors.OperationalError("no answer")
    for result in results:
        if result.status != pq.ExecStatus.COMMAND_OK:
            raise errors.error_from_result(result)


async def _until(handle: int, watch: Callable[..., object], leave: Callable[[int], object]) -> None:
    ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watch(handle, _resolve, ready)
    try:
        await ready
    finally:
        leave(handle)


def _resolve(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
