"""EasyFlor's cursors: the day from which the next poll asks, and the date format that EasyFlor accepts."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.connectors.easyflor.options import Options

_FORMS = {"yyyyMMdd", "yyyy-MM-dd"}

_UNKNOWN_CLOCK_MARGIN = timedelta(days=1)
"""Subtracted from our own clock if EasyFlor sends no Date header."""


def format_day(day: date, form: str) -> str:
    """A day as part of an address. `form`: `yyyyMMdd` or `yyyy-MM-dd`."""
    return day.isoformat() if "-" in form else day.isoformat().replace("-", "")


def other_form(form: str) -> str:
    """The other of the two forms."""
    (found,) = _FORMS - {form}
    return found


@dataclass(frozen=True, slots=True)
class Position:
    """The content of a cursor.

    `since`: the day to ask from; None in a full sync. `form`: of days. `second_try`: this run began with the other
    form, which EasyFlor refused.
    """

    since: date | None
    form: str
    second_try: bool = False

    @classmethod
    def decode(cls, cursor: str | None, options: Options) -> Position:
        """The position from a cursor's text; None starts a full sync."""
        decoded = json.loads(cursor) if cursor else {}
        since = decoded.get("since")
        form = decoded.get("form", options.since_format)
        return cls(date.fromisoformat(since) if since else None, form, decoded.get("second_try", False))

    def encode(self, options: Options) -> str:
        """The cursor as text. The form is kept only if it differs from the configured one."""
        encoded: dict[str, str | bool] = {"since": self.since.isoformat()} if self.since else {}
        if self.form != options.since_format:
            encoded["form"] = self.form
        if self.second_try:
            encoded["second_try"] = True
        return json.dumps(encoded)

    def with_other_form(self) -> Position:
        """The same position with days in the other form."""
        return replace(self, form=other_form(self.form), second_try=True)


class Run:
    """One run: observes EasyFlor's clock, and computes the next cursor from it."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._started = datetime.now(UTC)
        self._vendor_started = self._started - _UNKNOWN_CLOCK_MARGIN

    def observe_clock(self, moment: datetime | None) -> None:
        """Take EasyFlor's clock from the reply, reduced to the time of the request; None: no Date header."""
        if moment is not None:
            self._vendor_started = moment - (datetime.now(UTC) - self._started)

    def next_cursor(self, position: Position) -> str:
        """The cursor after this run: `overlap_days` before it started, because addresses take whole days."""
        day = self._vendor_started.astimezone(UTC).date() - timedelta(days=self._options.overlap_days)
        return Position(day, position.form).encode(self._options)
