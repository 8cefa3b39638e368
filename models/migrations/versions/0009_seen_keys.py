"""The keys of a full sync that is under way: a row for each chunk, no longer one for each key."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0009"
down_revision = "0008"

# A copy of `models.db.types`: a change there must not change a released migration.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")

_OLD = "erpmirror_seen_keys_before_0009"


def upgrade() -> None:
    """What a full sync under way has listed is kept: else all that it listed so far would count as missing."""
    # Not renamed: its primary key would keep the name that the new table's gets.
    op.execute("CREATE TABLE erpmirror_seen_keys_before_0009 AS SELECT * FROM erpmirror_seen_keys")
    op.drop_table("erpmirror_seen_keys")
    op.create_table(
        "erpmirror_seen_keys",
        sa.Column("id", ID, primary_key=True, autoincrement=True),
        sa.Column("connection", sa.Text, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("keys", JSON, nullable=False),
        sa.Index("ix_erpmirror_seen_keys_connection_resource", "connection", "resource"),
    )
    old, new = (
        sa.table(name, *map(sa.column, ("connection", "resource", keys)))
        for name, keys in ((_OLD, "key"), ("erpmirror_seen_keys", "keys"))
    )
    is_sqlite = op.get_context().dialect.name == "sqlite"
    as_list = sa.func.json_group_array if is_sqlite else sa.func.jsonb_agg
    chosen = sa.select(old.c.connection, old.c.resource, as_list(old.c.key)).group_by(old.c.connection, old.c.resource)
    op.execute(sa.insert(new).from_select(["connection", "resource", "keys"], chosen))
    op.drop_table(_OLD)
