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

    from rich.text import Text

    from models.db.database import Database
    from models.settings.load import Settings
    from models.settings.subscriptions import Subscription


_UNFOLDED = 10_000
"""Columns, where each line stays one line."""


def check(
    config: common.Config = None,
    *,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="For programs: a list of {connection, system, what, says, ok, remedy}."),
    ] = False,
) -> None:
    """Check the settings, the database, the broker, each connection's login, clock and resources, each subscription.

    It sends a few cheap requests through each account's gate, connects to the subscriptions' endpoints, and writes
    nothing to the mirror. The exit status is 1 if anything is wrong.

    Example: [bold]erpmirror check[/]
    """
    loaded = common.settings(config)
    with common.err().status("Checking …") as spinner:
        outcomes = list(_outcomes(loaded, spinner.update))
    if as_json:
        common.print_json([asdict(outcome) for outcome in outcomes])
    else:
        console = common.out()
        for text in report(outcomes, console.width if console.is_terminal else _UNFOLDED):
            console.print(text, soft_wrap=True)
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
    from models import status as mirror_status
    from workers.cli import status

    database = common.database(loaded, migrated=False)
    if _is_current(database):
        status.note_unconfigured(mirror_status.resources(database), status.configured_resources(loaded))


def _outcomes(loaded: Settings, report: Callable[[str], None]) -> Iterator[CheckOutcome]:
    from workers import context
    from workers.cli import worker_health

    yield CheckOutcome(None, None, "settings", str(loaded.file))
    database = common.database(loaded, migrated=False)
    of_database = _service("database", lambda: _tables(database))
    ready = of_database.ok
    yield of_database
    if ready:
        yield from _damages(database)
    yield _service("broker", lambda: worker_health.reach(loaded, database))
    for each in context.all_contexts(database, loaded):
        yield from connection_check.ConnectionCheck(each, report).outcomes(ready=ready)
    if loaded.alerts.to:
        yield _alerts(loaded)
    for name, subscription in loaded.subscriptions.items():
        report(f"Connecting to {subscription.host} …")
        yield _endpoint(name, subscription, loaded)


def _alerts(loaded: Settings) -> CheckOutcome:
    """Whether Apprise knows the addresses. Nothing is sent."""
    from workers import alerts

    addresses = [each.get_secret_value() for each in loaded.alerts.to]
    if unknown := alerts.unknown(addresses):
        says = f"Apprise cannot use the addresses number {', '.join(map(str, unknown))} of `to`"
        remedy = f"correct them in [alerts] of {loaded.file}; Apprise's documentation lists what it knows"
        return CheckOutcome(None, None, "alerts", says, ok=False, remedy=remedy)
    return CheckOutcome(None, None, "alerts", f"{len(addresses)} addresses that Apprise can use")


def _endpoint(name: str, options: Subscription, loaded: Settings) -> CheckOutcome:
    """Whether a subscription's endpoint can be connected to. Nothing is posted."""
    from workers.deliveries.endpoint import Endpoint

    what, failure = f"subscription {name}", Endpoint(options).reach()
    if failure is None:
        says = f"{options.host} can be connected to; `erpmirror subscriptions test {name}` posts a message"
        return CheckOutcome(None, None, what, says)
    remedy = f"correct `url` in [subscriptions.{name}] of {loaded.file}, or start the endpoint"
    return CheckOutcome(None, None, what, failure, ok=False, remedy=remedy)


def _damages(database: Database) -> Iterator[CheckOutcome]:
    """What a person's changes of tables and settings leave to do: dropped tables and columns, new `omit` rules."""
    from models import status
    from models.db import migration
    from models.mirror import damages

    for name in migration.missing(database):
        remedy = "run `erpmirror migrate`"
        yield CheckOutcome(None, None, "tables", f"{name} is missing", ok=False, remedy=remedy)

    with database.read() as tx:
        for damage in damages.find(tx):
            yield CheckOutcome(None, None, "mirror", str(damage), ok=False, remedy="run `erpmirror migrate`")
    for row in status.resources(database):
        if row.unredacted_rows or row.unredacted_entries:
            says = (
                f"up to {row.unredacted_rows} rows and {row.unredacted_entries} journal entries may hold what it names"
            )
            remedy = f"run `erpmirror rebuild {row.connection} {row.resource}`"
            yield CheckOutcome(row.connection, row.system, f"omit {row.resource}", says, ok=False, remedy=remedy)


def _is_current(database: Database) -> bool:
    """Whether the tables are those of this version; False, too, where the database cannot be used."""
    from models.db import migration

    try:
        return migration.state(database) == "current"
    except Exception as error:  # raised again unless it is an expected one
        if errors.explained(error) is None:
            raise
        return False


def _service(what: str, use: Callable[[], str]) -> CheckOutcome:
    """Whether the database or the broker can be used. The remedy fits the reason."""
    from models.db.migration import WrongTablesError

    try:
        return CheckOutcome(None, None, what, use())
    except WrongTablesError as wrong:
        says, _, remedy = str(wrong).partition("; ")
        return CheckOutcome(None, None, what, says, ok=False, remedy=remedy)
    except Exception as error:  # raised again unless it is an expected one
        explanation = errors.of_service(error)
        if explanation is None:
            raise
        return CheckOutcome(None, None, what, explanation.what, ok=False, remedy=explanation.remedy)


def _tables(database: Database) -> str:
    from models.db import migration

    migration.require(database)
    where = database.url.set(username=None, password=None, query={})  # the query may hold a password, too
    return f"{where.render_as_string()}, tables of this version"


def report(outcomes: Iterable[CheckOutcome], width: int) -> Iterator[Text]:
    """The outcomes by connection, each remedy below its failure, in lines of that width."""
    from rich.text import Text

    for connection, system, group in _grouped(outcomes):
        if connection is not None:
            yield Text()
            yield Text(f"{connection} ({system})", style="bold")
        of_connection = list(group)
        longest = max(len(outcome.what) for outcome in of_connection)
        for outcome in of_connection:
            yield _lines(outcome, longest, width)


def _lines(outcome: CheckOutcome, longest: int, width: int) -> Text:
    """One outcome, whose name takes the place of the longest."""
    from rich.text import Text

    first = f"{'ok' if outcome.ok else '!!'}  {outcome.what:<{longest}}  "
    text = Text(common.folded(outcome.says, width, first=first, indent=" " * len(first)))
    text.stylize("green" if outcome.ok else "red", 0, 2)
    if outcome.remedy is not None:
        text.append("\n" + common.folded(outcome.remedy, width, first="    → ", indent="      "), style="yellow")
    return text


def _grouped(outcomes: Iterable[CheckOutcome]) -> Iterator[tuple[str | None, str | None, Iterator[CheckOutcome]]]:
    for (connection, system), group in groupby(outcomes, key=lambda outcome: (outcome.connection, outcome.system)):
        yield connection, system, group
