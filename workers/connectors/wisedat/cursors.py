"""Where a reading of pages stands, as the cursor's text, and the token that stands for an object in a listing.

Objects carry no stamp of their own, so the cursor is the vendor's clock before the run's first request.
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

WHOLE = "whole"
"""The cursor of what is always read whole."""

_MOST_PASSES = 5
_SMALLEST_PAGE = 25
"""Below this a question that takes too long is not made smaller: it is the server that is slow."""

_NAME = 8
_LONGEST_MEMORY = 5000 * _NAME

_NO_CLOCK = timedelta(hours=1)
"""How far our clock may be ahead of a vendor's who shows none."""


@dataclass(frozen=True, slots=True)
class Position:
    """What a cursor says: `since` after a finished run, and all else while a run goes on.

    `since`: what a tick asks for; None in a full reading. `asked`: the vendor's clock before the run's first request.
    `page`: the next one; `limit`: of this run. `pages`, `items`: what the page before said of the whole; `rows`: what
    this pass has brought; `seen`: a tick's objects so far, in short. `passes`: how often the run began again, because
    the pages had shifted.
    """

    since: datetime | None = None
    asked: datetime | None = None
    page: int = 1
    limit: int = 0
    pages: int | None = None
    items: int | None = None
    rows: int = 0
    seen: str = ""
    passes: int = 1

    @classmethod
    def read(cls, cursor: str | None, *, limit: int) -> Position:
        """The position in a cursor; the beginning of a full reading where there is none, or one that nobody knows.

        `limit`: objects a page, for a run that begins.
        """
        try:
            said = exact.loads(cursor or "{}")
            for name in said.keys() & {"since", "asked"}:
                said[name] = datetime.fromisoformat(said[name])
            return cls(**({"limit": limit} | said))
        except (ValueError, TypeError, AttributeError):
            return cls(limit=limit)

    def text(self) -> str:
        """The cursor."""
        said = {
            each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) != each.default
        }
        return exact.dumps({name: _text(value) for name, value in said.items()})

    def params(self, row: Row) -> dict[str, str]:
        """The query. Without `show_inactive`, deactivating an object would look like deleting it."""
        params = {"limit": str(self.limit), "page": str(self.page)}
        if self.since is not None:
            params["modified_since"] = sent(self.since)
        return params | ({"show_inactive": "true"} if row.inactive else {})

    def told(self, date: datetime | None, *, age: timedelta) -> Position:
        """The vendor's clock on a reply that was waited for so long; what counts is his time before the first request.

        Without a clock it is ours, less what the two may differ.
        """
        if self.asked is not None:
            return self
        return replace(self, asked=(date or datetime.now(UTC) - _NO_CLOCK) - age)

    def smaller(self, *, smallest: int = _SMALLEST_PAGE) -> Position | None:
        """The run from its start with pages of half as many objects; None where those are fewer than `smallest`."""
        if self.limit // 2 < smallest:
            return None
        return self._again(limit=self.limit // 2)

    def after(self, page: Page, keys: Iterable[str], *, overlap: timedelta) -> End:
        """How the reply with this page of these keys ends: with another page, another pass, or the run."""
        names = self._names(keys)
        rows, is_last = self.rows + len(page.rows), self.page >= page.pages
        if self._has_shifted(page, names) or (is_last and page.items not in {None, rows}):
            return self._shifted(overlap)
        if is_last:
            return End(self._finished(overlap), complete=True)
        known = self._remembering(names)
        following = replace(known, page=self.page + 1, pages=page.pages, items=page.items, rows=rows)
        return End(following.text(), more=True)

    def _has_shifted(self, page: Page, names: set[str]) -> bool:
        """Whether data changed since the page before, so that objects may have moved across the border."""
        is_another = page.pages > 0 and page.number != self.page  # where there are no pages, none has a number
        if is_another or not names.isdisjoint(_split(self.seen)):
            return True
        return self.page > 1 and (page.pages, page.items) != (self.pages, self.items)

    def _names(self, keys: Iterable[str]) -> set[str]:
        """Keys in short. Two that share a name cost another pass, in which they have other names."""
        return {hashlib.sha256(f"{self.passes} {key}".encode(errors="replace")).hexdigest()[:_NAME] for key in keys}

    def _remembering(self, names: set[str]) -> Position:
        """For a tick: where an object moves to a later page, another is not named although the numbers stay.

        In a full reading what was not named is looked for by itself.
        """
        if self.since is None or len(self.seen) > _LONGEST_MEMORY:
            return self
        return replace(self, seen=self.seen + "".join(sorted(names)))

    def _shifted(self, overlap: timedelta) -> End:
        if self.passes < _MOST_PASSES:
            return End(self._again(passes=self.passes + 1).text(), more=True)
        warning = f"the pages shifted in each of {_MOST_PASSES} passes, so an object may not have been named"
        # A tick asks from the same moment again; a full reading has the next one.
        return End(Position(since=self.since).text() if self.since else self._finished(overlap), warning=warning)

    def _again(self, **changes: Any) -> Position:
        return replace(self, page=1, pages=None, items=None, rows=0, seen="", **changes)

    def _finished(self, overlap: timedelta) -> str:
        """Where the next tick begins. It is not known whether `modified_since` includes its moment, nor how exact."""
        return Position(since=(self.asked or datetime.now(UTC) - _NO_CLOCK) - overlap).text()


def _split(seen: str) -> Iterator[str]:
    return (seen[start : start + _NAME] for start in range(0, len(seen), _NAME))


def _text(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def sent(moment: datetime) -> str:
    """A moment as filters take it: date and time in UTC according to ISO 8601 (Wisedat API 1.3, Products)."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def token(key: str, summary: JsonObject, *, selection: str, now: datetime, details_every: timedelta) -> str:
    """What stands for an object: its summary, how it is to be kept, and a number that changes every `details_every`.

    Each key's number changes at a moment of its own, so that reading details again spreads over the whole period.
    """
    period = details_every.total_seconds()
    shift = int.from_bytes(hashlib.sha256(key.encode(errors="replace")).digest()[:8]) / 2**64 * period
    return f"{exact.fingerprint(exact.storable(summary), salt=selection)}:{int((now.timestamp() + shift) // period)}"
