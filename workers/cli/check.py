"""The verb that checks an installation: settings, database, broker, and each connection with its resources."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

import stat
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli import common, connection_check, errors
from workers.cli.connection_check import CheckOutcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.table import Table

    from models.db.database import Database
    from models.settings.load import Settings


def check(
    config: common.Config = None,
    *,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="For programs: a list of {connection, system, what, says, ok, remedy}."),
    ] = False,
) -> None:
    """Check the settings, the database, the broker, and each connection's login, clock and resources.

    It sends a few cheap requests through each account's gate, and writes nothing to the mirror. The exit status is 1
    if anything is wrong.

    Example: [bold]erpmirror check[/]
    """
    loaded = common.settings(config)
    with common.err().status("Checking …") as spinner:
        outcomes = list(_outcomes(loaded, spinner.update))
    if as_json:
        common.print_json([asdict(outcome) for outcome in outcomes])
    else:
        common.out().print(table(outcomes))
    if not loaded.connections:
        common.note(f"No connection is configured yet; add one to {loaded.file}.")
    _note_readable(loaded)
    _note_leftovers(loaded)
    if not all(outcome.ok for outcome in outcomes):
        raise typer.Exit(1)


def _note_readable(loaded: Settings) -> None:
    """Print a note for files with secrets that every account of this machine can read."""
    from models.settings import references

    for file in (loaded.file, loaded.file.parent / references.FILE):
        if file.exists() and file.stat().st_mode & stat.S_IROTH:
            note = (
                f"Every account of this machine can read {file}, which holds secrets; `chmod o-rwx {file}` ends that."
            )
            common.note(note)


def _note_leftovers(loaded: Settings) -> None:
    """Print a note for rows of connections and resources that are no longer configured."""
    from models.db import migration
    from workers.cli import status

    database = common.database(loaded, migrated=False)
    if _attempt(lambda: migration.state(database)) == ("current", True):
        status.note_unconfigured(database, loaded)


def _outcomes(loaded: Settings, report: Callable[[str], None]) -> Iterator[CheckOutcome]:
    from workers import context
    from workers.cli import worker_health

    yield CheckOutcome(None, None, "settings", str(loaded.file))
    database = common.database(loaded, migrated=False)
    of_database = _database(database)
    ready = of_database.ok
    yield of_database
    if ready:
        yield from _damages(database)
    answer, reached = _attempt(lambda: worker_health.reach(loaded, database))
    remedy = f"start the broker, or correct `url` in [broker] of {loaded.file}"
    yield CheckOutcome(None, None, "broker", answer, reached, None if reached else remedy)
    for each in context.all_contexts(database, loaded):
        yield from connection_check.ConnectionCheck(each, report).outcomes(ready=ready)


def _damages(database: Database) -> Iterator[CheckOutcome]:
    """What a person's changes of tables and settings leave to do: dropped tables and columns, new `omit` rules."""
    from models import status
    from models.db import migration
    from models.mirror import mending

    for name in migration.missing(database):
        remedy = "run `erpmirror migrate`"
        yield CheckOutcome(None, None, "tables", f"{name} is missing", ok=False, remedy=remedy)

    with database.read() as tx:
        for damage in mending.damages(tx):
            yield CheckOutcome(None, None, "mirror", str(damage), ok=False, remedy="run `erpmirror migrate`")
    for row in status.resources(database):
        if row.unredacted_rows or row.unredacted_entries:
            says = (
                f"up to {row.unredacted_rows} rows and {row.unredacted_entries} journal entries may hold what it names"
            )
            remedy = f"run `erpmirror rebuild {row.connection} {row.resource}`"
            yield CheckOutcome(row.connection, row.system, f"omit {row.resource}", says, ok=False, remedy=remedy)


def _attempt(check: Callable[[], str]) -> tuple[str, bool]:
    """The answer of a check, or the message of its expected error, and whether it succeeded."""
    try:
        return check(), True
    except Exception as error:  # raised again unless it is an expected one
        message = errors.explained(error)
        if message is None:
            raise
        return message, False


def _database(database: Database) -> CheckOutcome:
    """Whether it can be used, and has the tables of this version. The remedy fits the reason."""
    from models.db.migration import WrongTablesError
    from workers.cli import database_errors

    try:
        return CheckOutcome(None, None, "database", _tables(database))
    except WrongTablesError as wrong:
        what, _, remedy = str(wrong).partition("; ")
        return CheckOutcome(None, None, "database", what, ok=False, remedy=remedy)
    except Exception as error:  # raised again unless it is an expected one
        explanation = database_errors.explained(error)
        if explanation is None:
            raise
        return CheckOutcome(None, None, "database", explanation.what, ok=False, remedy=explanation.remedy)


def _tables(database: Database) -> str:
    from models.db import migration

    migration.require(database)
    where = database.url.set(username=None, password=None, query={})  # the query may hold a password, too
    return f"{where.render_as_string()}, tables of this version"


def table(outcomes: Iterable[CheckOutcome]) -> Table:
    """The outcomes by connection, each remedy below its failure. Fits 80 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    results = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    results.add_column("", no_wrap=True)
    results.add_column("what", no_wrap=True)
    results.add_column("says", overflow="fold")
    for connection, system, group in _grouped(outcomes):
        if connection is not None:
            results.add_section()
            results.add_row("", Text(f"{connection} ({system})", style="bold"), "")
        for outcome in group:
            mark = Text("ok", style="green") if outcome.ok else Text("!!", style="red")
            says = Text(outcome.says)
            if outcome.remedy is not None:
                says.append(f"\n→ {outcome.remedy}", style="yellow")
            results.add_row(mark, Text(outcome.what), says)
    return results


def _grouped(outcomes: Iterable[CheckOutcome]) -> Iterator[tuple[str | None, str | None, Iterator[CheckOutcome]]]:
    for (connection, system), group in groupby(outcomes, key=lambda outcome: (outcome.connection, outcome.system)):
        yield connection, system, group
