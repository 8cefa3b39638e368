"""The settings file: what it may hold, and how each mistake in it is reported."""

from __future__ import annotations

from datetime import timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Literal

import pytest

from models.settings import load
from models.settings.connections import Connection, Duration, Secret, SendsWebhooks, TakesCommands, Url
from models.settings.load import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2-never-show"


class ShopOptions(SendsWebhooks):
    url: Url = "https://shop.example.com"
    api_key: Secret
    timezone: str = "Europe/Kyiv"
    format: Literal["json", "xml"] = "json"
    reconcile_every: Duration = timedelta(hours=1)


class BooksOptions(Connection):
    url: Url = "https://books.example.com"


class OrdersOptions(TakesCommands):
    url: Url = "https://orders.example.com"


OPTIONS: dict[str, type[Connection]] = {"shopware": ShopOptions, "bookkeeper": BooksOptions}
SHOP = '[connections.shop]\nsystem = "shopware"\napi_key = "k"\nwebhook_sources = ["10.0.0.1"]\n'


def read(folder: Path, text: str) -> load.Settings:
    file = folder / "erpmirror.toml"
    file.write_text(text, encoding="utf-8")
    return load.load(file, OPTIONS)


def refused(folder: Path, text: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read(folder, text)
    message = str(caught.value)
    assert str(folder / "erpmirror.toml") in message
    assert SECRET not in message
    assert SECRET not in repr(caught.value)
    return message


def test_an_empty_file_means_the_defaults_beside_it(tmp_path: Path) -> None:
    loaded = read(tmp_path, "")
    assert f"sqlite:///{tmp_path}/var/erpmirror.db" == loaded.database.url
    assert f"filesystem:///{tmp_path}/var/broker" == loaded.broker.url
    assert tmp_path / "var" / "broker" == loaded.broker.folder
    receiver = loaded.receiver
    assert ("127.0.0.1", 8000, "", (), None) == (
        receiver.host,
        receiver.port,
        receiver.root_path,
        receiver.trusted_proxies,
        receiver.token,
    )
    assert {} == loaded.connections
    assert ["erpmirror.toml"] == [path.name for path in tmp_path.iterdir()]


def test_a_connection_is_loaded_with_its_systems_own_options(tmp_path: Path) -> None:
    shop = read(tmp_path, SHOP + 'every = "90s"\nurl = "http://localhost:8080/base/"\n').connections["shop"]
    assert isinstance(shop, ShopOptions)
    assert ("shop", timedelta(seconds=90), "http://localhost:8080/base") == (shop.name, shop.every, shop.url)
    assert ("Europe/Kyiv", (ip_network("10.0.0.1"),)) == (shop.zone.key, shop.webhook_sources)


@pytest.mark.parametrize(
    ("written", "loaded_as"),
    [
        ("HTTPS://ERP.Example.COM/Api/", "https://erp.example.com/Api"),
        ("https://erp.example.com:443", "https://erp.example.com"),
        ("http://erp.example.com:80/", "http://erp.example.com"),
        ("http://erp.example.com:443", "http://erp.example.com:443"),
        ("https://erp.example.com:", "https://erp.example.com"),
        ("https://erp.example.com/api?", "https://erp.example.com/api"),
        ("http://[2001:DB8::1]:80/api", "http://[2001:db8::1]/api"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_address_has_one_spelling(tmp_path: Path, written: str, loaded_as: str) -> None:
    assert loaded_as == read(tmp_path, SHOP + f'url = "{written}"\n').connections["shop"].url


@pytest.mark.parametrize(
    ("written", "loaded_as"),
    [
        ("sqlite:///mirror.db", "sqlite:///{folder}/mirror.db"),
        ("sqlite:////srv/mirror.db", "sqlite:////srv/mirror.db"),
        ("postgresql://me:pw@db/mirror", "postgresql+psycopg://me:pw@db/mirror"),
        ("postgresql+psycopg://me:pw@db/mirror", "postgresql+psycopg://me:pw@db/mirror"),
    ],
)
def test_a_database_is_sqlite_or_postgresql(tmp_path: Path, written: str, loaded_as: str) -> None:
    loaded = read(tmp_path, f'[database]\nurl = "{written}"\n')
    assert loaded_as.format(folder=tmp_path) == loaded.database.url


@pytest.mark.parametrize(
    "url",
    [
        f"mysql://root:{SECRET}@db/mirror",
        f"postgresql+asyncpg://root:{SECRET}@db/mirror",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:mirror?mode=memory&uri=true",
        SECRET,
    ],
)
def test_other_databases_are_refused_with_what_to_write(tmp_path: Path, url: str) -> None:
    message = refused(tmp_path, f'[database]\nurl = "{url}"\n')
    assert "database.url" in message
    assert "sqlite:///var/erpmirror.db" in message


@pytest.mark.parametrize(
    "url", ["redis://:pw@host:6379/0", "rediss://host/1", "amqp://guest:guest@host:5672//", "filesystem:////srv/broker"]
)
def test_a_broker_is_a_folder_redis_or_rabbitmq(tmp_path: Path, url: str) -> None:
    assert url == read(tmp_path, f'[broker]\nurl = "{url}"\n').broker.url


@pytest.mark.parametrize("url", [f"sqs://{SECRET}@", "redis", "filesystem://", f"filesystem://{SECRET}", ""])
def test_other_brokers_are_refused_with_what_to_write(tmp_path: Path, url: str) -> None:
    assert "redis://host:6379/0" in refused(tmp_path, f'[broker]\nurl = "{url}"\n')


def test_the_environment_is_put_into_any_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_HOST", "erp.example.com")
    monkeypatch.setenv("TEST_KEY", "a${b")
    monkeypatch.setenv("TEST_PORT", "9000")
    text = SHOP.replace('"k"', '"${TEST_KEY}"').replace("10.0.0.1", "10.0.0.2")
    loaded = read(tmp_path, f'[receiver]\nport = "${{TEST_PORT}}"\n{text}url = "https://${{TEST_HOST}}/api"\n')
    shop = loaded.connections["shop"]
    assert isinstance(shop, ShopOptions)
    assert ("https://erp.example.com/api", "a${b", 9000) == (
        shop.url,
        shop.api_key.get_secret_value(),
        loaded.receiver.port,
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("${TEST_NOWHERE}", "set the environment variable TEST_NOWHERE"),
        ("${TEST_EMPTY}", "${TEST_EMPTY} is empty"),
        ("x${TEST_NOWHERE}y", "${TEST_NOWHERE} is not set"),
        ("${TEST_NOWHERE", "reads"),
        ("${}", "reads"),
    ],
)
def test_a_reference_to_nothing_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, expected: str
) -> None:
    monkeypatch.setenv("TEST_EMPTY", "")
    message = refused(tmp_path, SHOP.replace('"k"', f'"{value}"'))
    assert "connections.shop.api_key: " in message
    assert expected in message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[databse]\n", 'databse: unknown key; did you mean "database"?'),
        ("[receiver]\nprot = 1\n", 'receiver.prot: unknown key; did you mean "port"?'),
        ("[database]\nkeep_notices = '30d'\n", 'database.keep_notices: unknown key; it is called "keep_webhooks" now'),
        ("[broker]\nurl = 'redis://127.0.0.1:6379/zz'\n", 'broker.url: write "filesystem:'),
        ("[broker]\nurl = 'redis://127.0.0.1:abc/0'\n", 'broker.url: write "filesystem:'),
        ("[broker]\nurl = 'redis://[::1/0'\n", 'broker.url: write "filesystem:'),
        ("[broker]\nurl = 'amqp://guest:guest@127.0.0.1:abc//'\n", 'broker.url: write "filesystem:'),
        ("[receiver]\nzzz = 1\n", "receiver.zzz: unknown key; known: host, port"),
        (SHOP + "evry = '5m'\n", 'connections.shop.evry: unknown key; did you mean "every"?'),
        (SHOP + 'name = "x"\n', "connections.shop.name: unknown key; the name stands in the brackets"),
        ('[connections.shop]\nsystem = "shopwar"\n', 'unknown system; did you mean "shopware"?'),
        ('[connections.shop]\nsystem = ["shopware"]\n', "connections.shop.system: "),
        ('[connections.shop]\nsystem = "sap"\n', "known: bookkeeper, shopware"),
        ('[connections.shop]\napi_key = "k"\n', "connections.shop.system: missing"),
        ('[connections.shop]\nsystem = "shopware"\n', "connections.shop.api_key: missing; add api_key = …"),
        (SHOP.replace("10.0.0.1", "10.0.0.300"), "connections.shop.webhook_sources[0]: "),
        (SHOP.replace("10.0.0.1", "10.0.0.1/8"), "has host bits set"),
        (SHOP.replace('"10.0.0.1"', "5"), "write an address or a network"),
        (SHOP.replace('"10.0.0.1"', ""), "an empty list refuses every sender"),
        (SHOP + 'webhook_secret = "a/b"\n', "connections.shop.webhook_secret: the secret ends an address"),
        (SHOP + 'every = "soon"\n', "connections.shop.every: a duration is"),
        (SHOP + 'every = "0s"\n', 'at least "1s"'),
        (SHOP + "every = 5\n", "connections.shop.every: a duration is"),
        (SHOP + 'every = "999999999d"\n', "a duration is at most"),
        (SHOP + 'timezone = "Europe/Kiew"\n', 'did you mean "Europe/Kiev"?'),
        (SHOP + 'timezone = "../etc/passwd"\n', "there is no time zone"),
        (SHOP + 'url = "ftp://x"\n', "connections.shop.url: an address begins with http:// or https://"),
        (SHOP + f'url = "https://me:{SECRET}@x"\n', "an address holds no login"),
        (SHOP + f'url = "https://x/?key={SECRET}"\n', "an address ends with its path"),
        (SHOP + 'format = "yaml"\n', "connections.shop.format: it should be 'json' or 'xml'"),
        (SHOP + 'resources = "items"\n', "connections.shop.resources: write a list of texts, as in"),
        (SHOP + "concurrency = true\n", "connections.shop.concurrency: a number belongs here"),
        (SHOP + "max_deletions = '20%'\n", "connections.shop.max_deletions: write a number, as in 0.2"),
        (SHOP + "concurrency = 'two'\n", "connections.shop.concurrency: write a whole number, as in 60"),
        (SHOP + "concurrency = 1.5\n", "connections.shop.concurrency: write a whole number, as in 60"),
        (SHOP + "timezone = 3\n", "connections.shop.timezone: write a text in quotes"),
        ("[receiver]\nspool = 5\n", "receiver.spool: write a path in quotes"),
        (SHOP + "max_deletions = 2\n", "connections.shop.max_deletions: it should be less than or equal to 1"),
        (SHOP + "timeout = '1h1m'\n", "connections.shop.timeout: a duration is"),
        ("[receiver]\nport = 70000\n", "receiver.port: "),
        ('[receiver]\nroot_path = "mirror"\n', "receiver.root_path: a prefix begins with a slash"),
        ('[receiver]\ntoken = ""\n', "receiver.token: a token is"),
        ('[receiver]\ntrusted_proxies = ["proxy"]\n', "receiver.trusted_proxies[0]: "),
        ('database = "sqlite"\n', "database: a table belongs here; write [database]"),
        ("connections = 1\n", "connections: a table belongs here"),
        ("[connections]\nshop = 1\n", "connections.shop: a table belongs here"),
        ('[connections.Shop]\nsystem = "bookkeeper"\n', "connections.Shop: the name goes into addresses"),
        ('[connections."a b"]\nsystem = "bookkeeper"\n', "connections.a b: the name goes into addresses"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_remedy(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in refused(tmp_path, text)


def test_all_mistakes_are_reported_together(tmp_path: Path) -> None:
    message = refused(tmp_path, f'[receiver]\nport = "{SECRET}"\n[connections.shop]\nsystem = "shopware"\nevry = 1\n')
    assert [
        f"{tmp_path / 'erpmirror.toml'}: 4 mistakes",
        "  receiver.port: write a whole number, as in 60",
        "  connections.shop.webhook_sources: missing; add webhook_sources = …",
        "  connections.shop.api_key: missing; add api_key = …",
        '  connections.shop.evry: unknown key; did you mean "every"?',
    ] == message.splitlines()


def test_a_commands_token_opens_one_connection_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = f'[connections.first]\nsystem = "orderer"\ncommands_token = "{SECRET}"\n'
    second = first.replace("first", "second")
    monkeypatch.setitem(OPTIONS, "orderer", OrdersOptions)
    message = refused(tmp_path, f'[receiver]\ntoken = "{SECRET}"\n{first}')
    assert "connections.first.commands_token: it is the receiver's token, too" in message
    assert "connections.second.commands_token: it is that of first, too" in refused(tmp_path, first + second)
    assert {"first", "second"} == read(tmp_path, first + second.replace(SECRET, "another")).connections.keys()


def test_of_many_mistakes_fifty_are_shown(tmp_path: Path) -> None:
    first, *shown, last = refused(tmp_path, "".join(f"key{number} = 1\n" for number in range(60))).splitlines()
    assert (f"{tmp_path / 'erpmirror.toml'}: 60 mistakes", 50, "  and 10 more") == (first, len(shown), last)


def whole_file_refused(file: Path) -> str:
    """The one line that refuses a file which cannot be read: it is no list of mistakes."""
    with pytest.raises(SettingsError) as caught:
        load.load(file, OPTIONS)
    assert ("mistake" in str(caught.value), 1) == (False, len(str(caught.value).splitlines()))
    return str(caught.value)


def test_a_missing_file_is_refused_with_the_command_that_writes_one(tmp_path: Path) -> None:
    file = tmp_path / "nowhere.toml"
    expected = f"there is no settings file {file}: `erpmirror init` writes one; if you have one elsewhere, name it with"
    assert whole_file_refused(file).startswith(expected)
    (tmp_path / "file").touch()
    assert "`erpmirror init` writes one" in whole_file_refused(tmp_path / "file" / "erpmirror.toml")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    assert f"{tmp_path} is a folder, not a file: name the file with --config" in whole_file_refused(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "erpmirror.toml"
    file.write_bytes(b'[receiver]\nhost = "\xff"\n')
    assert f"{file} is not UTF-8 (byte 19): save it as UTF-8" == whole_file_refused(file)


def test_a_file_that_is_not_toml_is_refused_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "erpmirror.toml"
    file.write_text("[receiver\n", encoding="utf-8")
    message = whole_file_refused(file)
    assert message.startswith(f"{file} is not TOML: ")
    assert "line 1" in message


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    file = tmp_path / "erpmirror.toml"
    file.write_bytes(b"\xef\xbb\xbf[receiver]\nport = 9\n")
    assert 9 == load.load(file, OPTIONS).receiver.port


def test_a_mapped_network_is_the_network_that_it_maps(tmp_path: Path) -> None:
    loaded = read(tmp_path, '[receiver]\ntrusted_proxies = ["::ffff:10.0.0.0/104", "2001:db8::/32"]\n')
    assert (ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")) == loaded.receiver.trusted_proxies


def test_no_secret_shows_in_a_repr(tmp_path: Path) -> None:
    loaded = read(
        tmp_path,
        f'[database]\nurl = "postgresql://me:{SECRET}@db/mirror"\n[broker]\nurl = "redis://:{SECRET}@h"\n'
        f'[receiver]\ntoken = "{SECRET}"\n' + SHOP.replace('"k"', f'"{SECRET}"') + f'webhook_secret = "{SECRET}"\n',
    )
    assert SECRET not in repr(loaded)
    assert SECRET not in str(loaded)
