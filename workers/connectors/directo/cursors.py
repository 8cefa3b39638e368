"""Directo's cursors: what they hold, and why they never move past what was received."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from models import exact
from models.values import End
from workers.connectors import objects, streaming
from workers.connectors.directo import wall_clock

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.connectors.directo.options import Options
    from workers.connectors.directo.queries import Params

_ONE_SECOND = timedelta(seconds=1)

_FILTER_IGNORED_AFTER = timedelta(minutes=1)
"""A record this much older than `ts` asked for proves that the filter was ignored; a smaller gap may be rounding."""

_UNKNOWN_CLOCK_MARGIN = timedelta(days=1)
"""Subtracted from our own clock if Directo sends no Date header."""

_MAX_SEEN = 2000
"""Deletions that a cursor remembers; one limit for those with a time and one for those without."""


@dataclass(frozen=True, slots=True)
class Window:
    """A range of document dates, `days` long, that one request asks for.

    `by_ts`: a range of `ts` instead. Windows of `ts` follow those of `date`, because a document without a date is in
    none of the latter (all resources have the filter `ts`, Directo API documentation, "Common Filter Parameters by
    Resource"). `start` None: everything before `first`. `start` at or after `until`: everything from there on, without
    an end.
    """

    start: date | None
    days: int
    first: date
    until: date
    by_ts: bool = False

    @classmethod
    def initial(cls, options: Options) -> Window:
        """The first window of a full sync. `until` may be any day: the last window has no end."""
        first = options.since
        until = max(datetime.now(options.zone).date() + timedelta(days=1), first + timedelta(days=1))
        return cls(None, max((until - first).days // 2, 1), first, until)

    @property
    def end(self) -> date | None:
        """The first day after the window; None if it has no end."""
        if self.start is None:
            return self.first
        return min(self.start + timedelta(days=self.days), self.until) if self.start < self.until else None

    @property
    def bounds(self) -> tuple[datetime | None, datetime | None]:
        """The wall clocks to send after `>` and `<`; None: no bound on that side.

        Neighbouring windows overlap by one second, because it is not documented whether `>` and `<` include the bound.
        """
        after = None if self.start is None else datetime.combine(self.start, time()) - _ONE_SECOND
        return after, None if self.end is None else datetime.combine(self.end, time())

    def halved(self) -> Window | None:
        """The same start with half the days; None if the window cannot be made smaller."""
        if self.start is None or self.start >= self.until or self.days == 1:
            return None
        return replace(self, days=self.days // 2)

    def next(self, *, wider: bool) -> Window | None:
        """The window that follows, twice as long if `wider`; None after the last."""
        if self.end is None:
            return None
        days = min(self.days * 2, (self.until - self.first).days) if wider and self.start else self.days
        return replace(self, start=self.end, days=days)

    @classmethod
    def decode(cls, fields: dict[str, Any]) -> Window:
        """The window from its fields in a cursor."""
        days = {name: date.fromisoformat(fields[name]) for name in ("first", "until")}
        start = date.fromisoformat(fields["start"]) if fields["start"] else None
        return cls(start, fields["days"], **days, by_ts=fields.get("by_ts", False))


@dataclass(frozen=True, slots=True)
class Position:
    """The content of a cursor: `since` and `seen` after a finished run, the other fields while a full sync goes on.

    - `since`: polls ask for `ts` after this; Directo's wall clock
    - `seen`: fingerprints of deletions that the overlap will deliver again
    - `started`: our clock at the run's first request, aware
    - `vendor_started`: Directo's clock at that request, aware; None if it sent no Date header
    - `greatest`: the latest `ts` received; Directo's wall clock
    - `window`: the next window of a full sync by windows
    """

    since: datetime | None = None
    seen: tuple[str, ...] = ()
    started: datetime | None = None
    vendor_started: datetime | None = None
    greatest: datetime | None = None
    window: Window | None = None

    def encode(self) -> str:
        """The cursor as text."""
        stamps = {name: getattr(self, name) for name in ("since", "started", "vendor_started", "greatest")}
        encoded: dict[str, Any] = {name: moment.isoformat() for name, moment in stamps.items() if moment}
        if self.seen:
            encoded["seen"] = self.seen
        if self.window:
            encoded["window"] = asdict(self.window)
        return json.dumps(encoded, default=date.isoformat)

    @classmethod
    def recent(cls, options: Options) -> Position:
        """A start for `/deleted` if the whole list is too long: deletions before it are covered by a full sync."""
        back = options.full_every + options.overlap + _UNKNOWN_CLOCK_MARGIN
        return cls(wall_clock.localize(datetime.now(UTC) - back, options.zone))

    @classmethod
    def decode(cls, text: str) -> Position:
        """The position from a cursor's text."""
        decoded = json.loads(text)
        window = decoded.pop("window", None)
        seen = tuple(decoded.pop("seen", ()))
        stamps = {name: datetime.fromisoformat(moment) for name, moment in decoded.items()}
        return cls(seen=seen, window=Window.decode(window) if window else None, **stamps)


_PARTLY_READ = (streaming.SentRecord, streaming.UnreadableRecord)

_USUAL_STAMPS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\n\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)*+", re.ASCII)
"""Texts that are in the order of their times, so that only the first and the last have to be parsed."""


class Run:
    """One run over a resource: observes stamps and clocks, and computes the next cursor from them."""

    def __init__(self, position: Position, options: Options, *, full: bool) -> None:
        self._position = position if position.started else replace(position, started=datetime.now(UTC))
        self._options = options
        self._full = full
        self._oldest: datetime | None = None

    def params(self) -> Params:
        """The `ts` filter of a poll, its operator in the value; empty for a full sync."""
        since = self._position.since
        return [("ts", f">{wall_clock.to_param(since)}")] if since else []

    def observe_clock(self, moment: datetime | None) -> None:
        """Take Directo's clock from a reply, reduced to the time of the run's first request; None: no Date header."""
        if moment is not None and self._position.vendor_started is None and self._position.started is not None:
            vendor_started = moment - (datetime.now(UTC) - self._position.started)
            self._position = replace(self._position, vendor_started=vendor_started)

    def observe_records(self, records: Iterable[Any]) -> None:
        """Take the `ts` of each record that has one: also of one that cannot be read, as it is parked."""
        told = (each.told if isinstance(each, _PARTLY_READ) else each for each in records)
        values = (objects.field(each, "ts") for each in told if isinstance(each, dict))
        texts = {value for value in values if isinstance(value, str)}
        edges = [min(texts), max(texts)] if _USUAL_STAMPS.fullmatch("\n".join(texts)) else []
        stamps = [wall_clock.parse(text, self._options.zone) for text in edges]
        if not edges or None in stamps:
            stamps = [wall_clock.parse(text, self._options.zone) for text in texts]
        for stamp in stamps:
            self.observe_stamp(stamp)

    def observe_stamp(self, stamp: datetime | None) -> None:
        """Take a `ts` as a wall clock; None is ignored."""
        if stamp is None:
            return
        if self._position.greatest is None or stamp > self._position.greatest:
            self._position = replace(self._position, greatest=stamp)
        self._oldest = min(self._oldest or stamp, stamp)

    def is_before_cursor(self, stamp: datetime | None) -> bool:
        """Whether the `ts` filter should have excluded a record with this stamp."""
        since = self._position.since
        return stamp is not None and since is not None and stamp <= since - _FILTER_IGNORED_AFTER

    def is_covered_by_full_sync(self, stamp: datetime | None) -> bool:
        """Whether a full sync has run since this deletion, and so has already found the object missing."""
        if self._position.since is not None:
            return self.is_before_cursor(stamp)
        covered = self._options.full_every + self._options.overlap
        return stamp is not None and stamp <= self._vendor_now() - covered

    def position(self) -> Position:
        """The position within the run."""
        return self._position

    def next_position(self) -> Position:
        """Where the next poll begins: at most the greatest `ts` received and Directo's clock before the first request.

        If Directo's clock was set back, the cursor goes back too: else polls would find nothing until the clock has
        caught up. It goes back by one more interval, because the poll before this one already asked beyond the clock.
        """
        old, greatest = self._position.since, self._position.greatest
        limit = self._vendor_now()
        if old is not None and not self._full:
            if self._position.vendor_started is not None and old > limit:
                return Position(self._stepped_back(limit, self._options.every + self._options.overlap))
            if greatest is None:
                return Position(old)
        new = self._stepped_back(min(greatest, limit) if greatest else limit, self._options.overlap)
        return Position(max(old, new) if old else new)

    def end(self, *, complete: bool = False, warning: str | None = None) -> End:
        """The end of the run's last reply. `warning`: joined to the run's own."""
        warnings = [each for each in (self.warning(), warning) if each]
        return End(self.next_position().encode(), complete=complete, warning="; ".join(warnings) or None)

    def warning(self) -> str | None:
        """A text for a person if the `ts` filter was ignored; else None."""
        if not self.is_before_cursor(self._oldest):
            return None
        return (
            f"Directo ignored the filter ts=>{wall_clock.to_param(self._position.since)}: it also sent records last "
            f"changed {wall_clock.to_param(self._oldest)}. They are kept, but every poll reads more than it should"
        )

    def _vendor_now(self) -> datetime:
        if self._position.vendor_started is not None:
            moment = self._position.vendor_started
        else:
            moment = (self._position.started or datetime.now(UTC)) - _UNKNOWN_CLOCK_MARGIN
        return wall_clock.localize(moment, self._options.zone)

    def _stepped_back(self, stamp: datetime, overlap: timedelta) -> datetime:
        return wall_clock.step_back(stamp, overlap, self._options.zone)


class SeenDeletions:
    """Which rows of `/deleted` were already enqueued, so that the overlap does not enqueue them again."""

    def __init__(self, seen: Iterable[str]) -> None:
        self._seen = frozenset(seen)
        self._stamped: dict[str, datetime] = {}
        self._timeless: dict[str, None] = {}

    def is_new(self, key: str, stamp: datetime | None) -> bool:
        """Whether this row was not enqueued yet; remembers it.

        Rows without a time may come with every poll. Beyond `_MAX_SEEN` they count as seen and wait for the next full
        sync: a row that cannot be remembered would be enqueued by every poll.
        """
        name = exact.fingerprint(key)[:12]
        if stamp is not None:
            self._stamped[name] = stamp
        elif name in self._timeless or len(self._timeless) < _MAX_SEEN:
            self._timeless[name] = None
        else:
            return False
        return name not in self._seen

    def add_to(self, position: Position) -> Position:
        """The position with `seen` set to the rows that its overlap will deliver again."""
        repeated = sorted(
            (stamp, name) for name, stamp in self._stamped.items() if not position.since or stamp > position.since
        )
        return replace(position, seen=(*self._timeless, *(name for _, name in repeated[-_MAX_SEEN:])))
