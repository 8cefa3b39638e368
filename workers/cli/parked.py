"""The verbs for parked objects and held deletions, which need a person's decision."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import common, errors

if TYPE_CHECKING:
    from models.db.database import Database

Key = Annotated[str | None, typer.Argument(metavar="KEY", help="One object's key. Default: all.", show_default=False)]
MaybeName = Annotated[
    str | None, typer.Argument(metavar="CONNECTION", help="One connection. Default: all.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="For programs: a list of objects, times in UTC.")]

app = typer.Typer(
    help=(
        "Show what needs your decision: parked objects (failed) and held deletions (too many).\n\n"
        "Example: [bold]erpmirror parked[/] lists them, [bold]erpmirror parked retry shop[/] tries them again."
    ),
    invoke_without_command=True,
    rich_markup_mode="rich",
)


@app.callback()
def _parked(ctx: typer.Context, config: common.Config = None) -> None:
    if ctx.invoked_subcommand is None:
        parked_list(config=config)
    elif config is not None:
        common.choose_config(config)


@app.command("list", cls=common.Verb)
def parked_list(connection: MaybeName = None, *, as_json: AsJson = False, config: common.Config = None) -> None:
    """List what is parked or held, with the vendor's message.

    Records that have no key share one entry for each reason; --json shows some of them.

    Example: [bold]erpmirror parked list shop[/]
    """
    from rich.padding import Padding
    from rich.text import Text

    database = common.database(common.settings(config))
    rows = _parked_rows(database, connection)
    if as_json:
        common.print_json(rows)
        return
    if not rows:
        common.out().print("Nothing is parked, nothing is held.")
        return
    console = common.out()
    for row in rows:
        since = f" since {row['since']:%Y-%m-%d %H:%M} UTC" if row["since"] else ""
        key = row["key"] if row["key"] is not None else "(all of it)"
        again = f", tried again at {row['retry_at']:%Y-%m-%d %H:%M} UTC" if row["retry_at"] else ""
        line = f"{row['connection']} {row['resource']} {key}  {row['state']}{since}{again}"
        common.print_lines(console, line)
        if row["reason"]:
            console.print(Padding.indent(Text(row["reason"], overflow="fold"), 4))


def _parked_rows(database: Database, connection: str | None) -> list[dict[str, Any]]:
    """Parked resources (key None), then parked and held keys. `retry_at`: when it is tried again by itself."""
    from models import status
    from models.bookkeeping import parked

    whole = [
        {
            "connection": row.connection,
            "resource": row.resource,
            "key": None,
            "state": "parked",
            "reason": row.last_error,
            "since": row.last_read,
            "retry_at": row.retry_at,
        }
        for row in status.resources(database)
        if row.state == "parked" and connection in {None, row.connection}
    ]
    with database.read() as tx:
        keys = parked.rows(tx, connection=connection)
    return whole + [
        {
            "connection": row.connection,
            "resource": row.resource,
            "key": row.key,
            "state": row.state,
            "reason": row.reason,
            "since": row.first_enqueued_at,
            **_samples(row.unreadable_raw),
            "retry_at": None,
        }
        for row in keys
    ]


def _samples(unkeyed: dict[str, Any] | None) -> dict[str, Any]:
    """How many records without a key an entry stands for, and some of them."""
    return {} if unkeyed is None else {"count": unkeyed.get("count", 1), "samples": unkeyed.get("samples", [unkeyed])}


@app.command("retry", cls=common.Verb)
def parked_retry(
    connection: common.Name,
    resource: common.MaybeResource = None,
    key: Key = None,
    *,
    yes: common.Yes = False,
    config: common.Config = None,
) -> None:
    """Try parked objects again, and approve held deletions.

    Approved deletions are carried out if the objects are still missing at the vendor.

    Example: [bold]erpmirror parked retry shop catalogs.goods[/]
    """
    from models.bookkeeping import parked, streams

    context = common.connection_context(config, connection)
    chosen = _chosen(context.database, connection, resource, key)
    if not chosen:
        raise errors.UserError("no such object is parked or held; `erpmirror parked` lists what is")
    held = sum(row["state"] == "held" for row in chosen)
    if held and not yes:
        typer.confirm(f"{held} deletions are held. Delete what is still missing at the vendor?", abort=True)
    with context.database.begin() as tx:
        retried = parked.retry(tx, connection=connection, resource=resource, key=key)
        if key is None:
            retried += streams.reopen(tx, connection=connection, resource=resource)
    common.out().print(f"{retried} of {len(chosen)} will be tried again.")
    if retried < len(chosen):
        common.note(
            "The others stand for records without a key. Each full sync counts them anew, and ends those it lacks."
        )
    common.wake(context)


@app.command("drop", cls=common.Verb)
def parked_drop(
    connection: common.Name,
    resource: common.MaybeResource = None,
    key: Key = None,
    *,
    yes: common.Yes = False,
    config: common.Config = None,
) -> None:
    """Remove parked objects and held deletions from the list.

    The mirror's rows stay as they are until the object changes again.

    Example: [bold]erpmirror parked drop shop documents.saleOrder 1109100000000001[/]
    """
    from models.bookkeeping import parked

    database = common.database(common.settings(config))
    chosen = [row for row in _chosen(database, connection, resource, key) if row["key"] is not None]
    if not chosen:
        raise errors.UserError("no such object is parked or held; `erpmirror parked` lists what is")
    if not yes:
        typer.confirm(f"Remove {len(chosen)} parked or held objects from the list?", abort=True)
    with database.begin() as tx:
        dropped = parked.drop(tx, connection=connection, resource=resource, key=key)
    common.out().print(f"{dropped} removed.")


def _chosen(database: Database, connection: str, resource: str | None, key: str | None) -> list[dict[str, Any]]:
    return [
        row
        for row in _parked_rows(database, connection)
        if resource in {None, row["resource"]} and (key is None or key == row["key"])
    ]
