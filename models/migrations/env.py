"""Alembic's entry point: runs the steps inside the transaction that `models.db.migration` opened."""

from __future__ import annotations

from alembic import context

from models.db import migration, tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    version_table=migration.VERSION_TABLE,
    include_object=migration.is_ours,
)
with context.begin_transaction():
    context.run_migrations()
