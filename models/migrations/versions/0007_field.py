"""What real accounts, servers and people need of the bookkeeping tables."""

from __future__ import annotations

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Each step adds what one rule needs; nothing that is stored changes."""
