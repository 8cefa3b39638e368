"""Numbers, booleans, times and names as vendors write them: one reading for all systems, None where it is not sure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from models import exact

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping


_LONGEST_NUMBER = 1000

_NUMBER = re.compile(
    r"(?P<sign>[+\-\u2212]?)"
    r"(?:(?P<grouped>[1-9][0-9]{0,2}(?P<group>[ \u00a0\u2009\u202f'\u2019.,])[0-9]{3}(?:(?P=group)[0-9]{3})*)"
    r"|(?P<whole>0|[1-9][0-9]*)?)"
    r"(?:(?P<point>[.,])(?P<fraction>[0-9]*))?"
    r"(?:[eE](?P<exponent>[+-]?[0-9]{1,4}))?"
)
_PLAIN_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,15})(?:\.[0-9]{1,15})?")
"""As JSON has it: what most vendors send, and surely one number."""


_BOOLEANS: Final = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

_MOMENT = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]{1,30}))?)?"
    r"(?: ?(?:(?P<utc>[Zz])|(?P<offset>[+-][0-9]{2}(?::?[0-9]{2})?)))?)?"
)
_USUAL_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}")
"""What most vendors send; read by the standard library, which is quicker."""

_DOTNET = re.compile(r"\\?/Date\((?P<milliseconds>-?[0-9]{1,15})(?P<offset>[+-][0-9]{4})?\)\\?/")
"""Microsoft's JSON date: milliseconds since 1970 in UTC; the offset only says how the sender would show it."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND_DIGITS = 6
_END_OF_DAY = 24


def number(text: str) -> Decimal | None:
    """The number; None for what is none, and for what could be two: `4,705` is 4705 in London and 4.705 in Riga.

    Leading zeros are refused, because `007` is a code.
    """
    text = text.strip()
    if _PLAIN_NUMBER.fullmatch(text):
        return Decimal(exact.number(text) if "." in text else int(text))
    found = _NUMBER.fullmatch(text) if len(text) <= _LONGEST_NUMBER else None
    if found is None:
        return None
    whole, fraction = _separated(found)
    if whole is None or not whole + fraction:
        return None
    sign = "" if found["sign"] in {"", "+"} else "-"
    normal = exact.number(f"{sign}{whole or 0}.{fraction or 0}e{found['exponent'] or 0}")
    return None if isinstance(normal, str) else Decimal(normal)


def _separated(found: re.Match[str]) -> tuple[str | None, str]:
    """The digits before and after the decimal point; None before it if the text can be read in two ways."""
    grouped, group, point, fraction = found["grouped"], found["group"], found["point"], found["fraction"] or ""
    if grouped is not None:
        groups = grouped.split(group)[1:]
        if group == "." and len(groups) == 1 and point is None:
            return grouped.split(group)[0], groups[0]  # the plain notation of JSON, XML and every invariant culture
        is_unsure = group == point or (group == "," and len(groups) == 1 and point is None)
        return (None if is_unsure else grouped.replace(group, "")), fraction
    whole = found["whole"] or ""
    if point == "," and not fraction:
        return None, ""
    return whole, fraction


def boolean(text: str) -> bool | None:
    """`true`, `True`, `TRUE`, `yes`, `1` and their opposites; None for any other text."""
    return _BOOLEANS.get(text.strip().casefold())


@dataclass(frozen=True, slots=True)
class Moment:
    """A date or a time as it was written.

    `wall`: without a zone; midnight for a mere date. `offset`: None if no zone was written. `has_time`: it is no mere
    date. `whole`: `wall` says all that was written: no seventh decimal was cut, and the day is the one written, not
    the one that `24:00` begins.
    """

    wall: datetime
    offset: timedelta | None
    has_time: bool
    whole: bool

    @property
    def instant(self) -> datetime | None:
        """The moment in UTC, aware; None without a zone, and outside the years 1 to 9999."""
        if self.offset is None:
            return None
        try:
            return self.wall.replace(tzinfo=timezone(self.offset)).astimezone(UTC)
        except (ValueError, OverflowError):
            return None


def moment(text: str) -> Moment | None:
    """The date or time; None for what is none, such as a 13th month or the year 0."""
    text = text.strip()
    try:
        if _USUAL_TIME.fullmatch(text) and text[11:13] != "24":
            return Moment(datetime.fromisoformat(text), None, has_time=True, whole=True)
        if (found := _MOMENT.fullmatch(text)) is not None:
            return _iso(found)
        if (found := _DOTNET.fullmatch(text)) is not None:
            return _dotnet(found)
    except (ValueError, OverflowError):
        pass
    return None


def _iso(found: re.Match[str]) -> Moment:
    day = datetime.combine(date.fromisoformat(found["day"]), datetime.min.time())
    if found["hour"] is None:
        return Moment(day, None, has_time=False, whole=True)
    fraction = found["fraction"] or ""
    hour, minute, second = (int(found[name] or 0) for name in ("hour", "minute", "second"))
    microsecond = int(fraction[:_MICROSECOND_DIGITS].ljust(_MICROSECOND_DIGITS, "0"))
    offset = timedelta() if found["utc"] else _offset(found["offset"])
    if hour == _END_OF_DAY and not (minute or second or fraction.strip("0")):
        return Moment(day + timedelta(days=1), offset, has_time=True, whole=False)
    wall = day.replace(hour=hour, minute=minute, second=second, microsecond=microsecond)
    return Moment(wall, offset, has_time=True, whole=not fraction[_MICROSECOND_DIGITS:].strip("0"))


def _dotnet(found: re.Match[str]) -> Moment:
    offset = _offset(found["offset"]) or timedelta()
    wall = (_EPOCH + timedelta(milliseconds=int(found["milliseconds"])) + offset).replace(tzinfo=None)
    return Moment(wall, offset, has_time=True, whole=True)


def _offset(text: str | None) -> timedelta | None:
    """`+02`, `+0200` or `+02:00`. ValueError for minutes above 59."""
    if text is None:
        return None
    hours, minutes = int(text[1:3]), int(text[3:].removeprefix(":") or 0)
    if minutes >= 60:  # noqa: PLR2004
        raise ValueError(text)
    return (-1 if text[0] == "-" else 1) * timedelta(hours=hours, minutes=minutes)


def respelled(item: Mapping[str, Any], spellings: Mapping[str, str]) -> dict[str, Any]:
    """The object with these keys respelled, but none onto another field of the same object."""
    result: dict[str, Any] = {}
    for key, value in item.items():
        name = spellings.get(key, key)
        result[key if name != key and (name in item or name in result) else name] = value
    return result


_MOST_NAMES = 10_000
"""Names that are remembered. The keys of an object that is rather a list by id are seen once and would never end."""


class PlainNames:
    """Remembers names that do not concern a rule, so that those of a whole object are known again by one comparison.

    `concerns`: whether the rule may concern a field of this name.
    """

    def __init__(self, concerns: Callable[[str], bool]) -> None:
        self._concerns = concerns
        self._plain: set[str] = set()

    def cover(self, names: Collection[str]) -> bool:
        """Whether the rule concerns none of these names."""
        if self._plain.issuperset(names):
            return True
        if any(map(self._concerns, names)):
            return False
        if len(self._plain) + len(names) > _MOST_NAMES:
            self._plain.clear()
        self._plain.update(names)
        return True
