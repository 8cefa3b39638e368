"""The settings file for Dilovod's API node."""

from __future__ import annotations

import pytest

from tests.workers.connectors.dilovod.conftest import made_options
from workers.connectors.dilovod.node import node_file


def test_the_node_may_read_configured_resources_and_sends_webhooks_for_objects() -> None:
    resources = ["catalogs.goods", "documents.saleOrder", "balanceRegisters.goods"]

    made = node_file(made_options(resources=resources), "https://mirror.example/erp/")

    assert {"ru", "uk"} == set(made["nodeName"])
    assert dict.fromkeys(resources, "read") == made["accessRules"]
    assert made["webHookUrl"] == "https://mirror.example/erp/hooks/shop"
    assert made["webHookObjects"] == ["catalogs.goods", "documents.saleOrder"]


@pytest.mark.parametrize(
    ("commands", "written"),
    [
        (["saveObject"], ["catalogs.goods", "documents.sale", "informationRegisters.barCodes"]),
        (["setDelMark"], ["catalogs.goods", "documents.sale"]),
        (["saleOrderCreate"], ["documents.saleOrder"]),
        (["saleOrderCreate", "setDelMark"], ["catalogs.goods", "documents.sale", "documents.saleOrder"]),
    ],
)
def test_the_node_may_write_what_commands_write(commands: list[str], written: list[str]) -> None:
    resources = ["catalogs.goods", "documents.sale", "balanceRegisters.goods", "informationRegisters.barCodes"]

    rules = node_file(made_options(resources=resources, commands=commands), "https://mirror.example")["accessRules"]

    assert written == [name for name, right in rules.items() if right == "write"]
    assert {*resources, *written} == set(rules)


def test_the_webhook_address_ends_in_the_secret() -> None:
    made = node_file(made_options(webhook_secret="s3cret"), "https://mirror.example")

    assert made["webHookUrl"] == "https://mirror.example/hooks/shop/s3cret"
