"""The addresses of the database and the broker: a password may hold anything, and is never cut or shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
from kombu.connection import Connection

from models.settings import load

if TYPE_CHECKING:
    from pathlib import Path

PASSWORD = "geh@im/47#11?x%41:b;c&d=e [f] ü"
RAW = [
    "4711/geheim",
    "4711#geheim",
    "4711?geheim",
    "50%geheim",
    "geheim/4711",
    "geheim?4711",
    "geheim#4711",
    "4711;geheim",
]
"""Passwords that nobody has percent-encoded; where a parser cuts them, one half passes for a port or a host."""


def read(folder: Path, text: str) -> load.Settings:
    file = folder / "erpmirror.toml"
    file.write_text(text, encoding="utf-8")
    return load.load(file, {})


def test_a_password_beside_the_address_may_have_any_characters(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        f"[database]\npassword = '{PASSWORD}'\nurl = 'postgresql://me@db/mirror'\n"
        f"[broker]\nurl = 'redis://redis:6379/0'\npassword = '{PASSWORD}'\n",
    )
    parsed = sa.make_url(loaded.database.url)
    assert ("me", PASSWORD, "db", "mirror") == (parsed.username, parsed.password, parsed.host, parsed.database)
    broker = Connection(loaded.broker.url)
    assert (PASSWORD, "redis", 6379, "0") == (broker.password, broker.hostname, broker.port, broker.virtual_host)
    assert PASSWORD not in repr(loaded)


def test_a_password_beside_several_brokers_is_each_ones(tmp_path: Path) -> None:
    url = "amqp://me@one:5672//;amqp://me@two:5672//"
    loaded = read(tmp_path, f"[broker]\nurl = '{url}'\npassword = '{PASSWORD}'\n")
    found = [(each.userid, each.password, each.hostname) for each in map(Connection, loaded.broker.url.split(";"))]
    assert [("me", PASSWORD, "one"), ("me", PASSWORD, "two")] == found


@pytest.mark.parametrize("password", RAW)
@pytest.mark.parametrize("address", ["redis://:{}@redis:6379/0", "amqp://me:{}@rabbitmq:5672//"])
def test_a_password_that_breaks_the_brokers_address_is_refused_and_not_shown(
    tmp_path: Path, address: str, password: str
) -> None:
    with pytest.raises(load.SettingsError) as refusal:
        read(tmp_path, f"[broker]\nurl = '{address.format(password)}'\n")
    _names_the_remedy_only(str(refusal.value), "broker.url")


@pytest.mark.parametrize("password", ["geh@im", "geheim@4711", "50%geheim"])
def test_a_password_that_breaks_the_databases_address_is_refused_and_not_shown(tmp_path: Path, password: str) -> None:
    with pytest.raises(load.SettingsError) as refusal:
        read(tmp_path, f"[database]\nurl = 'postgresql://me:{password}@db/mirror'\n")
    _names_the_remedy_only(str(refusal.value), "database.url")


def _names_the_remedy_only(message: str, place: str) -> None:
    assert place in message
    assert 'password = "…"' in message
    assert "geh" not in message
    assert "4711" not in message


@pytest.mark.parametrize("password", ["4711/geheim", "4711#geheim", "geheim?4711", "geheim;4711", "a:b"])
def test_a_database_takes_what_its_address_can_hold(tmp_path: Path, password: str) -> None:
    loaded = read(tmp_path, f"[database]\nurl = 'postgresql://me:{password}@db/mirror'\n")
    assert password == sa.make_url(loaded.database.url).password


def test_a_brokers_address_is_cut_at_its_last_at(tmp_path: Path) -> None:
    broker = Connection(read(tmp_path, "[broker]\nurl = 'redis://:geh@im@redis:6379/0'\n").broker.url)
    assert ("geh@im", "redis") == (broker.password, broker.hostname)


@pytest.mark.parametrize(
    ("section", "url"), [("database", "postgresql://me:one@db/mirror"), ("broker", "redis://:one@redis:6379/0")]
)
def test_two_passwords_are_refused(tmp_path: Path, section: str, url: str) -> None:
    with pytest.raises(load.SettingsError, match="there is a password in the address and one beside it"):
        read(tmp_path, f"[{section}]\nurl = '{url}'\npassword = 'two'\n")


@pytest.mark.parametrize("section", ["database", "broker"])
def test_files_have_no_password(tmp_path: Path, section: str) -> None:
    with pytest.raises(load.SettingsError, match="files have no password"):
        read(tmp_path, f"[{section}]\npassword = 'p'\n")
