"""The verbs that change the mirror without asking a vendor: rebuild, forget."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays quick

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from workers.cli import common, errors

if TYPE_CHECKING:
    from models.db.database import Database


def rebuild(connection: common.Name, resource: common.MaybeResource = None, *, config: common.Config = None) -> None:
    """Make columns and parts anew from `_raw`, without asking the vendor.

    Use it after a change of `omit`, or after an update of erpmirror that declares more of a vendor's fields.

    Example: [bold]erpmirror rebuild shop[/]
    """
    from models.bookkeeping import streams
    from models.mirror import queries, rebuild, schema_evolution

    at = common.connection_context(config, connection)
    for name in common.resources(at, resource):
        with at.database.read() as opened:
            target = at.target(at.resources[name], streams.get(opened, connection, name))
            total = queries.count_live(opened, target)
        try:
            with common.counting(name, total or None) as counted:
                done = rebuild.rebuild(at.database, target, progress=counted)
        except schema_evolution.TableLockedError:
            raise errors.Problem(f"{name}: its table is locked by a long query; try again later") from None
        common.out().print(f"{name}: {done} objects rebuilt", markup=False)


def forget(
    connection: common.Name,
    resource: common.MaybeResource = None,
    *,
    yes: common.Yes = False,
    config: common.Config = None,
) -> None:
    """Remove the rows of a connection, or of one of its resources, from the mirror. The ERP is not touched.

    Use it for what is no longer configured. A resource that still is configured begins with a full sync. The journal
    keeps its entries.

    Example: [bold]erpmirror forget old_shop[/]
    """
    loaded = common.settings(config)
    database = common.database(loaded)
    doomed = _doomed(database, connection, resource)
    rows = sum(doomed.values())
    if not yes:
        typer.confirm(f"Remove {rows} rows of {connection} ({', '.join(name for _, name in doomed)})?", abort=True)
    for system, name in doomed:
        _forget(database, connection, system, name)
        common.out().print(f"{connection} {name}: forgotten", markup=False)
    if connection in loaded.connections:
        at = common.connection_context(config, connection)
        at.sync_streams()
        for name in at.resources.keys() & {name for _, name in doomed}:
            common.note(f"{connection} {name} is still configured and begins with a full sync")


def _doomed(database: Database, connection: str, resource: str | None) -> dict[tuple[str, str], int]:
    """(system, resource) -> rows that are to be removed."""
    from models import status

    rows = [row for row in status.resources(database) if row.connection == connection]
    doomed = {(row.system, row.resource): row.rows for row in rows if resource in {None, row.resource}}
    if not doomed:
        what = f'a resource "{resource}" of {connection}' if rows else f'a connection "{connection}"'
        raise errors.Problem(f"the mirror holds nothing of {what}; `erpmirror status` shows what it holds")
    return doomed


def _forget(database: Database, connection: str, system: str, resource: str) -> None:
    from models.bookkeeping import documents, inbox, streams
    from models.mirror import rebuild

    with database.begin() as opened:
        documents.forget(opened, connection=connection, kind=resource)
        rebuild.forget(opened, connection=connection, system=system, resource=resource)
        streams.forget(opened, connection=connection, resource=resource)
        inbox.forget(opened, connection=connection, resource=resource)
