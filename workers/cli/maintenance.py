"""The verbs that change the mirror without a request to a vendor: rebuild, forget."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from workers.cli import common, errors, mending

if TYPE_CHECKING:
    from models.db.database import Database


def rebuild(connection: common.Name, resource: common.MaybeResource = None, *, config: common.Config = None) -> None:
    """Fill columns and parts again from `_raw`, without a request to the vendor.

    Use it after a change of `omit`, or after an update of erpmirror that declares more fields of a vendor. It also
    makes anew what is missing of the tables.

    Example: [bold]erpmirror rebuild shop[/]
    """
    context = common.connection_context(config, connection)
    for name in common.resources(context, resource):
        table = context.target(context.resources[name]).table
        if (connection, name) not in mending.mend(context.database, context.settings, table):
            mending.rebuild(context, name)


def forget(
    connection: common.Name,
    resource: common.MaybeResource = None,
    *,
    yes: common.Yes = False,
    config: common.Config = None,
) -> None:
    """Remove the rows of a connection, or of one of its resources, from the mirror. The ERP is not touched.

    Use it for what is no longer configured. A resource that is still configured starts again with a full sync. The
    journal keeps its entries.

    Example: [bold]erpmirror forget old_shop[/]
    """
    loaded = common.settings(config)
    database = common.database(loaded)
    to_remove = _rows_of(database, connection, resource)
    rows = sum(to_remove.values())
    if not yes:
        typer.confirm(f"Remove {rows} rows of {connection} ({', '.join(name for _, name in to_remove)})?", abort=True)
    for system, name in to_remove:
        _forget(database, connection, system, name)
        common.out().print(f"{connection} {name}: forgotten", markup=False)
    if connection in loaded.connections:
        context = common.connection_context(config, connection)
        context.sync_streams()
        for name in context.resources.keys() & {name for _, name in to_remove}:
            common.note(f"{connection} {name} is still configured, so it begins with a full sync")


def _rows_of(database: Database, connection: str, resource: str | None) -> dict[tuple[str, str], int]:
    """What the mirror holds: (system, resource) -> number of rows. UserError if it holds nothing."""
    from models import status

    rows = status.resources(database)
    found = {
        (row.system, row.resource): row.rows or 0
        for row in rows
        if row.connection == connection and resource in {None, row.resource}
    }
    if not found:
        raise errors.UserError(
            common.not_in_mirror(connection, resource, [(row.connection, row.resource) for row in rows])
        )
    return found


def _forget(database: Database, connection: str, system: str, resource: str) -> None:
    from models.bookkeeping import commands, documents, inbox, streams
    from models.mirror import rebuild

    with database.begin() as tx:
        documents.forget(tx, connection=connection, kind=resource)
        commands.forget(tx, connection=connection, resource=resource)
        rebuild.forget(tx, connection=connection, system=system, resource=resource)
        streams.forget(tx, connection=connection, resource=resource)
        inbox.forget(tx, connection=connection, resource=resource)
