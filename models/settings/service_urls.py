"""The addresses of the database and the broker: checked, and joined with a password that stands beside them.

No message repeats any of an address: what looks like its host or port may be the rest of a password.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import sqlalchemy as sa

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.settings.connections import Secret

_DATABASES = 'write "sqlite:///var/erpmirror.db" or "postgresql+psycopg://user@host/name", and password = "…" beside it'
_BROKERS = (
    'write "filesystem:///var/broker", "redis://host:6379/0" or "amqp://user@host:5672//", and password = "…" beside it'
)
_UNCLEAR = (
    "a user or password with one of @ / ? # % ; in it cannot be told from the rest of an address; take the password "
    'out of it and write password = "…" on a line of its own, or percent-encode it ("@" is %40)'
)
_FILESYSTEM = "filesystem:///"


def database(url: str, *, password: Secret | None, beside_file: Callable[[str], Path]) -> str:
    """The database's address with its password; a SQLite path is absolute. Raises `ValueError`."""
    _require_clear(url, forbidden="@")
    try:
        parsed = sa.make_url(url)
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError(_DATABASES) from None
    if parsed.drivername in {"postgresql", "postgresql+psycopg"}:
        _require_one(parsed.password, password)
        if password is not None:
            parsed = parsed.set(password=password.get_secret_value())
        return parsed.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    if parsed.drivername != "sqlite":
        raise ValueError(f"{parsed.drivername} is not supported; {_DATABASES}")
    if parsed.host or parsed.database in {None, "", ":memory:"} or str(parsed.database).startswith("file:"):
        raise ValueError(f"SQLite needs a file that all processes share; {_DATABASES}")
    _require_server(password)
    return parsed.set(database=str(beside_file(str(parsed.database)))).render_as_string(hide_password=False)


def broker(url: str, *, password: Secret | None, beside_file: Callable[[str], Path]) -> str:
    """The broker's address with its password; the path of the embedded broker is absolute. Raises `ValueError`.

    kombu takes several servers, the next where one is away, with a semicolon between their addresses.
    """
    if url.startswith(_FILESYSTEM) and url != _FILESYSTEM:
        _require_server(password)
        return f"{_FILESYSTEM}{beside_file(url.removeprefix(_FILESYSTEM))}"
    return ";".join(_broker_server(server, password) for server in url.split(";"))


def _broker_server(url: str, password: Secret | None) -> str:
    scheme, _, rest = url.partition("://")
    if scheme not in {"redis", "rediss", "amqp", "amqps"} or not rest:
        raise ValueError(_BROKERS)
    _require_clear(url, forbidden="/?#")
    _require_server_address(url)
    login, _, server = rest.rpartition("@")
    user, _, given = login.partition(":")
    _require_one(given, password)
    return url if password is None else f"{scheme}://{user}:{quote(password.get_secret_value(), safe='')}@{server}"


def broker_folder(url: str) -> str | None:
    """The path of the embedded broker in an address; None for a server."""
    return url.removeprefix(_FILESYSTEM) if url.startswith(_FILESYSTEM) else None


def _require_clear(url: str, *, forbidden: str) -> None:
    """Raise `ValueError` where a login may be cut at the wrong place. `forbidden`: where its parser cuts it."""
    login = url.partition("://")[2].rpartition("@")[0]
    if any(character in login for character in forbidden) or re.search("%(?![0-9A-Fa-f]{2})", login):
        raise ValueError(_UNCLEAR)


def _require_one(given: str | None, password: Secret | None) -> None:
    if given and password is not None:
        raise ValueError("there is a password in the address and one beside it; remove one of them")


def _require_server(password: Secret | None) -> None:
    if password is not None:
        raise ValueError("files have no password; remove password, or name a server")


def _require_server_address(url: str) -> None:
    """Raise `ValueError` for a broken host, a port that is no number, or a Redis database that is none."""
    try:
        parts = urlsplit(url)
        numbered = parts.port is None or parts.port > 0
    except ValueError:
        numbered = False
    if not numbered or (parts.scheme.startswith("redis") and not re.fullmatch(r"/?\d*", parts.path)):
        raise ValueError(_BROKERS)
