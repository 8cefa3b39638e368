"""What all bookkeeping tables belong to: it names their keys and indexes alike on every database."""

from __future__ import annotations

import sqlalchemy as sa

shared = sa.MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)
