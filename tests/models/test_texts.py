"""The texts of many objects at once are those that each has by itself."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import exact, texts

if TYPE_CHECKING:
    from models.values import JsonObject

zeros = st.sampled_from([Decimal(n) for n in ("1.50", "-0.0", "-0", "0.00", "1E+5", "1E-9", "10", "100.000", "1.0E+2")])
decimals = zeros | st.decimals(allow_nan=False, allow_infinity=False) | st.decimals(-(10**6), 10**6, places=4)
strings = st.text() | st.text(alphabet='":,.01-E+\\{}[]ä\x7f\n\x00\u2028😀', max_size=12)
scalars = st.none() | st.booleans() | st.integers() | decimals | strings
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(strings, inner, max_size=4), max_leaves=12
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.dictionaries(strings, values, max_size=5), max_size=4))
def test_each_text_is_the_objects_own_or_is_not_made_at_once(batch: list[JsonObject]) -> None:
    made = texts.of(batch)
    assert len(batch) == len(made)
    for one, text in zip(batch, made, strict=True):
        if text is not None:
            assert exact.canonical(one).encode() == text.canonical
            assert exact.same(one, exact.loads(text.kept))
            assert exact.storable(one) == one


def test_every_digit_is_kept_as_sent_and_zeros_at_the_end_are_nothing_to_the_hash() -> None:
    (text,) = texts.of([{"b": Decimal("10.00"), "a": "1.50,", "c": [Decimal("2.50"), Decimal("-0.0")]}])
    assert text is not None
    assert '{"a":"1.50,","b":10.00,"c":[2.50,-0.0]}' == text.kept
    assert b'{"a":"1.50,","b":10,"c":[2.5,0]}' == text.canonical


@pytest.mark.parametrize(
    "odd", ["a\0", "\ud800", Decimal("1e5000"), Decimal("7" * 1000), 7**2000, Decimal("NaN"), Decimal("1E-9")]
)
def test_what_may_have_to_change_is_left_to_the_careful_way_and_the_others_are_not(odd: Any) -> None:
    plain = {"a": 1}
    made = texts.of([plain, {"a": odd}, plain])
    assert [False, True, False] == [text is None for text in made]


def test_what_is_nested_too_deeply_is_left_to_the_careful_way() -> None:
    deep: Any = 1
    for _ in range(101):
        deep = [deep]
    assert [None] == texts.of([{"deep": deep}])
    (wide,) = texts.of([{"wide": [[n] for n in range(200)]}])
    assert wide is not None
