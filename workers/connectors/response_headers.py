"""What the headers of a vendor's response say about time."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import httpx

_MAX_RETRY_AFTER = timedelta(days=1)
_MAX_DIGITS = 9
"""A `Retry-After` with this many digits is a mistake and counts as the longest wait."""

_CLOCKS = range(2000, 9000)
"""Years that a server's clock may show. Cursors are computed from it, which overflows near year 1 and year 9999."""


def retry_after(response: httpx.Response) -> timedelta | None:
    """The wait that the vendor asks for, at most a day: a wrong value must not stop the connection for a year."""
    value = response.headers.get("Retry-After", "").strip()
    if re.fullmatch("[0-9]+", value):
        return min(timedelta(seconds=int(value)), _MAX_RETRY_AFTER) if len(value) < _MAX_DIGITS else _MAX_RETRY_AFTER
    moment = _parsed_date(value)
    return None if moment is None else min(max(moment - datetime.now(UTC), timedelta(0)), _MAX_RETRY_AFTER)


def date(response: httpx.Response) -> datetime | None:
    """The vendor's time (`Date` header), aware; None if it sends none that can be read, or an absurd one."""
    found = _parsed_date(response.headers.get("Date", ""))
    return found if found is not None and found.year in _CLOCKS else None


def _parsed_date(header: str) -> datetime | None:
    with suppress(ValueError, OverflowError, TypeError, IndexError):
        return _aware(parsedate_to_datetime(header))
    return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
