"""Flattening many objects at once gives the rows that each has by itself."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from models.mirror.flatten import flatten
from models.mirror.flatten_batch import flatten_batch
from models.mirror.spelling import Spellings
from models.values import Kind

if TYPE_CHECKING:
    from models.values import JsonObject, Shape

Rows = dict[str, list[tuple[int, int, int | None, dict[str, Any]]]]

keys = st.sampled_from(["a", "b", "c", "A", "C", "id", "pr", "a__pr", "1", "22", "a.b", ""])
SCALARS: list[Any] = [None, "", "0", 0, 1, True, "x", "[access restricted]", Decimal("1.50"), [], {}, ["x", 1]]
scalars = st.sampled_from(SCALARS)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=15
)
objects = st.dictionaries(keys, values, max_size=5)
shapes = st.dictionaries(
    st.sampled_from(["", "a", "b", "a.b"]),
    st.dictionaries(
        st.sampled_from(["a", "b", "a.b", "c.a", "A", "B"]), st.sampled_from([Kind.JSON, Kind.TEXT]), max_size=3
    ),
    max_size=2,
)


def one_by_one(batch: list[JsonObject], declared: Shape) -> Rows:
    """Part -> object, position, parent and fields of each row; a field without a value counts as missing."""
    found: Rows = {}
    for number, item in enumerate(batch):
        flat = flatten(item, declared, Spellings(declared))
        found.setdefault("", []).append((number, 0, None, flat.fields))
        for row in sorted(flat.rows, key=lambda row: row.position):
            found.setdefault(row.part, []).append((number, row.position, row.parent, row.fields))
    return {
        part: [(item, at, parent, _given(fields)) for item, at, parent, fields in rows] for part, rows in found.items()
    }


def at_once(batch: list[JsonObject], declared: Shape) -> Rows:
    """The same from `flatten_batch`."""
    return {
        part: [
            (owner, position, parent, _given({path: column[row] for path, column in each.fields.items()}))
            for row, (owner, position, parent) in enumerate(zip(each.owners, each.positions, each.parents, strict=True))
        ]
        for part, each in flatten_batch(batch, declared, Spellings(declared)).items()
    }


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {path: (type(value), value) for path, value in fields.items() if value is not None}


@settings(max_examples=500, deadline=None)
@given(st.lists(objects, min_size=1, max_size=4), shapes)
def test_a_batch_is_laid_out_as_each_of_its_objects_is(batch: list[JsonObject], declared: Shape) -> None:
    assert one_by_one(batch, declared) == at_once(batch, declared)


def test_a_part_that_is_reached_by_two_paths_keeps_the_order_of_its_rows() -> None:
    """`a.b.c` is the list `c` of the object `b`, or of the list `b`, in the list `a`."""
    batch: list[JsonObject] = [
        {"a": [{"b": [{"c": [{"n": 1}]}]}, {"b": {"c": [{"n": 2}]}}, {"b": [{"c": [{"n": 3}]}]}]}
    ]
    assert one_by_one(batch, {}) == at_once(batch, {})


def test_no_objects_have_no_rows() -> None:
    assert {"": []} == at_once([], {})
