"""What is missing of the mirror's tables: `erpmirror_parts` and `erpmirror_columns` say what they should be."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.db import present, tables
from models.mirror import own_columns

if TYPE_CHECKING:
    from models.db.database import Tx

_OBJECTS = {"_raw", "_hash"}
"""Without one of these the objects themselves are lost, not only what was made of them."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What a table lacks: itself, columns, or its primary key."""

    owner: str
    table: str
    part: str
    is_missing: bool = False
    columns: frozenset[str] = field(default_factory=frozenset)
    key: bool = False

    def __str__(self) -> str:
        if self.is_missing:
            return f"the table {self.table} is missing"
        if self.columns:
            return f"the table {self.table} lacks {', '.join(sorted(self.columns))}"
        return f"the table {self.table} lacks its primary key"

    @property
    def loses_objects(self) -> bool:
        """Whether the objects themselves are gone."""
        return not self.part and (self.is_missing or not self.columns.isdisjoint(_OBJECTS))

    @property
    def loses_data(self) -> bool:
        """Whether anything has to be filled again."""
        return self.is_missing or bool(self.columns)


def find(tx: Tx, owner: str | None = None) -> list[Damage]:
    """What is missing of all resources' tables, or of one's."""
    registered = sa.select(tables.parts)
    if owner is not None:
        registered = registered.where(tables.parts.c.owner == owner)
    fields: defaultdict[str, set[str]] = defaultdict(set)
    for name, column in tx.execute(sa.select(tables.columns.c.table_name, tables.columns.c.column_name)):
        fields[name].add(column)
    there, keyed = present.tables(tx), present.keyed(tx)
    found = []
    for row in tx.execute(registered.order_by(tables.parts.c.table_name)):
        name = row.table_name
        ours = own_columns.names(row.path)
        if name not in there:
            found.append(Damage(row.owner, name, row.path, is_missing=True))
        elif lacking := (ours | fields[name]) - there[name]:
            found.append(Damage(row.owner, name, row.path, columns=frozenset(lacking)))
        elif name not in keyed:
            found.append(Damage(row.owner, name, row.path, key=True))
    return found
