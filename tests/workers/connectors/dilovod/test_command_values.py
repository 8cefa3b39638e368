"""How Dilovod shows a value that was written, and what is another value."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from workers.connectors.dilovod import command_values

GOOD = "1100300000001001"


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (5, "5.00000"),
        (Decimal("10.25"), "10.250"),
        (Decimal("10.25"), 10.25 and Decimal("10.25")),
        ("10.25", "10.25000"),
        (Decimal("1.234567"), "1.23457"),
        ("1.2345", "1.235"),
        (Decimal("0.125"), "0.13"),
        (Decimal("0.125"), "0.12"),
        (Decimal("-0.5"), "-0.50"),
        (0, "0.00"),
        (True, "1"),
        (False, "0"),
        (True, "true"),
        (1, "1"),
        (" Туя ", "Туя"),
        ("перший\r\nдругий", "перший\nдругий"),
        ("007", "007"),
        ("Туя", {"ru": "Туя", "uk": "Туя"}),
        ("Туя", {"ru": "", "uk": "Туя"}),
        ("", {"ru": "", "uk": ""}),
        ({"uk": "Туя"}, {"ru": "Туя західна", "uk": "Туя"}),
        ({"uk": " Туя", "ru": "Туя"}, {"ru": "Туя", "uk": "Туя"}),
        (GOOD, {"id": GOOD, "pr": "Туя"}),
        (int(GOOD), {"id": GOOD, "pr": "[access restricted]"}),
        ({"id": GOOD}, {"id": GOOD, "pr": None}),
        ({"id": GOOD, "pr": "стара назва"}, GOOD),
        (int(GOOD), GOOD),
        (0, {"id": "0", "pr": None}),
        ("0", {"id": "0", "pr": "[access restricted]"}),
        (None, {"id": "0", "pr": None}),
        ({"id": None}, {"id": "0", "pr": None}),
        ("", "0000-00-00 00:00:00"),
        (None, "0.00"),
        (None, ""),
        ("2026-01-31", "2026-01-31 00:00:00"),
        ("2026-01-31 23:59:59", "2026-01-31 23:59:59"),
        ('{"phone": ["+380"], "rate": 1.0}', '{"rate":1.00,"phone":["+380"]}'),
    ],
)
def test_a_value_is_known_in_the_form_that_dilovod_shows(sent: Any, found: Any) -> None:
    assert command_values.written(sent) == command_values.shown(sent, found)


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (5, "6.00000"),
        (Decimal("10.25"), "10.20"),
        ("1.50", "1.5"),
        (Decimal("1.2"), "1"),
        (Decimal("1.234567"), "1.23456"),
        ("7", "007"),
        (True, "0"),
        (False, "1"),
        ("Туя", "туя"),
        ("Туя", "Туя."),
        ("Туя", {"ru": "Калина", "uk": "Калина"}),
        ("Туя", {"ru": "Туя західна", "uk": "Туя"}),
        ("", {"ru": "", "uk": "Туя"}),
        ({"uk": "Туя"}, {"ru": "Туя", "uk": "Калина"}),
        ({"uk": "Туя"}, "Туя"),
        (GOOD, {"id": "1100300000001002", "pr": "Туя"}),
        (GOOD, {"id": "0", "pr": None}),
        (None, {"id": GOOD, "pr": "Туя"}),
        (None, "0.01"),
        ("", "x"),
        ("2026-01-31", "2026-01-31 00:00:01"),
        ("2026-01-31", "2026-02-01 00:00:00"),
        ('{"phone": ["+380"]}', '{"phone": ["+381"]}'),
        ('{"phone": ["+380"', '{"phone": ["+381"'),
        ("x", None),
    ],
)
def test_another_value_is_a_difference(sent: Any, found: Any) -> None:
    assert command_values.written(sent) != command_values.shown(sent, found)


def test_a_difference_shows_what_was_found() -> None:
    assert "6.00000" == command_values.shown(5, "6.00000")
    assert "1100300000001002" == command_values.shown(GOOD, {"id": "1100300000001002", "pr": "Туя"})
    assert "1E+2" not in command_values.written(Decimal("1E+2"))


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        (int(GOOD), GOOD),
        ({"id": int(GOOD), "pr": "Туя"}, GOOD),
        ({"id": "0", "pr": None}, "0"),
        ({"id": ""}, "0"),
        (True, 1),
        (False, 0),
        ({"uk": "Туя"}, {"uk": "Туя"}),
        (Decimal("1.5"), Decimal("1.5")),
        ("x", "x"),
        (None, None),
    ],
)
def test_links_are_sent_as_ids_and_booleans_as_numbers(value: Any, sent: Any) -> None:
    result = command_values.sent(value)

    assert (type(sent), sent) == (type(result), result)


PERSONS, CONTRACTS = ("catalogs.persons",), ("catalogs.contracts",)


@pytest.mark.parametrize(
    ("value", "kinds", "told"),
    [
        ("1100100000000001", PERSONS, ""),
        ("0", PERSONS, ""),
        ("", PERSONS, ""),
        ("1179200000022629", CONTRACTS, ""),
        (GOOD, (), ""),
        (GOOD, PERSONS, "this is an id of catalogs.goods; write one of catalogs.persons (it begins with 11001)"),
        ("1179200000022629", PERSONS, "this is an id that begins with 11792; write one of catalogs.persons"),
        (GOOD, CONTRACTS, "this is an id of catalogs.goods; write one of catalogs.contracts"),
        (GOOD, ("catalogs.employees", "catalogs.persons"), "catalogs.employees (it begins with 11017) or"),
        ("110010000000000", PERSONS, "this is 15 digits"),
        ("١١٠٠١٠٠٠٠٠٠٠٠٠٠١", PERSONS, "this is no number"),
        (True, PERSONS, "write the id"),
        ({"uk": "x"}, PERSONS, "write the id"),
    ],
)
def test_a_link_has_16_digits_and_leads_to_its_kind(value: Any, kinds: tuple[str, ...], told: str) -> None:
    found = [each.message for each in command_values.link_violations(value, "header.person", kinds)]

    assert bool(told) == bool(found)
    assert all(told in each for each in found)


@pytest.mark.parametrize(
    ("value", "is_wrong"),
    [
        ("1.5", False),
        (Decimal("-1.50000"), False),
        ("99999.100000", False),
        (0, False),
        ("1.123456", True),
        ("100000", True),
        (Decimal("100000.1"), True),
        ("1,5", True),
        ("1e3", True),
        ("", True),
        (None, True),
        (True, True),
        ("05", True),
        (" 5 ", False),
    ],
)
def test_a_number_has_the_digits_of_its_field(value: Any, *, is_wrong: bool) -> None:
    assert is_wrong == bool(list(command_values.decimal_violations(value, "price", 10, 5)))
