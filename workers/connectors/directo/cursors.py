"""Where a reading of Directo stands: what a cursor says, and why it never moves past what was really received."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from models import exact
from models.values import End

if TYPE_CHECKING:
    from collections.abc import Iterable
    from zoneinfo import ZoneInfo

    from workers.connectors.directo.options import Options

Params = list[tuple[str, str]]
"""Filters; the operator is part of the value, and a name may come twice."""

_EARLIEST = datetime(1900, 1, 1)  # noqa: DTZ001 - a wall clock; what is not after this is a zero date
_ONE_SECOND = timedelta(seconds=1)

_FILTER_IGNORED_AFTER = timedelta(minutes=1)
"""A record this much older than what was asked for shows that the filter did nothing; less may be rounding."""

_UNKNOWN_CLOCK_MARGIN = timedelta(days=1)
"""How far our own clock is mistrusted where the vendor sends no Date."""

_MAX_SEEN = 2000
"""Deletions that a cursor remembers, of those with a time and of those without."""


@dataclass(frozen=True, slots=True)
class Window:
    """Documents of some days. `start` None: all before the first day. From `until` on: all that is left."""

    start: date | None
    days: int
    first: date
    until: date

    @classmethod
    def initial(cls, options: Options) -> Window:
        """The first of a reading. Where the last one ends is any day: what is later is asked for, too."""
        first = options.since
        until = max(datetime.now(options.zone).date() + timedelta(days=1), first + timedelta(days=1))
        return cls(None, max((until - first).days // 2, 1), first, until)

    @property
    def end(self) -> date | None:
        """The day after the last; None: open."""
        if self.start is None:
            return self.first
        return min(self.start + timedelta(days=self.days), self.until) if self.start < self.until else None

    @property
    def bounds(self) -> tuple[datetime | None, datetime | None]:
        """After when and before when; None: open.

        Windows share a second, because it is not documented whether `>` and `<` include their bound.
        """
        after = None if self.start is None else datetime.combine(self.start, time()) - _ONE_SECOND
        return after, None if self.end is None else datetime.combine(self.end, time())

    def halved(self) -> Window | None:
        """A smaller question; None where there is none."""
        if self.start is None or self.start >= self.until or self.days == 1:
            return None
        return replace(self, days=self.days // 2)

    def next(self, *, wider: bool) -> Window | None:
        """The window behind this one; None at the end."""
        if self.end is None:
            return None
        days = min(self.days * 2, (self.until - self.first).days) if wider and self.start else self.days
        return replace(self, start=self.end, days=days)

    @classmethod
    def decode(cls, fields: dict[str, Any]) -> Window:
        """Back from a cursor."""
        days = {name: date.fromisoformat(fields[name]) for name in ("first", "until")}
        return cls(date.fromisoformat(fields["start"]) if fields["start"] else None, fields["days"], **days)


@dataclass(frozen=True, slots=True)
class Position:
    """What a cursor says: `since` after a finished run; all else but `seen` while a full reading goes on.

    `began`: our clock at the run's first request. `asked`: the vendor's clock then. `greatest`: the latest `ts`
    received. `since` and `greatest` are the vendor's wall clock. `seen`: deletions that the overlap will bring again.
    """

    since: datetime | None = None
    seen: tuple[str, ...] = ()
    started: datetime | None = None
    vendor_started: datetime | None = None
    greatest: datetime | None = None
    window: Window | None = None

    def encode(self) -> str:
        """The cursor."""
        stamps = {name: getattr(self, name) for name in ("since", "began", "asked", "greatest")}
        encoded: dict[str, Any] = {name: moment.isoformat() for name, moment in stamps.items() if moment}
        if self.seen:
            encoded["seen"] = self.seen
        if self.window:
            encoded["window"] = asdict(self.window)
        return json.dumps(encoded, default=date.isoformat)

    @classmethod
    def recent(cls, options: Options) -> Position:
        """Where deletions may still be news, for a list of them that is too long to be read whole."""
        back = options.full_every + options.overlap + _UNKNOWN_CLOCK_MARGIN
        return cls(wall(datetime.now(UTC) - back, options.zone))

    @classmethod
    def decode(cls, text: str) -> Position:
        """Back from the cursor."""
        decoded = json.loads(text)
        window = decoded.pop("window", None)
        seen = tuple(decoded.pop("seen", ()))
        stamps = {name: datetime.fromisoformat(moment) for name, moment in decoded.items()}
        return cls(seen=seen, window=Window.decode(window) if window else None, **stamps)


class Run:
    """What a reading has learned so far, and the cursor that follows from it."""

    def __init__(self, position: Position, options: Options, *, full: bool) -> None:
        self._position = position if position.started else replace(position, began=datetime.now(UTC))
        self._options = options
        self._full = full
        self._oldest: datetime | None = None

    def params(self) -> Params:
        """The filter for what changed since, if there is a since. The operator is part of the value."""
        since = self._position.since
        return [("ts", f">{sent(since)}")] if since else []

    def observe_clock(self, moment: datetime | None) -> None:
        """The vendor's clock on a reply; what counts is its time before the run's first request."""
        if moment is not None and self._position.vendor_started is None and self._position.started is not None:
            asked = moment - (datetime.now(UTC) - self._position.started)
            self._position = replace(self._position, asked=asked)

    def observe_record(self, record: Any) -> None:
        """A record with its `ts`, if it has one."""
        if isinstance(record, dict):
            self.observe_stamp(stamp(record.get("ts"), self._options.zone))

    def observe_stamp(self, stamp: datetime | None) -> None:
        """A record's `ts`."""
        if stamp is None:
            return
        self._position = replace(self._position, greatest=max(self._position.greatest or stamp, stamp))
        self._oldest = min(self._oldest or stamp, stamp)

    def is_before_cursor(self, stamp: datetime | None) -> bool:
        """Whether the filter should have kept this record away."""
        since = self._position.since
        return stamp is not None and since is not None and stamp <= since - _FILTER_IGNORED_AFTER

    def is_covered_by_full_sync(self, stamp: datetime | None) -> bool:
        """Whether a deletion was told long since: what was mirrored then, a later full reading has missed."""
        if self._position.since is not None:
            return self.is_before_cursor(stamp)
        covered_for = self._options.full_every + self._options.overlap
        return stamp is not None and stamp <= wall(self._vendor_start(), self._options.zone) - covered_for

    def _vendor_now(self) -> datetime:
        return wall(self._vendor_start(), self._options.zone)

    def position(self) -> Position:
        """Where the run stands."""
        return self._position

    def next_position(self) -> Position:
        """Where the next tick begins: never past what was received, nor past the vendor's clock before we asked."""
        old, greatest = self._position.since, self._position.greatest
        if old is not None and not self._full and self._position.vendor_started is not None and old > self._vendor_now():
            # His clock was set back: until it is there again, nothing would be asked for. What changed since the tick
            # before this one was not asked for either.
            return Position(_stepped_back(self._vendor_now(), self._options.every + self._options.overlap, self._options.zone))
        if greatest is None and old is not None and not self._full:
            return Position(old)
        limit = self._vendor_now()
        stamp = min(greatest, limit) if greatest else limit
        new = _stepped_back(stamp, self._options.overlap, self._options.zone)
        return Position(max(old, new) if old else new)

    def end(self, *, complete: bool = False, warning: str | None = None) -> End:
        """The end of the run's last reply. `warning`: what else a person should know."""
        warnings = [each for each in (self.warning(), warning) if each]
        return End(self.next_position().encode(), complete=complete, warning="; ".join(warnings) or None)

    def warning(self) -> str | None:
        """A filter that did nothing, in words for a person."""
        if not self.is_before_cursor(self._oldest):
            return None
        return (
            f"Directo ignored the filter ts=>{sent(self._position.since)}: it also sent records last changed "
            f"{sent(self._oldest)}. They are kept, but every look reads more than it should"
        )

    def _vendor_start(self) -> datetime:
        if self._position.vendor_started is None:
            return (self._position.started or datetime.now(UTC)) - _UNKNOWN_CLOCK_MARGIN
        return self._position.vendor_started


class SeenDeletions:
    """Which deletions were mentioned before, of those that the overlap brings again."""

    def __init__(self, seen: Iterable[str]) -> None:
        self._seen = frozenset(seen)
        self._stamped: dict[str, datetime] = {}
        self._timeless: dict[str, None] = {}

    def is_new(self, key: str, stamp: datetime | None) -> bool:
        """Whether this row was not mentioned yet.

        Rows without time may all come at every tick. What cannot be remembered of them waits for the next full
        reading: it would be mentioned for ever.
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
        """The position that remembers what will come again."""
        repeated = sorted(
            (stamp, name) for name, stamp in self._stamped.items() if not position.since or stamp > position.since
        )
        return replace(position, seen=(*self._timeless, *(name for _, name in repeated[-_MAX_SEEN:])))


def stamp(value: Any, zone: ZoneInfo) -> datetime | None:
    """A `ts` as the vendor's wall clock. It comes with a space and without zone, though documented as `…T…Z`."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else _EARLIEST
        stamp = wall(moment, zone)
    except (ValueError, OverflowError):
        return None
    return stamp if stamp > _EARLIEST else None


def wall(moment: datetime, zone: ZoneInfo) -> datetime:
    """The moment on the vendor's wall clock; one without zone is there already."""
    return moment.astimezone(zone).replace(tzinfo=None) if moment.tzinfo else moment


def _stepped_back(stamp: datetime, overlap: timedelta, zone: ZoneInfo) -> datetime:
    """The wall clock an overlap earlier, and an hour more where that crosses one that is repeated or left out."""
    back = stamp - overlap
    earliest = back.replace(tzinfo=zone, fold=0).utcoffset() or timedelta()
    latest = stamp.replace(tzinfo=zone, fold=1).utcoffset() or timedelta()
    return back - abs(earliest - latest)


def sent(moment: datetime | None) -> str:
    """A wall clock as filters take it."""
    return moment.isoformat(timespec="seconds") if moment else ""
