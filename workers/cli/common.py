"""What all verbs share: the settings file, the database, the connection, and where to print."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays quick

from __future__ import annotations

import difflib
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from workers.cli import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.db.database import Database
    from models.settings.connections import Connection
    from models.settings.load import Settings
    from workers.context import ConnectionContext

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        help="The settings file. Default: $ERPMIRROR_CONFIG, else ./erpmirror.toml.",
        show_default=False,
    ),
]

Name = Annotated[str, typer.Argument(metavar="CONNECTION", help="A connection's name in the settings.")]

MaybeResource = Annotated[
    str | None,
    typer.Argument(metavar="RESOURCE", help="One resource, such as catalogs.goods. Default: all.", show_default=False),
]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]

_WIDE = 200
_SECONDS_TO_CONNECT = "10"

_chosen: ContextVar[Path | None] = ContextVar("config", default=None)


def choose(config: Path | None) -> None:
    """Remember a `--config` that was given before the verb."""
    _chosen.set(config)


def settings(config: Path | None) -> Settings:
    """Load the settings. Log events below errors are silenced: a verb prints what it does."""
    from workers import configuration
    from workers.cli import logs

    logs.only_errors()
    return configuration.load(config or _chosen.get())


def file(config: Path | None) -> Path:
    """Find the settings file, which need not exist."""
    from workers import configuration

    return configuration.find(config or _chosen.get())


def database(loaded: Settings, *, migrated: bool = True) -> Database:
    """Open the database. `migrated`: refuse unless its tables are those of this version."""
    import sqlalchemy as sa

    from models.db import migration
    from models.db.database import Database

    url = sa.make_url(loaded.database.url)
    if url.get_backend_name() == "postgresql" and "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": _SECONDS_TO_CONNECT})
    opened = Database(url)
    if migrated:
        migration.require(opened)
    return opened


def options(loaded: Settings, name: str) -> Connection:
    """Find a connection's settings."""
    if name not in loaded.connections:
        raise errors.Problem(f'there is no connection "{name}" in {loaded.file}{known(name, list(loaded.connections))}')
    return loaded.connections[name]


def connection_context(config: Path | None, name: str) -> ConnectionContext:
    """The context of a connection, its database open."""
    from workers import context

    loaded = settings(config)
    options(loaded, name)
    return context.connection_context(database(loaded), loaded, name)


def wake(at: ConnectionContext) -> None:
    """Wake the workers. A broker that is away is no error: the scheduler wakes them when it is back."""
    from workers.queue import app, broker, wakeup

    broker.prepare(at.settings)
    try:
        waker = wakeup.Waker(app.create_app(at.settings, at.database), at.database)
        waker.wake(at.name, wakeup.SYNC)
        waker.wake(at.name, wakeup.FULL_SYNC)
    except Exception as error:  # raised again unless it is an expected one
        message = errors.explained(error)
        if message is None:
            raise
        note(f"{message}. The work stays due; a worker does it when the broker is back.")


def resources(at: ConnectionContext, resource: str | None) -> list[str]:
    """The resource, or all of the connection's."""
    if resource is None:
        return list(at.resources)
    if resource not in at.resources:
        raise errors.Problem(f'{at.name} has no resource "{resource}"{known(resource, list(at.resources))}')
    return [resource]


def known(word: str, names: list[str]) -> str:
    """A hint: what was probably meant, else what there is."""
    close = difflib.get_close_matches(word, names, n=1)
    if close:
        return f'; did you mean "{close[0]}"?'
    return f"; there are: {', '.join(sorted(names))}" if names else "; there are none yet"


def out() -> Console:
    """Standard output. Tables are wide where it is not a terminal."""
    return _console(stderr=False)


def err() -> Console:
    """Standard error: progress, notes, errors."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _WIDE
    return console


def complain(message: str) -> None:
    """Print an error: a red block for a person, plain lines for a file."""
    console = err()
    if console.is_terminal:
        console.print(Panel(Text(message), title="Error", title_align="left", border_style="red"))
    else:
        console.print(Text(f"Error: {message}", style="red"), soft_wrap=True)


def note(message: str) -> None:
    """Print a remark on standard error."""
    err().print(Text(message, style="yellow"), soft_wrap=True)


@contextmanager
def counting(title: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Show on a terminal how many objects are done. Call what it gives with their number."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = err()
    hidden = not console.is_terminal
    bar = BarColumn()
    shown = TextColumn("{task.completed} objects")
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), bar, shown, TimeElapsedColumn(),
                  console=console, disable=hidden, transient=True) as bars:  # fmt: skip
        task = bars.add_task(title, total=total)
        yield lambda done: bars.update(task, completed=done)
