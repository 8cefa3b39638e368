"""The verbs that run the processes: all in one terminal, or each alone."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import ipaddress
import re
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli import common, errors, ports

if TYPE_CHECKING:
    from workers.cli import supervisor


def up(
    config: common.Config = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Tasks that each worker runs at the same time. Default: 2 for sync, 1 for full_sync.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Migrate, then run receiver, workers and beat in this terminal.

    A process that ends is started again. So is a worker that has taken no message from its queue for a long time.
    Ctrl-C stops all processes in order, and none of them outlives this one. A database that is away is waited for.

    Example: [bold]erpmirror up[/]
    """
    from models.settings import own_files
    from workers import lifeline
    from workers.cli import forking, logs, processes, supervisor, worker_health

    parent_ended = lifeline.parent_ended()
    logs.drop_failed_writes()
    loaded = common.settings(config)
    own_files.tighten(loaded)
    processes.require_free(loaded, loaded.receiver.host, loaded.receiver.port)
    forking.warm(partial(processes.import_shared, loaded))
    status = supervisor.run_once("prepare", partial(processes.prepare, loaded), parent_ended=parent_ended)
    if status == 0:
        address = f"http://{loaded.receiver.host}:{loaded.receiver.port}{loaded.receiver.root_path}"
        common.err().print(f"The receiver answers at {address}. Ctrl-C stops everything.")
        status = supervisor.run(
            processes.of_up(loaded, concurrency=concurrency),
            print_line=_printer(),
            unhealthy=partial(worker_health.stalled_workers, loaded),
            parent_ended=parent_ended,
        )
    raise typer.Exit(status)


_COLOURS = {
    "beat": "magenta",
    "receiver": "green",
    "sync": "cyan",
    "full_sync": "blue",
    "deliver": "red",
    "up": "yellow",
}


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
    from workers.cli import processes

    loaded = common.settings(config)
    host, port = loaded.receiver.host if host is None else host, loaded.receiver.port if port is None else port
    processes.receiver(loaded, host, port)


def worker(
    config: common.Config = None,
    concurrency: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Tasks that it runs at the same time. Default: 2; one for each subscription with deliver.",
            show_default=False,
        ),
    ] = None,
    queues: Annotated[
        str, typer.Option(metavar="NAMES", help="sync (webhooks and polls), full_sync, or both; or deliver alone.")
    ] = "sync,full_sync",
) -> None:
    """Run a worker: it reads the ERPs and writes the mirror, or delivers to subscriptions.

    Run at least one for each queue, so that a full sync does not delay changes. The queue deliver has a worker of its
    own, so that slow endpoints do not delay the ERPs; without subscriptions it needs none.

    Example: [bold]erpmirror worker --queues sync --concurrency 4[/]
    """
    from workers.cli import processes
    from workers.queue import wakeup

    names = [name.strip() for name in queues.split(",") if name.strip()]
    unknown = set(names) - set(wakeup.QUEUES)
    if (unknown or not names) and names != [wakeup.DELIVER]:
        wanted = f"write {wakeup.SYNC}, {wakeup.FULL_SYNC} or both with a comma, or {wakeup.DELIVER} alone"
        raise typer.BadParameter(wanted, param_hint="--queues")
    loaded = common.settings(config)
    default = processes.deliver_tasks(loaded) if names == [wakeup.DELIVER] else 2
    processes.worker(loaded, queues=names, concurrency=concurrency or default)


def beat(config: common.Config = None) -> None:
    """Run the scheduler: every second it wakes workers for what is due. Running two is harmless.

    Example: [bold]erpmirror beat[/]
    """
    from workers.cli import processes

    processes.beat(common.settings(config))


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
    from workers.cli import processes

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
    processes.flower(common.settings(config), address=address, port=port, basic_auth=basic_auth)


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"
