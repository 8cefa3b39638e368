"""The database's clock as part of a statement, so that a statement need not read it first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.db.types import Instant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """An SQL expression for the current time, and the parameters to execute it with.

    There are only three expressions, so that statements that contain one can be cached.
    """

    expression: sa.ColumnElement[datetime]
    params: Mapping[str, datetime]


_FIXED = sa.bindparam("clock", type_=Instant)

RUNNING = Clock(sa.func.clock_timestamp(type_=Instant), {})
"""PostgreSQL's clock at the moment the expression is evaluated."""

STATEMENT = Clock(sa.func.statement_timestamp(type_=Instant), {})
"""PostgreSQL's clock at the statement's start: the same for all its rows, so that an index can be used."""


def at(moment: datetime) -> Clock:
    """A clock that stands still at this moment."""
    return Clock(_FIXED, {"clock": moment})
