"""The verbs that show the mirror's state, and those that send the vendor a request now."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from models.durations import spell
from workers.cli import common, errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from models.db.database import Database
    from models.settings.load import Settings
    from models.status import ResourceStatus
    from workers.cli import progress
    from workers.context import ConnectionContext

Wait = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Do it here with a progress bar, or leave it to the workers.")
]

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
)

_LONG_AGO = timedelta(days=2)
"""Older moments are printed as dates."""

_COUNTS = ("rows", "pending", "parked", "held")


def status(
    config: common.Config = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: a list of objects, times in UTC.")] = False,
) -> None:
    """Show each resource: its rows, when it was last synced, as of when it is complete, what is pending.

    The first lines are the broker, and for each queue when a worker last took a message. [bold]complete as of[/]: the
    mirror holds everything that the ERP held then. [bold]bound[/]: within this time the mirror equals the ERP again,
    whichever webhooks are lost. [bold]pending[/]: objects that are to be fetched. [bold]parked[/] and [bold]held[/]
    need a decision by you: see [bold]erpmirror parked[/]. A resource that is no longer configured is not synced and
    has no bound.

    Example: [bold]erpmirror status --json | jq '.[] | select(.parked > 0)'[/]
    """
    from models import status
    from workers.cli import worker_health

    loaded = common.settings(config)
    database = common.database(loaded)
    rows = status.resources(database)
    configured = _configured(loaded)
    kept = [row for row in rows if (row.connection, row.resource) in configured]
    never_synced = _never_synced(configured, kept)
    if as_json:
        leftovers = [_fields(row) | {"bound": None} for row in rows if row not in kept]
        print_json([*map(_fields, kept), *never_synced, *leftovers])
        return
    worker_health.print_health(loaded, database)
    _print_tables(kept, never_synced)
    note_unconfigured(database, loaded)


def _configured(loaded: Settings) -> dict[tuple[str, str], tuple[str, int]]:
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


def print_json(values: Any) -> None:
    """Print JSON; times in UTC."""
    import json

    typer.echo(json.dumps(values, ensure_ascii=False, indent=2, default=_iso))


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()


def _print_tables(rows: Sequence[ResourceStatus], never_synced: Sequence[dict[str, Any]]) -> None:
    """Print one table per connection, and below it the errors: a vendor's messages are too long for a column."""
    from rich.text import Text

    everything = [*(_fields(row) | {"warning": row.warning, "full_sync": row.full_sync} for row in rows), *never_synced]
    console = common.out()
    for connection in sorted({values["connection"] for values in everything}):
        mine = [values for values in everything if values["connection"] == connection]
        console.print(Text(f"{connection} ({mine[0]['system']})", style="bold"))
        console.print(_table(mine, datetime.now(UTC)))
        for values in mine:
            for message, style in ((values["last_error"], "red"), (values.get("warning"), "yellow")):
                if message:
                    console.print(Text(f"  {values['resource']}: {message}", style=style), soft_wrap=True)
    if not everything:
        console.print("No connection is configured yet.")


def _table(rows: Sequence[dict[str, Any]], now: datetime) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("resource", overflow="fold")
    for name in ("rows", "last synced", "complete as of", "bound", "pending", "parked", "held"):
        table.add_column(name, justify="right", no_wrap=name != "complete as of")
    for values in rows:
        table.add_row(*(Text(cell) for cell in _cells(values, now)), style=_style(values))
    return table


def _cells(values: dict[str, Any], now: datetime) -> list[str]:
    full_sync = values.get("full_sync")
    return [
        values["resource"] + (f" (full sync: {full_sync})" if full_sync is not None else ""),
        str(values["rows"]),
        ago(values["last_read"], now),
        ago(values["complete_as_of"], now),
        spell(timedelta(seconds=values["bound"]), exact=True),
        *(str(values[name]) for name in _COUNTS[1:]),
    ]


def _style(values: dict[str, Any]) -> str:
    if values["parked"] or values["held"]:
        return "red"
    return "yellow" if values["last_error"] else ""


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago that was, or the date if it is more than two days."""
    if moment is None:
        return "never"
    return f"{spell(now - moment)} ago" if now - moment < _LONG_AGO else f"{moment:%Y-%m-%d %H:%M} UTC"


def note_unconfigured(database: Database, loaded: Settings) -> None:
    """Print a note for each connection and resource that has rows and is no longer configured."""
    from models import status

    configured = _configured(loaded)
    for row in status.resources(database):
        if (row.connection, row.resource) not in configured:
            common.note(
                f"{row.connection} {row.resource} is no longer configured: its {row.rows} rows are kept and no longer "
                f"synced; `erpmirror forget {row.connection} {row.resource}` removes them"
            )


def poll(
    connection: common.Name,
    resource: common.MaybeResource = None,
    *,
    wait: Wait = True,
    config: common.Config = None,
) -> None:
    """Poll now for what changed, without waiting for the schedule.

    A resource that was parked as a whole is tried again.

    Example: [bold]erpmirror poll shop catalogs.goods[/]
    """
    from models.bookkeeping import streams

    context = common.connection_context(config, connection)
    names = common.resources(context, resource)
    context.sync_streams()
    with context.database.begin() as tx:
        streams.poll_now(tx, connection=context.name, resource=resource)
    _until_done(context, names, wait=wait)


def backfill(
    connection: common.Name,
    resource: common.MaybeResource = None,
    *,
    wait: Wait = True,
    config: common.Config = None,
) -> None:
    """Read everything again: a full sync. After Ctrl-C it resumes where it stopped, here or in a worker.

    Equal objects change nothing. A key that the vendor no longer lists is fetched before it counts as deleted.

    Example: [bold]erpmirror backfill books invoices[/]
    """
    from models.bookkeeping import streams

    context = common.connection_context(config, connection)
    names = common.resources(context, resource)
    context.sync_streams()
    with context.database.begin() as tx:
        streams.backfill_now(tx, connection=context.name, resource=resource)
    _until_done(context, names, wait=wait)


def _until_done(context: ConnectionContext, names: Sequence[str], *, wait: bool) -> None:
    """Do what is due in this process and print the result, or only wake the workers."""
    from workers.cli import progress

    if not wait:
        common.wake(context)
        return
    try:
        results, done = progress.until_done(context, names, common.err(), rows=lambda: _rows(context, names))
    except KeyboardInterrupt:
        common.note("Stopped. A worker resumes it, or this command when you repeat it.")
        raise typer.Exit(130) from None
    after = _rows(context, names)
    for each in results:
        common.out().print(f"{each.resource}: {after.get(each.resource, 0)} rows", markup=False)
    failed = [each for each in results if each.error or each.state != "open"]
    if failed or not done:
        raise errors.UserError("\n".join(["not everything could be synced", *map(_failure, failed), _remedy(failed)]))


def _failure(each: progress.ResourceProgress) -> str:
    return f"  {each.resource}: {each.error or each.state}"


def _remedy(failed: Sequence[progress.ResourceProgress]) -> str:
    if any(each.state == "parked" for each in failed):
        return "`erpmirror parked retry` tries again what is parked; the rest stays due, and workers try it again"
    return "it stays due, and workers try it again"


def _rows(context: ConnectionContext, names: Sequence[str]) -> dict[str, int]:
    from models.mirror import queries

    with context.database.read() as tx:
        targets = {name: context.target(context.resources[name], None) for name in names}
        return {name: queries.count_live(tx, target) for name, target in targets.items()}


def ask(
    connection: common.Name,
    words: Annotated[
        list[str], typer.Argument(metavar="WORDS…", help="The request in the vendor's own terms, as in the example.")
    ],
    *,
    config: common.Config = None,
) -> None:
    """Send the vendor one read request and print its answer. It waits at the account's gate like every request.

    Example: [bold]erpmirror ask shop getObject 1100300000001001[/]
    """
    import simplejson

    from workers.cli import vendor_query

    context = common.connection_context(config, connection)
    with common.err().status("Asking …"):
        answer = vendor_query.ask(context, words)
    typer.echo(simplejson.dumps(answer, use_decimal=True, ensure_ascii=False, indent=2))
