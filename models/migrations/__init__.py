"""Alembic's steps that create and upgrade the bookkeeping tables; `models.db.migration` runs them."""
