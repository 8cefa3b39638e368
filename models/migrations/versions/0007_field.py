"""What real accounts, servers and people need of the bookkeeping tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0007"
down_revision = "0006"

# A copy of `models.db.types`: a change there must not change a released migration.
INSTANT = sa.DateTime(timezone=True).with_variant(sa.Text(), "sqlite")


def upgrade() -> None:
    """Each step adds what one rule needs; nothing that is stored changes."""
    _mending()
    _retry_refused_resources()
    _index_deleted_objects()


def _mending() -> None:
    """What tables that were made anew still lack, and which `omit` rules all that is stored follows."""
    json = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
    op.add_column("erpmirror_streams", sa.Column("redaction", json))
    op.add_column("erpmirror_streams", sa.Column("unfilled", sa.Text))


def _retry_refused_resources() -> None:
    """A parked resource is due again at its `full_due_at`, so the index of full syncs has to contain it."""
    for column in (
        sa.Column("retry_at", INSTANT),
        sa.Column("refused_request", sa.Text),
        sa.Column("refused_settings", sa.Text),
    ):
        op.add_column("erpmirror_streams", column)
    op.drop_index("ix_erpmirror_streams_full_due", "erpmirror_streams")
    condition = sa.text("state <> 'retired'")
    op.create_index(
        "ix_erpmirror_streams_full_due",
        "erpmirror_streams",
        ["full_due_at"],
        sqlite_where=condition,
        postgresql_where=condition,
    )


def _index_deleted_objects() -> None:
    """The resources' tables get the index that new ones are made with (`models.mirror.schemas.add_index`)."""
    tx = op.get_bind()
    present = {*sa.inspect(tx).get_table_names(), *sa.inspect(tx).get_view_names()}
    for name in tx.execute(sa.text("SELECT table_name FROM erpmirror_parts WHERE path = ''")).scalars().all():
        if name in present and f"ix_{name}_del" not in present:
            where = '"_deleted_at" IS NOT NULL'
            op.execute(f'CREATE INDEX IF NOT EXISTS "ix_{name}_del" ON "{name}" ("_connection") WHERE {where}')
