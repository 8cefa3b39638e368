"""A subscription's table: what is refused, and with which words."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import pytest

from models.settings.load import SettingsError
from models.settings.subscriptions import Subscription
from tests.workers.deliveries.harness import CONNECTION, SECRET
from workers import configuration

if TYPE_CHECKING:
    from pathlib import Path

URL = "https://crm.example/hooks?key=k3y"


def load(folder: Path, lines: str) -> Subscription:
    file = folder / "erpmirror.toml"
    file.write_text(f"{CONNECTION}[subscriptions.crm]\n{lines}\n", "utf-8")
    return configuration.load(file).subscriptions["crm"]


def refused(folder: Path, lines: str) -> str:
    with pytest.raises(SettingsError) as raised:
        load(folder, lines)
    return str(raised.value)


def table(**values: Any) -> str:
    text = {"url": f'"{URL}"', "secret": f'"{SECRET}"'} | values
    return "\n".join(f"{key} = {value}" for key, value in text.items())


def test_url_and_secret_are_enough(tmp_path: Path) -> None:
    found = load(tmp_path, table())
    assert (URL, [SECRET], "now", "full") == (found.url, found.secrets, found.begin, found.payload)
    assert "k3y" not in repr(found)
    assert SECRET not in repr(found)


@pytest.mark.parametrize("name", ["connections", "resources", "kinds"])
def test_an_empty_filter_is_refused_because_it_would_let_everything_through(tmp_path: Path, name: str) -> None:
    assert f"subscriptions.crm.{name}: name at least one" in refused(tmp_path, table(**{name: "[]"}))


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("connections", '["shpo"]', 'there is no connection "shpo"; did you mean "shop"?'),
        ("resources", '["catalogs.good"]', 'no connection mirrors "catalogs.good"; did you mean "catalogs.goods"?'),
        ("kinds", '["made"]', "it should be 'created', 'updated', 'deleted' or 'restored'"),
        ("from", '"yesterday"', "it should be 'now' or 'start'"),
        ("begin", '"start"', "unknown key"),
        ("timeout", '"2m"', 'an endpoint has at most "1m"'),
    ],
)
def test_a_wrong_value_says_what_helps(tmp_path: Path, name: str, value: str, words: str) -> None:
    assert words in refused(tmp_path, table(**{name: value}))


def test_a_scheme_in_capitals_is_the_same(tmp_path: Path) -> None:
    assert "https://crm.example/Hooks" == load(tmp_path, table(url='"HTTPS://crm.example/Hooks"')).url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ftp://crm.example", "an address begins with https://"),
        ("https://", "an address begins with https://"),
        ("https://crm .example", "an address begins with https://"),
        ("https://%31%32%37.0.0.1", "an address begins with https://"),
        ("https://crm..example", "an address begins with https://"),
        (f"https://{'a' * 64}.example", "an address begins with https://"),
        ("https://[::1", "this is no address"),
        ("https://crm.example:99999", "this is no address"),
        ("https://me:s3cret@crm.example", "an address holds no login"),
        ("https://crm.example/#top", "an address ends before #"),
        ("http://crm.example", "everyone on the way could read the changes"),
        ("https://localhost", "it is this machine"),
        ("HTTPS://127.1", "url names 127.0.0.1, and it is this machine"),
        ("https://127.1", "url names 127.0.0.1, and it is this machine"),
        ("https://0x7f.1", "url names 127.0.0.1, and it is this machine"),
        ("https://2130706433", "url names 127.0.0.1, and it is this machine"),
        ("https://[::ffff:10.0.0.1]", "it is private or reserved"),
        ("https://169.254.169.254/latest", "it is link-local"),
        ("https://[64:ff9b::7f00:1]", "it is this machine"),
    ],
)
def test_an_address_that_is_none_or_leads_inside_is_refused(tmp_path: Path, url: str, words: str) -> None:
    said = refused(tmp_path, table(url=f'"{url}"'))
    assert words in said
    assert "s3cret" not in said


def test_private_addresses_are_taken_where_the_settings_say_so(tmp_path: Path) -> None:
    assert "10.0.0.1" == load(tmp_path, table(url='"http://10.0.0.1:8080/hooks"', allow_private="true")).host


@pytest.mark.parametrize(
    "secret",
    ['"abc"', '"whsec_!!!"', f'"whsec_{base64.b64encode(b"short").decode()}"', "5", "[]", f'["{SECRET}", "{SECRET}"]'],
)
def test_a_secret_of_the_wrong_form_says_how_to_make_one(tmp_path: Path, secret: str) -> None:
    said = refused(tmp_path, table(secret=secret))
    assert "subscriptions.crm.secret: " in said
    assert SECRET not in said
