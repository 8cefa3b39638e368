"""Turns a vendor's object into rows: scalar fields by their dotted paths, lists of objects as parts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.mirror import naming
from models.mirror.spelling import NO_SPELLINGS, Spellings
from models.notation import respelled
from models.values import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from models.values import JsonObject, Shape

RESTRICTED = "[access restricted]"
"""What Dilovod sends instead of a linked object's name if the role may not read it."""

_NO_LINK = ("0", 0, "", None)
_PRESENTATION = "pr"

DEEPEST_PART = 4
DEEPEST_OBJECT = 8
"""Deeper lists within lists, and objects within objects, are kept whole, as JSON."""


@dataclass(frozen=True, slots=True)
class PartRow:
    """One row of a part. `position` runs over the whole object; `parent` is the position in the enclosing part."""

    part: str
    position: int
    parent: int | None
    fields: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Flat:
    """An object laid out: dotted path -> value, and the rows of its parts."""

    fields: dict[str, Any]
    rows: list[PartRow] = field(default_factory=list)


def flatten(projected: JsonObject, declared: Shape, spellings: Spellings = NO_SPELLINGS) -> Flat:
    """Lay the object out. A field that `declared` calls JSON is kept whole; empty links are None.

    `spellings`: under which names fields are known already.
    """
    walk = _Walk(declared, spellings)
    return Flat(walk.fields(projected, part="", position=None, depth=0), walk.rows)


class _Walk:
    def __init__(self, declared: Shape, spellings: Spellings) -> None:
        self.rows: list[PartRow] = []
        self._declared = declared
        self._spellings = spellings
        self._counts: Counter[str] = Counter()

    def fields(self, item: JsonObject, *, part: str, position: int | None, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        declared = self._declared.get(part, {})
        for path, value in self._scalars(item, part, "", 0):
            rows = None if declared.get(path) == Kind.JSON else as_rows(value)
            if rows is None or depth == DEEPEST_PART:
                found[path] = value
            else:
                self._part(rows, part=f"{part}.{path}" if part else path, parent=position, depth=depth + 1)
        return found

    def _part(self, rows: list[JsonObject], *, part: str, parent: int | None, depth: int) -> None:
        for row in rows:
            position = self._counts[part]
            self._counts[part] += 1
            fields = self.fields(row, part=part, position=position, depth=depth)
            self.rows.append(PartRow(part, position, parent, fields))

    def _scalars(self, item: JsonObject, part: str, prefix: str, level: int) -> Iterator[tuple[str, Any]]:
        """All values of the object that are not objects themselves, by dotted path."""
        declared = self._declared.get(part, {})
        spelled = respelled(item, self._spellings.of_keys(part, prefix, item))
        for key, value in without_empty_links(spelled).items():
            path = naming.join(prefix, key)
            whole = level == DEEPEST_OBJECT or declared.get(path) == Kind.JSON or as_rows(value) is not None
            if isinstance(value, dict) and not whole:
                yield from self._scalars(value, part, path, level + 1)
            else:
                yield path, value


def as_rows(value: Any) -> list[JsonObject] | None:
    """A list of objects, or an object keyed by row ids (Dilovod's table parts), as a list; None for anything else."""
    if isinstance(value, list) and set(map(type, value)) == {dict}:
        return value
    if isinstance(value, dict) and next(iter(value), "").isdigit() and all(map(_is_row, value, value.values())):
        # Sorted, because databases do not keep the order of JSON's keys.
        return [{"id": key, **value[key]} for key in sorted(value, key=lambda key: (len(key), key))]
    return None


def _is_row(key: str, row: Any) -> bool:
    return key.isascii() and key.isdigit() and isinstance(row, dict)


def has_links(keys: Collection[str]) -> bool:
    """Whether objects with these keys may hold links."""
    return (_PRESENTATION in keys and "id" in keys) or any(key.endswith("__pr") for key in keys)


def without_empty_links(item: JsonObject) -> JsonObject:
    """Dilovod's links, `{"id", "pr"}` or `x` beside `x__pr`: an empty one is None, and so is a restricted name."""
    links = [(key[:-4], key) for key in item if key.endswith("__pr") and key[:-4] in item]
    if _PRESENTATION in item and "id" in item:
        links.append(("id", _PRESENTATION))
    if not links:
        return item
    item = dict(item)
    for link, presentation in links:
        if _is_any_of(item[link], _NO_LINK):
            item[link] = item[presentation] = None
        elif item[presentation] == RESTRICTED:
            item[presentation] = None
    return item


def _is_any_of(value: Any, empty: tuple[Any, ...]) -> bool:
    return not isinstance(value, bool | list | dict) and value in empty
