"""Encoding many objects at once gives the text that each has by itself."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import exact
from models.mirror import canonical_json

if TYPE_CHECKING:
    from models.values import JsonObject

zeros = st.sampled_from([Decimal(n) for n in ("1.50", "-0.0", "-0", "0.00", "1E+5", "1E-9", "10", "100.000", "1.0E+2")])
decimals = zeros | st.decimals(allow_nan=False, allow_infinity=False) | st.decimals(-(10**6), 10**6, places=4)
strings = st.text() | st.text(alphabet='":,.01-E+\\{}[]ä\x7f\n\x00\u2028😀', max_size=12)
scalars = st.none() | st.booleans() | st.integers() | decimals | strings
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4), max_leaves=12
)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.dictionaries(strings, values, max_size=5), max_size=4))
def test_each_text_is_the_objects_canonical_one_or_is_not_made_at_once(batch: list[JsonObject]) -> None:
    batch = [exact.normalised(one) for one in batch]
    made = canonical_json.of(batch)
    assert len(batch) == len(made)
    for one, text in zip(batch, made, strict=True):
        if text is not None:
            assert exact.same(one, exact.loads(text))
            assert repr(exact.loads(exact.canonical(one))) == repr(exact.loads(text))
            assert exact.storable(one) == one


@given(st.dictionaries(strings, values, max_size=5))
def test_two_spellings_of_an_object_have_one_text(value: JsonObject) -> None:
    sent = exact.dumps(exact.storable(value))
    respelled = exact.dumps(dict(reversed(exact.loads(sent).items())))
    assert canonical_json.of([exact.loads(sent)]) == canonical_json.of([exact.loads(respelled)])


def test_trailing_zeros_of_a_number_are_dropped_and_those_of_a_text_stay() -> None:
    sent = '{"b": 10.00, "a": "1.50,", "c": [2.50, -0.0, 1e3, "1.0"]}'
    assert ['{"a":"1.50,","b":10,"c":[2.5,0,1000,"1.0"]}'] == canonical_json.of([exact.loads(sent)])


@pytest.mark.parametrize("odd", ["a\0", "\ud800", "\\u0000"])
def test_what_may_have_to_change_is_left_to_the_slow_path_and_the_others_are_not(odd: Any) -> None:
    plain = {"a": 1}
    made = canonical_json.of([plain, {"a": odd}, plain])
    assert [False, True, False] == [text is None for text in made]


@pytest.mark.parametrize("odd", ["1e5000", "7" * 1000, "1" + "0" * 4500, "1E-9", "1e999999999"])
def test_a_number_of_any_size_is_written_at_once(odd: str) -> None:
    (text,) = canonical_json.of([{"a": exact.loads(odd)}])
    assert text is not None
    assert {"a": exact.loads(odd)} == exact.loads(text)


def test_what_is_nested_too_deeply_is_left_to_the_slow_path() -> None:
    deep: Any = 1
    for _ in range(101):
        deep = [deep]
    assert [None] == canonical_json.of([{"deep": deep}])
    (wide,) = canonical_json.of([{"wide": [[n] for n in range(200)]}])
    assert wide is not None
