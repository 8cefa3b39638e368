"""What batches need, which fetch many keys at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"

# A copy of `models.db.types`: a change there must not change a released migration.
INSTANT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """No resource has been read in batches yet."""
    op.add_column("erpmirror_inbox", sa.Column("unbatched", sa.Text))
    for column in (
        sa.Column("batch_plan", sa.Text),
        sa.Column("batch_failures", sa.Integer, nullable=False, server_default="0"),
        sa.Column("batch_tried_at", INSTANT),
        sa.Column("unbatched", sa.Text),
    ):
        op.add_column("erpmirror_streams", column)
