"""One gate per vendor account: who may ask now, until when, how fast, across processes and hosts.

A slot is held from the request's start until its result is committed, and the committing transaction proves that its
lease is still its own (`leave`, `keep`), so what was read first is written first without comparing clocks.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, Protocol

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from models import failpoints
from models.db.database import Tx
from models.db.tables import Instant, gates, leases, revisions
from models.failpoints import Point
from models.values import backoff
from workers.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.db.database import Database
    from models.settings.load import Connection

OnAcquire = Callable[[Tx, int, datetime], None]
"""Called inside the transaction that takes a slot, with its revision and the end of the lease."""

GRACE = timedelta(seconds=15)
"""A lease outlives its request's deadline by this, for the commit."""

_SLACK = timedelta(seconds=1)
"""What is sent evenly does not arrive evenly: the vendor's own minute must not see one request too many."""

_MINUTE = timedelta(minutes=1) + _SLACK

MOMENT = timedelta(seconds=2)
"""The longest sleep at the gate; longer waits leave the work due later."""

_SHORTEST_BACKOFF = timedelta(seconds=1)
"""Also for a vendor who says 429 and `Retry-After: 0`: he would be asked without end."""

_LOGIN_PAUSE = 0.05
"""Seconds between two looks at whether somebody else has logged in."""


class GateClosed(Exception):  # noqa: N818 - an answer of the gate, not an error
    """Not now: `until` is when asking again makes sense."""

    def __init__(self, until: datetime, reason: str) -> None:
        super().__init__(reason)
        self.until = until


class LeaseLost(Exception):  # noqa: N818 - likewise
    """The lease ran out before the result was committed: the result is discarded, its key is looked at again."""


@dataclass(slots=True)
class Lease:
    """The right to make one request. `turn` orders what is written; `sent_at` is when the request really started."""

    revision: int
    sent_at: datetime
    renewed_at: float
    gate: Gate = field(repr=False, compare=False)


def account_of(options: Connection) -> str:
    """The account's name, a keyed hash of address and login: connections that share an account share its gate."""
    return hmac.new(_secret(options), options.url.encode(), hashlib.sha256).hexdigest()[:32]


def closed_for(failures: int, after: timedelta | None = None) -> timedelta:
    """How long to wait after so many failures in a row: what the vendor asked for, else 1 s doubling to 5 min."""
    if after is not None:
        return max(after, _SHORTEST_BACKOFF)
    return backoff(failures)


class Timer(Protocol):
    """What measures and waits where this worker runs: the module `time`, or a test's own."""

    def monotonic(self) -> float:
        """Seconds, from any beginning."""

    def sleep(self, seconds: float, /) -> None:
        """Come back after so long, or later."""


class Gate:
    """The gate of one account, as one connection stands before it. `sharing`: all options that lead to this account."""

    def __init__(
        self,
        database: Database,
        options: Connection,
        *,
        sharing: Sequence[Connection] = (),
        stopwatch: Timer = time,
    ) -> None:
        everyone = [options, *sharing]
        self.account = account_of(options)
        self._database = database
        self._concurrency = min(each.concurrency for each in everyone)
        paces = [each.requests_per_minute for each in everyone if each.requests_per_minute]
        self._interval = _MINUTE / min(paces) if paces else timedelta(0)
        self._term = options.timeout + GRACE
        self._secret = _secret(options)
        self._stopwatch = stopwatch

    @property
    def database(self) -> Database:
        """Where this gate stands: what is asked behind it is written there."""
        return self._database

    @property
    def paced(self) -> bool:
        """Whether the vendor sets a pace."""
        return bool(self._interval)

    def acquire(self, subject: str | None = None, *, begin: OnAcquire | None = None) -> Lease:
        """Take a slot: for a point read of `subject`, or for a listing (None), which holds the gate alone.

        `begin` writes in the same transaction; what it raises leaves no slot. Raises `Shut`. Sleeps at most `MOMENT`,
        until the pace allows the request.
        """
        # Whom a file's machine takes with it when it fails misses no lease. A server's client may live on.
        with self._database.begin(lazily=self._database.is_sqlite) as tx:
            row = self._lock(tx)
            now, read_at = row.now, self._stopwatch.monotonic()
            if row.closed_until is not None and row.closed_until > now:
                raise GateClosed(row.closed_until, row.closed_reason or "the gate is shut")
            self._make_room(tx, subject, now)
            start = max(now, row.next_start_at or now)
            if start - now > MOMENT:
                raise GateClosed(start, "the vendor's pace")
            revision, tx.now = self._insert_lease(tx, subject, start + self._term), now
            if begin is not None:
                begin(tx, revision, start + self._term)
            if self._interval:  # else the next one may start whenever it comes
                self._change(tx, next_start_at=start + self._interval)
        failpoints.hit(Point.LEASE_TAKEN)
        lease = Lease(revision=revision, sent_at=now, renewed_at=read_at, gate=self)
        self._wait(lease, start)
        while self._concurrency > 1 and lease.sent_at - start > _SLACK:
            start = self._queue_again(lease, start)
            self._wait(lease, start)
        return lease

    def _wait(self, lease: Lease, start: datetime) -> None:
        """Sleep until then, and note when that really was; until then the slot says when the clock was looked at."""
        now, read_at = lease.sent_at, lease.renewed_at
        self._stopwatch.sleep(max(0.0, (start - now).total_seconds() - (self._stopwatch.monotonic() - read_at)))
        lease.renewed_at = self._stopwatch.monotonic()
        lease.sent_at = now + timedelta(seconds=lease.renewed_at - read_at)

    def _queue_again(self, lease: Lease, start: datetime) -> datetime:
        """Whoever overslept its place may meet the one who was let in for this very moment. Raises `LeaseLost`."""
        with self._database.begin() as tx:
            row = self._lock(tx)
            self.renew(tx, lease)
            lease.sent_at = now = row.now
            alone = row.next_start_at is None or row.next_start_at <= start + self._interval
            start = now if alone else max(now, row.next_start_at)
            self._change(tx, next_start_at=start + self._interval)
        return start

    def heartbeat(self, lease: Lease) -> None:
        """Bytes arrive: renew the lease now and then. Raises `LeaseLost`."""
        if self._stopwatch.monotonic() - lease.renewed_at > self._term.total_seconds() / 3:
            with self._database.begin() as tx:
                self.renew(tx, lease)

    def renew(self, tx: Tx, lease: Lease) -> datetime:
        """Prove inside a transaction that the lease is ours, and renew it. The clock. Raises `LeaseLost`."""
        clock = self._database.clock_sql()
        until = {"until": clock.params["clock"] + self._term} if clock.params else {"lease": self._term}
        kept = _renewed(clock.expression, bool(clock.params))
        now: datetime | None = tx.execute(kept, {"its_revision": lease.revision, **until, **clock.params}).scalar()
        if now is None:
            raise LeaseLost
        lease.renewed_at = self._stopwatch.monotonic()
        tx.now = now
        return now

    def release(self, tx: Tx, lease: Lease, *, answered: bool = True) -> datetime:
        """Prove that the lease is ours and give it back: the vendor is there. The clock. Raises `LeaseLost`.

        `answered`: what he said could be used.
        """
        now = self._delete_lease(tx, lease)
        values = {"answered_at": now} if answered else {}
        self._paced(tx, lease, failures=0, **values)
        failpoints.hit(Point.LEASE_RELEASED)
        return now

    def answered_since(self, tx: Tx, moment: datetime | None) -> bool:
        """Whether the vendor has answered somebody of this account since then (None: ever)."""
        last = tx.execute(sa.select(gates.c.answered_at).where(gates.c.account == self.account)).scalar()
        return last is not None and (moment is None or last > moment)

    def release_and_back_off(
        self, tx: Tx, lease: Lease, *, reason: str, after: timedelta | None, counts: bool
    ) -> datetime:
        """Give the lease back and shut the gate for everybody; returns until when. Raises `LeaseLost`."""
        self._delete_lease(tx, lease)
        row = self._lock(tx)
        failures, closed_until = row.failures, row.closed_until
        until: datetime = row.now + closed_for(failures, after)
        if closed_until is not None and closed_until > until:
            until = closed_until  # another request of this account was told to wait longer
        self._paced(tx, lease, failures=failures + counts, closed_until=until, closed_reason=reason[:500])
        return until

    def cancel(self, lease: Lease) -> None:
        """Give the lease back after a crash of ours, if it is still there."""
        with self._database.begin() as tx:
            tx.execute(sa.delete(leases).where(leases.c.revision == lease.revision))

    def sessions(self) -> SessionStore:
        """Where this account's vendor session is kept."""
        return self._sessions

    @cached_property
    def _sessions(self) -> SessionStore:
        return SessionStore(self._database, self.account, self._secret, lease=self._term)

    def _lock(self, tx: Tx) -> sa.Row[Any]:
        """The gate's row and, as `now`, the clock once it is ours."""
        clock = self._database.clock_sql()
        locked, this = _locked(clock.expression), {"this": self.account, **clock.params}
        row = tx.execute(locked, this).one_or_none()
        if row is None:
            tx.execute(self._database.insert(gates).values(account=self.account, failures=0).on_conflict_do_nothing())
            row = tx.execute(locked, this).one()
        return row

    def _make_room(self, tx: Tx, subject: str | None, now: datetime) -> None:
        held = self._leases(tx)
        if any(other.until <= now for other in held):
            # One that has run out but is being committed right now is locked: skip it, it still counts as held.
            expired = (
                sa.select(leases.c.revision)
                .where(leases.c.account == self.account, leases.c.until <= now)
                .with_for_update(skip_locked=True)
            )
            tx.execute(sa.delete(leases).where(leases.c.revision.in_(expired)))
            held = self._leases(tx)
        alone = subject is None or any(other.subject is None for other in held)
        same = any(other.subject == subject for other in held)
        if held and (alone or same or len(held) >= self._concurrency):
            raise GateClosed(min(other.until for other in held), "somebody else is asking")

    def _leases(self, tx: Tx) -> Sequence[sa.Row[str | None, datetime]]:
        return tx.execute(_LEASES, {"this": self.account}).all()

    def _insert_lease(self, tx: Tx, subject: str | None, until: datetime) -> int:
        lent: dict[str, Any] = {"account": self.account, "subject": subject, "until": until}
        if self._database.is_sqlite:
            lent["revision"] = self._database.draw(tx)
            return int(tx.execute(_LEND, lent).scalar_one())
        return int(tx.execute(_DRAW_AND_LEND, lent).scalar_one())

    def _delete_lease(self, tx: Tx, lease: Lease) -> datetime:
        clock = self._database.clock_sql()
        now: datetime | None = tx.execute(
            _released(clock.expression), {"its_revision": lease.revision, **clock.params}
        ).scalar()
        if now is None:
            raise LeaseLost
        tx.now = now
        return now

    def _paced(self, tx: Tx, lease: Lease, **values: object) -> None:
        new = {f"new_{name}": value for name, value in values.items()}
        earliest = lease.sent_at + self._interval
        tx.execute(_paced(tuple(values)), {"this": self.account, "earliest": earliest, **new})

    def _change(self, tx: Tx, **values: object) -> None:
        tx.execute(sa.update(gates).where(gates.c.account == self.account).values(**values))


_LEASES = sa.select(leases.c.subject, leases.c.until).where(leases.c.account == sa.bindparam("this"))
_LEND = sa.insert(leases).returning(leases.c.revision)
_DRAW_AND_LEND = _LEND.values(revision=revisions.next_value())


@cache
def _locked(clock: sa.ColumnElement[datetime]) -> sa.Select[Any]:
    columns = (gates.c.next_start_at, gates.c.closed_until, gates.c.closed_reason, gates.c.failures)
    ours = sa.select(*columns).where(gates.c.account == sa.bindparam("this")).with_for_update().subquery("ours")
    return sa.select(ours, clock.label("now"))  # the clock outside: it is looked at when the row is ours


@cache
def _paced(changed: tuple[str, ...]) -> sa.Update:
    # Counted from the actual send: a request that waited long for its slot must not let the next one come at once.
    earliest = sa.bindparam("earliest", type_=Instant)
    later = sa.case((gates.c.next_start_at > earliest, gates.c.next_start_at), else_=earliest)
    new: dict[str, Any] = {name: sa.bindparam(f"new_{name}") for name in changed}
    return sa.update(gates).where(gates.c.account == sa.bindparam("this")).values(next_start_at=later, **new)


@cache
def _renewed(clock: sa.ColumnElement[datetime], told: bool) -> Any:  # noqa: FBT001 - what it is remembered by
    until = sa.bindparam("until", type_=Instant) if told else clock + sa.bindparam("lease", type_=sa.Interval)
    ours = (leases.c.revision == sa.bindparam("its_revision"), leases.c.until > clock)
    return sa.update(leases).where(*ours).values(until=until).returning(clock)


@cache
def _released(clock: sa.ColumnElement[datetime]) -> Any:
    ours = (leases.c.revision == sa.bindparam("its_revision"), leases.c.until > clock)
    return sa.delete(leases).where(*ours).returning(clock)


@contextmanager
def acquired(gate: Gate, subject: str | None = None, *, begin: OnAcquire | None = None) -> Iterator[Lease]:
    """A slot for the block, which commits through `leave` or `leave_shut`; given back if the block breaks."""
    lease = gate.acquire(subject, begin=begin)
    try:
        yield lease
    except BaseException:  # raised again: also a task that is stopped must not keep others out until its lease ends
        gate.cancel(lease)
        raise


class SessionStore:
    """The vendor's session, encrypted under a key that the connection's own secret gives: one login for all workers."""

    def __init__(self, database: Database, account: str, secret: bytes, *, lease: timedelta) -> None:
        self._database = database
        self._account = account
        self._term = lease
        derived = HKDF(hashes.SHA256(), length=32, salt=None, info=b"erpmirror session").derive(secret)
        self._cipher = Fernet(urlsafe_b64encode(derived))

    def get(self) -> bytes | None:
        """The session that is still valid, or None."""
        with self._database.read() as tx:
            now = self._database.now(tx)
            stored = tx.execute(
                sa.select(gates.c.session).where(gates.c.account == self._account, gates.c.session_until > now)
            ).scalar()
        if stored is None:
            return None
        try:
            return self._cipher.decrypt(stored)
        except InvalidToken:
            return None

    def put(self, session: bytes, until: datetime) -> None:
        """Keep it until then."""
        self._set(self._cipher.encrypt(session), until)
        failpoints.hit(Point.SESSION_KEPT)

    def drop(self) -> None:
        """The vendor refused it."""
        self._set(None, None)

    @contextmanager
    def login_lock(self) -> Iterator[None]:
        """Log in inside this block, while nobody else of the account does. Raises `Busy` where that takes long."""
        revision = self._take_login()
        try:
            yield
        finally:
            with self._database.begin() as tx:
                tx.execute(
                    sa.update(gates)
                    .where(gates.c.account == self._account, gates.c.login_revision == revision)
                    .values(login_revision=None, login_until=None)
                )

    def _take_login(self) -> int:
        end = time.monotonic() + MOMENT.total_seconds()
        while True:
            with self._database.begin() as tx:
                revision, now = self._database.draw(tx), self._database.now(tx)
                free = sa.or_(gates.c.login_until.is_(None), gates.c.login_until <= now)
                taken = tx.execute(
                    sa.update(gates)
                    .where(gates.c.account == self._account, free)
                    .values(login_revision=revision, login_until=now + self._term)
                )
            if taken.rowcount:
                return revision
            if time.monotonic() > end:
                raise Busy("somebody else is logging in", after=_SHORTEST_BACKOFF, closes_gate=False)
            time.sleep(_LOGIN_PAUSE)

    def _set(self, session: bytes | None, until: datetime | None) -> None:
        with self._database.begin() as tx:
            tx.execute(
                sa.update(gates).where(gates.c.account == self._account).values(session=session, session_until=until)
            )


def _secret(options: Connection) -> bytes:
    return "\n".join(options.login()).encode()
