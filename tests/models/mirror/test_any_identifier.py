"""Whatever fields are called, nothing is lost, shared or overwritten."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.models.mirror.identifiers import NASTY, TARGET, Witness, assert_kept, assert_sound
from tests.models.write_path import write

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from models.db.database import Database
    from models.values import JsonObject


def _spelt(base: str, way: int) -> str:
    ways: list[Callable[[str], str]] = [
        str.upper,
        str.title,
        str.swapcase,
        lambda text: f"_{text}",
        lambda text: f"{text}__text",
    ]
    return ways[way](base)


spellings = st.builds(_spelt, st.sampled_from(["price", "price_vat", "total", "rows", "key"]), st.integers(0, 4))


any_names = st.sampled_from(NASTY) | st.text(st.characters(codec=None), max_size=40) | spellings


kinds_of_leaf = st.sampled_from(["text", "number", "whole", "date", "list", "moment"])


objects = st.recursive(
    kinds_of_leaf,
    lambda inner: (
        st.lists(st.dictionaries(any_names, inner, max_size=4), min_size=1, max_size=3)
        | st.dictionaries(any_names, inner, max_size=5)
    ),
    max_leaves=14,
)


batches = st.lists(st.dictionaries(any_names, objects, min_size=1, max_size=6), min_size=1, max_size=3)


def unique(value: Any, numbers: Iterator[int]) -> Any:
    """The same structure with a unique value at each leaf."""
    if isinstance(value, dict):
        return {name: unique(item, numbers) for name, item in value.items()}
    if isinstance(value, list):
        return [unique(item, numbers) for item in value]
    number = next(numbers)
    day = date(2000, 1, 1) + timedelta(days=number)
    return {
        "text": f"t{number}",
        "number": Decimal(number) + Decimal("0.25"),
        "whole": 10_000 + number,
        "date": day.isoformat(),
        "list": [f"l{number}", 50_000 + number],
        "moment": f"{day.isoformat()} 10:20:30",
    }[value]


fresh = itertools.count()


@settings(max_examples=12, deadline=None, suppress_health_check=[*HealthCheck])
@given(shapes=batches)
def test_whatever_fields_are_called_nothing_is_lost_shared_or_overwritten(
    database: Database, shapes: list[JsonObject]
) -> None:
    target = replace(TARGET, resource=f"any{next(fresh)}")
    witness, numbers = Witness(database, target), itertools.count(1)
    raws = {str(count): unique(shape, numbers) for count, shape in enumerate(shapes)}
    for revision, again in enumerate(({"0": raws["0"]}, raws), start=3):
        write(database, again, target=target, revision=revision, point=True)
    assert_sound(database, target)
    for key, raw in raws.items():
        assert_kept(database, target, key, raw, revision=4)
    witness.assert_untouched()
