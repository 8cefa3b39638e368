"""What the long-running processes do, each alone or forked by `up`: see that it can run, set up the log, run."""

# ruff: noqa: PLC0415 - what a process needs is imported when it runs: a verb imports no other process's modules

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from workers.cli import common, errors, logs, ports

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from models.settings.load import Settings

_SYNC_TASKS = 2
"""Tasks at the same time: one vendor that answers slowly leaves room for the others' changes."""

_FULL_SYNC_TASKS = 1
"""Full syncs take turns, each for some seconds; a second process would cost memory and save little time."""

_DATABASE_CHECK_TIMEOUT = 5.0
"""Seconds that the receiver waits for the database before it starts without."""


def of_up(loaded: Settings, *, concurrency: int | None) -> dict[str, Callable[[], None]]:
    """What each process of `up` does, in stop order: the scheduler first, so that it wakes no stopping worker.

    `prepare` has run before. `concurrency`: of each worker; by default `_SYNC_TASKS` and `_FULL_SYNC_TASKS`.
    """
    found: dict[str, Callable[[], None]] = {
        "beat": partial(_run_beat, loaded),
        "receiver": partial(_run_receiver, loaded, loaded.receiver.host, loaded.receiver.port),
        "sync": partial(_run_worker, loaded, ["sync"], concurrency or _SYNC_TASKS),
        "full_sync": partial(_run_worker, loaded, ["full_sync"], concurrency or _FULL_SYNC_TASKS),
    }
    if loaded.subscriptions:
        found["deliver"] = partial(_run_worker, loaded, ["deliver"], deliver_tasks(loaded))
    return found


def deliver_tasks(loaded: Settings) -> int:
    """The threads of a worker that delivers: one for each subscription, so that none waits for another's endpoint.

    One more takes the messages that show that the worker answers.
    """
    from workers.deliveries import deliver

    return min(len(loaded.subscriptions), deliver.MOST_SESSIONS) + 1


def import_shared(loaded: Settings) -> None:
    """Import what the processes of `up` need, before they are forked."""
    import importlib

    from workers.queue import app

    app.import_for_tasks(loaded)
    # By name: imports run from the receiver to the workers and never back.
    names = ["uvicorn.lifespan.on", "uvicorn.loops.uvloop", "receiver.app", "receiver.http.server"]
    if loaded.database.url.startswith("postgresql"):
        names += ["receiver.pg_timeouts", "receiver.webhooks.pg_insert"]  # and with them psycopg
    for name in names:
        importlib.import_module(name)


def prepare(loaded: Settings) -> None:
    """Migrate the tables for the processes of `up`, once the database answers, and make their files and streams."""
    from models.db import migration
    from workers import context
    from workers.cli import mending, waiting
    from workers.deliveries import plans
    from workers.queue import broker

    with common.explaining():
        database = common.database(loaded, migrated=False)
        state = waiting.for_database(lambda: migration.state(database))
        mending.migrate(database, loaded)
        context.sync_streams(database, loaded)
        plans.sync(database, loaded)
        database.close()
        broker.prepare(loaded)
    if state != "current":
        common.err().print("The tables were migrated.")


def receiver(loaded: Settings, host: str, port: int) -> None:
    """Run the receiver until it is stopped. Refuses tables of another version if the database answers soon."""
    _require_if_reachable(loaded)
    _run_receiver(loaded, host, port)


def _run_receiver(loaded: Settings, host: str, port: int) -> None:
    import pkgutil

    import uvicorn

    with common.explaining():
        require_free(loaded, host, port)
    logs.configure()
    _say_to_person(f"The receiver answers at http://{host}:{port}{loaded.receiver.root_path}.")
    # By name, as above.
    create = pkgutil.resolve_name("receiver.app:create")
    options = pkgutil.resolve_name("receiver.http.server:OPTIONS")
    uvicorn.run(partial(create, loaded), factory=True, host=host, port=port, log_config=None, **options)


def require_free(loaded: Settings, host: str, port: int) -> None:
    """Raise `CannotStartError` unless the receiver can listen there."""
    place = f"in [receiver] of {loaded.file}"
    ports.require_free(host, port, setting=f"--port, or `port` {place}", host_setting=f"--host, or `host` {place}")


def _require_if_reachable(loaded: Settings) -> None:
    """Refuse tables of another version; start without this check if the database does not answer soon."""
    import concurrent.futures
    import threading

    import sqlalchemy as sa

    from models.db import migration

    checked: concurrent.futures.Future[None] = concurrent.futures.Future()

    def check() -> None:
        try:
            database = common.database(loaded, migrated=False)
            migration.require(database)
            database.close()
        except Exception as error:  # noqa: BLE001 - `result` raises it
            checked.set_exception(error)
        else:
            checked.set_result(None)

    # A daemon thread: a database that hangs, or a locked file, must not block the exit.
    threading.Thread(target=check, daemon=True).start()
    try:
        checked.result(_DATABASE_CHECK_TIMEOUT)
    except (sa.exc.OperationalError, TimeoutError) as error:
        reason = "the database does not answer" if isinstance(error, TimeoutError) else errors.explained(error)
        common.note(f"Waiting: {reason}. The receiver starts meanwhile, and keeps webhooks in its spool.")


def worker(loaded: Settings, *, queues: Sequence[str], concurrency: int) -> None:
    """Run a worker for these queues until it is stopped, once the database answers."""
    _wait(loaded)
    _sync_settings(loaded)
    _run_worker(loaded, queues, concurrency)


def _run_worker(loaded: Settings, queues: Sequence[str], concurrency: int) -> None:
    from workers.queue import app

    logs.configure()
    _say_to_person(f"The worker takes {' and '.join(queues)}.")
    app.run_worker(loaded, queues=queues, concurrency=concurrency)


def beat(loaded: Settings) -> None:
    """Run the scheduler until it is stopped, once the database answers."""
    _wait(loaded)
    _sync_settings(loaded)
    _run_beat(loaded)


def _run_beat(loaded: Settings) -> None:
    from workers.queue import app

    logs.configure()
    _say_to_person("The scheduler wakes the workers.")
    app.run_beat(loaded)


def flower(loaded: Settings, *, address: str, port: int, basic_auth: str | None) -> None:
    """Run Flower until it is stopped, once the database answers."""
    from workers.queue import app

    _wait(loaded)
    logs.configure()
    _say_to_person(f"Flower answers at http://{address}:{port}.")
    app.run_flower(loaded, address=address, port=port, basic_auth=basic_auth)


def _wait(loaded: Settings) -> None:
    """Wait for the database; refuse tables of another version, and files that cannot be used."""
    from models.settings import own_files
    from workers.cli import waiting
    from workers.queue import broker

    logs.drop_failed_writes()
    own_files.tighten(loaded)
    waiting.for_database(lambda: common.database(loaded)).close()
    broker.prepare(loaded)  # before it is said that the process runs


def _sync_settings(loaded: Settings) -> None:
    """Bring the streams and subscriptions in line with the settings."""
    from models.db.database import Database
    from workers import context
    from workers.deliveries import plans

    database = Database(loaded.database.url)
    context.sync_streams(database, loaded)
    plans.sync(database, loaded)
    database.close()


def _say_to_person(what: str) -> None:
    """Say that a process runs where a person has started it; below `up` and in a service's log it is no event."""
    console = common.err()
    if console.is_terminal:
        console.print(f"{what} Ctrl-C stops it.", markup=False)
