"""The doorbell: a message that only says "look at this connection". It may be lost, doubled or late.

A ring is outstanding until a worker answers it. While it is, nobody rings again, but beat does after about ten seconds
if the queue is empty (then the ring was lost): a week without workers leaves one message for each connection, no flood.
"""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

import sqlalchemy as sa
from kombu.exceptions import OperationalError
from sqlalchemy.dialects import postgresql, sqlite

from models import faults
from models.database import unhurried
from models.faults import Point
from models.tables import Instant, rings
from workers.broker import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery
    from kombu.connection import Connection

    from models.database import Database

Which = Literal["look", "read"]
LOOK: Which = "look"
READ: Which = "read"

QUEUES = {LOOK: "looks", READ: "reads"}
"""Which queue each bell hangs in."""

COUNTS_FOR = timedelta(seconds=10)
"""How long a ring is believed to be on its way."""


class Bell:
    """Rings for connections."""

    def __init__(self, app: Celery, database: Database) -> None:
        self._app = app
        self._database = database

    def ring(self, connection: str, which: Which = LOOK, *, again: bool = False) -> bool:
        """Ring, unless a ring is outstanding; returns whether a message was sent.

        `again`: an outstanding ring that is older than `COUNTS_FOR` is repeated. Raises kombu's `OperationalError` when
        the broker is away; the ring then does not count, whatever went wrong.
        """
        if not self._claim(connection, which, again=again):
            return False
        try:
            faults.reach(Point.RING_CLAIMED)
            self.send(f"erpmirror.{which}", [connection], queue=QUEUES[which])
        except Exception:  # raised again: whatever went wrong, nobody waits for a message that was not sent
            self._set(connection, which, rung_at=None)
            raise
        faults.reach(Point.RING_SENT)
        return True

    def send(self, task: str, arguments: list[str], *, queue: str) -> None:
        """Send one message, once. Raises kombu's `OperationalError` when the broker does not take it."""
        with self._one_error():
            self._app.send_task(task, args=arguments, queue=queue, retry=False, confirm_timeout=PATIENCE)

    def repeat(self, connection: str, which: Which) -> bool:
        """Ring again where an outstanding ring was lost; returns whether a message was sent.

        It was lost if it is older than `COUNTS_FOR` and either nothing is queued or workers have answered younger
        rings: while no worker answers, a ring that waits in the queue is not repeated.
        """
        with self._database.read() as db:
            overdue = rings.c.rung_at < self._database.now(db) - COUNTS_FOR
            mine = sa.select(rings.c.rung_at).where(rings.c.connection == connection, rings.c.bell == which, overdue)
            rung_at = db.execute(mine).scalar()
            if rung_at is None:
                return False
            younger = sa.exists().where(rings.c.bell == which, rings.c.answered_at > rung_at + COUNTS_FOR)
            passed_over = db.execute(sa.select(younger)).scalar_one()
        return bool(passed_over or not self.queued(which)) and self.ring(connection, which, again=True)

    def answer(self, connection: str, which: Which) -> None:
        """A worker is here: whatever is stored from now on deserves a new ring."""
        with self._database.alone(lazily=True) as db:  # a lost answer is a lost ring, which beat repeats
            clock = self._database.moment()
            answered = _answered(clock.reads, self._database.is_sqlite)
            db.execute(answered, {"its_connection": connection, "its_bell": which, **clock.told})

    def queued(self, which: Which) -> int:
        """How many messages wait in the queue. Raises kombu's `OperationalError` when the broker is away."""
        with self._reached() as broker:
            # Not passively: Redis knows no empty queue, and a RabbitMQ that was set up anew has none yet.
            return int(self._app.amqp.queues[QUEUES[which]].bind(broker.default_channel).queue_declare().message_count)

    def broker_alive(self) -> None:
        """Reach the broker. Raises kombu's `OperationalError` when it is away."""
        with self._reached() as broker:
            broker.ensure_connection(max_retries=0)  # type: ignore[no-untyped-call]

    @contextmanager
    def _reached(self) -> Iterator[Connection]:
        """A connection to the broker for the block."""
        with self._one_error(), self._app.connection_for_read() as broker:
            yield broker

    @contextmanager
    def _one_error(self) -> Iterator[None]:
        """Every transport has errors of its own; for our callers they are one."""
        try:
            yield
        except Exception as error:  # raised again: only its transport knows its errors, and few have to be asked for
            transport = self._app.connection_for_write()
            if isinstance(error, (OSError, *transport.connection_errors, *transport.channel_errors)):
                raise OperationalError(str(error)) from error
            raise

    def _claim(self, connection: str, which: Which, *, again: bool) -> bool:
        clock = self._database.moment()
        with self._database.alone(lazily=True) as db:  # a lost claim is one message too many
            rung = {"its_connection": connection, "its_bell": which, **clock.told}
            if again:
                rung["overdue"] = self._database.now(db) - COUNTS_FOR
            claimed = _claimed(clock.reads, self._database.is_sqlite, again)
            return db.execute(claimed, rung).first() is not None

    def _set(self, connection: str, which: Which, **values: object) -> None:
        with self._database.begin() as db:
            db.execute(sa.update(rings).where(rings.c.connection == connection, rings.c.bell == which).values(**values))


@cache
def _claimed(clock: sa.ColumnElement[datetime], is_sqlite: bool, again: bool) -> Any:  # noqa: FBT001 - what it is remembered by
    insert = _insert(is_sqlite).values(rung_at=clock)
    free = sa.or_(rings.c.rung_at.is_(None), rings.c.answered_at >= rings.c.rung_at)
    if again:
        free = sa.or_(free, rings.c.rung_at < sa.bindparam("overdue", type_=Instant))
    keys = [rings.c.connection, rings.c.bell]
    set_ = {"rung_at": insert.excluded.rung_at}
    claimed = insert.on_conflict_do_update(index_elements=keys, set_=set_, where=free)
    return claimed.returning(rings.c.rung_at if is_sqlite else unhurried)


@cache
def _answered(clock: sa.ColumnElement[datetime], is_sqlite: bool) -> Any:  # noqa: FBT001 - likewise
    insert = _insert(is_sqlite).values(answered_at=clock)
    keys = [rings.c.connection, rings.c.bell]
    answered = insert.on_conflict_do_update(index_elements=keys, set_={"answered_at": insert.excluded.answered_at})
    return answered if is_sqlite else answered.returning(unhurried)


def _insert(is_sqlite: bool) -> Any:  # noqa: FBT001 - likewise
    insert = (sqlite if is_sqlite else postgresql).insert(rings)
    return insert.values(connection=sa.bindparam("its_connection"), bell=sa.bindparam("its_bell"))
