"""Migrates the tables, makes anew what is missing of the mirror's, and fills that from what is stored."""

# ruff: noqa: PLC0415 - what a verb needs is imported when it runs: `--help` stays fast

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.cli import common, errors

if TYPE_CHECKING:
    from models.db.database import Database
    from models.settings.load import Settings
    from workers.context import ConnectionContext


def migrate(database: Database, loaded: Settings) -> None:
    """Create, migrate and mend all tables; says what was mended. UserError if a person has to do something first."""
    from models.db import migration

    migration.migrate(database)
    mend(database, loaded)


def mend(database: Database, loaded: Settings, owner: str | None = None) -> set[tuple[str, str]]:
    """Make anew what is missing of all resources' tables, or of one's, and fill it for every connection.

    Returns what was filled: (connection, resource).
    """
    from models.mirror import mending, schema_evolution

    try:
        for damage in mending.mend(database, owner):
            common.note(f"{damage}: made anew")
    except mending.CannotMendError as error:
        raise errors.UserError(str(error)) from None
    except schema_evolution.TableLockedError:
        raise errors.UserError("a long query locks a table that is to be mended; try again later") from None
    return _fill(database, loaded, owner)


def _fill(database: Database, loaded: Settings, owner: str | None) -> set[tuple[str, str]]:
    from models.bookkeeping import streams
    from workers import context

    with database.read() as tx:
        unfilled = streams.unfilled(tx)
    filled = set()
    for each in context.all_contexts(database, loaded):
        for name, resource in each.resources.items():
            how = unfilled.get((each.name, name))
            if how is not None and owner in {None, each.target(resource).table}:
                rebuild(each, name, is_lost=how == streams.LOST)
                filled.add((each.name, name))
    return filled


def rebuild(context: ConnectionContext, name: str, *, is_lost: bool = False) -> None:
    """Write columns and parts of a resource anew from `_raw`. `is_lost`: first bring `_raw` back from the journal."""
    from models.bookkeeping import streams
    from models.mirror import queries, rebuild, schema_evolution

    context.sync_streams()  # so that a new `omit` rule is known
    with context.database.read() as tx:
        target = context.target(context.resources[name], streams.get(tx, context.name, name))
    try:
        if is_lost:
            rebuild.restore(context.database, target)
            common.note(
                f"{context.name} {name}: its objects were gone. They are back as the journal has them, and a full sync "
                "begins"
            )
        with context.database.read() as tx:
            total = queries.count_live(tx, target)
        with common.progress_bar(name, total or None) as report:
            done = rebuild.rebuild(context.database, target, progress=report)
    except schema_evolution.TableLockedError:
        raise errors.UserError(f"{name}: a long query locks its table; try again later") from None
    common.out().print(f"{name}: {done} objects rebuilt", markup=False)
