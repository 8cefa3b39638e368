"""Whether each queue's messages reach a worker: shown by a canary that went through the queue, not by a ping.

Beat sends one on each queue every quarter of a minute; the worker that takes it only writes that it was there. While
one is under way none follows, unless it was lost: a week without workers leaves one on each queue.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.tables import canaries, leases, rings
from workers import bell

if TYPE_CHECKING:
    from models.database import Database
    from workers.bell import Bell, Which

EVERY = timedelta(seconds=15)
"""How often one is sent."""

SILENT = timedelta(minutes=3)
"""When a canary waited so long, something is wrong: a short task is over by then, also at a slow vendor."""

DEAF = timedelta(minutes=3)
"""When a canary waited so long beyond the longest task, who should have answered it is started again."""

TASK = "erpmirror.canary"


@dataclass(frozen=True, slots=True)
class Sign:
    """The last sign of life from a queue, as of `now`.

    `asked_at`: since when a canary is under way; None if none is. `refused`: the broker did not take it. `answered_at`:
    when a worker last took a message from this queue, canary or ring. `busy`: a listing is being read right now, and
    this is the queue of full readings, whose worker may take long over one.
    """

    queue: str
    now: datetime
    asked_at: datetime | None = None
    answered_at: datetime | None = None
    worker: str | None = None
    known: bool = True
    refused: bool = False
    busy: bool = False

    @property
    def silent_for(self) -> timedelta:
        """How long a canary has been waiting while nobody took anything from the queue."""
        if self.asked_at is None:
            return timedelta()
        return self.now - max(self.asked_at, self.answered_at or self.asked_at)

    @property
    def wrong(self) -> str | None:
        """What is wrong and what a person looks at; None if nothing is, as far as one can know."""
        if not self.known:
            return f"{self.queue}: not known yet; is `erpmirror beat` running?"
        if self.refused:
            return f"{self.queue}: the broker took no message; {self._last}"
        if self.asked_at is None and self.now - (self.answered_at or self.now) > SILENT:
            return f"{self.queue}: {self._last}, and was asked nothing since; is `erpmirror beat` running?"
        if self.silent_for > SILENT and not self.busy:
            return f"{self.queue}: no worker has answered for {_told(self.silent_for)}; is `erpmirror worker` running?"
        return None

    @property
    def says(self) -> str:
        """One line for a person."""
        if self.wrong is not None:
            return self.wrong
        if self.silent_for > SILENT:
            return f"{self.queue}: {self._last}; a long reading is under way, others wait for its end"
        return f"{self.queue}: {self._last}"

    @property
    def _last(self) -> str:
        if self.answered_at is None:
            return "no worker has answered yet"
        return f"a worker answered {_told(self.now - self.answered_at)} ago"


def signs(database: Database) -> list[Sign]:
    """How each queue is served."""
    with database.read() as connection:
        now = database.now(connection)
        listing = sa.exists().where(leases.c.subject.is_(None), leases.c.until > now)
        reading = bool(connection.execute(sa.select(listing)).scalar_one())
        sent = {row.queue: row for row in connection.execute(sa.select(canaries))}
        rung = {which: _rung(connection, which) for which in bell.QUEUES}
    found = []
    for which, queue in bell.QUEUES.items():
        row, busy = sent.get(queue), reading and which == bell.READ
        if row is None:
            found.append(Sign(queue, now, answered_at=rung[which], known=False))
            continue
        answered_at = max(filter(None, (row.answered_at, rung[which])), default=None)
        asked_at = None if _answered(row) else row.sent_at
        refused = row.sent_at is None
        found.append(Sign(queue, now, asked_at, answered_at, row.worker, refused=refused, busy=busy))
    return found


def answer(database: Database, queue: str, *, worker: str) -> None:
    """A worker took one from the queue."""
    with database.begin() as connection:
        _keep(connection, database, queue, answered_at=database.now(connection), worker=worker)


def deaf(doorbell: Bell, database: Database, *, after: timedelta) -> dict[str, str]:
    """The queues whose worker must be started again, and why: messages wait, and nobody took one for so long.

    Each is told once: who was started again gets as long to answer.
    """
    found = {}
    for which, sign in zip(bell.QUEUES, signs(database), strict=True):
        if sign.silent_for > after and not sign.busy and doorbell.queued(which):
            found[sign.queue] = f"has taken no message for {_told(sign.silent_for)}"
            with database.begin() as connection:
                now = database.now(connection)
                connection.execute(sa.update(canaries).where(canaries.c.queue == sign.queue).values(sent_at=now))
    return found


class Sender:
    """Sends the canaries. Two senders do no harm: whoever sends a new one claims that first."""

    def __init__(self, doorbell: Bell, database: Database) -> None:
        self._bell = doorbell
        self._database = database
        self._sent: dict[Which, datetime] = {}

    def send_due(self) -> None:
        """Send what is due. Raises kombu's `OperationalError` when the broker is away: nobody waits for an answer."""
        try:
            for which in bell.QUEUES:
                if self._claimed(which) or self._lost(which):
                    self._bell.send(TASK, [bell.QUEUES[which]], queue=bell.QUEUES[which])
        except Exception:  # raised again: whatever went wrong, what was not sent is not waited for
            with self._database.begin() as connection:
                connection.execute(sa.update(canaries).values(sent_at=None))
            raise

    def _claimed(self, which: Which) -> bool:
        """Whether a new one is due, and ours to send."""
        with self._database.begin() as connection:
            now = self._database.now(connection)
            row = _row(connection, which)
            if row is not None and row.sent_at is not None and not (_answered(row) and row.sent_at <= now - EVERY):
                return False
            seen = None if row is None else row.sent_at
            claimed = _keep(
                connection,
                self._database,
                bell.QUEUES[which],
                sent_at=now,
                where=canaries.c.sent_at.is_not_distinct_from(seen),
            )
        if claimed:
            self._sent[which] = now
        return claimed

    def _lost(self, which: Which) -> bool:
        """Whether the one under way is old, and no longer in the queue or passed over by rings that came later."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            row = _row(connection, which)
            rung = _rung(connection, which)
        if row is None or row.sent_at is None or _answered(row):
            return False
        if max(row.sent_at, self._sent.get(which, row.sent_at)) > now - EVERY:
            return False
        self._sent[which] = now
        passed_over = rung is not None and rung > now - EVERY
        return passed_over or not self._bell.queued(which)


def _row(connection: sa.Connection, which: Which) -> sa.Row[tuple[object, ...]] | None:
    return connection.execute(sa.select(canaries).where(canaries.c.queue == bell.QUEUES[which])).first()


def _rung(connection: sa.Connection, which: Which) -> datetime | None:
    """When somebody last answered a ring."""
    c = rings.c
    latest = sa.select(c.answered_at).where(c.bell == which, c.answered_at.is_not(None)).order_by(c.answered_at.desc())
    return connection.execute(latest.limit(1)).scalar()


def _answered(row: sa.Row[tuple[object, ...]]) -> bool:
    return row.sent_at is not None and row.answered_at is not None and row.answered_at >= row.sent_at


def _keep(
    connection: sa.Connection,
    database: Database,
    queue: str,
    *,
    where: sa.ColumnElement[bool] | None = None,
    **values: object,
) -> bool:
    """Write into the queue's row, new or old; whether the old one allowed it."""
    insert = database.insert(canaries).values(queue=queue, **values)
    kept = insert.on_conflict_do_update(index_elements=[canaries.c.queue], set_=values, where=where)
    return connection.execute(kept.returning(canaries.c.queue)).first() is not None


_UNITS = ((60, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h"), (float("inf"), 86_400, "d"))


def _told(time: timedelta) -> str:
    seconds = max(int(time.total_seconds()), 0)
    size, unit = next((size, unit) for limit, size, unit in _UNITS if seconds < limit)
    return f"{seconds // size} {unit}"
