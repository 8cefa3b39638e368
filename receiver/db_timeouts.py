"""Databases for the HTTP edge: because a caller waits, each wait for a connection, lock or answer has a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.db.database import Database

if TYPE_CHECKING:
    from sqlalchemy import URL

DEFAULT_SECONDS = 10

_KEEPALIVES = {"keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3"}
"""TCP gives up on a host that vanished after about eleven seconds."""


def database(url: str | URL, *, seconds: int = DEFAULT_SECONDS) -> Database:
    """A database on which each wait for a connection, a lock or an answer fails after so many seconds.

    libpq waits at least two seconds for a connection.
    """
    full_url = sa.make_url(url)
    if full_url.get_backend_name() == "postgresql":
        limits = {"connect_timeout": str(seconds), "tcp_user_timeout": str(seconds * 1000), **_KEEPALIVES}
        full_url = full_url.update_query_dict({name: limits[name] for name in limits if name not in full_url.query})
    bounded = Database(full_url)
    if bounded.is_sqlite:
        sa.event.listen(bounded.engine, "connect", lambda raw, _: raw.execute(f"PRAGMA busy_timeout={seconds * 1000}"))
    else:
        from receiver import pg_timeouts  # noqa: PLC0415 - SQLite needs no psycopg, which takes 6 MB

        pg_timeouts.limit(bounded, seconds)
    return bounded


def seconds_of(database: Database) -> int:
    """The limit of a database that `database` returned."""
    return int(str(database.url.query.get("connect_timeout", DEFAULT_SECONDS)))
