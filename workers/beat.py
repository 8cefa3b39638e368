"""Beat's own scheduler: in memory, no schedule file. It sweeps the tables and rings for what is due."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import structlog
from celery.beat import Scheduler
from kombu.exceptions import OperationalError

from workers import bell, broker, canary, housekeeping
from workers.sweeping import Sweep

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from models.database import Database
    from models.settings import Settings

log = structlog.get_logger()

INTERVAL = 1.0
"""Seconds between two sweeps."""

_CANARIES = 5.0
"""Seconds between two looks at whether a canary is due."""

_QUIET = 60.0
"""Seconds between two log lines about what stays away."""

_HOUSEKEEPING = 60.0
"""Seconds between two clearings-away."""


class Sweeper(Scheduler):
    """Rings for every connection that has something due. Two are harmless: a ring is claimed in the database."""

    def __init__(self, app: Celery, settings: Settings, database: Database, **options: Any) -> None:
        self._settings = settings
        self._database = database
        self._bell = bell.Bell(app, database)
        self._sweep = Sweep(database, settings)
        self._canaries = canary.Sender(self._bell, database)
        self._canaries_looked_at: float | None = None
        self._kept_house = 0.0
        self._away = ""
        self._told = 0.0
        super().__init__(app, **options)

    def setup_schedule(self) -> None:
        """Nothing is scheduled by entries: what is due stands in the tables."""

    def tick(self, *_: Any, **__: Any) -> float:
        """One sweep; returns the seconds until the next."""
        failed = self._failure(self._send_canaries) or self._failure(self.sweep)
        if failed is not None:
            self._tell(failed)
        elif self._away:
            log.info("sweep works again", back=self._away)
            self._away = ""
        return INTERVAL

    def _failure(self, step: Callable[[], None]) -> Exception | None:
        """A broker or a database that is away comes back; a beat that dies would have to be started again."""
        try:
            step()
        except (OSError, OperationalError, sa.exc.OperationalError) as error:
            return error
        return None

    def _tell(self, error: Exception) -> None:
        """Say it once, and from time to time while it lasts."""
        away = "database" if isinstance(error, sa.exc.SQLAlchemyError) else "broker"
        if away != self._away or time.monotonic() - self._told >= _QUIET:
            self._away, self._told = away, time.monotonic()
            log.warning("sweep failed", away=away, error=type(error).__name__)

    def sweep(self) -> None:
        """Ring for what is due, clear away what is old, also while nobody can be rung for."""
        try:
            self._ring_for_due()
        finally:
            self._keep_house()

    def _ring_for_due(self) -> None:
        for name, which in self._sweep.calls():
            self._ring(name, which)

    def _send_canaries(self) -> None:
        now = time.monotonic()
        if self._canaries_looked_at is None or now - self._canaries_looked_at >= _CANARIES:
            self._canaries_looked_at = now
            self._canaries.send_due()

    def _ring(self, name: str, which: bell.Which) -> None:
        if not self._bell.ring(name, which):
            self._bell.repeat(name, which)

    def _keep_house(self) -> None:
        if time.monotonic() - self._kept_house < _HOUSEKEEPING and self._kept_house:
            return
        self._kept_house = time.monotonic()
        housekeeping.keep(self._database, self._settings)
        broker.sweep(self.app, self._settings)

    @property
    def info(self) -> str:
        """What Celery's banner says of us."""
        return "    . tables -> swept in memory"


def run(app: Celery, settings: Settings, database: Database) -> None:
    """Sweep until told to stop."""

    def make(*_: Any, **options: Any) -> Sweeper:
        options.pop("app", None)
        return Sweeper(app, settings, database, **options)

    app.Beat(app=app, scheduler=make, loglevel="WARNING", socket_timeout=0, quiet=True).run()
