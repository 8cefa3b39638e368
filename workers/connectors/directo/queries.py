"""What Directo can be asked for: each operator of its filters in words that a type checker knows, and in its own.

Operators stand in the value (Directo API documentation, "Advanced Filtering"). Where the document contradicts itself,
the form that its server can tell apart is taken: `country=!EE`, because `country!=EE` is a parameter named `country!`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from workers.connectors.directo import cursors, table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from zoneinfo import ZoneInfo

Value = str | int | float | Decimal | bool | date
"""A text, a number, a flag (sent as 1 or 0), a day (sent as its midnight), or a moment (`datetime` is a `date`).

A moment without zone is the vendor's wall clock; one with a zone is sent as UTC with a `Z`.
"""

_DATED = "date"
"""The field of documents by which windows are asked for."""

_NAME = re.compile(r"[\w.-]+")
_OPERATORS = "<>!="
_DATE = re.compile(r"\d{4}-\d\d?-")

_NO_COMMA = 'a comma is an operator of Directo\'s filters ("or"), so no value with one can be asked for'

_CALCULATED = re.compile(
    "line_total|discount_amount|available_stock|profit_margin|average_price|sum_quantity|order_total|full_address"
    "|(total|calculated|formatted|display)_.*"
)
"""Directo API documentation, "Calculated Fields (Cannot Be Filtered)", "Look for Patterns", "Practical Examples"."""


class Operator(StrEnum):
    """What stands before a value."""

    EXACT = ""
    NOT = "!"
    ABOVE = ">"
    BELOW = "<"
    PARTIAL = "%"


@dataclass(frozen=True, slots=True)
class Condition:
    """One parameter's value. `operands`: several only for `EXACT`, where any may be met."""

    operator: Operator
    operands: tuple[str, ...]

    @property
    def text(self) -> str:
        """As the vendor writes it: `!EE`, `>100`, `%john%`, `EE,LV`."""
        closing = "%" if self.operator is Operator.PARTIAL else ""
        return f"{self.operator}{','.join(self.operands)}{closing}"


@dataclass(frozen=True, slots=True)
class Filter:
    """What one field must be. Several tests of one field must all hold: each is a parameter of its own."""

    name: str
    conditions: tuple[Condition, ...]

    @property
    def params(self) -> cursors.Params:
        """The parameters, for httpx, which encodes them: `>` as %3E, `%` as %25."""
        return [(self.name, test.text) for test in self.conditions]

    def __str__(self) -> str:
        return "&".join(f"{name}={value}" for name, value in self.params)


@dataclass(frozen=True, slots=True)
class Field:
    """A field to be filtered by; see `field`, `row`, `datafield`.

    Every method raises ValueError for a value that the vendor would read as something else: an empty one, one with a
    comma (which means "or"), with a `%`, or with an operator in front.
    """

    name: str

    def equals(self, value: Value) -> Filter:
        """`?code=9810` ("Basic Filtering")."""
        return self._one(Operator.EXACT, value)

    def is_one_of(self, *values: Value) -> Filter:
        """`?country=EE,LV,LT` ("Multiple Values (OR Logic)")."""
        if not values:
            raise ValueError("a list needs at least one value")
        return Filter(self.name, (Condition(Operator.EXACT, tuple(map(_operand, values))),))

    def is_not(self, *values: Value) -> Filter:
        """`?country=!EE` (table "Common Filter Parameters by Resource"); of several values none may be met.

        Also documented as `country!=EE` ("Not Equal"), which every server reads as a parameter `country!`: not sent.
        Several values are several parameters, because nobody says what `!EE,LV` means.
        """
        if not values:
            raise ValueError("a list needs at least one value")
        return Filter(self.name, tuple(Condition(Operator.NOT, (_operand(value),)) for value in values))

    def contains(self, text: str) -> Filter:
        """`?name=%john%` ("Partial Filtering"), on the wire `%25john%25`."""
        return self._one(Operator.PARTIAL, text)

    def above(self, bound: Value) -> Filter:
        """`?price=>100`, which the document calls "greater than" and "greater or equal": expect either."""
        return Filter(self.name, (_bound(Operator.ABOVE, bound),))

    def below(self, bound: Value) -> Filter:
        """`?weight=<5.5`, which the document calls "less than" and "less or equal": expect either."""
        return Filter(self.name, (_bound(Operator.BELOW, bound),))

    def between(self, lower: Value, upper: Value) -> Filter:
        """`?quantity=>10&quantity=<100` ("Range Filtering"); whether the bounds belong to it is not documented."""
        return Filter(self.name, (_bound(Operator.ABOVE, lower), _bound(Operator.BELOW, upper)))

    def _one(self, operator: Operator, value: Value) -> Filter:
        return Filter(self.name, (Condition(operator, (_operand(value),)),))


def field(name: str) -> Field:
    """A field of the object, spelt as answers spell it: names are case-sensitive, misspelt ones are ignored.

    ValueError for a name with an operator in it and for a field that the vendor calculates: filtering by such a one is
    refused, or ignored, or finds nothing (Directo API documentation, "Calculated Fields (Cannot Be Filtered)").
    """
    bare = name.rstrip("<>!= %")
    if bare != name and _NAME.fullmatch(bare):
        raise ValueError(f'the operator belongs into the value, as in {bare} = "!EE" or {bare} = ">100"')
    if not _NAME.fullmatch(name):
        raise ValueError("a field's name has letters, digits and _ only, as answers spell it")
    if _is_calculated(name):
        raise ValueError(f"{name} is a field that Directo calculates and cannot filter by: filter by a stored one")
    return Field(name)


def row(name: str) -> Field:
    """A field of the object's lines, as `quantity` for `row_quantity` ("Filtering by Line Item Fields").

    The whole object is answered if any of its lines matches; of several tests each may be met by another line.
    """
    return field(table.ROW + name)


def datafield(code: str) -> Field:
    """A custom field by its code, as in `?IS_WEIGHT=1` ("Filtering by Custom Data Fields").

    Its name stands bare among the parameters, so a field of the object with the same name would be meant instead.
    """
    return field(code)


def _is_calculated(name: str) -> bool:
    return bool(_CALCULATED.fullmatch(name.removeprefix(table.ROW)))


def parse(name: str, setting: Any) -> Filter:
    """A filter as settings spell it. ValueError with the remedy for what the vendor's language cannot say.

    `said`: a text in the vendor's own syntax (`"!EE"`, `">100"`, `"%john%"`, `"EE,LV"`), a number, true or false, a
    date; or a list. A list of plain values means any of them; a list of values with an operator each means all of
    them: `[">2025-01-01", "<2026-01-01"]`, `["!EE", "!LV"]`. A date in a bound is sent with its time, any other text
    as it stands.
    """
    conditions = [_parse_condition(each) for each in (setting if isinstance(setting, list) else [setting])]
    if not conditions:
        raise ValueError("an empty list lets nothing through; remove the key, or name a value")
    plain = [test for test in conditions if test.operator is Operator.EXACT]
    if not plain:
        return Filter(field(name).name, tuple(conditions))
    if len(plain) != len(conditions):
        raise ValueError("a list has an operator before each of its values (all must hold) or before none (any may)")
    return field(name).is_one_of(*(operand for test in plain for operand in test.operands))


def _parse_condition(setting: Any) -> Condition:
    if not isinstance(setting, str):
        return Condition(Operator.EXACT, (_operand(setting),))
    if setting[:1] in {Operator.ABOVE, Operator.BELOW}:
        return _bound(Operator(setting[0]), setting[1:].strip())
    if setting[:1] == Operator.NOT:
        if "," in setting:
            raise ValueError(f'{_NO_COMMA}; what none of several values may be is a list: ["!EE", "!LV"]')
        return Condition(Operator.NOT, (_operand(setting[1:].strip()),))
    if len(setting) > 1 and setting[0] == setting[-1] == Operator.PARTIAL:
        return Condition(Operator.PARTIAL, (_operand(setting[1:-1]),))
    return Condition(Operator.EXACT, tuple(_operand(each.strip()) for each in setting.split(",")))


def _bound(operator: Operator, value: Value) -> Condition:
    moment = _moment(value) if isinstance(value, str) and _DATE.match(value) else value
    if operator is Operator.BELOW and isinstance(moment, datetime) and moment.microsecond:
        moment += timedelta(seconds=1)  # seconds are sent whole, and a bound may let in more, never less
    return Condition(operator, (_operand(moment),))


def _moment(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a date is written as 2025-11-01 or 2025-11-01T08:30:00") from None


def _operand(value: Any) -> str:
    """The value without operator, as sent. Dates as `YYYY-MM-DDTHH:MM:SS`, of the several forms that are documented."""
    text = value if isinstance(value, str) else _as_text(value)
    if not text.strip():
        raise ValueError("a value must not be empty: Directo does not say what an operator without one means")
    if "," in text:
        raise ValueError(_NO_COMMA)
    if "%" in text:
        raise ValueError('% is an operator of Directo\'s filters, for a text within a text: "%text%", nothing else')
    if text[0] == "=":
        raise ValueError('remove the "=" before the value; Directo writes "at least" as ">100", too')
    if text[0] in _OPERATORS:
        raise ValueError(f'"{text[0]}" before a value is an operator of Directo\'s filters, and one is all it takes')
    return text


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, datetime):
        return f"{cursors.sent(value.astimezone(UTC).replace(tzinfo=None))}Z" if value.tzinfo else cursors.sent(value)
    if isinstance(value, date):
        return cursors.sent(datetime.combine(value, time()))
    number = Decimal(repr(value)) if isinstance(value, float) else value
    if isinstance(number, int | Decimal) and Decimal(number).is_finite():
        return format(number, "f") if isinstance(number, Decimal) else str(number)
    raise ValueError("a value is a text, a number, true, false or a date")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which objects of a resource are asked for: those that pass all filters. `zone`: of the vendor's wall clock."""

    filters: tuple[Filter, ...]
    zone: ZoneInfo

    @property
    def params(self) -> cursors.Params:
        """The parameters of all filters."""
        return [pair for each in self.filters for pair in each.params]

    def without(self, names: Collection[str]) -> Selection:
        """Without the filters on these fields."""
        return replace(self, filters=tuple(each for each in self.filters if each.name not in names))

    def accepts(self, key: Mapping[str, str]) -> bool:
        """Whether an object whose key has these values is asked for. Filters on a key name its values one by one."""
        wanted = {
            each.name: {operand.casefold() for test in each.conditions for operand in test.operands} for each in self.filters
        }
        return all(value.casefold() in wanted[name] for name, value in key.items() if name in wanted)

    @property
    def text(self) -> str:
        """One text for all spellings of the same choice; empty where everything is asked for."""
        conditions = [(each.name, test) for each in self.filters for test in each.conditions]
        normalised = [(name, Condition(test.operator, tuple(sorted(set(test.operands))))) for name, test in conditions]
        return "&".join(sorted({f"{name}={test.text}" for name, test in normalised}))

    @property
    def can_be_windowed(self) -> bool:
        """Whether windows of the `date` make smaller questions: not of days that are named one by one."""
        return all(test.operator is not Operator.EXACT for test in self._date_conditions())

    def params_between(self, after: datetime | None, before: datetime | None) -> cursors.Params | None:
        """The parameters for documents of some time, one bound of each kind: the tighter of the window's and ours.

        None where our range has nothing in that window. What lies on a bound is in the window beside it, too: windows
        share a second.
        """
        bounds, others = self._date_bounds()
        lower = max([*bounds[Operator.ABOVE], *filter(None, [after])], default=None)
        upper = min([*bounds[Operator.BELOW], *filter(None, [before])], default=None)
        if lower is not None and upper is not None and lower >= upper:
            return None
        params = [pair for each in self.filters if each.name != _DATED for pair in each.params]
        params += [(_DATED, test.text) for test in others]
        params += [(_DATED, f">{cursors.sent(lower)}")] if lower is not None else []
        return params + ([(_DATED, f"<{cursors.sent(upper)}")] if upper is not None else [])

    def _date_conditions(self) -> list[Condition]:
        return [test for each in self.filters if each.name == _DATED for test in each.conditions]

    def _date_bounds(self) -> tuple[dict[Operator, list[datetime]], list[Condition]]:
        bounds: dict[Operator, list[datetime]] = {Operator.ABOVE: [], Operator.BELOW: []}
        others = []
        for test in self._date_conditions():
            moment = comparable(test.operands[0], self.zone)
            if test.operator in bounds and isinstance(moment, datetime):
                bounds[test.operator].append(moment)
            else:
                others.append(test)
        return bounds, others


def is_date(text: str) -> bool:
    """Whether it begins like a date."""
    return bool(_DATE.match(text))


def comparable(value: Any, zone: ZoneInfo) -> Decimal | datetime | None:
    """A number, or a moment on the vendor's wall clock; None for what is neither."""
    if isinstance(value, str) and _DATE.match(value):
        return cursors.stamp(value, zone)
    try:
        number = Decimal(value) if isinstance(value, str | int | Decimal) else None
    except InvalidOperation:
        return None
    return number if number is not None and number.is_finite() else None


def may_be_less(lower: Decimal | datetime | None, upper: Decimal | datetime | None) -> bool:
    """Whether the first is surely less than the second, or cannot be compared with it."""
    if isinstance(lower, datetime) and isinstance(upper, datetime):
        return lower < upper
    return lower < upper if isinstance(lower, Decimal) and isinstance(upper, Decimal) else True


def refuse_empty_range(filter_: Filter, zone: ZoneInfo) -> None:
    """ValueError for a range with nothing in it."""
    ends = {
        operator: [comparable(test.operands[0], zone) for test in filter_.conditions if test.operator is operator]
        for operator in (Operator.ABOVE, Operator.BELOW)
    }
    if not all(may_be_less(lower, upper) for lower in ends[Operator.ABOVE] for upper in ends[Operator.BELOW]):
        raise ValueError("nothing lies between the bounds; the value behind > must be less than the one behind <")
