"""Waits for a database that is not there yet, as after a boot of the machine."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from workers.cli import common, errors

if TYPE_CHECKING:
    from collections.abc import Callable

    import sqlalchemy as sa

Result = TypeVar("Result")

_PAUSE = 1.0
"""Seconds between two attempts."""

_NOTE_INTERVAL = 30.0
"""Seconds between two lines that say what is waited for."""

_NOT_READY = ("starting up", "shutting down", "not yet accepting", "recovery", "too many", "remaining connection")
"""Parts of PostgreSQL's refusals that end by themselves. Others, such as a wrong password, need a person."""


def for_database(step: Callable[[], Result]) -> Result:
    """The result of a step that uses the database, once the database answers; it says now and then that it waits.

    Raises at once what waiting does not mend.
    """
    import sqlalchemy as sa

    noted_at: float | None = None
    while True:
        try:
            return step()
        except sa.exc.OperationalError as error:
            if not _is_away(error):
                raise
            if noted_at is None or time.monotonic() - noted_at >= _NOTE_INTERVAL:
                noted_at = time.monotonic()
                common.note(f"Waiting: {errors.explained(error)}")
        time.sleep(_PAUSE)


def _is_away(error: sa.exc.OperationalError) -> bool:
    """Whether the server is away or starts. It answers nothing then, or refuses with FATAL and one of these reasons."""
    import psycopg

    message = str(error.orig)
    if not isinstance(error.orig, psycopg.OperationalError):  # a SQLite file does not come by itself
        return False
    return "FATAL" not in message or any(reason in message for reason in _NOT_READY)
