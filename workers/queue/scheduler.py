"""The scheduler inside Celery beat: reads the tables every second, wakes workers for what is due, runs retention.

It keeps its state in memory and has no schedule file.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
import structlog
from celery.beat import Scheduler
from kombu.exceptions import OperationalError

from models.bookkeeping import clock_steps
from models.durations import spell
from workers.gate import gate
from workers.queue import broker, canary, retention, wakeup
from workers.queue.due_work import DueWork
from workers.queue.host_clock import HostClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from models.db.database import Database
    from models.settings.load import Settings

log = structlog.get_logger()

INTERVAL = 1.0
"""Seconds between two checks for due work."""

_CANARY_INTERVAL = 5.0
"""Seconds between two checks whether a canary is due."""

_LOG_INTERVAL = 60.0
"""Seconds between two log lines about a service that stays down."""

_RETENTION_INTERVAL = 60.0
"""Seconds between two runs of retention, and between two looks whether the clock has stepped back."""


class DueScheduler(Scheduler):
    """Wakes every connection and subscription that has work due. Two are harmless: a wake-up is claimed first."""

    def __init__(self, app: Celery, settings: Settings, database: Database, **options: Any) -> None:
        self._settings = settings
        self._database = database
        self._waker = wakeup.Waker(app, database)
        self._due_work = DueWork(database, settings)
        self._prober = canary.Prober(self._waker, database, wakeup.queues_of(settings))
        self._canaries_checked_at: float | None = None
        self._pruned_at = 0.0
        self._clock = HostClock()
        self._down = ""
        self._logged_at = 0.0
        self._is_closed = False
        super().__init__(app, **options)

    def setup_schedule(self) -> None:
        """Add no schedule entries: the tables say what is due."""

    def tick(self, *_: Any, **__: Any) -> float:
        """Wake for what is due; returns the seconds until the next call."""
        if self._is_closed:
            raise SystemExit
        error = self._outage(self._send_canaries) or self._outage(self.wake_due)
        if error is not None:
            self._log_outage(error)
        elif self._down:
            log.info("service reachable again", service=self._down)
            self._down = ""
        return INTERVAL

    def close(self) -> None:
        """Celery's signal handler calls this, then raises SystemExit.

        The flag ends the next tick, too: Python drops an exception that arises inside a destructor or a callback.
        """
        self._is_closed = True
        super().close()

    def _outage(self, step: Callable[[], None]) -> Exception | None:
        """The step's error if the broker or the database is down. They come back, so the process must not end."""
        try:
            step()
        except (OSError, OperationalError, sa.exc.OperationalError) as error:
            return error
        return None

    def _log_outage(self, error: Exception) -> None:
        """Log the first error of an outage, then one a minute."""
        service = "database" if isinstance(error, sa.exc.SQLAlchemyError) else "broker"
        if service != self._down or time.monotonic() - self._logged_at >= _LOG_INTERVAL:
            self._down, self._logged_at = service, time.monotonic()
            reason = str(getattr(error, "orig", error)).strip().partition("\n")[0]
            log.warning("service unreachable", service=service, error=type(error).__name__, reason=reason)

    def wake_due(self) -> None:
        """Wake for what is due, then delete what is old, also while the broker is down."""
        try:
            if self._clock.stepped_back() or self._is_minute_over():
                self._mend_clock_step()
            self._wake_for_due()
        finally:
            self._prune()

    def _mend_clock_step(self) -> None:
        """Make due what a clock that was ahead has planned."""
        with self._database.begin() as tx:
            step = clock_steps.mend(tx, longest_lease=gate.longest_lease(self._settings.connections.values()))
        if step is not None:
            log.warning("clock has stepped back, what was planned before is due now", by=spell(step.by))
            # Both remember times of the clock that was ahead.
            self._due_work = DueWork(self._database, self._settings)
            self._prober = canary.Prober(self._waker, self._database, wakeup.queues_of(self._settings))

    def _wake_for_due(self) -> None:
        unacknowledged = []
        for name, queue, is_outstanding in self._due_work.pending():
            if is_outstanding:
                unacknowledged.append((name, queue))
            else:
                self._waker.wake(name, queue)
        if unacknowledged:
            self._waker.rewake(unacknowledged)

    def _send_canaries(self) -> None:
        now = time.monotonic()
        if self._canaries_checked_at is None or now - self._canaries_checked_at >= _CANARY_INTERVAL:
            self._canaries_checked_at = now
            self._prober.send_due()

    def _is_minute_over(self) -> bool:
        return not self._pruned_at or time.monotonic() - self._pruned_at >= _RETENTION_INTERVAL

    def _prune(self) -> None:
        if not self._is_minute_over():
            return
        self._pruned_at = time.monotonic()
        retention.prune(self._database, self._settings)
        broker.purge_abandoned(self.app, self._settings)

    @property
    def info(self) -> str:
        """The line in Celery's banner."""
        return "    . what is due -> read from the tables"


def run(app: Celery, settings: Settings, database: Database) -> None:
    """Run Celery beat with this scheduler until it is stopped."""

    def make(*_: Any, **options: Any) -> DueScheduler:
        options.pop("app", None)
        return DueScheduler(app, settings, database, **options)

    app.Beat(app=app, scheduler=make, loglevel="WARNING", socket_timeout=0, quiet=True).run()
