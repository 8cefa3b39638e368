"""Which column type a value suggests, and whether a value fits a typed column without change."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from models import exact
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


class _DoesNotFit:
    def __repr__(self) -> str:
        return "DOES_NOT_FIT"


DOES_NOT_FIT: Final = _DoesNotFit()
"""What `coerce` returns for a value that goes into the overflow column."""

_NONE_TYPE = type(None)
_TEXTS: Final[frozenset[type]] = frozenset({str, _NONE_TYPE})
_UNCHANGED: Final[dict[Kind, frozenset[type]]] = {
    Kind.TEXT: _TEXTS,
    Kind.NUMBER: frozenset({int, Decimal, _NONE_TYPE}),
    Kind.BOOLEAN: frozenset({bool, _NONE_TYPE}),
}
"""The types of values that a column stores unchanged."""

_NO_TYPES: Final[frozenset[type]] = frozenset()

_EMPTY_TEXTS = frozenset({"", RESTRICTED, "0000-00-00", "0000-00-00 00:00:00", "0000-00-00T00:00:00"})
_LONGEST_NUMBER = 1000
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_DATETIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ]"
    # A database keeps six digits of a second; further ones must be zeros.
    r"(?:[01][0-9]|2[0-3]):[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:(?<=\.[0-9]{6})0+)?"
    r"(?:Z|[+-][0-9]{2}(?::?[0-9]{2})?)?"
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


def coerce(kind: Kind, value: Any) -> Any:
    """What a column of this kind stores for the value: None for SQL NULL, `DOES_NOT_FIT` if it would have to change."""
    if value is None:
        return None
    return _COERCIONS[kind](value)


def coerce_all(kind: Kind, values: Sequence[Any]) -> Sequence[Any]:
    """`coerce` of each value; integers stay integers in a column of numbers."""
    found = set(map(type, values))
    if found <= _UNCHANGED.get(kind, _NO_TYPES):
        return values
    if found <= _TEXTS:
        coerced = {value: coerce(kind, value) for value in set(values)}
        return [coerced[value] for value in values]
    return [coerce(kind, value) for value in values]


def overflow(value: Any) -> str:
    """The whole value as text."""
    return value if isinstance(value, str) else exact.dumps(value)


def _is_empty(value: Any) -> bool:
    if isinstance(value, str):
        return value in _EMPTY_TEXTS
    return value is None or value in ([], {})


def _of_text(text: str) -> Kind:
    if _to_date(text) is not None:
        return Kind.DATE
    moment = _to_datetime(text)
    if moment is None:
        return Kind.TEXT
    return Kind.TIMESTAMP if moment.tzinfo is None else Kind.INSTANT


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
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return Decimal(value)
    if isinstance(value, str) and len(value) <= _LONGEST_NUMBER and _NUMBER.fullmatch(value):
        return Decimal(value)
    return None


def _to_boolean(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        return {"1": True, "true": True, "0": False, "false": False}.get(value)
    return bool(value) if isinstance(value, int | Decimal) and value in (0, 1) else None


def _to_date(value: Any) -> date | None:
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        return None
    try:
        return date.fromisoformat(value)
    except ValueError:  # a year 0, a month 13: no database takes it
        return None


def _to_datetime(value: Any) -> datetime | None:
    if not isinstance(value, str) or not _DATETIME.fullmatch(value):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return moment if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _to_timestamp(value: Any) -> datetime | None:
    moment = _to_datetime(value)
    return moment if moment is not None and moment.tzinfo is None else None


def _to_instant(value: Any) -> datetime | None:
    moment = _to_datetime(value)
    return moment if moment is not None and moment.tzinfo is not None else None


_COERCIONS: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.TEXT: _coerce_text,
    Kind.NUMBER: _typed(_to_number),
    Kind.BOOLEAN: _typed(_to_boolean),
    Kind.DATE: _typed(_to_date),
    Kind.TIMESTAMP: _typed(_to_timestamp),
    Kind.INSTANT: _typed(_to_instant),
    Kind.JSON: lambda value: None if isinstance(value, str) and value in _EMPTY_TEXTS else value,
}
