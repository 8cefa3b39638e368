"""The difference between two states of an object: dotted path -> earlier value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from models import exact, redaction
from models.mirror import naming

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.values import JsonObject


def between(earlier: JsonObject, later: JsonObject) -> dict[str, Any]:
    """The earlier values of the fields that differ; None for a field that did not exist.

    Items of a list are compared by index: `rows.0.price`.
    """
    return dict(_differences(earlier, later, ""))


def redact(before: dict[str, Any], omit: Sequence[str]) -> dict[str, Any]:
    """Earlier values, as `between` returns them, without what the rules of `redaction.redact` name."""
    kept = {path: redaction.redact_at(naming.steps(path), value, omit) for path, value in before.items()}
    return {path: value[0] for path, value in kept.items() if value}


def _differences(earlier: Any, later: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(earlier, dict) and isinstance(later, dict):
        for key in sorted({*earlier, *later}):
            yield from _at(earlier, later, key, naming.join(path, key))
    elif isinstance(earlier, list) and isinstance(later, list):
        before, after = dict(enumerate(earlier)), dict(enumerate(later))
        for index in range(max(len(before), len(after))):
            yield from _at(before, after, index, naming.join(path, str(index)))
    elif not exact.same(earlier, later):
        yield path, earlier


def _at(earlier: dict[Any, Any], later: dict[Any, Any], key: Any, path: str) -> Iterator[tuple[str, Any]]:
    if key in earlier and key in later:
        yield from _differences(earlier[key], later[key], path)
    else:
        yield path, earlier.get(key)
