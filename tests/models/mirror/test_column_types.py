"""A value fits a typed column only if nothing of it is lost."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.mirror import column_types
from models.mirror.column_types import DOES_NOT_FIT
from models.values import Kind

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
        (Kind.TEXT, "2026-02-01T24:00:00"),
        (Kind.TEXT, "2026-02-30"),
        (Kind.TEXT, "0001-01-01T00:00:00+02:00"),
        (Kind.JSON, ["a", 1]),
        (None, None),
        (None, ""),
        (None, []),
        (None, "0000-00-00 00:00:00"),
        (None, "0000-00-00"),
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
        (DOES_NOT_FIT, Kind.NUMBER, "1e5"),
        (DOES_NOT_FIT, Kind.NUMBER, "1,5"),
        (DOES_NOT_FIT, Kind.NUMBER, " 1"),
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
        (DOES_NOT_FIT, Kind.BOOLEAN, "yes"),
        (DOES_NOT_FIT, Kind.BOOLEAN, 2),
        (date(2026, 2, 1), Kind.DATE, "2026-02-01"),
        (DOES_NOT_FIT, Kind.DATE, "2026-02-01T10:30:05"),
        (DOES_NOT_FIT, Kind.DATE, "20260201"),
        (None, Kind.DATE, "0000-00-00"),
        (SECOND, Kind.TIMESTAMP, "2026-02-01 10:30:05"),
        (SECOND, Kind.TIMESTAMP, "2026-02-01T10:30:05.0000000"),
        (DOES_NOT_FIT, Kind.TIMESTAMP, "2026-02-01T10:30:05.1234567"),
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


@given(st.decimals(allow_nan=False, allow_infinity=False, places=5, min_value=-(10**20), max_value=10**20))
def test_a_number_in_text_is_the_number(number: Decimal) -> None:
    assert number == column_types.coerce(Kind.NUMBER, format(number, "f"))


@given(
    st.text() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | st.booleans(),
    st.sampled_from(list(Kind)),
)
def test_any_value_either_fits_or_does_not(value: Any, kind: Kind) -> None:
    column_types.coerce(kind, value)
    shown = column_types.of(value)
    assert shown is None or column_types.coerce(shown, value) not in (None, DOES_NOT_FIT)
