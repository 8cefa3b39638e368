"""Shared by all verbs: common options, the settings, the database, a connection's context, and the consoles."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import difflib
import inspect
import io
import re
import select
import sys
import textwrap
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.text import Text
from typer.core import TyperCommand

from workers.cli import errors, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from models.db.database import Database
    from models.settings.connections import Connection
    from models.settings.load import Settings
    from workers.context import ConnectionContext
    from workers.queue.wakeup import QueueName

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
MaybeName = Annotated[
    str | None,
    typer.Argument(metavar="CONNECTION", help="One connection of the settings. Default: all.", show_default=False),
]

MaybeResource = Annotated[
    str | None,
    typer.Argument(metavar="RESOURCE", help="One resource, such as catalogs.goods. Default: all.", show_default=False),
]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]

_WIDTH_OF_FILES = 200
"""Columns of a table that is printed into a file or a pipe."""

_CONNECT_TIMEOUT = "10"
"""Seconds until a PostgreSQL server that does not answer counts as away."""

LARGEST = 2**63 - 1
"""The largest whole number that a column of the databases holds."""

_LOCK_SECONDS = 5
"""For how long a person waits for another program's lock."""

_chosen: ContextVar[Path | None] = ContextVar("config", default=None)


class Verb(TyperCommand):
    """Joins the lines of each paragraph of a help text: Typer keeps a docstring's line breaks, whatever the width."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        text = inspect.cleandoc(attributes.pop("help", None) or "")
        paragraphs = (" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
        super().__init__(name, help="\n\n".join(paragraphs), **attributes)


def choose_config(config: Path | None) -> None:
    """Remember a `--config` that was given before the verb."""
    _chosen.set(config)


def settings(config: Path | None, *, may_log: bool = True) -> Settings:
    """Load the settings. Log events below errors are silenced: a verb prints what it does.

    `may_log`: the verb runs code that logs. Importing structlog takes a tenth of what `status` takes.
    """
    from workers import configuration

    if may_log:
        from workers.cli import logs

        logs.only_errors()
    return configuration.load(config or _chosen.get())


def settings_file(config: Path | None) -> Path:
    """Find the settings file, which need not exist."""
    from workers import configuration

    return configuration.find(config or _chosen.get())


def database(loaded: Settings, *, migrated: bool = True) -> Database:
    """Open the database. `migrated`: raise `WrongTablesError` unless its tables are those of this version."""
    import sqlalchemy as sa

    from models.db import migration
    from models.db.database import Database

    url = sa.make_url(loaded.database.url)
    if url.get_backend_name() == "postgresql" and "connect_timeout" not in url.query:
        url = url.update_query_dict({"connect_timeout": _CONNECT_TIMEOUT})
    opened = Database(url, lock_seconds=_LOCK_SECONDS)
    if migrated:
        migration.require(opened)
    return opened


def options(loaded: Settings, name: str) -> Connection:
    """The settings of a connection; UserError if there is none of that name."""
    if name not in loaded.connections:
        raise errors.UserError(
            f'there is no connection "{name}" in {loaded.file}{suggestion(name, list(loaded.connections))}'
        )
    return loaded.connections[name]


def connection_context(config: Path | None, name: str) -> ConnectionContext:
    """Open the database and return the context of a connection."""
    from workers import context

    loaded = settings(config)
    options(loaded, name)
    return context.connection_context(database(loaded), loaded, name)


def wake(context: ConnectionContext) -> None:
    """Wake the workers. If the broker is away the scheduler wakes them when it is back."""
    from workers.queue import wakeup

    _wake(context.settings, context.database, context.name, wakeup.SYNC, wakeup.FULL_SYNC)


def wake_subscription(loaded: Settings, opened: Database, name: str) -> None:
    """Wake a worker that delivers; likewise."""
    from workers.queue import wakeup

    _wake(loaded, opened, name, wakeup.DELIVER)


def _wake(loaded: Settings, opened: Database, name: str, *queues: QueueName) -> None:
    from workers.queue import app, broker, wakeup

    try:
        broker.prepare(loaded)
        waker = wakeup.Waker(app.create_app(loaded, opened), opened)
        for queue in queues:
            waker.wake(name, queue)
    except Exception as error:  # raised again unless it is an expected one
        message = errors.explained(error)
        if message is None:
            raise
        note(f"{message}. The work stays due; a worker does it when the broker is back.")


def whole_number(text: str | int) -> int:
    """A number of a row, or how many rows, as a person gives it: from 1 to the databases' largest."""
    if isinstance(text, str) and not re.fullmatch("-?[0-9]+", text):
        raise typer.BadParameter(f"{text!r} is no whole number.")
    if len(str(text)) > len(str(LARGEST)) or not 1 <= int(text) <= LARGEST:
        raise typer.BadParameter(f"{text} is not in the range from 1 to {LARGEST}.")
    return int(text)


def moment(text: str) -> datetime:
    """A date or a time as a person gives it, in UTC unless it has an offset. UserError if it is none."""
    try:
        given = datetime.fromisoformat(text.strip())
        return (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise errors.UserError(
            f'"{text}" is no time; write 2026-12-24, 2026-12-24T18:30 (UTC) or 2026-12-24T18:30+02:00'
        ) from None


def resources(context: ConnectionContext, resource: str | None) -> list[str]:
    """The names of the connection's resources, or the one that was given."""
    if resource is None:
        return list(context.resources)
    if resource not in context.resources:
        raise errors.UserError(
            f'{context.name} has no resource "{resource}"{suggestion(resource, list(context.resources))}'
        )
    return [resource]


def not_in_mirror(connection: str, resource: str | None, held: Collection[tuple[str, str]]) -> str:
    """The refusal of a connection or resource of which the mirror holds nothing. `held`: (connection, resource)."""
    resources = [name for owner, name in held if owner == connection]
    if not resources or resource is None:
        hint = suggestion(connection, sorted({owner for owner, _ in held}))
        return f'the mirror holds nothing of a connection "{connection}"{hint}'
    return f'the mirror holds nothing of a resource "{resource}" of {connection}{suggestion(resource, resources)}'


def suggestion(word: str, names: list[str]) -> str:
    """A hint for an unknown name: the closest known one, else all of them."""
    closest = difflib.get_close_matches(word, names, n=1)
    if closest:
        return f'; did you mean "{closest[0]}"?'
    return f"; there are: {', '.join(sorted(names))}" if names else "; there are none yet"


def out() -> Console:
    """Standard output. Without a terminal its tables are `_WIDTH_OF_FILES` columns wide."""
    return _console(stderr=False)


def err() -> Console:
    """Standard error: progress, notes, errors."""
    return _console(stderr=True)


class _Console(Console):
    """Raises `BrokenPipeError`; Rich's own console would end the process with status 1."""

    def on_broken_pipe(self) -> None:
        raise  # noqa: PLE0704 - called while the error is handled


def _console(*, stderr: bool) -> Console:
    console = _Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = _WIDTH_OF_FILES
    return console


def print_lines(console: Console, message: str, *, style: str = "") -> None:
    """Print what a person may copy from: on a terminal lines end between words, never in a path or a `command`.

    Into a file or a pipe each line of the message stays one line. What a terminal might obey is printed escaped.
    """
    lines = [printable.escaped(line) for line in message.split("\n")]
    message = "\n".join(folded(line, console.width) for line in lines) if console.is_terminal else "\n".join(lines)
    console.print(Text(message, style=style), soft_wrap=True)


_COMMAND = re.compile("`[^`]*`")


def folded(line: str, width: int, *, first: str = "", indent: str | None = None) -> str:
    """The line in lines of that width; a longer word or `command` stays whole. `first`: what the first begins with.

    `indent`: of the others; by default that of a list's item, if the line is one.
    """
    if indent is None:
        spaces = line[: len(line) - len(line.lstrip())]
        indent = f"{spaces}  " if spaces else ""
    unbroken = _COMMAND.sub(lambda match: match[0].replace(" ", "\N{NO-BREAK SPACE}"), line)
    lines = textwrap.wrap(
        unbroken,
        width,
        initial_indent=first,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return "\n".join(lines or [first]).replace("\N{NO-BREAK SPACE}", " ")


@contextmanager
def explaining() -> Iterator[None]:
    """Print an expected error of the block with its remedy, and exit with its status."""
    try:
        yield
    except (typer.Exit, typer.Abort, typer.BadParameter):  # `explained` would import the errors of all packages
        raise
    except Exception as error:  # raised again unless it is an expected one
        message = errors.explained(error)
        if message is None:
            raise
        print_error(message)
        raise SystemExit(getattr(error, "status", 1)) from None


def write_utf8() -> None:
    """Write UTF-8 whatever the terminal's encoding: data holds characters that no other one can say."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")


def is_broken(descriptor: int) -> bool:
    """Whether it is a pipe that nothing reads any more."""
    poller = select.poll()
    poller.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLHUP) for _, event in poller.poll(0))


def print_error(message: str) -> None:
    """Print an error on standard error."""
    print_lines(err(), f"Error: {message}", style="red")


def note(message: str) -> None:
    """Print a note on standard error."""
    print_lines(err(), message, style="yellow")


def print_json(values: Any) -> None:
    """Print JSON; times in UTC, numbers in full."""
    import msgspec

    from models import exact

    typer.echo(msgspec.json.format(exact.dumps(_with_times_as_text(values)), indent=2))


def _with_times_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _with_times_as_text(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_times_as_text(each) for each in value]
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


@contextmanager
def progress_bar(
    title: str, total: int | None = None, *, unit: str = "objects", hidden: bool = False
) -> Iterator[Callable[[int], None]]:
    """Show a progress bar on a terminal; yields a function that takes the number of objects done."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = err()
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn(f"{{task.completed}} {unit}"),
        TimeElapsedColumn(),
    )
    disable = hidden or not console.is_terminal
    # Without `redirect_stdout=False` Rich prints what goes to stdout above the bar, on the terminal.
    with Progress(*columns, console=console, disable=disable, transient=True, redirect_stdout=False) as bars:
        task = bars.add_task(title, total=total)
        yield lambda done: bars.update(task, completed=done)
