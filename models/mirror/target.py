"""What the write path knows of a resource: its names, its rules and what is declared of its fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from models import exact
from models.mirror import naming
from models.values import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from models.values import JsonObject, Notes, Shape


RULES = 2
"""The version of the rules by which fields become columns: raise it, and every row is written anew when next seen."""


def _as_sent(raw: JsonObject) -> JsonObject:
    return raw


@dataclass(frozen=True, slots=True)
class Target:
    """A resource of a connection, as the write path needs it.

    `omit`: dotted paths that are never stored (see `redaction.redact`). `shape`: declared fields whose columns exist
    from the start; `hints`: declared kinds, applied when the field first appears. `project`: the raw object as columns
    see it. `notes`: what fields mean; they stand on their columns.
    """

    connection: str
    system: str
    resource: str
    omit: tuple[str, ...] = ()
    shape: Shape = field(default_factory=dict)
    hints: Shape = field(default_factory=dict)
    notes: Notes = field(default_factory=dict)
    project: Callable[[JsonObject], JsonObject] = _as_sent

    @property
    def table(self) -> str:
        """The object's own table."""
        return naming.table(self.system, self.resource)

    def declared(self) -> Shape:
        """Shape and hints as one, the shape being the stronger."""
        parts = {*self.shape, *self.hints}
        return {part: {**self.hints.get(part, {}), **self.shape.get(part, {})} for part in parts}

    def salt(self) -> str:
        """What the hash depends on beside the object: change it, and rows are written anew."""
        shape = {
            part: {path: Kind(kind).value for path, kind in each.items()} for part, each in self.declared().items()
        }
        return exact.canonical([RULES, sorted(self.omit), shape])
