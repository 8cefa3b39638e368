"""Directo's wall clock: its stamps carry no zone, so all comparisons of `ts` and `date` use local times without one."""

from __future__ import annotations

from datetime import datetime, timedelta, tzinfo
from typing import Any

from models import notation

_EARLIEST = datetime(1900, 1, 1)  # noqa: DTZ001 - a wall clock; a stamp up to here is a placeholder such as year 1


def parse(value: Any, zone: tzinfo) -> datetime | None:
    """A `ts` or `date` as a wall clock in `zone`, without tzinfo; None for a placeholder or anything unreadable.

    Directo sends it with a space and without a zone, though its document shows `…T…Z`; both are accepted.
    """
    found = notation.moment(value) if isinstance(value, str) else None
    if found is None:
        return None
    moment = found.wall if found.offset is None else found.instant
    if moment is None:
        return None
    try:
        stamp = localize(moment, zone)
    except OverflowError:
        return None
    return stamp if stamp > _EARLIEST else None


def localize(moment: datetime, zone: tzinfo) -> datetime:
    """An aware moment converted to the wall clock of `zone`; a naive one is returned unchanged."""
    return moment.astimezone(zone).replace(tzinfo=None) if moment.tzinfo else moment


def step_back(stamp: datetime, overlap: timedelta, zone: tzinfo) -> datetime:
    """The wall clock `overlap` earlier, and one hour more if a change to or from summer time lies between.

    In the hour that autumn repeats, a later change can carry an earlier stamp; the extra hour reads it again.
    """
    back = stamp - overlap
    earliest = back.replace(tzinfo=zone, fold=0).utcoffset() or timedelta()
    latest = stamp.replace(tzinfo=zone, fold=1).utcoffset() or timedelta()
    return back - abs(earliest - latest)


def to_param(moment: datetime | None) -> str:
    """A wall clock as filters take it: `YYYY-MM-DDTHH:MM:SS`; empty for None."""
    return moment.isoformat(timespec="seconds") if moment else ""
