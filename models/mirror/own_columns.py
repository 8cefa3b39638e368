"""The columns that each of the mirror's tables has beside those of its fields."""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa

from models.db import types
from models.mirror import naming


def of(part: str) -> list[sa.Column[Any]]:
    """New columns for a part's table, or ("") for the object's own."""
    return _part_columns(part) if part else _root_columns()


@cache
def names(part: str) -> frozenset[str]:
    """Their names."""
    return frozenset(column.name for column in of(part))


def _root_columns() -> list[sa.Column[Any]]:
    return [
        sa.Column("_connection", types.KeyText, primary_key=True),
        sa.Column("_key", types.KeyText, primary_key=True),
        sa.Column("_raw", types.ExactJSON, nullable=False),
        sa.Column("_hash", sa.Text, nullable=False),
        sa.Column("_sent_hash", sa.Text),
        sa.Column("_listed", sa.Text),
        sa.Column("_revision", sa.BigInteger, nullable=False),
        sa.Column("_first_seen_at", types.Instant, nullable=False),
        sa.Column("_changed_at", types.Instant, nullable=False),
        sa.Column("_observed_at", types.Instant, nullable=False),
        sa.Column("_deleted_at", types.Instant),
    ]


def _part_columns(part: str) -> list[sa.Column[Any]]:
    ours: list[sa.Column[Any]] = [
        sa.Column("_connection", types.KeyText, primary_key=True),
        sa.Column("_key", types.KeyText, primary_key=True),
        sa.Column("_position", sa.Integer, primary_key=True, autoincrement=False),
    ]
    if len(naming.steps(part)) > 1:
        # NULL where the list is inside a plain object, not inside another part's row.
        ours.append(sa.Column("_parent_position", sa.Integer))
    return ours
