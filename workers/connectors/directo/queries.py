"""Directo's filters as typed objects, and as settings spell them in Directo's own syntax.

The operator is part of a parameter's value (Directo API documentation, "Advanced Filtering"). The document contradicts
itself on "not equal"; we send `country=!EE`, because any server reads `country!=EE` as a parameter named `country!`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from models import notation
from workers.connectors.directo import table, wall_clock

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from zoneinfo import ZoneInfo

Params = list[tuple[str, str]]
"""Query parameters in order; a name may occur twice, and the operator is part of the value."""

Value = str | int | float | Decimal | bool | date
"""A text, a number, a flag (sent as 1 or 0), a day (sent as its midnight), or a moment (`datetime` is a `date`).

A moment without a zone is Directo's wall clock; one with a zone is sent as UTC with a `Z`.
"""

_DATE_FIELD = "date"
"""The field of documents that windows filter by."""

_NAME = re.compile(r"[\w.-]+")
_OPERATORS = "<>!="
_LEADING_ZEROS = re.compile(r"\s*([+-]?)0+(?=[0-9])")
_DATE = re.compile(r"\d{4}-\d\d?-")

_NO_COMMA = 'a comma is an operator of Directo\'s filters ("or"), so a value that contains one cannot be filtered by'

_CALCULATED = re.compile(
    "line_total|discount_amount|available_stock|profit_margin|average_price|sum_quantity|order_total|full_address"
    "|(total|calculated|formatted|display)_.*"
)
"""Directo API documentation, "Calculated Fields (Cannot Be Filtered)", "Look for Patterns", "Practical Examples"."""


class Operator(StrEnum):
    """The operator that precedes a value; `PARTIAL` also follows it."""

    EXACT = ""
    NOT = "!"
    ABOVE = ">"
    BELOW = "<"
    PARTIAL = "%"


@dataclass(frozen=True, slots=True)
class Condition:
    """One parameter's value. `operands`: several only for `EXACT`, which any of them satisfies."""

    operator: Operator
    operands: tuple[str, ...]

    @property
    def text(self) -> str:
        """In Directo's syntax: `!EE`, `>100`, `%john%`, `EE,LV`."""
        closing = "%" if self.operator is Operator.PARTIAL else ""
        return f"{self.operator}{','.join(self.operands)}{closing}"


@dataclass(frozen=True, slots=True)
class Filter:
    """The conditions on one field, all of which must hold: each becomes a parameter of its own."""

    name: str
    conditions: tuple[Condition, ...]

    @property
    def params(self) -> Params:
        """The parameters, not yet percent-encoded: httpx sends `>` as %3E and `%` as %25."""
        return [(self.name, condition.text) for condition in self.conditions]

    def __str__(self) -> str:
        return "&".join(f"{name}={value}" for name, value in self.params)


@dataclass(frozen=True, slots=True)
class Field:
    """A field to filter by; made by `field`, `row` or `datafield`.

    Every method raises ValueError for a value that Directo would read as something else: an empty one, one with a
    comma (which means "or"), one with a `%`, or one that begins with an operator.
    """

    name: str

    def equals(self, value: Value) -> Filter:
        """`?code=9810` ("Basic Filtering")."""
        return self._single(Operator.EXACT, value)

    def is_one_of(self, *values: Value) -> Filter:
        """`?country=EE,LV,LT` ("Multiple Values (OR Logic)")."""
        if not values:
            raise ValueError("a list needs at least one value")
        return Filter(self.name, (Condition(Operator.EXACT, tuple(map(_operand, values))),))

    def is_not(self, *values: Value) -> Filter:
        """`?country=!EE` (table "Common Filter Parameters by Resource"); the field must equal none of the values.

        The form `country!=EE` ("Not Equal") is never sent, because any server reads it as a parameter named `country!`.
        Several values become several parameters, because the meaning of `!EE,LV` is not documented.
        """
        if not values:
            raise ValueError("a list needs at least one value")
        return Filter(self.name, tuple(Condition(Operator.NOT, (_operand(value),)) for value in values))

    def contains(self, text: str) -> Filter:
        """`?name=%john%` ("Partial Filtering"); percent-encoded `%25john%25`."""
        return self._single(Operator.PARTIAL, text)

    def above(self, bound: Value) -> Filter:
        """`?price=>100`; documented both as "greater than" and "greater or equal", so the bound may be included."""
        return Filter(self.name, (_bound(Operator.ABOVE, bound),))

    def below(self, bound: Value) -> Filter:
        """`?weight=<5.5`; documented both as "less than" and "less or equal", so the bound may be included."""
        return Filter(self.name, (_bound(Operator.BELOW, bound),))

    def between(self, lower: Value, upper: Value) -> Filter:
        """`?quantity=>10&quantity=<100` ("Range Filtering"); not documented whether the bounds are included."""
        return Filter(self.name, (_bound(Operator.ABOVE, lower), _bound(Operator.BELOW, upper)))

    def _single(self, operator: Operator, value: Value) -> Filter:
        return Filter(self.name, (Condition(operator, (_operand(value),)),))


def field(name: str) -> Field:
    """A field of the object, spelt as in replies: names are case-sensitive, and Directo ignores unknown ones.

    ValueError for a name that contains an operator and for a field that Directo calculates: it refuses such a filter,
    ignores it, or finds nothing (Directo API documentation, "Calculated Fields (Cannot Be Filtered)").
    """
    bare = name.rstrip("<>!= %")
    if bare != name and _NAME.fullmatch(bare):
        raise ValueError(f'write the operator before the value, as in {bare} = "!EE" or {bare} = ">100"')
    if not _NAME.fullmatch(name):
        raise ValueError("a field's name has letters, digits and _ only; spell it as in Directo's replies")
    if _is_calculated(name):
        raise ValueError(f"{name} is a field that Directo calculates and cannot filter by; use a stored field")
    return Field(name)


def row(name: str) -> Field:
    """A field of the object's lines: `quantity` for `row_quantity` ("Filtering by Line Item Fields").

    An object is sent whole if any of its lines matches; several conditions may be satisfied by different lines.
    """
    return field(table.ROW + name)


def datafield(code: str) -> Field:
    """A custom field by its code: `?IS_WEIGHT=1` ("Filtering by Custom Data Fields").

    The parameter has no prefix, so a field of the object with the same name takes precedence.
    """
    return field(code)


def _is_calculated(name: str) -> bool:
    return bool(_CALCULATED.fullmatch(name.removeprefix(table.ROW)))


def parse(name: str, setting: Any) -> Filter:
    """A filter from the settings. ValueError, with the remedy, for a filter that Directo's syntax cannot express.

    `setting`: a text in Directo's own syntax (`"!EE"`, `">100"`, `"%john%"`, `"EE,LV"`), a number, true or false, a
    date; or a list. A list of plain values matches any of them; a list in which each value has an operator requires
    all: `[">2025-01-01", "<2026-01-01"]`, `["!EE", "!LV"]`. A date in a bound is sent with its time, any other text
    unchanged.
    """
    conditions = [_parse_condition(each) for each in (setting if isinstance(setting, list) else [setting])]
    if not conditions:
        raise ValueError("an empty list matches nothing; remove the key, or name a value")
    plain = [condition for condition in conditions if condition.operator is Operator.EXACT]
    if not plain:
        return Filter(field(name).name, tuple(conditions))
    if len(plain) != len(conditions):
        raise ValueError("put an operator before each value of a list (all must hold) or before none (any may hold)")
    return field(name).is_one_of(*(operand for condition in plain for operand in condition.operands))


def _parse_condition(setting: Any) -> Condition:
    if not isinstance(setting, str):
        return Condition(Operator.EXACT, (_operand(setting),))
    if setting[:1] in {Operator.ABOVE, Operator.BELOW}:
        return _bound(Operator(setting[0]), setting[1:].strip())
    if setting[:1] == Operator.NOT:
        if "," in setting:
            raise ValueError(f'{_NO_COMMA}; to exclude several values, write a list: ["!EE", "!LV"]')
        return Condition(Operator.NOT, (_operand(setting[1:].strip()),))
    if len(setting) > 1 and setting[0] == setting[-1] == Operator.PARTIAL:
        return Condition(Operator.PARTIAL, (_operand(setting[1:-1]),))
    return Condition(Operator.EXACT, tuple(_operand(each.strip()) for each in setting.split(",")))


def _bound(operator: Operator, value: Value) -> Condition:
    moment = _moment(value) if isinstance(value, str) and _DATE.match(value) else value
    if operator is Operator.BELOW and isinstance(moment, datetime) and moment.microsecond:
        moment += timedelta(seconds=1)  # fractions are cut off, and a bound may let in more, but never less
    return Condition(operator, (_operand(moment),))


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("write a date as 2025-11-01 or 2025-11-01T08:30:00") from None


def _operand(value: Any) -> str:
    """The value as sent, without operator. Dates are `YYYY-MM-DDTHH:MM:SS`, one of several documented forms."""
    text = value if isinstance(value, str) else _as_text(value)
    if not text.strip():
        raise ValueError("a value must not be empty: Directo does not document an operator without a value")
    if "," in text:
        raise ValueError(_NO_COMMA)
    if "%" in text:
        raise ValueError('% is an operator of Directo\'s filters; it may only enclose a text, as in "%text%"')
    if text[0] == "=":
        raise ValueError('remove the "=" before the value; Directo also writes "at least" as ">100"')
    if text[0] in _OPERATORS:
        raise ValueError(f'"{text[0]}" before a value is an operator of Directo\'s filters; use one operator only')
    return text


_MAX_ENCODED = 500
"""Characters of a percent-encoded value: web servers refuse queries that are much longer."""


def finds_exactly(value: str) -> bool:
    """Whether `field=value` surely asks for this text and no other.

    Not if it has an operator or what may be a wildcard (Directo API documentation, "Example 3", writes `*Tallinn*`),
    nor if it has spaces or control characters that a server may cut off, nor if it is too long for an address.
    """
    try:
        plain = _operand(value) == value.strip() and "*" not in value
    except ValueError:
        return False
    return plain and value.isprintable() and len(quote(value, safe="")) <= _MAX_ENCODED


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, datetime):
        text = wall_clock.to_param(wall_clock.localize(value, UTC))
        return f"{text}Z" if value.tzinfo else text
    if isinstance(value, date):
        return wall_clock.to_param(datetime.combine(value, time()))
    number = Decimal(repr(value)) if isinstance(value, float) else value
    if isinstance(number, int | Decimal) and Decimal(number).is_finite():
        return format(number, "f") if isinstance(number, Decimal) else str(number)
    raise ValueError("a value is a text, a number, true, false or a date")


@dataclass(frozen=True, slots=True)
class Selection:
    """The objects of a resource that pass all `filters`. `zone`: of Directo's wall clock, for dates in them."""

    filters: tuple[Filter, ...]
    zone: ZoneInfo

    @property
    def params(self) -> Params:
        """The parameters of all filters."""
        return [pair for each in self.filters for pair in each.params]

    def without(self, names: Collection[str]) -> Selection:
        """The selection less the filters on these fields."""
        return replace(self, filters=tuple(each for each in self.filters if each.name not in names))

    def accepts(self, key: Mapping[str, str]) -> bool:
        """Whether the filters on key fields let an object with these key values through; they list exact values."""
        wanted = {
            each.name: {operand.casefold() for condition in each.conditions for operand in condition.operands}
            for each in self.filters
        }
        return all(value.casefold() in wanted[name] for name, value in key.items() if name in wanted)

    @property
    def text(self) -> str:
        """A normal form, equal for all spellings of the same selection; empty without filters."""
        conditions = [(each.name, condition) for each in self.filters for condition in each.conditions]
        normalised = [(name, replace(each, operands=tuple(sorted(set(each.operands))))) for name, each in conditions]
        return "&".join(sorted({f"{name}={each.text}" for name, each in normalised}))

    @property
    def can_be_windowed(self) -> bool:
        """Whether windows of `date` can split the request: not if the filter lists single days."""
        return all(condition.operator is not Operator.EXACT for condition in self._date_conditions())

    def params_between(self, after: datetime | None, before: datetime | None) -> Params | None:
        """The parameters for documents between two wall clocks, with one `>` and one `<`: the tighter of both ranges.

        None if the filter's own range does not meet the window. A document on a bound is also in the neighbouring
        window, because windows overlap by a second.
        """
        bounds, others = self._date_bounds()
        lower = max([*bounds[Operator.ABOVE], *filter(None, [after])], default=None)
        upper = min([*bounds[Operator.BELOW], *filter(None, [before])], default=None)
        if lower is not None and upper is not None and lower >= upper:
            return None
        params = [pair for each in self.filters if each.name != _DATE_FIELD for pair in each.params]
        params += [(_DATE_FIELD, condition.text) for condition in others]
        params += [(_DATE_FIELD, f">{wall_clock.to_param(lower)}")] if lower is not None else []
        return params + ([(_DATE_FIELD, f"<{wall_clock.to_param(upper)}")] if upper is not None else [])

    def _date_conditions(self) -> list[Condition]:
        return [condition for each in self.filters if each.name == _DATE_FIELD for condition in each.conditions]

    def _date_bounds(self) -> tuple[dict[Operator, list[datetime]], list[Condition]]:
        bounds: dict[Operator, list[datetime]] = {Operator.ABOVE: [], Operator.BELOW: []}
        others = []
        for condition in self._date_conditions():
            moment = comparable(condition.operands[0], self.zone)
            if condition.operator in bounds and isinstance(moment, datetime):
                bounds[condition.operator].append(moment)
            else:
                others.append(condition)
        return bounds, others


def is_date(text: str) -> bool:
    """Whether the text begins like a date."""
    return bool(_DATE.match(text))


def comparable(value: Any, zone: ZoneInfo) -> Decimal | datetime | None:
    """The value as a number or as a moment on Directo's wall clock; None if it is neither."""
    if isinstance(value, str) and _DATE.match(value):
        return wall_clock.parse(value, zone)
    number = _number(value) if isinstance(value, str) else value
    return Decimal(number) if isinstance(number, int | Decimal) and Decimal(number).is_finite() else None


def _number(text: str) -> Decimal | None:
    """The number; also one with leading zeros, which is no code here, because Directo may compare both as numbers."""
    sure = notation.number(text)
    if sure is not None or not _LEADING_ZEROS.match(text):
        return sure
    return notation.number(_LEADING_ZEROS.sub(r"\1", text))


def may_be_less(lower: Decimal | datetime | None, upper: Decimal | datetime | None) -> bool:
    """Whether `lower` is less than `upper`, or cannot be compared with it."""
    if isinstance(lower, datetime) and isinstance(upper, datetime):
        return lower < upper
    return lower < upper if isinstance(lower, Decimal) and isinstance(upper, Decimal) else True


def refuse_empty_range(filter_: Filter, zone: ZoneInfo) -> None:
    """ValueError if a lower bound is not below an upper one."""
    ends = {
        operator: [comparable(each.operands[0], zone) for each in filter_.conditions if each.operator is operator]
        for operator in (Operator.ABOVE, Operator.BELOW)
    }
    if not all(may_be_less(lower, upper) for lower in ends[Operator.ABOVE] for upper in ends[Operator.BELOW]):
        raise ValueError("nothing lies between the bounds; the value after > must be less than the value after <")
