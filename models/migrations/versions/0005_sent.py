"""What stands for an object as it was sent, so that the same bytes are known again without being decoded."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_PARTS = sa.table("parts", sa.column("table_name"), sa.column("path"))


def upgrade() -> None:
    """Add the column to the objects' own tables."""
    for name in op.get_bind().execute(sa.select(_PARTS.c.table_name).where(_PARTS.c.path == "")).scalars().all():
        op.add_column(name, sa.Column("_sent", sa.Text))
