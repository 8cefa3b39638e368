"""Whether the broker answers and workers take messages, as `status` shows it."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays quick

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.cli import common, errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.db.database import Database
    from models.settings.load import Settings


@dataclass(frozen=True, slots=True)
class Served:
    """One line of text, and whether all is well."""

    says: str
    ok: bool


def lines(loaded: Settings, database: Database) -> Iterator[Served]:
    """The broker, then each queue with the last answer of its workers."""
    from workers.queue import canary

    yield _broker(loaded, database)
    for sign in canary.queue_health(database):
        yield Served(sign.summary, ok=sign.problem is None)


def show(loaded: Settings, database: Database) -> None:
    """Print them for a person."""
    from rich.text import Text

    for line in lines(loaded, database):
        common.out().print(Text(line.says, style="" if line.ok else "red"), soft_wrap=True)


def stalled_workers(loaded: Settings) -> Callable[[], dict[str, str]]:
    """For `up`: a check for queues whose workers have long taken nothing while messages wait."""
    from workers.queue import app, broker, canary, wakeup

    broker.prepare(loaded)
    database = common.database(loaded, migrated=False)
    waker = wakeup.Waker(app.create_app(loaded, database), database)

    def deaf() -> dict[str, str]:
        try:
            return canary.stalled(waker, database, after=canary.STALLED_AFTER + app.longest_task(loaded))
        except Exception as error:  # while the database or the broker is away, nothing is known about workers
            if errors.explained(error) is None:
                raise
            return {}

    return deaf


def reach(loaded: Settings, database: Database) -> str:
    """Reach the broker, and give its kind. Raises what its client raises."""
    from workers.queue import app, broker, wakeup

    broker.prepare(loaded)
    wakeup.Waker(app.create_app(loaded, database), database).broker_alive()
    return loaded.broker.url.partition("://")[0]


def _broker(loaded: Settings, database: Database) -> Served:
    try:
        return Served(f"broker: {reach(loaded, database)} answers", ok=True)
    except Exception as error:  # raised again unless it is an expected one
        message = errors.explained(error)
        if message is None:
            raise
        return Served(f"broker: {message}. Work waits in the tables and goes on when it is back.", ok=False)
