"""The verb that shows the mirror's state."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.durations import spell, spell_in_two_units
from workers.cli import common

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console
    from rich.table import Table

    from models.db.database import Database
    from models.settings.load import Settings
    from models.status import ResourceStatus

_FIELDS = (
    "connection",
    "system",
    "resource",
    "rows",
    "last_read",
    "complete_as_of",
    "bound",
    "pending",
    "parked",
    "held",
    "last_error",
    "warning",
    "unredacted_rows",
    "unredacted_entries",
    "unbatched",
)

_LONG_AGO = timedelta(days=2)
"""Older moments are printed as dates."""

_BELOW = ("full_sync", "retry_at")
"""What stands below the table, and not in `--json`."""

_COUNTS = ("rows", "pending", "parked", "held", "unredacted_rows", "unredacted_entries")

_AGES = ("last\nsynced", "complete\nas of")
_COLUMNS = ("resource", "rows", *_AGES, "bound", "pending", "parked", "held")

_MOST_SHOWN = 50
"""Connections that are shown, if there are more: a person reads no thousands of tables."""


def status(
    connection: common.MaybeName = None,
    config: common.Config = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: a list of objects, times in UTC.")] = False,
) -> None:
    """Show each resource: its rows, when it was last synced, as of when it is complete, what is pending.

    The first lines are the broker, and for each queue when a worker last took a message. [bold]complete as of[/]: the
    mirror holds everything that the ERP held then. [bold]bound[/]: within this time the mirror equals the ERP again,
    whichever webhooks are lost. [bold]pending[/]: objects that are to be fetched. [bold]parked[/] and [bold]held[/]
    need a decision by you: see [bold]erpmirror parked[/]. A resource that is no longer configured is not synced and
    has no bound. Of more than fifty connections only those that need a look are shown.

    Example: [bold]erpmirror status --json | jq '.[] | select(.parked > 0)'[/]
    """
    from models import status
    from workers.cli import worker_health

    loaded = common.settings(config, may_log=False)
    if connection is not None:
        common.options(loaded, connection)
    database = common.database(loaded)
    every, configured = status.resources(database), configured_resources(loaded)
    rows = [row for row in every if connection in (None, row.connection)]
    kept = [row for row in rows if (row.connection, row.resource) in configured]
    never_synced = [values for values in _never_synced(configured, kept) if connection in (None, values["connection"])]
    if as_json:
        leftovers = [_fields(row) | {"bound": None} for row in rows if (row.connection, row.resource) not in configured]
        common.print_json([*map(_fields, kept), *never_synced, *leftovers])
        return
    worker_health.print_health(loaded, database)
    _print_tables(kept, never_synced)
    _print_commands(database, connection)
    if connection is None and loaded.subscriptions:
        _print_subscriptions(database, loaded)
    note_unconfigured(rows, configured)


def configured_resources(loaded: Settings) -> dict[tuple[str, str], tuple[str, int]]:
    """All configured resources: (connection, resource) -> (system, bound in seconds)."""
    from workers.connectors import discovery

    systems = discovery.systems()
    return {
        (name, resource.name): (options.system, int(resource.bound.total_seconds()))
        for name, options in loaded.connections.items()
        for resource in systems[options.system].resources(options)
    }


def _fields(row: ResourceStatus) -> dict[str, Any]:
    return {name: getattr(row, name) for name in _FIELDS}


def _never_synced(
    configured: dict[tuple[str, str], tuple[str, int]], kept: Sequence[ResourceStatus]
) -> list[dict[str, Any]]:
    """Rows for resources that are configured but were never synced."""
    seen = {(row.connection, row.resource) for row in kept}
    blank = dict.fromkeys(_FIELDS) | dict.fromkeys(_COUNTS, 0)
    return [
        blank | {"connection": name, "system": system, "resource": resource, "bound": bound}
        for (name, resource), (system, bound) in configured.items()
        if (name, resource) not in seen
    ]


def _print_tables(rows: Sequence[ResourceStatus], never_synced: Sequence[dict[str, Any]]) -> None:
    """Print one table per connection, and below it what is too long for a column: full syncs, a vendor's messages."""
    from rich.text import Text

    by_connection: dict[str, list[dict[str, Any]]] = {}
    for values in (*(_fields(row) | {name: getattr(row, name) for name in _BELOW} for row in rows), *never_synced):
        by_connection.setdefault(values["connection"], []).append(values)
    console = common.out()
    shown = sorted(by_connection)
    if len(shown) > _MOST_SHOWN:
        shown = [name for name in shown if any(map(_needs_a_look, by_connection[name]))][:_MOST_SHOWN]
    for connection in shown:
        of_connection = by_connection[connection]
        console.print()
        console.print(Text(f"{connection} ({of_connection[0]['system']})", style="bold"))
        console.print(table_within(of_connection, datetime.now(UTC), console), crop=False)
        for values in of_connection:
            for message, style in _messages(values):
                common.print_lines(console, f"  {values['resource']}: {message}", style=style)
    if not by_connection:
        console.print("No connection is configured yet.")
    if others := len(by_connection) - len(shown):
        console.print()
        needy = sum(any(map(_needs_a_look, of_connection)) for of_connection in by_connection.values()) - len(shown)
        state = f"{needy} of them need a look, too" if needy else "none of them needs a look"
        common.print_lines(
            console, f"{others} more connections are not shown; {state}. `erpmirror status CONNECTION` shows one."
        )


def _print_commands(database: Database, connection: str | None) -> None:
    """Print how many commands of each connection are not final, and what a person has to do."""
    from models.bookkeeping import open_commands

    with database.read() as tx:
        counts = open_commands.counts(tx, connection=connection)
    for name, found in sorted(counts.items()):
        parts = [f"{found.waiting} waiting" + (f" ({found.not_taken} not taken so far)" if found.not_taken else "")]
        parts += [f"{found.sending} sending"] if found.sending else []
        parts += [f"{found.uncertain} uncertain" + (f" ({found.for_person} for you)" if found.for_person else "")]
        shown = ", ".join(part for part in parts if not part.startswith("0 "))
        style = "red" if found.for_person else "yellow" if found.not_taken or found.uncertain else ""
        more = f"; see `erpmirror commands list {name} --open`" if style else ""
        common.print_lines(common.out(), f"{name}: commands: {shown}{more}", style=style)


def _print_subscriptions(database: Database, loaded: Settings) -> None:
    """Print each subscription that is paused, fails, lags or was not started, or that all are up to date."""
    from workers.cli import subscription_words
    from workers.deliveries import standing

    with database.read() as tx:
        every = standing.every(tx, loaded.subscriptions)
    for text, style in subscription_words.status_lines(every):
        common.print_lines(common.out(), text, style=style)


def _needs_a_look(values: dict[str, Any]) -> bool:
    """Whether a person should know of more than that the resource is complete."""
    return bool(_style(values)) or values["complete_as_of"] is None or any(True for _ in _messages(values))


def _messages(values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The lines below the table about one resource, each with its style."""
    if values.get("full_sync") is not None:
        yield f"full sync under way, {values['full_sync']} objects so far", ""
    if values["last_error"]:
        yield values["last_error"], "red"
    if values.get("retry_at"):
        yield f"refused; tried again by itself at {values['retry_at']:%Y-%m-%d %H:%M} UTC", "red"
    if values.get("warning"):
        yield values["warning"], "yellow"
    if values.get("unbatched"):
        yield f"fetched one by one: {values['unbatched']}", "yellow"


def table_within(rows: Sequence[dict[str, Any]], now: datetime, console: Console) -> Table:
    """The table of one connection, narrower where the console has no room."""
    table = _table(rows, now)
    lines_of_box = len(table.columns) - 1
    if sum(column.width or 0 for column in table.columns) + lines_of_box > console.width:
        return _table(rows, now, narrow=True)
    return table


def _table(rows: Sequence[dict[str, Any]], now: datetime, *, narrow: bool = False) -> Table:
    """The resources' names are never wrapped or cut: a person types them.

    `narrow`: in the least room, with ages in place of dates, which wrap between their words. Else the widths are
    stated, a blank included, because Rich would measure each cell three times.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    cells = [_cells(values, now, dates=not narrow) for values in rows]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=0)
    for name, column in zip(_COLUMNS, zip(*cells, strict=True), strict=True):
        longest = max(len(part) for text in (name, *column) for part in text.split(None if narrow else "\n"))
        table.add_column(
            Text(name),  # a `str` would be searched for markup and emoji
            justify="left" if name == "resource" else "right",
            no_wrap=name not in _AGES,
            width=None if narrow else longest + (name != "resource"),
            min_width=longest if narrow else None,
            max_width=longest if narrow else None,
        )
    for line, values in zip(cells, rows, strict=True):
        table.add_row(*map(Text, line), style=_style(values))
    return table


def _cells(values: dict[str, Any], now: datetime, *, dates: bool) -> list[str]:
    return [
        values["resource"],
        "?" if values["rows"] is None else str(values["rows"]),
        ago(values["last_read"], now, dates=dates),
        ago(values["complete_as_of"], now, dates=dates),
        spell_in_two_units(timedelta(seconds=values["bound"])),
        *(str(values[name]) for name in ("pending", "parked", "held")),
    ]


def _style(values: dict[str, Any]) -> str:
    if values["parked"] or values["held"]:
        return "red"
    return "yellow" if values["last_error"] else ""


def ago(moment: datetime | None, now: datetime, *, dates: bool = True) -> str:
    """How long ago that was, or, with `dates`, the date if it is more than two days."""
    if moment is None:
        return "never"
    return f"{moment:%Y-%m-%d %H:%M} UTC" if dates and now - moment >= _LONG_AGO else f"{spell(now - moment)} ago"


def note_unconfigured(rows: Sequence[ResourceStatus], configured: Mapping[tuple[str, str], tuple[str, int]]) -> None:
    """Print a note for each connection and resource of the mirror that is none of `configured_resources`."""
    for row in rows:
        if (row.connection, row.resource) not in configured:
            common.note(
                f"{row.connection} {row.resource} is no longer configured: its {row.rows or 0} rows are kept and no "
                f"longer synced; `erpmirror forget {row.connection} {row.resource}` removes them"
            )
