"""Reports whether the broker answers and the workers take messages, for `status`, `check` and `up`."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.cli import common, errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from models.db.database import Database
    from models.settings.load import Settings


@dataclass(frozen=True, slots=True)
class HealthLine:
    """One line of the report. `ok`: nothing is wrong."""

    text: str
    ok: bool


def health_lines(loaded: Settings, database: Database) -> Iterator[HealthLine]:
    """A line on the broker, one on each queue with the last message that its workers took, one on a wrong clock."""
    from models.bookkeeping import clock_steps
    from workers.queue import canary, wakeup

    yield _broker(loaded, database)
    for queue in canary.queue_health(database, wakeup.queues_of(loaded)):
        yield HealthLine(queue.summary, ok=queue.problem is None)
    with database.read() as tx:
        step = clock_steps.find(tx)
    if step is not None:
        yield HealthLine(f"clock: {step.problem}", ok=False)


def print_health(loaded: Settings, database: Database) -> None:
    """Print the report; what is wrong is red."""
    for line in health_lines(loaded, database):
        common.print_lines(common.out(), line.text, style="" if line.ok else "red")


def stalled_workers(loaded: Settings) -> dict[str, str]:
    """For `up`: the workers whose queue has long had messages that nothing takes."""
    from workers.queue import app, broker, canary, wakeup

    try:
        broker.prepare(loaded)
        database = common.database(loaded, migrated=False)
        waker = wakeup.Waker(app.create_app(loaded, database), database)
        after = canary.STALLED_AFTER + app.longest_task(loaded)
        return canary.stalled(waker, database, after=after, queues=wakeup.queues_of(loaded))
    except Exception as error:  # without database or broker nothing is known about the workers
        if errors.explained(error) is None:
            raise
        return {}


def reach(loaded: Settings, database: Database) -> str:
    """Connect to the broker and return its URL's scheme. Raises what the client library raises."""
    from workers.queue import broker

    broker.prepare(loaded)
    if loaded.broker.folder is None:  # a folder that could be made answers
        _connect(loaded, database)
    return loaded.broker.url.partition("://")[0]


def _connect(loaded: Settings, database: Database) -> None:
    from workers.queue import app, wakeup

    wakeup.Waker(app.create_app(loaded, database), database).check_broker()


def _broker(loaded: Settings, database: Database) -> HealthLine:
    try:
        return HealthLine(f"broker: {reach(loaded, database)} answers", ok=True)
    except Exception as error:  # raised again unless it is an expected one
        message = errors.explained(error)
        if message is None:
            raise
        return HealthLine(f"broker: {message}. Work waits in the tables until the broker is back.", ok=False)
