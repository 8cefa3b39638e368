"""Which resources are due for a look, whatever the number of connections."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

INDEXES = {
    "ix_streams_due": ("due_at", "state = 'open' AND ticks AND cursor IS NOT NULL"),
    "ix_streams_full_due": ("full_due_at", "state = 'open'"),
}


def upgrade() -> None:
    """Add the indexes that the sweep reads."""
    for name, (column, rows) in INDEXES.items():
        where = sa.text(rows)
        op.create_index(name, "streams", [column], sqlite_where=where, postgresql_where=where)
