"""The verb that shows the journal to a person, like `tail -f` of the ERP, or to a pipe."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import common, errors

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime

    from models.bookkeeping.subscriptions import Filter
    from models.db.database import Database
    from models.settings.load import Settings

_LATEST = 20
_INTERRUPTED = 130
"""The exit status of a program that Ctrl-C ended, as shells show it."""

_FIELDS = ("id", "at", "connection", "resource", "key", "kind", "revision", "cause", "before", "after")
_INDENT = 4
_COLOURS = {"created": "green", "updated": "yellow", "deleted": "red", "restored": "cyan"}


def changes(
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new ones, until Ctrl-C.")] = False,
    connection: Annotated[
        list[str] | None, typer.Option("--connection", metavar="NAME", help="Only of this one; may be repeated.")
    ] = None,
    resource: Annotated[
        list[str] | None,
        typer.Option("--resource", metavar="NAME", help="Only of this one, such as catalogs.goods; may be repeated."),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="Only created, updated, deleted or restored ones; may be repeated."),
    ] = None,
    key: Annotated[str | None, typer.Option("--key", help="Only of the objects with this key.")] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            "--limit",
            metavar="N",
            parser=common.whole_number,
            help=f"The most that are shown. Without --since: {_LATEST}.",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="ID|TIME", help="Those after this change, or from this time on, in UTC."),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs: one object a line, as GET /changes has them.")
    ] = False,
    config: common.Config = None,
) -> None:
    """Show what changed in the ERPs, the latest last; with --follow as it happens.

    Below each change stand the fields that differ, or a few that tell what was created.

    Example: [bold]erpmirror changes --follow --connection shop[/]
    """
    from models.bookkeeping.subscriptions import Filter
    from models.values import ChangeKind
    from workers.cli.journal_reader import JournalReader

    loaded = common.settings(config)
    kinds = [each.value for each in ChangeKind]
    for word in kind or ():
        if word not in kinds:
            raise errors.UserError(f'there is no kind "{word}"{common.suggestion(word, kinds)}')
    wanted = Filter(tuple(connection or ()), tuple(resource or ()), tuple(kind or ()))
    database = common.database(loaded)
    require_known(loaded, database, wanted)
    reader = JournalReader(database, wanted, key=key, note=common.note)
    printer = _JsonPrinter() if as_json else _Printer()
    try:
        if since is None:
            printer.print(reader.latest(limit or _LATEST))
        else:
            for page in reader.since(_place(since), limit=limit):
                printer.print(page)
        if not follow and not printer.count and not as_json:
            common.out().print(
                "No change matches." if wanted.conditions() or key is not None or since else "Nothing has changed yet."
            )
        for page in reader.follow() if follow else ():
            printer.print(page)
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None


def _place(text: str) -> int | datetime:
    """A change's id or a time."""
    if text.isdecimal() and text.isascii():
        return min(int(text), common.LARGEST)
    return common.moment(text)


def require_known(loaded: Settings, database: Database, wanted: Filter) -> None:
    """UserError for a connection or resource that neither the settings nor the journal have: it may be misspelt."""
    import sqlalchemy as sa

    from models.db.tables import changes as entries
    from workers.cli import status

    configured = status.configured_resources(loaded)
    resources = {resource for _, resource in configured}
    of_kind = (
        ("connection", entries.c.connection, wanted.connections, loaded.connections.keys()),
        ("resource", entries.c.resource, wanted.resources, resources),
    )
    for what, column, names, known in of_kind:
        for name in names:
            if name in known:
                continue
            with database.read() as tx:
                found = tx.execute(sa.select(sa.literal(1)).where(column == name).limit(1)).scalar()
            if found is None:
                raise errors.UserError(f'there is no {what} "{name}"{common.suggestion(name, sorted(known))}')


class _JsonPrinter:
    """One JSON object a line, with the fields of `GET /changes`."""

    def __init__(self) -> None:
        common.write_utf8()
        self.count = 0

    def print(self, page: Sequence[Any]) -> None:
        """Print a page, and see to it that a pipe's reader has it."""
        from models import exact

        self.count += len(page)
        for change in page:
            fields = change._asdict() | {"at": change.at.isoformat()}
            sys.stdout.write(exact.dumps({name: fields[name] for name in _FIELDS}) + "\n")
        _flush()


class _Printer:
    """For a person: the change on a line, what it is about below. Of times on a terminal the date stands once."""

    def __init__(self) -> None:
        from workers.cli import printable

        printable.escape_unencodable()
        self.count = 0
        self._console = common.out()
        self._date: date | None = None

    def print(self, page: Sequence[Any]) -> None:
        """Print a page."""
        self.count += len(page)
        for change in page:
            self._print(change)
        _flush()

    def _print(self, change: Any) -> None:
        from rich.text import Text

        from workers.cli import differences
        from workers.cli.printable import escaped

        console = self._console
        if console.is_terminal and change.at.date() != self._date:
            self._date = change.at.date()
            console.print(Text(f"{self._date:%A, %Y-%m-%d}, UTC", style="bold"))
        at = f"{change.at:%H:%M:%S}" if console.is_terminal else f"{change.at:%Y-%m-%d %H:%M:%S}"
        line = Text.assemble(
            (at, "dim"),
            f" {change.id} ",
            (f"{change.kind:<8}", _COLOURS.get(change.kind, "")),
            f" {change.connection} {change.resource} ",
            (escaped(change.key), "bold"),
            (f" {change.cause}", "dim"),
        )
        console.print(line, soft_wrap=True)
        for below in differences.lines(change, console.width - _INDENT):
            console.print(Text(" " * _INDENT + below), soft_wrap=True)


def _flush() -> None:
    """Raises `BrokenPipeError` once nothing reads what is printed, also while there is nothing to print."""
    sys.stdout.flush()
    if common.is_broken(1):
        raise BrokenPipeError
