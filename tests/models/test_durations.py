"""Durations are written in one way for people and in one way for settings files."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import TypeAdapter

from models.durations import spell, spell_in_two_units
from models.settings.connections import Duration


@pytest.mark.parametrize(
    ("seconds", "person", "settings"),
    [
        (1, "1 s", "1s"),
        (90, "90 s", "90s"),
        (119.9, "120 s", "119s"),
        (120, "2 min", "2m"),
        (7199, "120 min", "7199s"),
        (7200, "2 h", "2h"),
        (169_201, "47 h", "169201s"),
        (172_800, "2 d", "2d"),
        (86_400, "24 h", "1d"),
        (400 * 86_400, "400 d", "400d"),
    ],
)
def test_a_duration_is_spelled_for_people_and_for_settings(seconds: float, person: str, settings: str) -> None:
    duration = timedelta(seconds=seconds)
    assert (person, settings) == (spell(duration), spell(duration, exact=True))
    read: timedelta = TypeAdapter(Duration).validate_python(settings)
    assert timedelta(seconds=int(seconds)) == read


@pytest.mark.parametrize("seconds", [0, 0.4, -5])
def test_less_than_a_second_is_0_s(seconds: float) -> None:
    assert "0 s" == spell(timedelta(seconds=seconds))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "0s"),
        (45, "45s"),
        (90, "1m 30s"),
        (420, "7m"),
        (3600, "1h"),
        (8940, "2h 29m"),
        (86_399, "24h"),
        (86_400, "1d"),
        (2821 * 60, "1d 23h"),
        (172_799, "2d"),
    ],
)
def test_a_long_duration_is_written_in_two_units_at_most(seconds: int, text: str) -> None:
    assert text == spell_in_two_units(timedelta(seconds=seconds))
