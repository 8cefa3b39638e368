"""Who is there to do the work: what `status` says of the broker and of the workers."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays quick

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workers.cli import entry, errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.database import Database
    from models.settings import Settings


@dataclass(frozen=True, slots=True)
class Served:
    """One line: what it says, and whether all is well."""

    says: str
    ok: bool


def lines(loaded: Settings, database: Database) -> Iterator[Served]:
    """The broker, then each queue with the last sign of life from its workers."""
    from workers import canary

    yield _broker(loaded, database)
    for sign in canary.signs(database):
        yield Served(sign.says, ok=sign.wrong is None)


def show(loaded: Settings, database: Database) -> None:
    """Print them for a person."""
    from rich.text import Text

    for line in lines(loaded, database):
        entry.out().print(Text(line.says, style="" if line.ok else "red"), soft_wrap=True)


def deaf_workers(loaded: Settings) -> Callable[[], dict[str, str]]:
    """For `up`: asks which queues' workers live, perhaps, but have long taken nothing while messages wait."""
    from workers import app, bell, broker, canary

    broker.prepare(loaded)
    database = entry.database(loaded, migrated=False)
    doorbell = bell.Bell(app.create_app(loaded, database), database)

    def deaf() -> dict[str, str]:
        try:
            return canary.deaf(doorbell, database, after=canary.DEAF + app.longest_task(loaded))
        except Exception as error:  # a database or a broker that is away says nothing about workers
            if errors.explained(error) is None:
                raise
            return {}

    return deaf


def reach(loaded: Settings, database: Database) -> str:
    """Reach the broker; its kind. Raises what its client raises."""
    from workers import app, bell, broker

    broker.prepare(loaded)
    bell.Bell(app.create_app(loaded, database), database).broker_alive()
    return loaded.broker.url.partition("://")[0]


def _broker(loaded: Settings, database: Database) -> Served:
    try:
        return Served(f"broker: {reach(loaded, database)} answers", ok=True)
    except Exception as error:  # what is not about the broker is raised again
        said = errors.explained(error)
        if said is None:
            raise
        return Served(f"broker: {said}. Work waits in the tables and goes on when it is back.", ok=False)
