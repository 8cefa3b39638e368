"""The cursor of a paged listing, and the token that represents an object's state in a listing.

Wisedat filters by `modified_since`, but its objects show no modification time. So the cursor is the server's clock
before the run's first request. Pages are numbered, so rows move between pages when data changes during a run;
`Position` detects that and starts the run again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from models import exact
from models.values import End

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from models.values import JsonObject
    from workers.connectors.wisedat.answers import Page
    from workers.connectors.wisedat.table import Row

UNPAGED = "whole"
"""The cursor of an unpaged resource, which is always read completely."""

_MAX_PASSES = 5
_MIN_PAGE = 25
"""Objects. A page that times out is not made smaller than this: then the server itself is slow."""

_HASH_CHARS = 8
_MAX_SEEN_CHARS = 5000 * _HASH_CHARS

_CLOCK_TOLERANCE = timedelta(hours=1)
"""How far our clock may be ahead of the server's, if its replies have no `Date` header."""


@dataclass(frozen=True, slots=True)
class Position:
    """The content of a cursor: only `since` after a finished run, all fields during a run.

    - `since`: the `modified_since` of a poll, aware; None in a full sync
    - `started`: the server's clock before the run's first request, aware
    - `page`: the number of the next page; `limit`: objects per page in this run
    - `pages`, `items`: the totals that the last page reported
    - `rows`: objects received in this pass
    - `seen`: in a poll, the short hashes of the keys received in this pass, joined
    - `passes`: how often the run has started, because pages shifted
    """

    since: datetime | None = None
    started: datetime | None = None
    page: int = 1
    limit: int = 0
    pages: int | None = None
    items: int | None = None
    rows: int = 0
    seen: str = ""
    passes: int = 1

    @classmethod
    def decode(cls, cursor: str | None, *, limit: int) -> Position:
        """Decode a cursor. None or an unknown cursor starts a full sync. `limit`: objects per page of a new run."""
        try:
            values = exact.loads(cursor or "{}")
            for name in values.keys() & {"since", "started"}:
                values[name] = datetime.fromisoformat(values[name])
            return cls(**({"limit": limit} | values))
        except (ValueError, TypeError, AttributeError):
            return cls(limit=limit)

    def encode(self) -> str:
        """The cursor: JSON of all fields that differ from their defaults."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        changed = {each.name: values[each.name] for each in fields(self) if values[each.name] != each.default}
        return exact.dumps({name: _json_value(value) for name, value in changed.items()})

    def params(self, row: Row) -> dict[str, str]:
        """The query parameters. `show_inactive`: without it a deactivated object would look deleted."""
        params = {"limit": str(self.limit), "page": str(self.page)}
        if self.since is not None:
            params["modified_since"] = utc_text(self.since)
        return params | ({"show_inactive": "true"} if row.inactive else {})

    def with_clock(self, date: datetime | None, *, age: timedelta) -> Position:
        """Set `started` from the first reply: its `date` minus `age`, the time that the request took.

        Without a `Date` header it is our clock minus `_CLOCK_TOLERANCE`.
        """
        if self.started is not None:
            return self
        return replace(self, started=(date or datetime.now(UTC) - _CLOCK_TOLERANCE) - age)

    @property
    def is_ahead(self) -> bool:
        """Whether the server's clock has been set back since the poll before, which then asked beyond it."""
        return self.since is not None and self.started is not None and self.since > self.started

    def with_smaller_pages(self, *, minimum: int = _MIN_PAGE) -> Position | None:
        """The restarted run with half as many objects per page; None if that is fewer than `minimum`."""
        if self.limit // 2 < minimum:
            return None
        return self._restarted(limit=self.limit // 2)

    def end_after(self, page: Page, keys: Iterable[str], *, overlap: timedelta) -> End:
        """The `End` of a reply with this page and these keys: more pages, another pass, or the end of the run."""
        hashes = self._short_hashes(keys)
        rows, is_last = self.rows + len(page.rows), self.page >= page.pages
        if self._has_shifted(page, hashes) or (is_last and page.items not in {None, rows}):
            return self._end_shifted(overlap)
        if is_last:
            return End(self._next_cursor(overlap), complete=True)
        remembered = self._with_seen(hashes)
        next_position = replace(remembered, page=self.page + 1, pages=page.pages, items=page.items, rows=rows)
        return End(next_position.encode(), more=True)

    def _has_shifted(self, page: Page, hashes: set[str]) -> bool:
        """Whether the listing changed since the last page, so that objects may have moved between pages."""
        is_other_page = page.pages > 0 and page.number != self.page  # an empty listing may number its page 0 or 1
        if is_other_page or not hashes.isdisjoint(_split_hashes(self.seen)):
            return True
        return self.page > 1 and (page.pages, page.items) != (self.pages, self.items)

    def _short_hashes(self, keys: Iterable[str]) -> set[str]:
        """Short hashes of the keys. A collision costs another pass, in which the hashes differ."""
        salted = (f"{self.passes} {key}".encode(errors="replace") for key in keys)
        return {hashlib.sha256(each).hexdigest()[:_HASH_CHARS] for each in salted}

    def _with_seen(self, hashes: set[str]) -> Position:
        """In a poll, remember the keys of this page, up to `_MAX_SEEN_CHARS`.

        If one object moves to a later page, another moves to an earlier page and is missed, although the totals stay
        equal. The moved object then appears twice, which this detects. A full sync does not need it: it fetches the
        keys that are missing.
        """
        if self.since is None or len(self.seen) > _MAX_SEEN_CHARS:
            return self
        return replace(self, seen=self.seen + "".join(sorted(hashes)))

    def _end_shifted(self, overlap: timedelta) -> End:
        if self.passes < _MAX_PASSES:
            return End(self._restarted(passes=self.passes + 1).encode(), more=True)
        warning = f"the pages shifted in each of {_MAX_PASSES} passes, so an object may be missing from it"
        # The next poll starts at the same time again. A missed object of a full sync is found by the next full sync.
        return End(Position(since=self.since).encode() if self.since else self._next_cursor(overlap), warning=warning)

    def _restarted(self, **changes: Any) -> Position:
        return replace(self, page=1, pages=None, items=None, rows=0, seen="", **changes)

    def _next_cursor(self, overlap: timedelta) -> str:
        """The next poll's cursor. The overlap covers that `modified_since` may exclude its moment or be inexact."""
        return Position(since=(self.started or datetime.now(UTC) - _CLOCK_TOLERANCE) - overlap).encode()


def _split_hashes(seen: str) -> Iterator[str]:
    return (seen[start : start + _HASH_CHARS] for start in range(0, len(seen), _HASH_CHARS))


def _json_value(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def utc_text(moment: datetime) -> str:
    """A moment in the filters' format: ISO 8601, UTC, whole seconds (Wisedat API 1.3, Products)."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="seconds") + "Z"


def token(key: str, summary: JsonObject, *, selection: str, now: datetime, details_every: timedelta) -> str:
    """The token of an object's state: hash of its summary and the `selection`, and a number for the period.

    The number changes every `details_every`, so that the detail is then fetched although the summary is equal. Each key
    has its own offset, so the fetches spread over the whole period.
    """
    period = details_every.total_seconds()
    offset = int.from_bytes(hashlib.sha256(key.encode(errors="replace")).digest()[:8]) / 2**64 * period
    return f"{exact.fingerprint(exact.storable(summary), salt=selection)}:{int((now.timestamp() + offset) // period)}"
