"""The verb that prints a resource as JSON lines or CSV."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import os
import stat
import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from workers.cli import common, errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    import sqlalchemy as sa

    from models.db.database import Tx
    from models.mirror.target import Target


class Format(StrEnum):
    """An output format of `export`."""

    JSON = "json"
    CSV = "csv"


def export(
    connection: common.Name,
    resource: Annotated[str, typer.Argument(metavar="RESOURCE", help="The resource, such as catalogs.goods.")],
    *,
    form: Annotated[
        Format, typer.Option("--format", help="json: one object per line, as sent. csv: the table's columns.")
    ] = Format.JSON,
    config: common.Config = None,
) -> None:
    """Print a resource: one JSON object per line, or its table as CSV.

    A line of JSON is {"key", "deleted_at", "raw"}.

    Example: [bold]erpmirror export shop catalogs.goods --format csv > goods.csv[/]
    """
    from models.mirror.target import Target

    loaded = common.settings(config)
    database = common.database(loaded)
    common.write_utf8()
    with database.read() as tx:
        target = Target(connection, _system(tx, connection, resource), resource)
        with common.progress_bar(f"{connection} {resource}", hidden=not _goes_to_a_file()) as report:
            (_export_csv if form is Format.CSV else _export_json)(tx, target, report)


def _goes_to_a_file() -> bool:
    """Whether stdout is a file. A pipe may end on the terminal, where a bar would stand between the lines."""
    try:
        return stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)
    except OSError:
        return False


def _system(tx: sa.Connection, connection: str, resource: str) -> str:
    """The system of a resource that is in the mirror. It need not be configured."""
    import sqlalchemy as sa

    from models.db.tables import streams

    rows = tx.execute(sa.select(streams.c.connection, streams.c.resource, streams.c.system)).all()
    systems = {(row.connection, row.resource): row.system for row in rows}
    if (connection, resource) in systems:
        return str(systems[connection, resource])
    raise errors.UserError(common.not_in_mirror(connection, resource, list(systems)))


def _export_json(tx: Tx, target: Target, report: Callable[[int], None]) -> None:
    from models import exact
    from models.mirror import queries

    for done, (key, deleted_at, raw) in enumerate(queries.export(tx, target), start=1):
        line = {"key": key, "deleted_at": _iso(deleted_at), "raw": raw}
        sys.stdout.write(exact.dumps(line) + "\n")
        report(done)


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _export_csv(tx: Tx, target: Target, report: Callable[[int], None]) -> None:
    import csv

    import sqlalchemy as sa

    from models.mirror import schema_evolution

    schema = schema_evolution.current(tx, target.table)
    if schema is None:
        return
    table = schema.root.sql
    names = ["_key", "_deleted_at", *(name for name in table.c.keys() if not name.startswith("_"))]  # noqa: SIM118 - a collection, not a dict
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(names)
    statement = (
        sa.select(*(table.c[name] for name in names))
        .where(table.c["_connection"] == target.connection)
        .order_by(table.c["_key"])
    )
    for done, row in enumerate(tx.execute(statement, execution_options={"yield_per": 500}), start=1):
        writer.writerow([_cell(value) for value in row])
        report(done)


def _cell(value: Any) -> Any:
    from datetime import date
    from decimal import Decimal

    from models import exact

    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return f"{value:f}"
    return exact.dumps(value) if isinstance(value, list | dict) else value
