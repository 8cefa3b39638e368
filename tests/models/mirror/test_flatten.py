"""Objects become rows and parts by fixed rules, however a vendor nests them."""

from __future__ import annotations

from typing import Any

import pytest

from models.mirror.flatten import PartRow, flatten
from models.values import Kind


def test_nested_objects_become_dotted_paths() -> None:
    assert {"tax.id": 1, "tax.rate.value": 2} == flatten({"tax": {"id": 1, "rate": {"value": 2}}}, {}).fields


@pytest.mark.parametrize("empty", ["0", 0, "", None])
def test_an_empty_link_is_null_and_so_is_its_name(empty: Any) -> None:
    item = {"firm": {"id": empty, "pr": "[access restricted]"}, "good": empty, "good__pr": "x", "qty": "0"}
    flat = flatten(item, {})
    assert {"firm.id": None, "firm.pr": None, "good": None, "good__pr": None, "qty": "0"} == flat.fields


def test_a_restricted_name_is_null_and_the_link_stays() -> None:
    flat = flatten(
        {"state": {"id": "5", "pr": "[access restricted]"}, "unit": "7", "unit__pr": "[access restricted]"}, {}
    )
    assert {"state.id": "5", "state.pr": None, "unit": "7", "unit__pr": None} == flat.fields


def test_lists_of_objects_are_parts_and_count_over_the_whole_object() -> None:
    flat = flatten({"articles": [{"n": 1, "batches": [{"b": 1}, {"b": 2}]}, {"n": 2, "batches": [{"b": 3}]}]}, {})
    assert [
        PartRow("articles.batches", 0, 0, {"b": 1}),
        PartRow("articles.batches", 1, 0, {"b": 2}),
        PartRow("articles", 0, None, {"n": 1}),
        PartRow("articles.batches", 2, 1, {"b": 3}),
        PartRow("articles", 1, None, {"n": 2}),
    ] == flat.rows


def test_an_object_keyed_by_row_ids_is_a_part_whatever_the_order_of_its_keys() -> None:
    flat = flatten({"tpGoods": {"105377": {"qty": "2"}, "9": {"qty": "1", "id": "nine"}}}, {})
    assert [{"id": "nine", "qty": "1"}, {"id": "105377", "qty": "2"}] == [row.fields for row in flat.rows]


@pytest.mark.parametrize("value", [["a", 1], [[1]], [{"a": 1}, 2], [{"a": 1}, None], [], {"2024": 1}])
def test_other_lists_are_no_parts(value: Any) -> None:
    assert [] == flatten({"tags": value}, {}).rows


def test_what_is_declared_as_json_is_kept_whole() -> None:
    flat = flatten({"misc": {"a": {"b": 1}}, "rows": [{"a": 1}]}, {"": {"misc": Kind.JSON, "rows": Kind.JSON}})
    assert {"misc": {"a": {"b": 1}}, "rows": [{"a": 1}]} == flat.fields


def test_absurd_nesting_ends_as_json() -> None:
    deep: Any = 1
    for _ in range(50):
        deep = {"x": deep}
    listed: Any = 1
    for _ in range(10):
        listed = [{"y": listed}]
    flat = flatten({"deep": deep, "listed": listed}, {})
    assert {"x"} == set(next(iter(flat.fields.values())))
    assert {"listed", "listed.y", "listed.y.y", "listed.y.y.y"} == {row.part for row in flat.rows}
