"""Days in EasyFlor's addresses have eight digits, whatever the year."""

from __future__ import annotations

from datetime import date

import pytest

from workers.connectors.easyflor import cursors


@pytest.mark.parametrize(
    ("text", "day", "form"),
    [
        ("20260201", date(2026, 2, 1), "yyyyMMdd"),
        ("2026-02-01", date(2026, 2, 1), "yyyy-MM-dd"),
        ("00010101", date(1, 1, 1), "yyyyMMdd"),
        ("0001-01-01", date(1, 1, 1), "yyyy-MM-dd"),
    ],
)
def test_a_day_in_an_address_has_all_its_digits(text: str, day: date, form: str) -> None:
    assert text == cursors.format_day(day, form)
