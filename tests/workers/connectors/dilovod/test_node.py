"""The settings file for Dilovod's API node."""

from __future__ import annotations

from tests.workers.connectors.dilovod.conftest import made_options
from workers.connectors.dilovod.node import node_file


def test_the_node_may_read_configured_resources_and_sends_webhooks_for_objects() -> None:
    resources = ["catalogs.goods", "documents.saleOrder", "balanceRegisters.goods"]

    made = node_file(made_options(resources=resources), "https://mirror.example/erp/")

    assert {"ru", "uk"} == set(made["nodeName"])
    assert dict.fromkeys(resources, "read") == made["accessRules"]
    assert made["webHookUrl"] == "https://mirror.example/erp/hooks/shop"
    assert made["webHookObjects"] == ["catalogs.goods", "documents.saleOrder"]


def test_the_webhook_address_ends_in_the_secret() -> None:
    made = node_file(made_options(webhook_secret="s3cret"), "https://mirror.example")

    assert made["webHookUrl"] == "https://mirror.example/hooks/shop/s3cret"
