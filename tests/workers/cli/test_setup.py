"""`migrate`, `check` and `dilovod-node`, and the refusals of a missing or wrong installation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.db import migration
from tests.processes import free_port
from tests.workers.cli.runner import GOODS, database, ok, refused, run, write_settings

# Settings


def test_config_may_be_given_before_and_after_the_verb() -> None:
    Path("named.toml").write_text("", encoding="utf-8")
    ok("--config", "named.toml", "migrate")
    ok("status", "--config", "named.toml")
    ok("parked", "--config", "named.toml", "list")
    assert "there is no settings file" in refused("status")
    assert "named.toml" not in refused("status")


def test_a_mistake_in_the_file_is_an_error_without_a_traceback() -> None:
    write_settings('[connections.shop]\nsystem = "dilovot"\n')
    assert 'did you mean "dilovod"' in refused("status")


def test_one_mistake_is_reported_once_and_at_its_key() -> None:
    write_settings('[connections.books]\nsystem = "directo"\napi_key = "k"\nresources = [1]\n')
    assert refused("status").endswith('one mistake connections.books.resources[0]: write a text in quotes, as in "…"')
    write_settings('[connections.books]\nsystem = "directo"\napi_key = "k"\nresources = ["items"]\nfilter.itmes = {}\n')
    assert 'connections.books.filter.itmes: Directo has no resource "itmes"; did you mean "items"?' in refused("status")


def test_a_missing_file_is_an_error_that_names_init() -> None:
    assert "`erpmirror init` writes one" in refused("status")


# Tables


def test_migrate_prints_what_it_did_and_may_be_repeated() -> None:
    write_settings("")
    assert "created" in ok("migrate").output
    assert "already" in ok("migrate").output


@pytest.mark.parametrize(
    "words",
    [
        ["worker"],
        ["beat"],
        ["flower"],
        ["receiver"],
        ["status"],
        ["parked"],
        ["export", "shop", GOODS],
        ["forget", "shop"],
        ["poll", "shop"],
        ["backfill", "shop"],
        ["rebuild", "shop"],
        ["ask", "shop", "listMetadata"],
    ],
    ids=" ".join,
)
def test_missing_tables_are_refused_with_the_remedy(words: list[str]) -> None:
    write_settings('[connections.shop]\nsystem = "dilovod"\napi_key = "k"\nresources = ["catalogs.goods"]\n')
    assert "run `erpmirror migrate`" in refused(*words)


@pytest.mark.parametrize("words", [["worker"], ["receiver"], ["status"]], ids=" ".join)
def test_tables_of_another_version_are_refused(words: list[str]) -> None:
    write_settings("")
    ok("migrate")
    with database() as opened, opened.begin() as tx:
        tx.exec_driver_sql(f"UPDATE {migration.VERSION_TABLE} SET version_num = '9999'")
    assert "newer than this erpmirror" in refused(*words)


@pytest.mark.parametrize("words", [["status"], ["check"], ["migrate"]], ids=" ".join)
def test_the_error_of_an_unreachable_database_hides_its_password(words: list[str]) -> None:
    write_settings(f'[database]\nurl = "postgresql://me:hunter2@127.0.0.1:{free_port()}/mirror"\n')
    result = run(*words)
    assert 1 == result.exit_code
    assert "the database cannot be used" in result.output
    assert "hunter2" not in result.output


# Check


@pytest.mark.usefixtures("shop")
def test_check_lists_every_connection() -> None:
    message = ok("check").output
    assert "shop (dilovod)" in message
    assert "!!" not in message


def test_check_fails_if_a_vendor_refuses(shop: Any) -> None:
    file = Path("erpmirror.toml")
    key = shop.settings()["api_key"]
    write_settings(file.read_text(encoding="utf-8").replace(f'"{key}"', '"wrong-hunter2"'))
    result = run("check")
    assert 1 == result.exit_code
    assert "!!" in result.output
    assert "wrong-hunter2" not in result.output


def test_check_fails_without_tables() -> None:
    write_settings('[connections.shop]\nsystem = "dilovod"\napi_key = "k"\nresources = ["catalogs.goods"]\n')
    result = run("check")
    assert 1 == result.exit_code
    assert "run `erpmirror migrate`" in " ".join(result.output.split())


def test_check_fails_without_a_broker() -> None:
    write_settings(f'[broker]\nurl = "redis://127.0.0.1:{free_port()}/0"\n')
    ok("migrate")
    result = run("check")
    assert 1 == result.exit_code
    assert "the broker cannot be used" in " ".join(result.output.split())


# Dilovod's node


def test_the_node_file_contains_the_hook_and_the_rights() -> None:
    write_settings(
        '[connections.shop]\nsystem = "dilovod"\napi_key = "k"\nwebhook_secret = "s3"\n'
        'resources = ["catalogs.goods", "balanceRegisters.goods"]\n'
    )
    node = json.loads(ok("dilovod-node", "shop", "--url", "https://mirror.example.com/").stdout)
    assert "https://mirror.example.com/hooks/shop/s3" == node["webHookUrl"]
    assert ["catalogs.goods"] == node["webHookObjects"]
    assert {"catalogs.goods": "read", "balanceRegisters.goods": "read"} == node["accessRules"]


def test_only_dilovod_has_a_node_file() -> None:
    write_settings('[connections.books]\nsystem = "directo"\napi_key = "k"\nresources = ["items"]\n')
    assert "only Dilovod has such a file" in refused("dilovod-node", "books", "--url", "https://x")


def test_check_says_which_files_with_secrets_everybody_can_read() -> None:
    settings, beside = write_settings(""), Path(".env").absolute()
    beside.write_text("KEY=secret\n", encoding="utf-8")
    ok("migrate")
    for file, mode in ((settings, 0o640), (beside, 0o644)):
        file.chmod(mode)
    notes = ok("check").stderr
    assert f"can read {beside}, which holds secrets; `chmod o-rwx {beside}`" in notes
    assert f"can read {settings}" not in notes
