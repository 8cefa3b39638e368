"""How a duration is written: for people (`4 s`, `10 min`), or as a settings file takes it (`90s`, `1h`)."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

_UNITS = ((86_400, "d", "d"), (3600, "h", "h"), (60, "min", "m"), (1, "s", "s"))
"""Seconds, the unit for a person, the unit in a settings file."""


def spell(duration: timedelta, *, exact: bool = False) -> str:
    """The duration in one unit; a negative one is written as 0 s.

    Rounded, in the largest unit of which there are at least two: `90 s`, `2 min`, `47 h`. `exact`: in whole seconds as
    settings write them, in the largest unit that divides them.
    """
    seconds = max(duration.total_seconds(), 0)
    for size, unit, short in _UNITS:
        if exact and int(seconds) % size == 0:
            return f"{int(seconds) // size}{short}"
        if not exact and seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def spell_in_two_units(duration: timedelta) -> str:
    """The duration as settings write it, rounded to the second of its two largest units: `1d 23h`, `2h 29m`, `7m`."""
    seconds = max(duration.total_seconds(), 0)
    for (size, _, short), (smaller, _, smaller_short) in pairwise(_UNITS):
        if seconds >= size:
            count, rest = divmod(round(seconds / smaller), size // smaller)
            return f"{count}{short} {rest}{smaller_short}" if rest else f"{count}{short}"
    return f"{seconds:.0f}s"
