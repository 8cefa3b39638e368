"""Flattens many objects at once, field by field: the same result as `flatten.flatten` for each, as columns of values.

Names, paths and nesting are alike in all objects, so they are worked out once instead of once per object.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from itertools import chain
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from models.mirror import flatten, naming
from models.mirror.spelling import NO_SPELLINGS, Spellings
from models.notation import respelled
from models.values import Kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from models.values import JsonObject, Shape

_SCALARS = {str, int, Decimal, bool, type(None)}


@dataclass(slots=True)
class FlatBatch:
    """The rows of a part ("": the objects themselves), in the order of the objects and of their rows.

    `owners`: the index of each row's object; `positions`, `parents`: as in `flatten.PartRow`. `fields`: dotted
    path -> a value for each row, None where a row has none.
    """

    owners: Sequence[int]
    positions: Sequence[int]
    parents: Sequence[int | None]
    fields: dict[str, list[Any]] = field(default_factory=dict)


def flatten_batch(
    projected: Sequence[JsonObject], declared: Shape, spellings: Spellings = NO_SPELLINGS
) -> dict[str, FlatBatch]:
    """Part -> its rows. `spellings`: under which names fields are known already."""
    walk = _Walk(declared, spellings)
    owners = range(len(projected))
    try:
        walk.part("", projected, FlatBatch(owners, [0] * len(projected), [None] * len(projected)), depth=0)
    except _AmbiguousOrderError:
        return _one_by_one(projected, declared, spellings)
    return walk.parts


class _AmbiguousOrderError(Exception):
    """Two paths lead to one part: only a walk through each object gives the order of its rows."""


class _Walk:
    def __init__(self, declared: Shape, spellings: Spellings) -> None:
        self.parts: dict[str, FlatBatch] = {}
        self.spellings = spellings
        self._declared = declared

    def part(self, part: str, rows: Sequence[JsonObject], into: FlatBatch, *, depth: int) -> None:
        if part in self.parts:
            raise _AmbiguousOrderError
        self.parts[part] = into
        _PartBuilder(self, part, into, depth).add_objects(rows, range(len(rows)), "", 0)

    def declared(self, part: str) -> dict[str, Kind]:
        return self._declared.get(part, {})


class _PartBuilder:
    """Lays out the rows of one part."""

    def __init__(self, walk: _Walk, part: str, into: FlatBatch, depth: int) -> None:
        self._walk, self._part, self._into, self._depth = walk, part, into, depth
        self._declared = walk.declared(part)

    def add_objects(self, items: Sequence[JsonObject], rows: Sequence[int], prefix: str, level: int) -> None:
        """Lay out objects that are nested in these rows under the same path."""
        key_orders = _key_orders(items)
        spellings = self._walk.spellings.of_keys(self._part, prefix, chain.from_iterable(key_orders))
        if spellings:
            items = [respelled(item, spellings) for item in items]
            key_orders = _key_orders(items)
        for key, values, where in _by_key(items, rows, key_orders):
            self._add_field(naming.join(prefix, key), values, where, level)

    def _add_field(self, path: str, values: Sequence[Any], rows: Sequence[int], level: int) -> None:
        if _has_only_scalars(values):
            self._add_column(path, values, rows)
            return
        as_json = self._declared.get(path) == Kind.JSON
        if not as_json and self._depth < flatten.DEEPEST_PART and _are_all_lists(values):
            self._add_part(path, values, rows)
            return
        lists, objects, others = _Subset(), _Subset(), _Subset()
        for row, value in zip(rows, values, strict=True):
            part_rows = None if as_json or self._depth == flatten.DEEPEST_PART else flatten.as_rows(value)
            if part_rows is not None:
                lists.add(row, part_rows)
            elif isinstance(value, dict) and not as_json and self._becomes_columns(value, level):
                objects.add(row, value)
            else:
                others.add(row, value)
        if others.values:
            self._add_column(path, others.values, others.rows)
        if objects.values:
            self.add_objects(objects.values, objects.rows, path, level + 1)
        if lists.values:
            self._add_part(path, lists.values, lists.rows)

    def _becomes_columns(self, value: JsonObject, level: int) -> bool:
        """Whether each of the object's fields gets a column; else the object is kept whole."""
        if level == flatten.DEEPEST_OBJECT:
            return False
        return self._depth < flatten.DEEPEST_PART or flatten.as_rows(value) is None

    def _add_column(self, path: str, values: Sequence[Any], rows: Sequence[int]) -> None:
        size = len(self._into.owners)
        if len(rows) == size:
            self._into.fields[path] = list(values)
            return
        column = self._into.fields.setdefault(path, [None] * size)
        for row, value in zip(rows, values, strict=True):
            column[row] = value

    def _add_part(self, path: str, values: Sequence[list[JsonObject]], rows: Sequence[int]) -> None:
        into = self._into
        owners: list[int] = []
        positions: list[int] = []
        parents: list[int | None] = []
        count, last = 0, None
        for row, part_rows in zip(rows, values, strict=True):
            owner = into.owners[row]
            count = count if owner == last else 0
            last = owner
            owners += [owner] * len(part_rows)
            positions += range(count, count + len(part_rows))
            parents += [into.positions[row] if self._part else None] * len(part_rows)
            count += len(part_rows)
        part = f"{self._part}.{path}" if self._part else path
        items = list(chain.from_iterable(values))
        self._walk.part(part, items, FlatBatch(owners, positions, parents), depth=self._depth + 1)


class _Subset:
    """A subset of the rows, with the value of each."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.values: list[Any] = []

    def add(self, row: int, value: Any) -> None:
        self.rows.append(row)
        self.values.append(value)


def _has_only_scalars(values: Sequence[Any]) -> bool:
    types = set(map(type, values))
    return types <= _SCALARS or not any(issubclass(each, dict | list) for each in types)


def _are_all_lists(values: Sequence[Any]) -> bool:
    """Whether each value is a list of objects, the usual case."""
    return set(map(type, values)) == {list} and all(values) and set(map(type, chain.from_iterable(values))) == {dict}


def _key_orders(items: Sequence[JsonObject]) -> dict[tuple[str, ...], None]:
    return dict.fromkeys(map(tuple, items))


def _by_key(
    items: Sequence[JsonObject], rows: Sequence[int], key_orders: Collection[tuple[str, ...]]
) -> Iterator[tuple[str, Sequence[Any], Sequence[int]]]:
    """Each key, the values of those objects that have it, and their rows."""
    keys = dict.fromkeys(chain.from_iterable(key_orders))
    if flatten.has_links(keys):
        items = list(map(flatten.without_empty_links, items))
    if len(key_orders) == 1:
        for key, values in zip(keys, zip(*map(dict.values, items), strict=True), strict=True):
            yield key, values, rows
        return
    for key in keys:
        try:
            in_all = list(map(itemgetter(key), items))
        except KeyError:
            having = [(row, item[key]) for row, item in zip(rows, items, strict=True) if key in item]
            yield key, [value for _, value in having], [row for row, _ in having]
        else:
            yield key, in_all, rows


def _one_by_one(projected: Iterable[JsonObject], declared: Shape, spellings: Spellings) -> dict[str, FlatBatch]:
    found: dict[str, list[tuple[int, int, int | None, dict[str, Any]]]] = {"": []}
    for number, item in enumerate(projected):
        flat = flatten.flatten(item, declared, spellings)
        found[""].append((number, 0, None, flat.fields))
        for row in sorted(flat.rows, key=lambda row: row.position):
            found.setdefault(row.part, []).append((number, row.position, row.parent, row.fields))
    return {part: _columns(rows) for part, rows in found.items()}


def _columns(rows: Sequence[tuple[int, int, int | None, dict[str, Any]]]) -> FlatBatch:
    paths = dict.fromkeys(path for *_, fields in rows for path in fields)
    owners, positions, parents, values = zip(*rows, strict=True)
    return FlatBatch(owners, positions, parents, {path: [each.get(path) for each in values] for path in paths})
