"""Which column type a value suggests, and what a typed column holds of a value.

One rule for all systems. Where the meaning is sure the column has the value; where more was written than it holds, the
whole text stands beside it in `<field>__text`, too; where the meaning is not sure, the text stands there alone.

| column | the value as sent | the column has | beside it |
|---|---|---|---|
| number | `12.5` `1.25E+1` `.5` `5.` `+3` ` 4 ` `1,5` `0,705` | the number | |
| number | `4 705,21` (also with no-break spaces) `4.705,21` `4,705.21` `1.234.567` | the number | |
| number | `4,705` `007` `12 %` `true` | NULL | the text |
| boolean | `true` `True` `yes` `1` `false` `FALSE` `no` `0`, 1, 0 | the boolean | |
| date | `2026-02-01` `2026-02-01T00:00:00` (midnight, with any zone) | the date | |
| date | `2026-02-01T10:30:00` | the date | the text |
| date | `2026-02-01T10:30:00Z` (the zone decides on the day) | NULL | the text |
| timestamp | `2026-02-01 10:30` `2026-02-01` (midnight) | the local time | |
| timestamp | `2026-02-01T10:30:00Z` | NULL | the text |
| instant | `…Z` `…z` `…+02` `…+0200` `… +02:00` `/Date(1767103347340+0200)/` | the time in UTC | |
| instant | `2026-02-01T10:30:00` `2026-02-01` (no zone) | NULL | the text |
| either time | seven decimals of a second; `24:00:00`, the next midnight | the time, cut to six decimals | the text |
| any but text | an empty or blank text, `0000-00-00…`, `[access restricted]` | NULL | |
| text | any scalar | its text | |

A field that nobody declared gets its type at first sight: JSON numbers, booleans, and dates and times in any of these
forms. Other text stays text, so that `007`, `1E5` and `4,71` keep their spelling there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from models import exact, notation
from models.db import types
from models.mirror.flatten import RESTRICTED
from models.values import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SQL_TYPES: Final[dict[Kind, sa.types.TypeEngine[Any]]] = {
    Kind.TEXT: sa.Text(),
    Kind.NUMBER: types.ExactNumber(),
    Kind.BOOLEAN: sa.Boolean(),
    Kind.DATE: sa.Date(),
    Kind.TIMESTAMP: sa.DateTime(),
    Kind.INSTANT: types.Instant(),
    Kind.JSON: types.ExactJSON(),
}
"""The SQL type of each kind of column."""


@dataclass(frozen=True, slots=True)
class Beside:
    """What `coerce` returns for a value that the column cannot hold whole, so that it goes into the overflow column.

    `value`: what the column itself has of it; None for NULL.
    """

    value: Any


DOES_NOT_FIT: Final = Beside(None)
"""The column has nothing of the value."""

_NONE_TYPE = type(None)
_TEXTS: Final[frozenset[type]] = frozenset({str, _NONE_TYPE})
_TOLD_APART: Final[frozenset[type]] = _TEXTS | {int}
"""Types of which no two values are equal; `True` and `Decimal(1)` are equal to 1."""

_UNCHANGED: Final[dict[Kind, frozenset[type]]] = {
    Kind.TEXT: _TEXTS,
    Kind.NUMBER: frozenset({int, Decimal, _NONE_TYPE}),
    Kind.BOOLEAN: frozenset({bool, _NONE_TYPE}),
}
"""The types of values that a column stores unchanged."""

_NO_TYPES: Final[frozenset[type]] = frozenset()

_EMPTY_TEXT = re.compile(
    rf"|{re.escape(RESTRICTED)}|0000-00-00(?:[T ]00:00(?::00(?:\.0+)?)?(?: ?(?:[Zz]|[+-][0-9:]+))?)?"
)


def of(value: Any) -> Kind | None:
    """The kind of this value; None for null, empty texts and lists, and zero dates, which suggest none."""
    if _is_empty(value):
        return None
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, int | Decimal):
        return Kind.NUMBER
    return _of_text(value) if isinstance(value, str) else Kind.JSON


def of_all(values: Sequence[Any]) -> set[Kind]:
    """The kinds of these values."""
    different = set(values) if set(map(type, values)) <= _TEXTS else values
    return {kind for value in different if (kind := of(value)) is not None}


def coerce(kind: Kind, value: Any) -> Any:
    """What a column of this kind stores for the value: None for SQL NULL, `Beside` if it cannot hold the whole."""
    if value is None:
        return None
    return _COERCIONS[kind](value)


def coerce_all(kind: Kind, values: Sequence[Any]) -> Sequence[Any]:
    """`coerce` of each value; integers stay integers in a column of numbers."""
    found = set(map(type, values))
    if found <= _UNCHANGED.get(kind, _NO_TYPES):
        return values
    if found <= _TOLD_APART:
        coerced = {value: coerce(kind, value) for value in set(values)}
        return [coerced[value] for value in values]
    return [coerce(kind, value) for value in values]


def overflow(value: Any) -> str:
    """The whole value as text."""
    return value if isinstance(value, str) else exact.dumps(value)


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return _EMPTY_TEXT.fullmatch(value.strip()) is not None
    return value is None or value in ([], {})


def _of_text(text: str) -> Kind:
    moment = notation.moment(text)
    if moment is None:
        return Kind.TEXT
    if not moment.has_time:
        return Kind.DATE
    if moment.offset is None:
        return Kind.TIMESTAMP
    return Kind.TEXT if moment.instant is None else Kind.INSTANT


def _coerce_text(value: Any) -> Any:
    if isinstance(value, list | dict):
        return DOES_NOT_FIT if value else None
    return overflow(value)


def _typed(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The coercion for a typed column. `convert` returns None for a value that does not fit."""

    def coerced(value: Any) -> Any:
        if _is_empty(value):
            return None
        converted = convert(value)
        return DOES_NOT_FIT if converted is None else converted

    return coerced


def _to_number(value: Any) -> Decimal | None:
    if isinstance(value, str):
        return notation.number(value)
    return Decimal(value) if isinstance(value, int | Decimal) and not isinstance(value, bool) else None


def _to_boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return notation.boolean(value)
    return bool(value) if isinstance(value, int | Decimal) and value in (0, 1) else None


def _to_date(value: Any) -> date | Beside | None:
    moment = _moment(value)
    if moment is None:
        return None
    if moment.whole and moment.wall.time() == time.min:
        return moment.wall.date()
    is_sure = moment.offset is None and moment.wall.time() != time.min
    return Beside(moment.wall.date()) if is_sure else None


def _to_timestamp(value: Any) -> datetime | Beside | None:
    moment = _moment(value)
    if moment is None or moment.offset is not None:
        return None
    return moment.wall if moment.whole else Beside(moment.wall)


def _to_instant(value: Any) -> datetime | Beside | None:
    moment = _moment(value)
    if moment is None or moment.instant is None:
        return None
    return moment.instant if moment.whole else Beside(moment.instant)


def _moment(value: Any) -> notation.Moment | None:
    return notation.moment(value) if isinstance(value, str) else None


_COERCIONS: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.TEXT: _coerce_text,
    Kind.NUMBER: _typed(_to_number),
    Kind.BOOLEAN: _typed(_to_boolean),
    Kind.DATE: _typed(_to_date),
    Kind.TIMESTAMP: _typed(_to_timestamp),
    Kind.INSTANT: _typed(_to_instant),
    Kind.JSON: lambda value: None if isinstance(value, str) and _is_empty(value) else value,
}
