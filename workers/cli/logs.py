"""What the long-running processes print: one line an event, never a packet, a key or somebody's local variables."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

_QUIET = ("httpx", "httpcore", "alembic", "amqp", "kombu", "celery", "uvicorn", "tornado.access", "asyncio")
"""Others speak from warnings on. httpx prints whole addresses at INFO, and a query may be a key."""


_QUIET_FOR = 60.0
"""Seconds between two lines about a broker that stays away."""


class _StandardError(logging.Handler):
    """Writes to whatever standard error is now."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - the convention of logging handlers
            self.handleError(record)


_OUTAGES = ("Couldn't ack", "Couldn't reject", "WorkerLostError", "TimeLimitExceeded", "SoftTimeLimitExceeded")
"""What happens when a broker goes away, a child is killed or a vendor is too slow. Where it happened is no news."""

_REPEATED = "consumer: Cannot connect"


class _Readable(logging.Filter):
    """Celery's and kombu's words on one line each, without the traceback of an outage; what repeats once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at = -_QUIET_FOR

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is printed."""
        if not record.name.startswith(("celery", "kombu")):
            return True
        said = " ".join(record.getMessage().split())
        if any(outage in said for outage in _OUTAGES):
            record.exc_info = record.exc_text = None
            said = said.partition(" Traceback (most recent call last)")[0]
        if "Traceback (most recent call last)" not in said:
            record.msg, record.args = said, ()
        return not said.startswith(_REPEATED) or self._is_news()

    def _is_news(self) -> bool:
        now = time.monotonic()
        if now - self._said_at < _QUIET_FOR:
            return False
        self._said_at = now
        return True


def configure() -> None:
    """Send structlog's events and everybody's log records to standard error, in one form."""
    renderer = _structlog(logging.INFO)
    handler = _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    handler.addFilter(_Readable())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    # A folder has no host, which kombu finds remarkable.
    logging.getLogger("kombu.connection").setLevel(logging.ERROR)
    # Celery warns root of pickled messages; ours are JSON that says "look".
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    # What a task began before the broker went away it may finish: that is chosen.
    warnings.filterwarnings("ignore", message=r"\s*In Celery 5\.1 we introduced")


def only_errors() -> None:
    """Print structlog's errors only, on standard error: output stays clean for whoever reads it."""
    _structlog(logging.ERROR)


_SHARED: Sequence[Any] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def _structlog(level: int) -> Any:
    # Plain tracebacks: rich ones show local variables, and those hold packets and keys.
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(
        processors=[*_SHARED, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
    )
    return renderer
