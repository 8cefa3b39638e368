"""What a `request` can ask for, in words that a type checker knows."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.values import JsonObject


class Operator(StrEnum):
    """Comparisons of a filter (Dilovod help, API Dilovod, "Операції порівняння"); hierarchies are for catalogues."""

    EQUAL = "="
    NOT_EQUAL = "!="
    GREATER = ">"
    GREATER_OR_EQUAL = ">="
    LESS = "<"
    LESS_OR_EQUAL = "<="
    CONTAINS = "%"
    CONTAINS_NOT = "!%"
    IN_LIST = "IL"
    IN_HIERARCHY = "IH"
    NOT_IN_HIERARCHY = "!IH"
    IN_HIERARCHY_OF_LIST = "ILH"
    NOT_IN_HIERARCHY_OF_LIST = "!ILH"
    PARENT_IN_LIST = "IPL"


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition; all of them must hold. `alias` is one of the request's `fields`.

    Public clients send lists of at most 50 values.
    """

    alias: str
    operator: Operator
    value: Any


@dataclass(frozen=True, slots=True)
class Limit:
    """A page. The vendor reads `offset` only beside its `count`, and promises no order."""

    offset: int
    count: int


def params(
    from_: str | Mapping[str, Any],
    fields: Mapping[str, str],
    *,
    filters: Sequence[Filter] = (),
    limit: Limit | None = None,
    multilang: bool = False,
    assemble_links: bool = True,
) -> JsonObject:
    """A `request`'s params. ValueError for a filter on an alias that `fields` does not name: the vendor requires it."""
    unknown = {condition.alias for condition in filters} - set(fields.values())
    if unknown:
        raise ValueError(f"filters on {', '.join(sorted(unknown))}, which the fields do not name")
    made: JsonObject = {"from": from_ if isinstance(from_, str) else dict(from_), "fields": dict(fields)}
    if filters:
        made["filters"] = [
            {"alias": condition.alias, "operator": condition.operator.value, "value": condition.value}
            for condition in filters
        ]
    if limit is not None:
        made["limit"] = {"offset": limit.offset, "count": limit.count}
    if multilang:
        made["multilang"] = True
    if not assemble_links:
        made["assembleLinks"] = False
    return made


def register(kind: str, name: str, *, date: str | None = None, dimensions: Sequence[str] = ()) -> JsonObject:
    """A register as a `from`: `kind` is `balance` or `sliceLast`, `date` the vendor's wall clock (now, if None).

    The help calls `dimensions` a parameter of the selection; its samples, and who uses it, write them inside `from`.
    """
    made: JsonObject = {"type": kind, "register": name.rpartition(".")[2]}
    if date is not None:
        made["date"] = date
    if dimensions:
        made["dimensions"] = list(dimensions)
    return made
