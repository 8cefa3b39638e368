"""The verbs that run the processes: all in one terminal, or each alone."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import ipaddress
import os
import re
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli import common, errors, ports

if TYPE_CHECKING:
    from pathlib import Path

    from models.settings.load import Settings
    from workers.cli import supervisor

_DATABASE_CHECK_TIMEOUT = 5.0
"""Seconds that the receiver waits for the database before it starts without."""

Concurrency = Annotated[
    int,
    typer.Option(min=1, metavar="N", help="Tasks that a worker runs at the same time, each in its own process."),
]


def up(
    config: common.Config = None,
    concurrency: Concurrency = 2,
) -> None:
    """Migrate, then run receiver, workers and beat in this terminal.

    A process that ends is started again. So is a worker that has taken no message from its queue for a long time.
    Ctrl-C stops all processes in order, and none of them outlives this one. A database that is away is waited for.

    Example: [bold]erpmirror up[/]
    """
    from models.db import migration
    from models.settings import own_files
    from workers.cli import logs, mending, supervisor, waiting, worker_health

    logs.drop_failed_writes()
    loaded = common.settings(config)
    own_files.tighten(loaded)
    place = f"in [receiver] of {loaded.file}"
    ports.require_free(
        loaded.receiver.host, loaded.receiver.port, setting=f"`port` {place}", host_setting=f"`host` {place}"
    )
    database = common.database(loaded, migrated=False)
    state = waiting.for_database(lambda: migration.state(database))
    mending.migrate(database, loaded)
    database.close()
    if state != "current":
        common.err().print("The tables were migrated.")
    unhealthy = worker_health.stalled_workers(loaded)
    address = f"http://{loaded.receiver.host}:{loaded.receiver.port}{loaded.receiver.root_path}"
    common.err().print(f"The receiver answers at {address}. Ctrl-C stops everything.")
    children = _children(loaded.file, concurrency)
    raise typer.Exit(supervisor.run(children, print_line=_printer(), unhealthy=unhealthy))


def _children(file: Path, concurrency: int) -> dict[str, list[str]]:
    """The arguments of each process, in stop order: the scheduler first, so that it wakes no stopping worker."""
    processes = ["--concurrency", str(concurrency)]
    verbs = {
        "beat": ["beat"],
        "receiver": ["receiver"],
        "sync": ["worker", "--queues", "sync", *processes],
        "full_sync": ["worker", "--queues", "full_sync", *processes],
    }
    return {name: [*verb, "--config", str(file)] for name, verb in verbs.items()}


_COLOURS = {"beat": "magenta", "receiver": "green", "sync": "cyan", "full_sync": "blue", "up": "yellow"}


def _printer() -> supervisor.Print:
    from rich.text import Text

    console = common.out()

    def print_line(name: str, line: str) -> None:
        console.print(Text(f"{name:>9} | ", style=_COLOURS.get(name, "")) + Text.from_ansi(line), soft_wrap=True)

    return print_line


def receiver(
    config: common.Config = None,
    host: Annotated[str | None, typer.Option(help="Overrides host in \\[receiver].", show_default=False)] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Overrides port in \\[receiver].", show_default=False)
    ] = None,
) -> None:
    """Run the receiver alone: webhooks, polls, the journal, health and metrics.

    It also starts without a database. Until the database answers, webhooks are kept in the spool, and other requests
    are answered 503.

    Example: [bold]erpmirror receiver --host 0.0.0.0[/]
    """
    import pkgutil

    import uvicorn

    from workers import configuration

    loaded = common.settings(config)
    host, port = loaded.receiver.host if host is None else host, loaded.receiver.port if port is None else port
    place = f"in [receiver] of {loaded.file}"
    ports.require_free(host, port, setting=f"--port, or `port` {place}", host_setting=f"--host, or `host` {place}")
    _require_if_reachable(loaded)
    _configure_log()
    _say_to_person(f"The receiver answers at http://{host}:{port}{loaded.receiver.root_path}.")
    os.environ[configuration.VARIABLE] = str(loaded.file)
    # By name: imports run from the receiver to the workers and never back.
    options = pkgutil.resolve_name("receiver.http.server:OPTIONS")
    uvicorn.run(
        "receiver.app:create",
        factory=True,
        host=host,
        port=port,
        log_config=None,
        **options,
    )


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


def worker(
    config: common.Config = None,
    concurrency: Concurrency = 2,
    queues: Annotated[
        str, typer.Option(metavar="NAMES", help="sync (webhooks and polls), full_sync, or both.")
    ] = "sync,full_sync",
) -> None:
    """Run a worker: it reads the ERPs and writes the mirror.

    Run at least one for each queue, so that a full sync does not delay changes.

    Example: [bold]erpmirror worker --queues sync --concurrency 4[/]
    """
    from workers.queue import app

    names = [name.strip() for name in queues.split(",") if name.strip()]
    unknown = set(names) - {app.SYNC, app.FULL_SYNC}
    if unknown or not names:
        raise typer.BadParameter(f"write {app.SYNC}, {app.FULL_SYNC} or both with a comma", param_hint="--queues")
    loaded = _load_for_process(config)
    _say_to_person(f"The worker takes {' and '.join(names)}.")
    app.run_worker(loaded, queues=names, concurrency=concurrency)


def beat(config: common.Config = None) -> None:
    """Run the scheduler: every second it wakes workers for what is due. Running two is harmless.

    Example: [bold]erpmirror beat[/]
    """
    from workers.queue import app

    loaded = _load_for_process(config)
    _say_to_person("The scheduler wakes the workers.")
    app.run_beat(loaded)


def flower(
    config: common.Config = None,
    address: Annotated[str, typer.Option(help="The address that Flower listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="The port that it listens on.")] = 5555,
    basic_auth: Annotated[
        str | None,
        typer.Option(
            envvar="ERPMIRROR_FLOWER_AUTH",
            metavar="USER:PASSWORD",
            help="The login. Set it in the environment: process lists show arguments.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Run Flower, a web page that shows the workers and their tasks.

    Example: [bold]ERPMIRROR_FLOWER_AUTH=me:secret erpmirror flower --address 0.0.0.0[/]
    """
    from workers.queue import app

    if basic_auth is None and not _is_loopback(address):
        raise errors.UserError(
            f"everyone who reaches {address} could stop your workers through Flower; "
            "set ERPMIRROR_FLOWER_AUTH=user:password, or listen on 127.0.0.1"
        )
    if basic_auth is not None and not all(basic_auth.partition(":")):
        raise errors.UserError("write ERPMIRROR_FLOWER_AUTH, or --basic-auth, as user:password")
    if basic_auth is not None and not re.fullmatch(r"[!-+\x2d-~]+", basic_auth):  # Flower splits it at each comma
        raise errors.UserError("write Flower's login in printable ASCII without a space or a comma")
    ports.require_free(address, port, setting="--port", host_setting="--address")
    loaded = _load_for_process(config)
    _say_to_person(f"Flower answers at http://{address}:{port}.")
    app.run_flower(loaded, address=address, port=port, basic_auth=basic_auth)


def _say_to_person(what: str) -> None:
    """Say that a process runs where a person has started it; below `up` and in a service's log it is no event."""
    console = common.err()
    if console.is_terminal:
        console.print(f"{what} Ctrl-C stops it.", markup=False)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _load_for_process(config: Path | None) -> Settings:
    """Load the settings, wait for the database, refuse tables of another version, set up the log."""
    from models.settings import own_files
    from workers.cli import logs, waiting
    from workers.queue import broker

    logs.drop_failed_writes()
    loaded = common.settings(config)
    own_files.tighten(loaded)
    waiting.for_database(lambda: common.database(loaded)).close()
    broker.prepare(loaded)  # before it is said that the process runs
    _configure_log()
    return loaded


def _configure_log() -> None:
    from workers.cli import logs

    logs.configure()
