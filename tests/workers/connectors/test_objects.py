"""Fields and keys of vendors' objects: names without case, keys in one spelling."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from models.values import Kind
from workers.connectors import objects
from workers.connectors.contract import Resource


def resource(*key: str, **kinds: Kind) -> Resource:
    return Resource("things", timedelta(hours=1), timedelta(hours=1), key=key, shape={"": kinds})


@pytest.mark.parametrize(
    ("value", "item"),
    [
        (1, {"Id": 1}),
        (1, {"id": 1}),
        (1, {"ID": 1}),
        (1, {"id": 2, "Id": 1}),
        (None, {"Ids": 1}),
        (None, {"Id": None}),
        (None, {}),
    ],
)
def test_a_field_is_found_whatever_its_case(value: Any, item: dict[str, Any]) -> None:
    assert value == objects.field(item, "Id")


@pytest.mark.parametrize(
    ("key", "item"),
    [("7", {"Id": 7}), ("7", {"id": "7"}), ("7", {"ID": 7}), (None, {"iden": 7}), (None, {"id": ""})],
)
def test_a_key_is_found_whatever_the_case_of_its_field(key: str | None, item: dict[str, Any]) -> None:
    assert key == objects.key_of(resource("Id"), item)


@pytest.mark.parametrize(
    ("key", "kind", "value"),
    [
        ("3", Kind.NUMBER, 3),
        ("3", Kind.NUMBER, Decimal("3.0")),
        ("3", Kind.NUMBER, "3"),
        ("3", Kind.NUMBER, "3.0"),
        ("3", Kind.NUMBER, " 3 "),
        ("1109100000000001", Kind.NUMBER, "1109100000000001.000"),
        ("3.5", Kind.NUMBER, "3.5"),
        ("007", Kind.NUMBER, "007"),
        ("4,705", Kind.NUMBER, "4,705"),
        ("A.0", Kind.NUMBER, "A.0"),
        ("3", Kind.TEXT, Decimal("3.0")),
        ("3.0", Kind.TEXT, "3.0"),
        (None, Kind.NUMBER, True),
    ],
)
def test_a_number_is_one_key_however_it_is_written_and_a_code_stays(key: str | None, kind: Kind, value: Any) -> None:
    assert key == objects.key_of(resource("id", id=kind), {"id": value})


ONE = {"code": "A"}


@pytest.mark.parametrize(
    ("found", "answer"),
    [
        ([ONE], {"items": [ONE]}),
        ([ONE], {"Data": [ONE], "Count": 1, "success": True}),
        ([ONE], {"@odata.context": "x", "@odata.count": 1, "value": [ONE]}),
        (None, {"value": [ONE], "@odata.count": 2}),  # not the whole
        (None, {"value": [ONE], "@odata.nextLink": "x"}),
        (None, {"items": [ONE], "page": 1}),
        (None, {"items": [ONE], "error": "x"}),
        (None, {"items": [ONE], "success": False}),
        (None, {"items": [ONE], "data": [ONE]}),
        (None, {"items": [ONE], "code": "A"}),  # one object that has a list
        (None, {"rows": [ONE]}),
        (None, {"items": []}),  # nobody says that this is all
        (None, {"items": [], "count": None}),
        ([], {"@odata.count": 0, "value": []}),
        (None, {"items": ["A"]}),
        (None, {"items": ONE}),
        (None, {}),
        (None, None),
        (None, "x"),
    ],
)
def test_a_list_in_an_envelope_is_found_where_that_is_sure(found: list[Any] | None, answer: Any) -> None:
    assert found == objects.listed(answer)
