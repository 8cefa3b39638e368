"""How each subscription does, by its settings and its row: for the command line and the metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from models.bookkeeping import subscriptions, undelivered
from models.bookkeeping.subscriptions import Backlog, State
from workers.deliveries import filters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from models.bookkeeping.subscriptions import Subscriber
    from models.bookkeeping.undelivered import Waiting
    from models.db.database import Tx
    from models.settings.subscriptions import Subscription

COUNTED = 10_000
"""Up to so many changes a backlog is counted: more take longer, and tell a person nothing more."""

_LAGS_AFTER = timedelta(minutes=1)


class Verdict(StrEnum):
    """What a person should know first."""

    UP_TO_DATE = "up to date"
    BEHIND = "behind"
    FAILING = "failing"
    PAUSED = "paused"
    NOT_STARTED = "not started"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class Standing:
    """One subscription. `options` is None if it left the settings, `row` is None if it was not started yet.

    `failing`: the first change of which an attempt failed; `retry_at`: when one of those may be tried. `now`: the
    database's clock.
    """

    name: str
    options: Subscription | None
    row: Subscriber | None
    backlog: Backlog
    failing: Waiting | None
    retry_at: datetime | None
    now: datetime

    @property
    def verdict(self) -> Verdict:
        """What a person should know first."""
        if self.row is None:
            return Verdict.NOT_STARTED
        if self.options is None or self.row.state is State.REMOVED:
            return Verdict.REMOVED if self.options is None else Verdict.NOT_STARTED  # it comes back with the next start
        if self.row.state is State.PAUSED:
            return Verdict.PAUSED
        if self.row.failures or self.row.reason is not None or self.failing is not None:
            return Verdict.FAILING
        return Verdict.BEHIND if self.age > _LAGS_AFTER else Verdict.UP_TO_DATE

    @property
    def age(self) -> timedelta:
        """How old the oldest change is that was not delivered yet; 0 if there is none."""
        return max(self.now - self.backlog.oldest, timedelta()) if self.backlog.oldest else timedelta()

    @property
    def reason(self) -> str | None:
        """Why it is paused, or why its last attempt failed."""
        if self.row is not None and self.row.reason is not None:
            return self.row.reason
        return None if self.failing is None else self.failing.reason

    @property
    def failing_since(self) -> datetime | None:
        """When the first of its failures was."""
        found = [each.failing_since for each in (self.row, self.failing) if each is not None and each.failing_since]
        return min((each for each in found if each is not None), default=None)

    @property
    def next_try(self) -> datetime | None:
        """When it is tried again, if it fails."""
        if self.row is None or self.verdict is not Verdict.FAILING:
            return None
        return max(self.row.due_at, self.retry_at or self.row.due_at)


def every(tx: Tx, configured: Mapping[str, Subscription]) -> list[Standing]:
    """All subscriptions of the settings, and those that left them, by name."""
    rows = {row.name: row for row in subscriptions.all_rows(tx)}
    return [_standing(tx, name, configured.get(name), rows.get(name)) for name in sorted({*configured, *rows})]


def find(tx: Tx, configured: Mapping[str, Subscription], name: str) -> Standing | None:
    """One of them; None if neither the settings nor the rows know it."""
    row = subscriptions.get(tx, name)
    return None if name not in configured and row is None else _standing(tx, name, configured.get(name), row)


def _standing(tx: Tx, name: str, options: Subscription | None, row: Subscriber | None) -> Standing:
    if options is None or row is None:  # without a filter nobody knows what waits for it
        return Standing(name, options, row, Backlog(0, None), None, None, tx.now)
    backlog = subscriptions.backlog(tx, row, filters.of(options), at_most=COUNTED)
    failing, retry_at = undelivered.first_failing(tx, name), undelivered.next_retry_at(tx, name)
    return Standing(name, options, row, backlog, failing, retry_at, tx.now)
