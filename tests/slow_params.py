"""Parameters that the plain run leaves out: it tests each rule with one value, `-m slow` with the others."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _pytest.mark import ParameterSet

T = TypeVar("T")


def slow_except(values: Iterable[T], *, quick: T | list[T]) -> list[T | ParameterSet]:
    """The values of a parameter: `quick`, one or a list of them, as they are, the others marked `slow`."""
    every, few = list(values), quick if isinstance(quick, list) else [quick]
    assert all(each in every for each in few), f"{quick!r} is none of {every}"
    return [value if value in few else pytest.param(value, marks=pytest.mark.slow) for value in every]
