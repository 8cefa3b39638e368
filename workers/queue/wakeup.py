"""Wake-ups: Celery messages that only say "this connection has work". They may be lost, doubled or late.

A wake-up is outstanding until a worker acknowledges it. Until then only the scheduler sends another, after about ten
seconds and if the queue is empty (the message was lost). So a week without workers leaves one message for each
connection and queue, not a flood.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa
from kombu.exceptions import OperationalError
from sqlalchemy.dialects import postgresql, sqlite

from models import failpoints
from models.db.database import NO_SYNC
from models.db.tables import Instant, wakeups
from models.failpoints import Point
from workers.queue.broker import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery
    from kombu.connection import Connection

    from models.db.database import Database

QueueName = Literal["sync", "full_sync"]
SYNC: QueueName = "sync"
"""Short work: webhooks, polls, point reads."""

FULL_SYNC: QueueName = "full_sync"
"""Full syncs, which may take long."""

QUEUES: tuple[QueueName, ...] = (SYNC, FULL_SYNC)
"""A queue and its task have one name. No dots: the filesystem transport puts queue names into its file names."""

COUNTS_FOR = timedelta(seconds=10)
"""How long an unacknowledged wake-up is believed to be on its way."""


class Waker:
    """Sends wake-ups for connections."""

    def __init__(self, app: Celery, database: Database) -> None:
        self._app = app
        self._database = database

    def wake(self, connection: str, which: QueueName = SYNC, *, again: bool = False) -> bool:
        """Send a wake-up, unless one is outstanding; returns whether a message was sent.

        `again`: an outstanding one that is older than `COUNTS_FOR` is repeated. Raises kombu's `OperationalError` when
        the broker is away; the wake-up then does not count as outstanding, whatever the error was.
        """
        if not self._claim(connection, which, again=again):
            return False
        try:
            failpoints.hit(Point.WAKEUP_CLAIMED)
            self.send(f"erpmirror.{which}", [connection], queue=which)
        except Exception:  # raised again: a message that was not sent must not count as outstanding
            self._set(connection, which, woken_at=None)
            raise
        failpoints.hit(Point.WAKEUP_SENT)
        return True

    def send(self, task: str, arguments: list[str], *, queue: str) -> None:
        """Send one message, without retries. Raises kombu's `OperationalError` when the broker does not take it."""
        with self._one_error():
            self._app.send_task(task, args=arguments, queue=queue, retry=False, confirm_timeout=TIMEOUT)

    def rewake(self, connection: str, which: QueueName) -> bool:
        """Repeat an outstanding wake-up that was lost; returns whether a message was sent.

        It was lost if it is older than `COUNTS_FOR` and either the queue is empty or workers have acknowledged younger
        ones. While no worker acknowledges anything, a message that waits in the queue is not repeated.
        """
        with self._database.read() as db:
            overdue = wakeups.c.woken_at < self._database.now(db) - COUNTS_FOR
            mine = sa.select(wakeups.c.woken_at).where(
                wakeups.c.connection == connection, wakeups.c.queue == which, overdue
            )
            woken_at = db.execute(mine).scalar()
            if woken_at is None:
                return False
            younger = sa.exists().where(wakeups.c.queue == which, wakeups.c.answered_at > woken_at + COUNTS_FOR)
            passed_over = db.execute(sa.select(younger)).scalar_one()
        return bool(passed_over or not self.depth(which)) and self.wake(connection, which, again=True)

    def acknowledge(self, connection: str, which: QueueName) -> None:
        """Record that a worker has begun: work that is stored from now on needs a new wake-up."""
        with self._database.autocommit(
            lazily=True
        ) as db:  # a lost acknowledgement looks like a lost wake-up: it is repeated
            clock = self._database.clock_sql()
            answered = _acknowledged(clock.expression, self._database.is_sqlite)
            db.execute(answered, {"its_connection": connection, "its_bell": which, **clock.params})

    def depth(self, which: QueueName) -> int:
        """How many messages wait in the queue. Raises kombu's `OperationalError` when the broker is away."""
        with self._reached() as link:
            # Declared, not asked passively: Redis has no empty queues, and a new RabbitMQ has none yet.
            return int(self._app.amqp.queues[which].bind(link.default_channel).queue_declare().message_count)

    def broker_alive(self) -> None:
        """Reach the broker. Raises kombu's `OperationalError` when it is away."""
        with self._reached() as link:
            link.ensure_connection(max_retries=0)  # type: ignore[no-untyped-call]

    @contextmanager
    def _reached(self) -> Iterator[Connection]:
        """A link to the broker for the block."""
        with self._one_error(), self._app.connection_for_read() as link:
            yield link

    @contextmanager
    def _one_error(self) -> Iterator[None]:
        """Turn each transport's own errors into one."""
        try:
            yield
        except Exception as error:  # raised again: which errors a transport has is known only after it was made
            transport = self._app.connection_for_write()
            if isinstance(error, (OSError, *transport.connection_errors, *transport.channel_errors)):
                raise OperationalError(str(error)) from error
            raise

    def _claim(self, connection: str, which: QueueName, *, again: bool) -> bool:
        clock = self._database.clock_sql()
        with self._database.autocommit(lazily=True) as db:  # a lost claim costs one superfluous message
            values = {"its_connection": connection, "its_bell": which, **clock.params}
            if again:
                values["overdue"] = self._database.now(db) - COUNTS_FOR
            claimed = _claimed(clock.expression, self._database.is_sqlite, again)
            return db.execute(claimed, values).first() is not None

    def _set(self, connection: str, which: QueueName, **values: object) -> None:
        with self._database.begin() as db:
            db.execute(
                sa.update(wakeups).where(wakeups.c.connection == connection, wakeups.c.queue == which).values(**values)
            )


@cache
def _claimed(clock: sa.ColumnElement[datetime], is_sqlite: bool, again: bool) -> Any:  # noqa: FBT001 - the cache key
    insert = _insert(is_sqlite).values(woken_at=clock)
    free = sa.or_(wakeups.c.woken_at.is_(None), wakeups.c.answered_at >= wakeups.c.woken_at)
    if again:
        free = sa.or_(free, wakeups.c.woken_at < sa.bindparam("overdue", type_=Instant))
    keys = [wakeups.c.connection, wakeups.c.queue]
    set_ = {"woken_at": insert.excluded.woken_at}
    claimed = insert.on_conflict_do_update(index_elements=keys, set_=set_, where=free)
    return claimed.returning(wakeups.c.woken_at if is_sqlite else NO_SYNC)


@cache
def _acknowledged(clock: sa.ColumnElement[datetime], is_sqlite: bool) -> Any:  # noqa: FBT001 - likewise
    insert = _insert(is_sqlite).values(answered_at=clock)
    keys = [wakeups.c.connection, wakeups.c.queue]
    answered = insert.on_conflict_do_update(index_elements=keys, set_={"answered_at": insert.excluded.answered_at})
    return answered if is_sqlite else answered.returning(NO_SYNC)


def _insert(is_sqlite: bool) -> Any:  # noqa: FBT001 - likewise
    insert = (sqlite if is_sqlite else postgresql).insert(wakeups)
    return insert.values(connection=sa.bindparam("its_connection"), waker=sa.bindparam("its_bell"))
