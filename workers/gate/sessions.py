"""The vendor's session, kept in the gate's row so that one login serves all workers of an account."""

from __future__ import annotations

import time
from base64 import urlsafe_b64encode
from contextlib import contextmanager
from typing import TYPE_CHECKING

import sqlalchemy as sa
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from models import failpoints
from models.db.tables import gates
from models.failpoints import Point
from workers.errors import BusyError
from workers.gate import timing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime, timedelta

    from models.db.database import Database, Tx


class SessionStore:
    """One account's session, encrypted under a key that is derived from the connection's own secret."""

    def __init__(self, database: Database, account: str, secret: bytes, *, lock_duration: timedelta) -> None:
        self._database = database
        self._account = account
        self._lock_duration = lock_duration
        derived = HKDF(hashes.SHA256(), length=32, salt=None, info=b"erpmirror session").derive(secret)
        self._login_revision: int | None = None
        self._cipher = Fernet(urlsafe_b64encode(derived))

    def get(self) -> bytes | None:
        """The session, or None if there is none, it has expired, or another secret encrypted it."""
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
        """Store the session until it expires."""
        self._set(self._cipher.encrypt(session), until)
        failpoints.hit(Point.SESSION_KEPT)

    def drop(self) -> None:
        """Forget a session that the vendor refused."""
        self._set(None, None)

    @contextmanager
    def login_lock(self) -> Iterator[None]:
        """Log in inside this block: no other worker of the account does. Raises `BusyError` if the lock stays taken."""
        revision = self._login_revision = self._lock_login()
        try:
            yield
        finally:
            self._login_revision = None
            with self._database.begin() as tx:
                tx.execute(
                    sa.update(gates)
                    .where(gates.c.account == self._account, gates.c.login_revision == revision)
                    .values(login_revision=None, login_until=None)
                )

    def renew_login_lock(self, tx: Tx, now: datetime) -> None:
        """Keep the lock for a login of several requests, while this worker has it."""
        if self._login_revision is not None:
            tx.execute(
                sa.update(gates)
                .where(gates.c.account == self._account, gates.c.login_revision == self._login_revision)
                .values(login_until=now + self._lock_duration)
            )

    def _lock_login(self) -> int:
        end = time.monotonic() + timing.LONGEST_SLEEP.total_seconds()
        while (revision := self._try_lock_login()) is None:
            if time.monotonic() > end:
                raise BusyError("another worker is logging in", after=timing.SHORTEST_BACKOFF, closes_gate=False)
            time.sleep(timing.LOGIN_POLL)
        return revision

    def _try_lock_login(self) -> int | None:
        """Take the lock if it is free or its holder's time is over; returns the holder's revision."""
        with self._database.begin() as tx:
            revision, now = self._database.draw(tx), self._database.now(tx)
            free = sa.or_(gates.c.login_until.is_(None), gates.c.login_until <= now)
            locked = tx.execute(
                sa.update(gates)
                .where(gates.c.account == self._account, free)
                .values(login_revision=revision, login_until=now + self._lock_duration)
            )
        return revision if locked.rowcount else None

    def _set(self, session: bytes | None, until: datetime | None) -> None:
        with self._database.begin() as tx:
            tx.execute(
                sa.update(gates).where(gates.c.account == self._account).values(session=session, session_until=until)
            )
