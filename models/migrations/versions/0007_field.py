"""What real accounts, servers and people need of the bookkeeping tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Each step adds what one rule needs; nothing that is stored changes."""
    _mending()


def _mending() -> None:
    """What tables that were made anew still lack, and which `omit` rules all that is stored follows."""
    json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    op.add_column("erpmirror_streams", sa.Column("redaction", json))
    op.add_column("erpmirror_streams", sa.Column("unfilled", sa.Text))
