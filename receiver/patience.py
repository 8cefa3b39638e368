"""Databases for the edge, where somebody waits for an answer: they answer or fail within seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from models.database import Database

if TYPE_CHECKING:
    from sqlalchemy import URL

_SECONDS = 10


def database(url: str | URL) -> Database:
    """The database, with waits for connections and locks cut to ten seconds."""
    address = sa.make_url(url)
    if address.get_backend_name() == "postgresql":
        limits = {"connect_timeout": str(_SECONDS), "tcp_user_timeout": str(_SECONDS * 1000)}
        address = address.update_query_dict({name: limits[name] for name in limits if name not in address.query})
    made = Database(address)
    sa.event.listen(made.engine, "connect", _hurry_sqlite if made.is_sqlite else _hurry_postgresql)
    return made


def _hurry_sqlite(connection: Any, _record: object) -> None:
    connection.execute(f"PRAGMA busy_timeout={_SECONDS * 1000}")


def _hurry_postgresql(connection: Any, _record: object) -> None:
    connection.execute(f"SET lock_timeout = '{_SECONDS}s'")
    connection.commit()
