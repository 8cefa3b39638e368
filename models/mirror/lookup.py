"""Reads single objects back from the mirror's rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.mirror import schema_evolution
from models.mirror.statements import Writer

if TYPE_CHECKING:
    from models.db.database import Tx
    from models.mirror.prepare import Target
    from models.values import JsonObject


def raw_of(tx: Tx, target: Target, key: str) -> JsonObject | None:
    """The object as its vendor sent it, redacted; None while it has no row."""
    schema = schema_evolution.current(tx, target.table)
    stored = {} if schema is None else Writer(tx, schema, target.connection).stored([key])
    return stored[key].raw if key in stored else None
