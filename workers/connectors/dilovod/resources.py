"""Dilovod's resources: catalogues and documents keyed by id, registers keyed by their dimensions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from workers.connectors.contract import ROW, Resource
from workers.connectors.dilovod.options import is_register

if TYPE_CHECKING:
    from collections.abc import Iterable

    from models.values import JsonObject
    from workers.connectors.dilovod.options import Options

ID = re.compile("[0-9]{16}")
"""An object's id; its first five digits identify its type (Dilovod help, API Dilovod)."""


def resources(options: Options) -> tuple[Resource, ...]:
    """One resource for each configured name."""
    return tuple(
        _register_resource(options, name) if is_register(name) else _object_resource(options, name)
        for name in options.resources
    )


PAGE = 500
"""Objects, or rows of a table part, in one answer: public clients read so many."""

BATCH_FROM = 12
"""Keys from which a batch costs fewer requests than point reads: 4, two of which are point reads of its own keys, and
one or more for each table part, of which a document may have several."""

PROOF_FROM = 50
"""The same with a proof before it, which costs 3 requests or more for each of its two steps, beside point reads."""


def is_slice(name: str) -> bool:
    """Whether a register holds newest values instead of sums (Dilovod help, API Dilovod, sliceLast)."""
    return name.startswith("informationRegisters.")


_IF_COSTLY = '`lookback = "60d"` lists only what is dated within 60 days so often, and all once in `full_every`'


def _object_resource(options: Options, name: str) -> Resource:
    # Dilovod has no modification date: only listings of versions find changes whose webhook was lost. Documents have a
    # date of their own, so a poll can list the recent ones; a change of an older one is found by the next full sync.
    is_document = name.startswith("documents.")
    polls = is_document and options.lookback is not None
    full_every = options.full_every if polls else options.reconcile_every
    return Resource(
        name,
        every=options.reconcile_every if polls else None,
        full_every=full_every,
        bound=full_every,
        batch_size=PAGE,
        batch_from=BATCH_FROM,
        proof_from=PROOF_FROM,
        has_metadata=True,
        project=project,
        if_costly=_IF_COSTLY if is_document else "",
    )


def _register_resource(options: Options, name: str) -> Resource:
    # Unless it is set, `key` is empty: only the metadata has the dimensions and their order.
    chosen, key = options.dimensions.get(name, ()), options.keys.get(name, ())
    selection = [f"dimensions={','.join(sorted(chosen))}"] if chosen else []
    return Resource(
        name,
        full_every=options.every,
        bound=options.every,
        key=() if isinstance(key, str) else key,
        keyed_by_row=key == ROW,
        fetchable=False,
        unpaged=True,
        register=True,
        selection=" ".join([*selection, *([f"keys={key}"] if key else [])]),
        has_metadata=True,
    )


def project(raw: JsonObject) -> JsonObject:
    """The header's fields under their own names, and each table part as a list of rows; `misc` is left out.

    Dilovod sends a part as an object keyed by row id, or as `[]` if it is empty. Part names begin with `tp`, so they do
    not clash with header fields; in a clash the header's field wins.
    """
    parts = raw.get("tableParts")
    named = parts.items() if isinstance(parts, dict) else ()
    return {**{name: rows(part) for name, part in named}, **raw["header"]}


def rows(part: Any) -> list[JsonObject]:
    """A table part's rows in the order of Dilovod's user interface: by `rowNum`, then by row id."""
    if isinstance(part, dict):
        return sorted((_with_id(row, row_id) for row_id, row in part.items()), key=_row_order)
    return sorted((_with_id(row, None) for row in _as_list(part)), key=_row_order)


def _as_list(part: Any) -> Iterable[Any]:
    return part if isinstance(part, list) else ()


def _with_id(row: Any, row_id: str | None) -> JsonObject:
    fields = row if isinstance(row, dict) else {"value": row}
    return fields if row_id is None or "id" in fields else {"id": row_id, **fields}


def _row_order(row: JsonObject) -> tuple[int, int, str]:
    return _number(row.get("rowNum")), _number(row.get("id")), str(row.get("id"))


def _number(value: Any) -> int:
    text = str(value)
    return int(text) if text.isascii() and text.isdigit() else 0
