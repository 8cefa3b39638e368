"""The verb that checks an installation: the file, the database, the broker, each connection with its resources."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays quick

from __future__ import annotations

from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from workers.cli import common, connection_check, errors
from workers.cli.connection_check import Proof

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

    Sends a few cheap requests through each account's gate, one at a time. Writes nothing to the mirror. The exit status
    is 1 if anything is wrong.

    Example: [bold]erpmirror check[/]
    """
    loaded = common.settings(config)
    with common.err().status("Checking …") as shown:
        proofs = list(_proofs(loaded, shown.update))
    if as_json:
        from workers.cli import status

        status.print_json([asdict(proof) for proof in proofs])
    else:
        common.out().print(table(proofs))
    if not loaded.connections:
        common.note(f"No connection is configured yet; fill one in in {loaded.file}.")
    _name_leftovers(loaded)
    if not all(proof.ok for proof in proofs):
        raise typer.Exit(1)


def _name_leftovers(loaded: Settings) -> None:
    """Name what the mirror still holds although it is no longer configured."""
    from models.db import migration
    from workers.cli import status

    database = common.database(loaded, migrated=False)
    if _tried(lambda: migration.state(database)) == ("current", True):
        status.name_unconfigured(database, loaded)


# What all connections share


def _proofs(loaded: Settings, report: Callable[[str], None]) -> Iterator[Proof]:
    from workers import context
    from workers.cli import worker_health

    yield Proof(None, None, "settings", str(loaded.file))
    database = common.database(loaded, migrated=False)
    answer, ready = _tried(lambda: _tables(database))
    remedy = f"run `erpmirror migrate`, or correct `url` in [database] of {loaded.file}"
    yield Proof(None, None, "database", answer, ready, None if ready else remedy)
    answer, reached = _tried(lambda: worker_health.reach(loaded, database))
    remedy = f"start the broker, or correct `url` in [broker] of {loaded.file}"
    yield Proof(None, None, "broker", answer, reached, None if reached else remedy)
    for each in context.all_contexts(database, loaded):
        yield from connection_check.ConnectionCheck(each, report).proofs(ready=ready)


def _tried(prove: Callable[[], str]) -> tuple[str, bool]:
    try:
        return prove(), True
    except Exception as error:  # raised again unless it is an expected one
        message = errors.explained(error)
        if message is None:
            raise
        return message, False


def _tables(database: Database) -> str:
    from models.db import migration

    migration.require(database)
    where = database.url.set(username=None, password=None, query={})  # drivers accept a password in the query, too
    return f"{where.render_as_string()}, tables of this version"


# How it reads


def table(proofs: Iterable[Proof]) -> Table:
    """The results by connection; the remedy stands below what is wrong. Fits 100 columns."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("", no_wrap=True)
    shown.add_column("what", no_wrap=True)
    shown.add_column("says", overflow="fold")
    for connection, system, of_one in _grouped(proofs):
        if connection is not None:
            shown.add_section()
            shown.add_row("", Text(f"{connection} ({system})", style="bold"), "")
        for proof in of_one:
            mark = Text("ok", style="green") if proof.ok else Text("!!", style="red")
            says = Text(proof.says)
            if proof.remedy is not None:
                says.append(f"\n→ {proof.remedy}", style="yellow")
            shown.add_row(mark, Text(proof.what), says)
    return shown


def _grouped(proofs: Iterable[Proof]) -> Iterator[tuple[str | None, str | None, Iterator[Proof]]]:
    for (connection, system), group in groupby(proofs, key=lambda proof: (proof.connection, proof.system)):
        yield connection, system, group
