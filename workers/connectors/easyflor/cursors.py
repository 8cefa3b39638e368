"""Where a reading of EasyFlor stands: the day that the next look asks from, and how the vendor wants it written."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workers.connectors.easyflor.options import Options

_FORMATS = {"yyyyMMdd": "%Y%m%d", "yyyy-MM-dd": "%Y-%m-%d"}

_UNKNOWN_CLOCK_MARGIN = timedelta(days=1)
"""How far our own clock is mistrusted where the vendor sends no Date."""


def format_day(day: date, form: str) -> str:
    """A day as an address takes it. `form`: `yyyyMMdd` or `yyyy-MM-dd`."""
    return day.strftime(_FORMATS[form])


def other_form(form: str) -> str:
    """The form that the vendor may have meant instead."""
    (found,) = _FORMATS.keys() - {form}
    return found


@dataclass(frozen=True, slots=True)
class Position:
    """What a cursor says.

    `since`: the day to ask from; None in a full reading. `form`: how days are written. `second_try`: this run has begun
    with the other form, which the vendor refused.
    """

    since: date | None
    form: str
    second_try: bool = False

    @classmethod
    def decode(cls, cursor: str | None, options: Options) -> Position:
        """Back from a cursor; None is the beginning of a full reading."""
        decoded = json.loads(cursor) if cursor else {}
        since = decoded.get("since")
        form = decoded.get("form", options.since_format)
        return cls(date.fromisoformat(since) if since else None, form, decoded.get("second_try", False))

    def encode(self, options: Options) -> str:
        """The cursor. A form is remembered only where it is not the configured one."""
        encoded: dict[str, str | bool] = {"since": self.since.isoformat()} if self.since else {}
        if self.form != options.since_format:
            encoded["form"] = self.form
        if self.second_try:
            encoded["second_try"] = True
        return json.dumps(encoded)

    def with_other_form(self) -> Position:
        """The same question with days in the other form."""
        return replace(self, form=other_form(self.form), second_try=True)


class Run:
    """What a reading has learned of the vendor's clock, and the cursor that follows from it."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._started = datetime.now(UTC)
        self._vendor_started = self._started - _UNKNOWN_CLOCK_MARGIN

    def observe_clock(self, moment: datetime | None) -> None:
        """The vendor's clock on the reply; what counts is its time before the request."""
        if moment is not None:
            self._vendor_started = moment - (datetime.now(UTC) - self._started)

    def next_cursor(self, position: Position) -> str:
        """The cursor after this run: some days before it began, because a day is the finest grain."""
        day = self._vendor_started.astimezone(UTC).date() - timedelta(days=self._options.overlap_days)
        return Position(day, position.form).encode(self._options)
