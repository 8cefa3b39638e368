"""Chooses the changes that a subscription is told of again, and has them sent."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.bookkeeping import journal, undelivered
from models.bookkeeping.undelivered import Object
from models.db.tables import changes as entries
from workers.cli import common, errors, subscription_words
from workers.cli.printable import escaped
from workers.deliveries import filters

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.bookkeeping.subscriptions import Subscriber
    from models.db.database import Database, Tx
    from models.settings.subscriptions import Subscription

BATCH = 1000
"""Changes of one transaction: a lock of SQLite is held no longer than for these."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What a person named; one of them, or nothing for all."""

    since: datetime | None = None
    change: int | None = None
    of: Object | None = None

    @property
    def conditions(self) -> list[sa.ColumnElement[bool]]:
        """The same for a statement over the journal."""
        c = entries.c
        if self.of is not None:
            return [c.connection == self.of.connection, c.resource == self.of.resource, c.key == self.of.key]
        if self.since is not None:
            return [c.at >= self.since]
        return [] if self.change is None else [c.id == self.change]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent again. `count`: changes up to `position`; `coming`: those above, which it is told of anyway."""

    subscription: str
    where: Sequence[sa.ColumnElement[bool]]
    position: int
    count: int
    coming: int
    notes: Sequence[str]

    @property
    def words(self) -> str:
        """How many there are."""
        return changes(self.count)


def changes(count: int) -> str:
    """A number of changes."""
    return f"{count} change{'' if count == 1 else 's'}"


def choose(*, since: str | None, change: int | None, of_object: tuple[str, str, str] | None, every: bool) -> Choice:
    """The one choice that was made; UserError for none or several."""
    if [since is not None, change is not None, of_object is not None, every].count(True) != 1:
        raise errors.UserError("say one of --since TIME, --change ID, --object CONNECTION RESOURCE KEY, --all")
    at = None if since is None else common.moment(since)
    return Choice(at, change, None if of_object is None else Object(*of_object))


def plan(tx: Tx, options: Subscription, row: Subscriber, choice: Choice) -> Plan:
    """Count what is to be sent. UserError for a change that is not kept, or that the filter does not let through."""
    where = [*filters.of(options).conditions(), *choice.conditions]
    oldest, newest, _ = journal.bounds(tx)
    if choice.change is not None:
        _require(tx, options, choice.change, oldest=oldest, newest=newest)
    matching = sa.select(
        sa.func.count().filter(entries.c.id <= row.position), sa.func.count().filter(entries.c.id > row.position)
    ).where(*where)
    count, coming = tx.execute(matching).one()
    notes = []
    if coming:
        them = changes(coming) if choice.change is None else f"change {choice.change}"
        verbs = ("has", "comes") if coming == 1 else ("have", "come")
        notes.append(f"{them} {verbs[0]} not been sent yet and {verbs[1]} anyway")
    if oldest > 1 and choice.change is None and _reaches_before(tx, choice, oldest):
        notes.append(f"changes before {oldest} were deleted (`keep_changes`), so they cannot be sent again")
    return Plan(row.name, where, row.position, count, coming, notes)


def _require(tx: Tx, options: Subscription, change: int, *, oldest: int, newest: int) -> None:
    if change > newest:
        raise errors.UserError(f"there is no change {change}; the journal ends at {newest}")
    if change < oldest:
        raise errors.UserError(f"change {change} was deleted (`keep_changes`); the oldest that is kept is {oldest}")
    entry = _entry(tx, change)
    if entry is not None and not filters.of(options).matches(entry):
        raise errors.UserError(_filtered_out(options, entry))


def _reaches_before(tx: Tx, choice: Choice, oldest: int) -> bool:
    if choice.since is None:
        return True
    entry = _entry(tx, oldest)
    return entry is None or bool(entry.at > choice.since)


def run(database: Database, plan: Plan) -> int:
    """Have them sent, `BATCH` a transaction; returns how many."""
    done, after = 0, 0
    hidden = plan.count <= BATCH
    with common.progress_bar(plan.subscription, plan.count, unit="changes", hidden=hidden) as report:
        while True:
            with database.begin() as tx:
                count, last = undelivered.send_again(
                    tx,
                    plan.subscription,
                    plan.where,
                    position=plan.position,
                    after=after,
                    limit=BATCH,
                )
            done += count
            report(done)
            if last is None:
                return done
            after = last


def whereabouts(tx: Tx, options: Subscription, row: Subscriber, change: int) -> str:
    """What became of a change that does not wait for a retry."""
    oldest, newest, _ = journal.bounds(tx)
    entry = _entry(tx, change)
    if change > newest:
        return f"there is no change {change}; the journal ends at {newest}"
    if entry is not None and not filters.of(options).matches(entry):
        return _filtered_out(options, entry)
    if change > row.position:
        return f"change {change} has not been sent yet; {row.name} was told up to {row.position}"
    if entry is None or change < oldest:
        return f"change {change} was delivered, or skipped, and is deleted (`keep_changes`)"
    return (
        f"change {change} was delivered, skipped, or written before {row.name} began; "
        f"`erpmirror subscriptions redeliver {row.name} --change {change}` sends it again"
    )


def _entry(tx: Tx, change: int) -> Any:
    c = entries.c
    chosen = sa.select(c.id, c.at, c.connection, c.resource, c.key, c.kind)
    return tx.execute(chosen.where(c.id == change)).one_or_none()


def _filtered_out(options: Subscription, entry: Any) -> str:
    what = escaped(f"{entry.connection} {entry.resource} {entry.key}, {entry.kind}")
    return (
        f"change {entry.id} ({what}) is none of those that {options.name} is told of: "
        f"{subscription_words.filter_of(options)}"
    )
