"""Logging of the long-running processes: one line per event, without packets, keys or local variables.

A log that cannot be written stops no work: what a closed pipe, a closed terminal or a full disk does not take is lost.
"""

from __future__ import annotations

import logging
import sys
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import structlog

from workers.cli import broker_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

_LIBRARIES = ("httpx", "httpcore", "alembic", "amqp", "kombu", "celery", "uvicorn", "tornado.access", "asyncio")
"""Logged from WARNING on. httpx logs whole URLs at INFO, and their query may hold a key."""

_REPEAT_AFTER = 60.0
"""Seconds between two lines about a broker that stays away."""


class _LossyStream:
    """A standard stream whose failed writes are dropped."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, AttributeError):  # AttributeError: None, because it was closed before the start
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, AttributeError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def drop_failed_writes() -> None:
    """From now on a write to standard output or error never fails, whatever became of its reader."""
    if not isinstance(sys.stderr, _LossyStream):
        sys.stdout, sys.stderr = _LossyStream(sys.stdout), _LossyStream(sys.stderr)


class _StandardError(logging.Handler):
    """Writes to the current `sys.stderr`, which tests replace."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stderr.write(self.format(record) + "\n")
        except Exception:  # noqa: BLE001 - the convention of logging handlers
            self.handleError(record)


_OUTAGES = ("Couldn't ack", "Couldn't reject", "WorkerLostError", "TimeLimitExceeded", "SoftTimeLimitExceeded")
"""Expected when a broker goes away, a child process is killed or a vendor is too slow: logged without a traceback."""

_CANNOT_CONNECT = "consumer: Cannot connect"
_RESTARTS = "Frequent restarts detected"
"""Celery's alarm, with a traceback, where RabbitMQ refuses a login: the line above says it."""


def _broker_is_away(args: Any) -> str:
    """Celery's line in our words: its arguments are the address, the error and when it tries again."""
    error = next((each for each in args if isinstance(each, BaseException)), None)
    reason = broker_errors.explanation(error) if error is not None else "the broker cannot be used"
    return f"{reason}; tried again every few seconds"


class _OneLine(logging.Filter):
    """Puts each record of Celery and kombu on one line; no traceback for outages, repetitions once a minute."""

    def __init__(self) -> None:
        super().__init__()
        self._printed_at = -_REPEAT_AFTER

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is printed."""
        if not record.name.startswith(("celery", "kombu")):
            return True
        message = " ".join(record.getMessage().split())
        if message.startswith(_RESTARTS):
            return False
        if message.startswith(_CANNOT_CONNECT):
            record.msg, record.args = _broker_is_away(record.args), ()
            return self._is_due()
        if any(outage in message for outage in _OUTAGES):
            record.exc_info = record.exc_text = None
            message = message.partition(" Traceback (most recent call last)")[0]
        if "Traceback (most recent call last)" not in message:
            record.msg, record.args = message, ()
        return True

    def _is_due(self) -> bool:
        now = time.monotonic()
        if now - self._printed_at < _REPEAT_AFTER:
            return False
        self._printed_at = now
        return True


def configure() -> None:
    """Send structlog's events and all log records to standard error, in one form."""
    drop_failed_writes()
    renderer = _structlog(logging.INFO)
    handler = _StandardError()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    handler.addFilter(_OneLine())
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Flower lists Celery's own tasks, and calls it an error that no worker has answered yet.
    logging.getLogger("flower.command").setLevel(logging.WARNING)
    logging.getLogger("flower.inspector").setLevel(logging.CRITICAL)
    # kombu warns that a filesystem URL has no host.
    logging.getLogger("kombu.connection").setLevel(logging.ERROR)
    # Celery warns root about pickled messages. Ours are JSON.
    warnings.filterwarnings("ignore", message="You're running the worker with superuser privileges")
    # Celery warns of a setting that we chose: tasks finish although the broker went away.
    warnings.filterwarnings("ignore", message=r"\s*In Celery 5\.1 we introduced")


def only_errors() -> None:
    """Print only errors, on standard error, so that standard output holds nothing but results."""
    _structlog(logging.ERROR)


_SHARED: Sequence[Any] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
)


def _structlog(level: int) -> Any:
    # Plain tracebacks: rich ones show local variables, which hold packets and keys.
    renderer = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(
        processors=[*_SHARED, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
    )
    return renderer
