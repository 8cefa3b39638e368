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


RULES_VERSION = 3
"""The version of the rules that turn fields into columns. Raising it has every row rewritten when it is next seen."""


def _as_sent(raw: JsonObject) -> JsonObject:
    return raw


@dataclass(frozen=True, slots=True)
class Target:
    """A resource of a connection, as the write path needs it.

    `omit`: dotted paths that are never stored (see `redaction.redact`). `shape`: declared fields whose columns exist
    from the start; `hints`: declared kinds, used when the field first appears. `project`: turns the raw object into
    the one whose fields become columns. `notes`: what fields mean, stored with their columns.
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
        """The name of the object's own table."""
        return naming.table(self.system, self.resource)

    def declared(self) -> Shape:
        """Shape and hints merged; the shape wins."""
        parts = {*self.shape, *self.hints}
        return {part: {**self.hints.get(part, {}), **self.shape.get(part, {})} for part in parts}

    def salt(self) -> str:
        """A digest of the redaction and column rules, as part of each object's hash: if they change, rows are rewritten
        when next seen.
        """
        shape = {
            part: {path: Kind(kind).value for path, kind in each.items()} for part, each in self.declared().items()
        }
        return exact.fingerprint([RULES_VERSION, sorted(self.omit), shape])
