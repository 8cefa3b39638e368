"""`${NAME}` from the environment and from `.env`, `${file:PATH}`, and the `.env` file's format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from models.settings import references
from tests.models.settings.test_load import SHOP, ShopOptions, read, refused

if TYPE_CHECKING:
    from pathlib import Path


def key(folder: Path, reference: str) -> str:
    shop = read(folder, SHOP.replace('"k"', f'"{reference}"')).connections["shop"]
    assert isinstance(shop, ShopOptions)
    return shop.api_key.get_secret_value()


# .env


def test_the_environment_wins_over_the_file_beside_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("TEST_ONE=of the file\nTEST_TWO=of the file\n", encoding="utf-8")
    monkeypatch.setenv("TEST_ONE", "of the environment")
    assert "of the environment" == key(tmp_path, "${TEST_ONE}")
    assert "of the file" == key(tmp_path, "${TEST_TWO}")


def test_the_file_is_the_one_beside_the_settings_not_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("TEST_KEY=here\n", encoding="utf-8")
    (tmp_path / "etc").mkdir()
    monkeypatch.chdir(tmp_path)
    message = refused(tmp_path / "etc", SHOP.replace('"k"', '"${TEST_KEY}"'))
    assert (
        f"${{TEST_KEY}} is not set; set the environment variable TEST_KEY, write TEST_KEY=… into {tmp_path}" in message
    )


def test_a_proxy_may_be_named_in_the_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("https_proxy=http://proxy.local:1\n", encoding="utf-8")
    assert "http://proxy.local:1" == read(tmp_path, SHOP).connections["shop"].route.proxy


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("KEY=value", "value"),
        ("export KEY=value", "value"),
        ("  KEY = value  ", "value"),
        ("KEY=two words", "two words"),
        ("KEY=value # a comment", "value"),
        ("KEY=val#ue", "val#ue"),
        ("KEY=pa$word${X}", "pa$word${X}"),
        ("KEY='pa$wo\"rd # 1'", 'pa$wo"rd # 1'),
        ("KEY='it is' # a comment", "it is"),
        (r'KEY="a \"b\" \\ \$c"', r'a "b" \ $c'),
        (r'KEY="one\ntwo\tthree"', "one\ntwo\tthree"),
        (r"KEY='one\ntwo'", r"one\ntwo"),
        ('KEY="one\ntwo"', "one\ntwo"),
        ("KEY=a=b", "a=b"),
        ("KEY=it's", "it's"),
        ("KEY=", ""),
        ("KEY= # a comment", ""),
        ('KEY=""', ""),
        ("KEY=first\nKEY=last", "last"),
        ("# KEY=no\n\n \nKEY=yes", "yes"),
        ("OTHER\nKEY=yes", "yes"),
        ("KEY=ключ", "ключ"),
    ],
)
@pytest.mark.parametrize("ending", ["", "\n", "\r\n"], ids=["no end", "LF", "CRLF"])
def test_the_format_is_dockers(tmp_path: Path, line: str, value: str, ending: str) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"\xef\xbb\xbf" + (line + ending).replace("\n", ending or "\n").replace("\r\r", "\r").encode())
    values, complaints = references.read_env_file(file)
    assert [] == complaints
    assert value.replace("\r\n", "\n") == values["KEY"].replace("\r\n", "\n")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"A=1\nKEY='hunter2\n", "line 2: write NAME=value, with quotes that end"),
        (b'KEY="hunter2" x\n', "line 1: write NAME=value"),
        (b"\nhunter2: yes\n", "line 2: write NAME=value"),
        (b"KEY=hunter2\xff\n", "is not UTF-8 (byte 11); save it as UTF-8"),
    ],
)
def test_a_malformed_file_is_refused_by_line_without_its_values(tmp_path: Path, content: bytes, expected: str) -> None:
    (tmp_path / ".env").write_bytes(content)
    message = refused(tmp_path, SHOP)
    assert str(tmp_path / ".env") in message
    assert expected in message
    assert "hunter2" not in message


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    assert "cannot be read: Is a directory" in refused(tmp_path, SHOP)


# ${file:…}


@pytest.mark.parametrize(
    ("content", "value"),
    [("secret", "secret"), ("secret\n", "secret"), ("secret\r\n", "secret"), (" a$b${c}'\"# \n", " a$b${c}'\"# ")],
)
def test_a_value_may_stand_in_a_file_and_ends_before_its_newline(tmp_path: Path, content: str, value: str) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").write_bytes(content.encode())
    assert value == key(tmp_path, "${file:secrets/key}")
    assert value == key(tmp_path, f"${{file:{tmp_path}/secrets/key}}")


def test_a_variables_trailing_newline_is_no_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_KEY", "key\n")
    assert "key" == key(tmp_path, "${TEST_KEY}")


def test_a_file_may_be_a_part_of_a_text(tmp_path: Path) -> None:
    (tmp_path / "host").write_text("erp.test\n", encoding="utf-8")
    assert "https://erp.test/api" == read(tmp_path, SHOP + 'url = "https://${file:host}/api"\n').connections["shop"].url


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere", "{folder}/nowhere cannot be read: No such file or directory; correct the path"),
        ("folder", "{folder}/folder cannot be read: Is a directory"),
        ("empty", "{folder}/empty is empty; write the value into it"),
        ("newline", "{folder}/newline is empty"),
        ("binary", "{folder}/binary is not UTF-8"),
    ],
)
def test_a_file_without_a_value_refuses_to_start(tmp_path: Path, name: str, expected: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").touch()
    (tmp_path / "newline").write_bytes(b"\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    message = refused(tmp_path, SHOP.replace('"k"', f'"${{file:{name}}}"'))
    assert f"connections.shop.api_key: ${{file:{name}}}: " in message
    assert expected.format(folder=tmp_path) in message
