"""Wake-ups: Celery messages that only say "this connection has work". They may be lost, repeated or late.

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
from sqlalchemy.dialects import postgresql, sqlite

from models import failpoints
from models.db.database import NO_SYNC
from models.db.tables import wakeups
from models.db.types import Instant
from models.failpoints import Point
from workers.queue.broker import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from celery import Celery
    from kombu.connection import Connection

    from models.db.database import Database

QueueName = Literal["sync", "full_sync", "deliver"]
SYNC: QueueName = "sync"
"""Short work: webhooks, polls, point reads."""

FULL_SYNC: QueueName = "full_sync"
"""Full syncs, which may take long."""

DELIVER: QueueName = "deliver"
"""Changes that a subscriber is to be told of."""

QUEUES: tuple[QueueName, ...] = (SYNC, FULL_SYNC)
"""The task of a queue is `erpmirror.` and its name. No dots: file names of the filesystem broker contain the name."""

REPEAT_AFTER = timedelta(seconds=10)
"""An unacknowledged wake-up counts as outstanding for this long; after that it may be repeated."""


class Waker:
    """Sends wake-ups, and records what was sent and acknowledged in `erpmirror_wakeups`."""

    def __init__(self, app: Celery, database: Database) -> None:
        self._app = app
        self._database = database

    def wake(self, connection: str, queue: QueueName = SYNC, *, again: bool = False) -> bool:
        """Send a wake-up, unless one is outstanding; returns whether a message was sent.

        `again`: repeat an outstanding one that is older than `REPEAT_AFTER`. Raises kombu's `OperationalError` when the
        broker is down; after any error the wake-up does not count as outstanding.
        """
        if not self._claim(connection, queue, again=again):
            return False
        try:
            failpoints.hit(Point.WAKEUP_CLAIMED)
            self.send(f"erpmirror.{queue}", [connection], queue=queue)
        except Exception:  # raised again: an unsent message must not count as outstanding
            self._set(connection, queue, woken_at=None)
            raise
        failpoints.hit(Point.WAKEUP_SENT)
        return True

    def send(self, task: str, arguments: list[str], *, queue: str) -> None:
        """Send one message, without retries. Raises kombu's `OperationalError` when the broker does not take it."""
        with self._translated_errors():
            self._app.send_task(task, args=arguments, queue=queue, retry=False, confirm_timeout=TIMEOUT)

    def rewake(self, unacknowledged: Collection[tuple[str, QueueName]]) -> list[tuple[str, QueueName]]:
        """Repeat those outstanding wake-ups of these connections and queues that were lost, and return them.

        One was lost if it is older than `REPEAT_AFTER` and either the queue is empty or workers have acknowledged later
        ones. While no worker acknowledges any, a message that waits in the queue is not repeated.
        """
        with self._database.read() as tx:
            overdue = wakeups.c.woken_at < self._database.now(tx) - REPEAT_AFTER
            unanswered = sa.or_(wakeups.c.answered_at.is_(None), wakeups.c.answered_at < wakeups.c.woken_at)
            sent = sa.select(wakeups.c.connection, wakeups.c.queue, wakeups.c.woken_at).where(overdue, unanswered)
            woken_at = {(row.connection, row.queue): row.woken_at for row in tx.execute(sent)}
            acknowledged = sa.select(wakeups.c.queue, sa.func.max(wakeups.c.answered_at)).group_by(wakeups.c.queue)
            last = {queue: at for queue, at in tx.execute(acknowledged) if at is not None}
        is_empty = cache(lambda queue: not self.depth(queue))
        return [
            (connection, queue)
            for connection, queue in unacknowledged
            if (sent_at := woken_at.get((connection, queue))) is not None
            and ((queue in last and last[queue] > sent_at + REPEAT_AFTER) or is_empty(queue))
            and self.wake(connection, queue, again=True)
        ]

    def acknowledge(self, connection: str, queue: QueueName) -> None:
        """Record that a worker has begun: work that is stored from now on needs a new wake-up."""
        # After a crash a lost acknowledgement looks like a lost wake-up, which is repeated: no fsync.
        with self._database.autocommit(durable=False) as tx:
            clock = self._database.clock_sql()
            statement = _acknowledge_statement(clock.expression, self._database.is_sqlite)
            tx.execute(statement, {"of_connection": connection, "of_queue": queue, **clock.params})

    def depth(self, queue: QueueName) -> int:
        """How many messages wait in the queue. Raises kombu's `OperationalError` when the broker is down."""
        with self._link() as link:
            # Declared rather than only looked up: Redis keeps no empty queue, and a new RabbitMQ has none yet.
            return int(self._app.amqp.queues[queue].bind(link.default_channel).queue_declare().message_count)

    def check_broker(self) -> None:
        """Connect to the broker, to see whether it is up. Raises kombu's `OperationalError` when it is down."""
        with self._link() as link:
            link.ensure_connection(max_retries=0)  # type: ignore[no-untyped-call]

    @contextmanager
    def _link(self) -> Iterator[Connection]:
        """A link to the broker for the block."""
        with self._translated_errors(), self._app.connection_for_read() as link:
            yield link

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        """Turn each transport's own errors into kombu's `OperationalError`."""
        from kombu.exceptions import OperationalError  # noqa: PLC0415 - `status` reads tables and needs no kombu

        try:
            yield
        except Exception as error:  # raised again: only an instance of a transport lists its errors
            transport = self._app.connection_for_write()
            if isinstance(error, (OSError, *transport.connection_errors, *transport.channel_errors)):
                raise OperationalError(str(error)) from error
            raise

    def _claim(self, connection: str, queue: QueueName, *, again: bool) -> bool:
        clock = self._database.clock_sql()
        with self._database.autocommit(durable=False) as tx:  # no fsync: a lost claim costs one superfluous message
            values = {"of_connection": connection, "of_queue": queue, **clock.params}
            if again:
                values["overdue"] = self._database.now(tx) - REPEAT_AFTER
            statement = _claim_statement(clock.expression, self._database.is_sqlite, again)
            return tx.execute(statement, values).first() is not None

    def _set(self, connection: str, queue: QueueName, **values: object) -> None:
        with self._database.begin() as tx:
            tx.execute(
                sa.update(wakeups).where(wakeups.c.connection == connection, wakeups.c.queue == queue).values(**values)
            )


@cache
def _claim_statement(clock: sa.ColumnElement[datetime], is_sqlite: bool, again: bool) -> Any:  # noqa: FBT001 - the cache key
    insert = _insert(is_sqlite).values(woken_at=clock)
    free = sa.or_(wakeups.c.woken_at.is_(None), wakeups.c.answered_at >= wakeups.c.woken_at)
    if again:
        free = sa.or_(free, wakeups.c.woken_at < sa.bindparam("overdue", type_=Instant))
    keys = [wakeups.c.connection, wakeups.c.queue]
    set_ = {"woken_at": insert.excluded.woken_at}
    upsert = insert.on_conflict_do_update(index_elements=keys, set_=set_, where=free)
    return upsert.returning(wakeups.c.woken_at if is_sqlite else NO_SYNC)


@cache
def _acknowledge_statement(clock: sa.ColumnElement[datetime], is_sqlite: bool) -> Any:  # noqa: FBT001 - likewise
    insert = _insert(is_sqlite).values(answered_at=clock)
    keys = [wakeups.c.connection, wakeups.c.queue]
    upsert = insert.on_conflict_do_update(index_elements=keys, set_={"answered_at": insert.excluded.answered_at})
    return upsert if is_sqlite else upsert.returning(NO_SYNC)


def _insert(is_sqlite: bool) -> Any:  # noqa: FBT001 - likewise
    insert = (sqlite if is_sqlite else postgresql).insert(wakeups)
    return insert.values(connection=sa.bindparam("of_connection"), queue=sa.bindparam("of_queue"))
