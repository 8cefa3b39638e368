"""Workers whose steps a test interleaves: each stops before every transaction and while its vendor answers.

One thread runs at a time, so that an order of steps found once is found again.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.db import tables
from models.db.database import Database, Tx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

START = datetime(2026, 3, 1, 12, tzinfo=UTC)

_here = threading.local()


class Died(BaseException):
    """Ends a killed worker before it can write anything more."""


class Clock:
    """The database's clock, set by the test."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def pass_by(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class MonotonicClock:
    """A worker's monotonic clock, with an offset of its own. During a sleep others act, and it may last too long."""

    def __init__(self, clock: Clock, *, ahead: float = 0.0) -> None:
        self._clock, self._ahead = clock, ahead

    def monotonic(self) -> float:
        return self._ahead + (self._clock.now - START).total_seconds()

    def sleep(self, seconds: float, /) -> None:
        end = self.monotonic() + seconds
        if seconds > 0:
            stop("asleep")
        self._clock.pass_by(max(0.0, end - self.monotonic()))


class Worker:
    """Runs one task step by step in a thread. `error` is what it raised, `result` what it returned."""

    def __init__(self, task: Callable[[], Any]) -> None:
        self.at = "its start"
        self.done = self.dead = self.within = False
        self.error: BaseException | None = None
        self.result: Any = None
        self._task = task
        self._dies_before_its_commit = False
        self._go, self._stopped = threading.Semaphore(0), threading.Semaphore(0)
        threading.Thread(target=self._live, daemon=True).start()

    def step(self) -> None:
        """Let it run to its next stop."""
        assert not self.done
        self._go.release()
        self._stopped.acquire()

    def finish(self) -> None:
        """Let it run to its end."""
        while not self.done:
            self.step()

    def die(self, *, in_a_transaction: bool = False) -> None:
        """Kill it where it is, or at the end of its next transaction, which is rolled back."""
        if in_a_transaction:
            self._dies_before_its_commit = True
            self.finish()
        elif not self.done:
            self.dead = True
            self.step()

    def stop(self, where: str) -> None:
        """Called by the task: others may act now."""
        if self.dead:
            raise Died
        self.at = where
        self._stopped.release()
        self._go.acquire()
        if self.dead:
            raise Died

    def commits(self) -> None:
        """Called by the task before each commit."""
        if self._dies_before_its_commit:
            self.dead = True
        if self.dead:
            raise Died

    def _live(self) -> None:
        _here.worker = self
        self._go.acquire()
        try:
            if not self.dead:
                self.result = self._task()
        except BaseException as error:  # noqa: BLE001 - a worker's failure must reach the test
            self.error = error
        self.done = True
        self._stopped.release()


def stop(where: str) -> None:
    """Let others act, if this is a worker; the test's own thread goes on at once."""
    worker = getattr(_here, "worker", None)
    if worker is not None:
        assert not worker.within, f"a vendor is asked inside a transaction, at {where}"
        worker.stop(where)


class InterleavedDatabase(Database):
    """A database that stops its worker before each transaction. `commits` counts the writing ones."""

    commits = 0

    @property
    def clock(self) -> Clock:
        assert isinstance(self._clock, Clock)
        return self._clock

    @contextmanager
    def begin(self, *, durable: bool = True) -> Iterator[Tx]:
        stop("a writing transaction")
        with super().begin(durable=durable) as tx, _within():
            yield tx
        self.commits += 1

    @contextmanager
    def read(self) -> Iterator[Tx]:
        stop("a reading transaction")
        with super().read() as tx, _within():
            yield tx

    @contextmanager
    def autocommit(self, *, durable: bool = True) -> Iterator[Tx]:
        with self.read() if durable else self.begin(durable=False) as tx:
            yield tx

    def empty(self) -> None:
        """Delete all rows except those of the counters, which go on, and of the resources' tables and columns."""
        kept = {table.name for table in (tables.counter, tables.feed, tables.columns, tables.parts)}
        found = sa.inspect(self.engine).get_table_names()
        with self.begin() as tx:
            for name in sorted(set(found) - kept):
                tx.execute(sa.delete(sa.table(name)))
        self.clock.now = START


@contextmanager
def _within() -> Iterator[None]:
    worker = getattr(_here, "worker", None)
    if worker is None:
        yield
        return
    worker.within = True
    try:
        yield
        worker.commits()
    finally:
        worker.within = False


def interleaved(database: Database) -> InterleavedDatabase:
    """The same database with a clock and order of steps that the test sets; it does not survive a power cut."""
    made = InterleavedDatabase(database.url, clock=Clock())
    sa.event.listen(made.engine, "connect", _without_sync_on_sqlite if made.is_sqlite else _without_sync_on_postgresql)
    return made


def _without_sync_on_sqlite(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


def _without_sync_on_postgresql(connection: Any, _record: object) -> None:
    connection.execute("SET synchronous_commit = off")
    connection.commit()
