"""A value fits a typed column only if nothing of it is lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.mirror import column_types
from models.mirror.column_types import DOES_NOT_FIT, Beside
from models.values import Kind
from tests.models.write_path import TARGET, rows, write

if TYPE_CHECKING:
    from models.db.database import Database

SECOND = datetime(2026, 2, 1, 10, 30, 5)  # noqa: DTZ001 - local time without a zone is what is tested


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Kind.BOOLEAN, True),
        (Kind.NUMBER, 0),
        (Kind.NUMBER, Decimal("1.50")),
        (Kind.TEXT, "007"),
        (Kind.TEXT, "1"),
        (Kind.DATE, "2026-02-01"),
        (Kind.TIMESTAMP, "2026-02-01T10:30:05"),
        (Kind.TIMESTAMP, "2026-02-01 10:30"),
        (Kind.INSTANT, "2026-02-01T10:30:05Z"),
        (Kind.INSTANT, "2026-02-01 10:30:05.123+02:00"),
        (Kind.TEXT, "2026-02-01  10:30:05"),
        (Kind.TEXT, "2026-13-01"),
        (Kind.TEXT, "0000-01-01"),
        (Kind.TIMESTAMP, "2026-02-01T24:00:00"),
        (Kind.TIMESTAMP, "2026-02-01T10:30:05.1234567"),
        (Kind.INSTANT, "2026-02-01T10:30:05.1234567+02:00"),
        (Kind.INSTANT, "2026-02-01 10:30:05 +0200"),
        (Kind.INSTANT, "2026-02-01t10:30z"),
        (Kind.INSTANT, "/Date(1767103347340+0200)/"),
        (Kind.DATE, " 2026-02-01 "),
        (Kind.TEXT, "2026-02-01T24:00:01"),
        (Kind.TEXT, "2026-02-01T10:30:05+99:00"),
        (Kind.TEXT, "4705,21"),
        (Kind.TEXT, "1.25E+1"),
        (Kind.TEXT, "True"),
        (Kind.TEXT, "2026-02-30"),
        (Kind.TEXT, "0001-01-01T00:00:00+02:00"),
        (Kind.JSON, ["a", 1]),
        (None, None),
        (None, ""),
        (None, []),
        (None, "0000-00-00 00:00:00"),
        (None, "0000-00-00"),
        (None, "0000-00-00T00:00:00Z"),
        (None, " "),
        (None, "[access restricted]"),
    ],
)
def test_a_value_has_a_kind(kind: Kind | None, value: Any) -> None:
    assert kind == column_types.of(value)


@pytest.mark.parametrize(
    ("stored", "kind", "value"),
    [
        (Decimal("680.00"), Kind.NUMBER, "680.00"),
        (Decimal("-0.5"), Kind.NUMBER, "-0.5"),
        (DOES_NOT_FIT, Kind.NUMBER, "007"),
        (DOES_NOT_FIT, Kind.NUMBER, "١"),
        (DOES_NOT_FIT, Kind.NUMBER, True),
        (DOES_NOT_FIT, Kind.NUMBER, [1]),
        (None, Kind.NUMBER, ""),
        (None, Kind.NUMBER, []),
        (None, Kind.NUMBER, "[access restricted]"),
        (True, Kind.BOOLEAN, "1"),
        (False, Kind.BOOLEAN, "0"),
        (True, Kind.BOOLEAN, "true"),
        (False, Kind.BOOLEAN, 0),
        (DOES_NOT_FIT, Kind.BOOLEAN, "ja"),
        (DOES_NOT_FIT, Kind.BOOLEAN, 2),
        (date(2026, 2, 1), Kind.DATE, "2026-02-01"),
        (DOES_NOT_FIT, Kind.DATE, "20260201"),
        (None, Kind.DATE, "0000-00-00"),
        (SECOND, Kind.TIMESTAMP, "2026-02-01 10:30:05"),
        (SECOND, Kind.TIMESTAMP, "2026-02-01T10:30:05.0000000"),
        (DOES_NOT_FIT, Kind.TIMESTAMP, "2026-02-01T10:30:05Z"),
        (DOES_NOT_FIT, Kind.TIMESTAMP, 1767103347340),
        (None, Kind.TIMESTAMP, "0000-00-00 00:00:00"),
        (datetime(2026, 2, 1, 8, 30, 5, tzinfo=UTC), Kind.INSTANT, "2026-02-01T10:30:05+02:00"),
        (datetime(2026, 2, 1, 10, 30, 5, tzinfo=UTC), Kind.INSTANT, "2026-02-01T10:30:05Z"),
        (DOES_NOT_FIT, Kind.INSTANT, "2026-02-01T10:30:05"),
        ("007", Kind.TEXT, "007"),
        ("", Kind.TEXT, ""),
        ("0000-00-00", Kind.TEXT, "0000-00-00"),
        ("40", Kind.TEXT, 40),
        ("1.50", Kind.TEXT, Decimal("1.50")),
        ("true", Kind.TEXT, True),
        (DOES_NOT_FIT, Kind.TEXT, ["a"]),
        (["a"], Kind.JSON, ["a"]),
        ([], Kind.JSON, []),
        (5, Kind.JSON, 5),
        (None, Kind.JSON, ""),
        (None, Kind.TEXT, None),
    ],
)
def test_a_value_fits_or_does_not(stored: Any, kind: Kind, value: Any) -> None:
    fitted = column_types.coerce(kind, value)
    assert stored == fitted
    assert type(stored) is type(fitted)


DAY = date(2026, 2, 1)
NOON = datetime(2026, 2, 1, 10, 30, 5, 123456, tzinfo=UTC)

# (the value as sent, the column's kind, what the column has, whether the text stands beside it)
SPELLINGS: list[tuple[Any, Kind, Any, bool]] = [
    *(
        (text, Kind.NUMBER, Decimal("12.5"), False)
        for text in ("1.25E+1", "1.25e1", "12,5", "+12.5", " 12.5\n", "125E-1")
    ),
    *((text, Kind.NUMBER, Decimal("0.5"), False) for text in (".5", ",5", "0,5", "0.50", "5E-1")),
    *((text, Kind.NUMBER, Decimal(5), False) for text in ("5.", "+5", " 5 ", "5.0", "5,0")),
    *((text, Kind.NUMBER, Decimal(-5), False) for text in ("-5", "\u22125", "-5.")),
    *(
        (text, Kind.NUMBER, Decimal("4705.21"), False)
        for text in (
            "4 705,21",
            "4\u00a0705,21",
            "4\u202f705,21",
            "4\u2009705,21",
            "4.705,21",
            "4,705.21",
            "4'705.21",
            "4705,21",
            "+4 705.21",
        )
    ),
    *((text, Kind.NUMBER, Decimal(1234567), False) for text in ("1 234 567", "1.234.567", "1,234,567", "1 234 567,00")),
    ("1.234,567", Kind.NUMBER, Decimal("1234.567"), False),
    ("1234,567", Kind.NUMBER, Decimal("1234.567"), False),
    ("0,705", Kind.NUMBER, Decimal("0.705"), False),
    ("4.705", Kind.NUMBER, Decimal("4.705"), False),
    ("1e5", Kind.NUMBER, Decimal(100000), False),
    ("1E+1000", Kind.NUMBER, Decimal(10) ** 1000, False),
    *(
        (text, Kind.NUMBER, None, True)
        for text in (
            *("4,705", "12,345", "007", "00.5", "1 23", "12 34", "1,23,456", "4,705,21", "1.2.3", "1 234 5678"),
            *(".", ",", "5,", "+", "e5", "1e", "- 5", "5 %", "0x10", "1_000", "NaN", "Infinity", "1E+99999", "true"),
        )
    ),
    *((text, Kind.BOOLEAN, True, False) for text in ("true", "True", "TRUE", " true ", "1", 1, "Yes", "yes")),
    *((text, Kind.BOOLEAN, False, False) for text in ("false", "False", "FALSE", "0", 0, "No")),
    *((text, Kind.BOOLEAN, None, True) for text in ("J", "wahr", "on", "2", -1, "true.")),
    *(
        (text, Kind.DATE, DAY, False)
        for text in (
            "2026-02-01",
            " 2026-02-01 ",
            "2026-02-01T00:00:00",
            "2026-02-01 00:00",
            "2026-02-01T00:00:00.0000000Z",
            "2026-02-01T00:00:00+02:00",
            "/Date(1769896800000+0200)/",
        )
    ),
    ("2026-02-01T10:30:05", Kind.DATE, DAY, True),
    ("2026-02-01T23:59:59.9999999", Kind.DATE, DAY, True),
    *(
        (text, Kind.DATE, None, True)
        for text in ("2026-01-31T22:00:00Z", "2026-01-31T24:00:00", "20260201", "01.02.2026", "2026-02-30", "/Date(1)/")
    ),
    ("2026-02-01", Kind.TIMESTAMP, datetime(2026, 2, 1), False),  # noqa: DTZ001 - local time
    ("2026-02-01T10:30", Kind.TIMESTAMP, datetime(2026, 2, 1, 10, 30), False),  # noqa: DTZ001 - local time
    ("2026-02-01t10:30:05,000", Kind.TIMESTAMP, SECOND, False),
    ("2026-02-01T10:30:05.1234567", Kind.TIMESTAMP, SECOND.replace(microsecond=123456), True),
    ("2026-02-01T10:30:05.1234560", Kind.TIMESTAMP, SECOND.replace(microsecond=123456), False),
    ("2026-01-31T24:00:00", Kind.TIMESTAMP, datetime(2026, 2, 1), True),  # noqa: DTZ001 - local time
    ("0001-01-01T00:00:00", Kind.TIMESTAMP, datetime(1, 1, 1), False),  # noqa: DTZ001 - local time
    *(
        (text, Kind.TIMESTAMP, None, True)
        for text in ("2026-02-01T10:30:05Z", "9999-12-31T24:00", "2026-02-01T25:00", "2026-02-01T10:60", 1767103347340)
    ),
    *(
        (text, Kind.INSTANT, NOON, False)
        for text in (
            "2026-02-01T10:30:05.123456Z",
            "2026-02-01t10:30:05.123456z",
            "2026-02-01 12:30:05.123456 +02:00",
            "2026-02-01T12:30:05.123456+0200",
            "2026-02-01T12:30:05.123456+02",
            "2026-02-01T07:00:05.123456-03:30",
        )
    ),
    ("2026-02-01T12:30:05.1234567+02:00", Kind.INSTANT, NOON, True),
    ("/Date(1767103347340+0200)/", Kind.INSTANT, datetime(2025, 12, 30, 14, 2, 27, 340000, tzinfo=UTC), False),
    ("/Date(1767103347340)/", Kind.INSTANT, datetime(2025, 12, 30, 14, 2, 27, 340000, tzinfo=UTC), False),
    ("/Date(-62135596800000)/", Kind.INSTANT, datetime(1, 1, 1, tzinfo=UTC), False),
    ("2026-01-31T24:00:00Z", Kind.INSTANT, datetime(2026, 2, 1, tzinfo=UTC), True),
    *(
        (text, Kind.INSTANT, None, True)
        for text in (
            *("2026-02-01T10:30:05", "2026-02-01", "0001-01-01T00:00:00+02:00", "/Date(999999999999999)/"),
            *("2026-02-01T10:30:05+02:60", "2026-02-01T10:30:05+24:00", "2026-02-01T10:30:60Z"),
        )
    ),
    ("007", Kind.TEXT, "007", False),
    ("1.25E+1", Kind.TEXT, "1.25E+1", False),
    (" ", Kind.TEXT, " ", False),
]


@pytest.mark.parametrize(("sent", "kind", "value", "beside"), SPELLINGS)
def test_a_column_has_what_is_sure_and_the_text_stands_beside_the_rest(
    sent: Any,
    kind: Kind,
    value: Any,
    beside: bool,  # noqa: FBT001 - from the table
) -> None:
    assert (Beside(value) if beside else value) == column_types.coerce(kind, sent)


def test_every_spelling_is_stored_by_both_databases(database: Database) -> None:
    sent = {str(number): row for number, row in enumerate(SPELLINGS)}
    target = replace(TARGET, shape={"": {kind.value: kind for kind in Kind}})
    write(database, {key: {kind.value: text} for key, (text, kind, _, _) in sent.items()}, target=target)
    for found in rows(database, target):
        text, kind, value, beside = sent[found["_key"]]
        assert (value, str(text) if beside else None) == (found[kind.value], found.get(f"{kind.value}__text")), text


@given(st.decimals(allow_nan=False, allow_infinity=False, places=5, min_value=-(10**20), max_value=10**20))
def test_a_number_in_text_is_the_number(number: Decimal) -> None:
    assert number == column_types.coerce(Kind.NUMBER, format(number, "f"))


@pytest.mark.parametrize(
    ("text", "normal"),
    [("-0", "0"), ("-0.00", "0"), ("0.0", "0"), ("12.50", "12.5"), ("-12.340", "-12.34"), ("100", "100"), ("7.0", "7")],
)
def test_a_number_in_text_takes_its_normal_form(text: str, normal: str) -> None:
    assert normal == str(column_types.coerce(Kind.NUMBER, text))


@given(
    st.text() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.booleans(),
    st.sampled_from(list(Kind)),
)
def test_any_value_either_fits_or_does_not(value: Any, kind: Kind) -> None:
    column_types.coerce(kind, value)
    shown = column_types.of(value)
    assert shown is None or column_types.coerce(shown, value) not in (None, DOES_NOT_FIT)


@pytest.mark.parametrize("kind", Kind)
def test_many_values_are_stored_as_each_one_is(kind: Kind) -> None:
    texts = ["22", "1", "", None, "2026-02-01", "4,705"]
    for values in (texts, [22, 1, *texts, 22], [True, 1, Decimal("1.5"), *texts, 1, True, False, 0]):
        each = [column_types.coerce(kind, value) for value in values]
        stored = column_types.coerce_all(kind, values)
        assert list(map(_typed, each)) == list(map(_typed, stored))
        assert set(map(column_types.of, values)) - {None} == column_types.of_all(values)


def _typed(value: Any) -> tuple[type, Any]:
    """`True` is equal to 1; a column of numbers keeps an int as it is."""
    return (Decimal, value) if type(value) is int else (type(value), value)
