"""One gate per vendor account: which request may start, when, and until when its lease lasts.

A lease is held from the first request's start until the result is committed, and the committing transaction proves that
the lease has not run out (`release`, `renew`). So what was read first is written first, without comparing clocks. Each
further request under the lease renews it and waits for the rate limit (`before_request`).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from pydantic import SecretStr

from models import failpoints
from models.db.database import Tx
from models.db.tables import gates, leases
from models.failpoints import Point
from workers.gate import statements, timing
from workers.gate.sessions import SessionStore
from workers.gate.statements import OF_ACCOUNT, OF_REVISION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from models.db.database import Database
    from models.settings.connections import Connection
    from workers.gate.timing import Timer

_FRESH_FOR = 1.0
"""Seconds for which a renewed lease covers the next request without being renewed for it: the commit has `GRACE`."""

OnAcquire = Callable[[Tx, int, datetime], None]
"""Called inside the transaction that takes a lease, with its revision and its end."""


class GateClosed(Exception):  # noqa: N818 - an answer of the gate, not an error
    """No request may start now; `until` says when to try again."""

    def __init__(self, until: datetime, reason: str) -> None:
        super().__init__(reason)
        self.until = until


class LeaseLost(Exception):  # noqa: N818 - likewise
    """The lease ran out before the result was committed: the result is discarded and its key enqueued again."""


@dataclass(slots=True)
class Lease:
    """The right to make requests for one result, one after the other.

    `revision` orders what is written; `sent_at` is when the first request really started, `last_sent_at` the last one;
    `renewed_at` is the timer's value when the lease was last taken or renewed; `requests` counts those that were sent.
    """

    revision: int
    sent_at: datetime
    renewed_at: float
    gate: Gate = field(repr=False, compare=False)
    last_sent_at: datetime | None = None
    requests: int = 0


def account_of(options: Connection) -> str:
    """The account's name, a keyed hash of address and login: connections that share an account share its gate."""
    return hmac.new(_secret(options), options.url.encode(), hashlib.sha256).hexdigest()[:32]


def longest_lease(connections: Iterable[Connection]) -> timedelta:
    """The longest time for which a lease of these connections is taken or renewed."""
    return max((each.timeout for each in connections), default=timedelta(0)) + timing.GRACE


def fingerprint_of(options: Connection) -> str:
    """A keyed hash of all settings of a connection, secrets included: whether what was refused has been corrected."""
    values = options.model_dump()
    written = json.dumps(values, default=_revealed, sort_keys=True)
    return hmac.new(_secret(options), written.encode(), hashlib.sha256).hexdigest()[:32]


def _revealed(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


class Gate:
    """An account's gate, as one of its connections uses it.

    `same_account`: the options of the other connections of the account; the strictest limits apply to all.
    """

    def __init__(
        self,
        database: Database,
        options: Connection,
        *,
        same_account: Sequence[Connection] = (),
        timer: Timer = time,
    ) -> None:
        connections = [options, *same_account]
        self.account = account_of(options)
        self._database = database
        self._concurrency = min(each.concurrency for each in connections)
        limits = [each.requests_per_minute for each in connections if each.requests_per_minute]
        self._interval = timing.MINUTE / min(limits) if limits else timedelta(0)
        self._lease_duration = options.timeout + timing.GRACE
        self._secret = _secret(options)
        self._timer = timer

    @property
    def database(self) -> Database:
        """The database that keeps the gate; results of its requests are written there."""
        return self._database

    @property
    def is_rate_limited(self) -> bool:
        """Whether the account has a rate limit."""
        return bool(self._interval)

    def acquire(self, subject: str | None = None, *, on_acquire: OnAcquire | None = None) -> Lease:
        """Take a lease: for a point read of `subject`, or for a listing (None), which holds the gate alone.

        `on_acquire` writes in the same transaction; if it raises, no lease is taken. Raises `GateClosed`. Sleeps at
        most `LONGEST_SLEEP`, until the rate limit allows the request.
        """
        # SQLite: a power cut ends the workers too, so this commit needs no fsync. A server's client may survive it.
        with self._database.begin(durable=not self._database.is_sqlite) as tx:
            row = self._lock_row(tx)
            now, read_at = row.now, self._timer.monotonic()
            start = self._earliest_start(tx, row, subject)
            revision, tx.now = self._insert_lease(tx, subject, start + self._lease_duration), now
            if on_acquire is not None:
                on_acquire(tx, revision, start + self._lease_duration)
            if self._interval:  # without a rate limit the next request may start at any time
                self._update_row(tx, next_start_at=start + self._interval)
        failpoints.hit(Point.LEASE_TAKEN)
        lease = Lease(revision=revision, sent_at=now, renewed_at=read_at, gate=self)
        self._wait(lease, start)
        while self._concurrency > 1 and lease.sent_at - start > timing.SLACK:
            start = self._reschedule(lease, start)
            self._wait(lease, start)
        return lease

    def _earliest_start(self, tx: Tx, row: sa.Row[Any], subject: str | None) -> datetime:
        """When the request may start, at most `LONGEST_SLEEP` from now. Raises `GateClosed`."""
        now: datetime = row.now
        if row.closed_until is not None and row.closed_until > now:
            raise GateClosed(row.closed_until, row.closed_reason or "the gate is closed")
        self._check_leases(tx, subject, now)
        # Without a rate limit `next_start_at` only tells retention when the gate was last used.
        start = max(now, row.next_start_at or now) if self._interval else now
        if start - now > timing.LONGEST_SLEEP:
            raise GateClosed(start, "the vendor's rate limit")
        return start

    def _wait(self, lease: Lease, start: datetime) -> None:
        """Sleep until `start`, then set `sent_at` to the moment of waking.

        On entry `sent_at` and `renewed_at` hold the database's clock and the timer as they were read together.
        """
        now, read_at = lease.sent_at, lease.renewed_at
        self._timer.sleep(max(0.0, (start - now).total_seconds() - (self._timer.monotonic() - read_at)))
        lease.renewed_at = self._timer.monotonic()
        lease.sent_at = now + timedelta(seconds=lease.renewed_at - read_at)

    def _reschedule(self, lease: Lease, start: datetime) -> datetime:
        """A new start for a request that woke long after its own: another request may start at the present moment.

        Raises `LeaseLost`.
        """
        with self._database.begin() as tx:
            row = self._lock_row(tx)
            self.renew(tx, lease)
            lease.sent_at = now = row.now
            is_last = row.next_start_at is None or row.next_start_at <= start + self._interval
            start = now if is_last else max(now, row.next_start_at)
            self._update_row(tx, next_start_at=start + self._interval)
        return start

    def before_request(self, lease: Lease) -> None:
        """Call this before each request that is sent under the lease: logins and metadata, too. Raises `LeaseLost`.

        For the first one the rate limit has been waited for when the lease was taken. Before any other it is waited for
        here: the work is half done, so it is not left due. A lease that is not fresh any more is renewed, so that it
        covers the request's whole `timeout`: the process may have been stopped since.
        """
        lease.requests += 1
        if lease.requests > 1 and self._interval:
            while not self._await_turn(lease):
                pass
        self._renew_if_older(lease, _FRESH_FOR)

    def _await_turn(self, lease: Lease) -> bool:
        """Reserve the next start and sleep until then; False if it woke so late that another may start now, too."""
        with self._database.begin() as tx:
            row = self._lock_row(tx)
            self.sessions.renew_login_lock(tx, self.renew(tx, lease))
            now, read_at = row.now, lease.renewed_at
            # Each other lease has reserved at most one start. A later one was written by a clock that was ahead.
            start = min(max(now, row.next_start_at or now), now + self._concurrency * self._interval)
            self._update_row(tx, next_start_at=start + self._interval)
        while (left := (start - now).total_seconds() - (self._timer.monotonic() - read_at)) > 0:
            self._timer.sleep(min(left, self._lease_duration.total_seconds() / 3))
            self.heartbeat(lease)
        lease.last_sent_at = now + timedelta(seconds=self._timer.monotonic() - read_at)
        return self._concurrency == 1 or lease.last_sent_at - start <= timing.SLACK

    def heartbeat(self, lease: Lease) -> None:
        """Renew the lease of a request whose bytes still arrive, once a third of it is over. Raises `LeaseLost`."""
        self._renew_if_older(lease, self._lease_duration.total_seconds() / 3)

    def _renew_if_older(self, lease: Lease, seconds: float) -> None:
        if self._timer.monotonic() - lease.renewed_at > seconds:
            with self._database.begin() as tx:
                self.sessions.renew_login_lock(tx, self.renew(tx, lease))

    def renew(self, tx: Tx, lease: Lease) -> datetime:
        """Prove that the lease has not run out, and renew it; returns the clock. Raises `LeaseLost`."""
        clock = self._database.clock_sql()
        duration = self._lease_duration
        end = {"until": clock.params["clock"] + duration} if clock.params else {"duration": duration}
        statement = statements.renew_lease(clock.expression, bool(clock.params))
        now = self._prove(tx, statement, {OF_REVISION: lease.revision, **end, **clock.params})
        lease.renewed_at = self._timer.monotonic()
        return now

    def release(self, tx: Tx, lease: Lease, *, answered: bool = True) -> datetime:
        """Prove that the lease has not run out, and give it back; returns the clock. Raises `LeaseLost`.

        The count of failures starts anew, because the vendor was reached. `answered`: its answer could also be used.
        """
        now = self._delete_lease(tx, lease)
        values = {"answered_at": now} if answered else {}
        self._delay_next_start(tx, lease, failures=0, **values)
        failpoints.hit(Point.LEASE_RELEASED)
        return now

    def answered_since(self, tx: Tx, moment: datetime | None) -> bool:
        """Whether the vendor has answered any request of this account since then (None: ever)."""
        last = tx.execute(sa.select(gates.c.answered_at).where(gates.c.account == self.account)).scalar()
        return last is not None and (moment is None or last > moment)

    def release_and_back_off(
        self, tx: Tx, lease: Lease, *, reason: str, after: timedelta | None, counts: bool
    ) -> datetime:
        """Give the lease back and close the gate for the account; returns until when. Raises `LeaseLost`."""
        self._delete_lease(tx, lease)
        row = self._lock_row(tx)
        failures, closed_until = row.failures, row.closed_until
        until: datetime = row.now + timing.retry_delay(failures, after)
        if closed_until is not None and closed_until > until:
            until = closed_until  # another request of this account closed the gate for longer
        self._delay_next_start(tx, lease, failures=failures + counts, closed_until=until, closed_reason=reason[:500])
        return until

    def cancel(self, lease: Lease) -> None:
        """Delete the lease, if it is still there, without a result. Counts neither an answer nor a failure."""
        with self._database.begin() as tx:
            tx.execute(sa.delete(leases).where(leases.c.revision == lease.revision))

    def closed_until(self, tx: Tx) -> datetime | None:
        """When the last backoff ends or ended; None if there was none."""
        closed = sa.select(gates.c.closed_until).where(gates.c.account == self.account)
        return tx.execute(closed).scalar()

    @cached_property
    def sessions(self) -> SessionStore:
        """The store of this account's vendor session."""
        return SessionStore(self._database, self.account, self._secret, lock_duration=self._lease_duration)

    def _lock_row(self, tx: Tx) -> sa.Row[Any]:
        """The gate's row, locked, and as `now` the clock once it is locked."""
        clock = self._database.clock_sql()
        select, parameters = statements.lock_gate(clock.expression), {OF_ACCOUNT: self.account, **clock.params}
        row = tx.execute(select, parameters).one_or_none()
        if row is None:
            tx.execute(self._database.insert(gates).values(account=self.account, failures=0).on_conflict_do_nothing())
            row = tx.execute(select, parameters).one()
        return row

    def _check_leases(self, tx: Tx, subject: str | None, now: datetime) -> None:
        """Raises `GateClosed` unless a lease for `subject` may be taken beside those that exist."""
        active = self._leases(tx)
        if any(other.until <= now for other in active):
            # An expired lease that is being committed stays, and counts as active.
            tx.execute(statements.delete_expired_leases(self.account, now))
            active = self._leases(tx)
        is_exclusive = subject is None or any(other.subject is None for other in active)
        is_same = any(other.subject == subject for other in active)
        if active and (is_exclusive or is_same or len(active) >= self._concurrency):
            raise GateClosed(min(other.until for other in active), "another request is in progress")

    def _leases(self, tx: Tx) -> Sequence[sa.Row[str | None, datetime]]:
        return tx.execute(statements.LEASES, {OF_ACCOUNT: self.account}).all()

    def _insert_lease(self, tx: Tx, subject: str | None, until: datetime) -> int:
        values: dict[str, Any] = {"account": self.account, "subject": subject, "until": until}
        if self._database.is_sqlite:
            values["revision"] = self._database.draw(tx)
            return int(tx.execute(statements.INSERT_LEASE, values).scalar_one())
        return int(tx.execute(statements.DRAW_AND_INSERT_LEASE, values).scalar_one())

    def _delete_lease(self, tx: Tx, lease: Lease) -> datetime:
        clock = self._database.clock_sql()
        statement = statements.delete_lease(clock.expression)
        return self._prove(tx, statement, {OF_REVISION: lease.revision, **clock.params})

    def _prove(self, tx: Tx, statement: Any, parameters: dict[str, Any]) -> datetime:
        """Execute a statement that finds the lease only if it has not run out; returns the clock."""
        now: datetime | None = tx.execute(statement, parameters).scalar()
        if now is None:
            raise LeaseLost
        tx.now = now
        return now

    def _delay_next_start(self, tx: Tx, lease: Lease, **values: object) -> None:
        """Count the rate limit from the actual send, and set the columns."""
        new = {f"new_{column}": value for column, value in values.items()}
        earliest = (lease.last_sent_at or lease.sent_at) + self._interval
        tx.execute(statements.delay_next_start(tuple(values)), {OF_ACCOUNT: self.account, "earliest": earliest, **new})

    def _update_row(self, tx: Tx, **values: object) -> None:
        tx.execute(sa.update(gates).where(gates.c.account == self.account).values(**values))


@contextmanager
def acquired(gate: Gate, subject: str | None = None, *, on_acquire: OnAcquire | None = None) -> Iterator[Lease]:
    """A lease for the block, which commits through `release` or `release_and_back_off`; canceled if it raises."""
    lease = gate.acquire(subject, on_acquire=on_acquire)
    try:
        yield lease
    except BaseException:  # raised again: a task that is stopped must not keep the gate closed until its lease ends
        gate.cancel(lease)
        raise


def _secret(options: Connection) -> bytes:
    return "\n".join(options.login()).encode()
