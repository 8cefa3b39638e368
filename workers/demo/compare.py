"""Compares every object of a sandbox with its row in the mirror, as values.

Used by the demo and by tests as the proof that the mirror equals the ERP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models import exact
from models.mirror import queries

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from models.db.database import Database
    from workers.connectors.contract import Sandbox
    from workers.context import ConnectionContext


@dataclass(frozen=True, slots=True)
class Comparison:
    """The result for one resource.

    `objects`: live objects in the sandbox. `rows`: live rows in the mirror. `differences`: keys on one side only or
    with different values, sorted.
    """

    connection: str
    resource: str
    objects: int
    rows: int
    differences: tuple[str, ...]


def compare(
    database: Database, contexts: Iterable[ConnectionContext], sandboxes: Mapping[str, Sandbox]
) -> list[Comparison]:
    """Compare every resource of the connections that have a sandbox (`sandboxes`: connection name -> sandbox)."""
    return [
        _compared(database, context, name, sandboxes[context.name].truth(name))
        for context in contexts
        for name in context.resources
        if context.name in sandboxes
    ]


def _compared(database: Database, context: ConnectionContext, name: str, truth: dict[str, Any]) -> Comparison:
    target = context.target(context.resources[name], None)
    with database.read() as tx:
        mirror = {
            key: exact.canonical(raw) for key, deleted_at, raw in queries.export(tx, target) if deleted_at is None
        }
    vendor = {key: exact.canonical(exact.storable(raw)) for key, raw in truth.items()}
    differences = tuple(sorted(key for key in vendor.keys() | mirror.keys() if vendor.get(key) != mirror.get(key)))
    return Comparison(context.name, name, len(vendor), len(mirror), differences)
