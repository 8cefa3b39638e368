"""Beat's own scheduler: in memory, no schedule file. It sweeps the tables and rings for what is due."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import structlog
from celery.beat import Scheduler
from kombu.exceptions import OperationalError

from models import notices, streams
from models.tables import gates
from workers import bell, broker, desk, ingest

if TYPE_CHECKING:
    from celery import Celery

    from models.database import Database
    from models.settings import Settings

log = structlog.get_logger()

INTERVAL = 1.0
"""Seconds between two sweeps."""

_HOUSEKEEPING = 60.0
"""Seconds between two clearings-away."""


class Sweeper(Scheduler):
    """Rings for every connection that has something due. Two are harmless: a ring is claimed in the database."""

    def __init__(self, app: Celery, settings: Settings, database: Database, **options: Any) -> None:
        self._settings = settings
        self._database = database
        self._bell = bell.Bell(app, database)
        self._kept_house = 0.0
        super().__init__(app, **options)

    def setup_schedule(self) -> None:
        """Nothing is scheduled by entries: what is due stands in the tables."""

    def tick(self, *_: Any, **__: Any) -> float:
        """One sweep; returns the seconds until the next."""
        try:
            self.sweep()
        except (OSError, OperationalError, sa.exc.OperationalError) as error:
            # A broker or a database that is away comes back; a sweep that dies would have to be started again.
            away = "database" if isinstance(error, sa.exc.SQLAlchemyError) else "broker"
            log.warning("sweep failed", away=away, error=type(error).__name__)
        return INTERVAL

    def sweep(self) -> None:
        """Ring for what is due, clear away what is old."""
        for each in desk.desks(self._database, self._settings):
            if self._shut(each):
                continue
            look, read = ingest.has_work(each)
            if look:
                self._ring(each.name, bell.LOOK)
            if read:
                self._ring(each.name, bell.READ)
        self._keep_house()

    def _ring(self, name: str, which: bell.Which) -> None:
        if not self._bell.ring(name, which):
            self._bell.repeat(name, which)

    def _shut(self, each: desk.Desk) -> bool:
        """Nobody need come while the gate is shut, except to fold notices, which can wait as long."""
        with self._database.read() as connection:
            now = self._database.now(connection)
            shut = sa.select(gates.c.account).where(gates.c.account == each.gate.account, gates.c.shut_until > now)
            return connection.execute(shut).first() is not None

    def _keep_house(self) -> None:
        if time.monotonic() - self._kept_house < _HOUSEKEEPING and self._kept_house:
            return
        self._kept_house = time.monotonic()
        broker.sweep(self.app, self._settings)
        with self._database.begin() as connection:
            now = self._database.now(connection)
            notices.trim(connection, before=now - notices.KEPT)
            streams.trim_runs(connection, before=now - notices.KEPT)

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
