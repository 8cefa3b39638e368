"""Fields and keys of vendors' objects: names without case, keys in one spelling."""

from __future__ import annotations

from datetime import timedelta
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
