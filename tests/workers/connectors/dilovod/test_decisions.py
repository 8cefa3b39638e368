"""What the client does where Dilovod's help contradicts itself; each test is named after the decision."""

from __future__ import annotations

from contextlib import suppress
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from models.values import Kind
from tests.workers.connectors.dilovod.conftest import made_options, opened, recording
from workers.connectors.contract import ObjectRef
from workers.connectors.dilovod import commands, metadata, node, webhooks
from workers.connectors.dilovod.queries import Filter, Operator, SelectionType
from workers.connectors.dilovod.resources import resources
from workers.errors import RefusedError

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from workers.connectors.dilovod import sandbox as dilovod_sandbox
    from workers.connectors.dilovod.client import Client

ACTIONS = {action.name: action for action in commands.actions(made_options())}
AWKWARD = "a+b&c%d=é №"


@pytest.mark.parametrize(
    ("given", "kind"),
    [({}, "application/json"), ({"packet": "form"}, "application/x-www-form-urlencoded")],
    ids=["json", "form"],
)
def test_a_packet_is_sent_as_json_or_as_a_form_without_loss(
    app: Starlette, sandbox: dilovod_sandbox.Sandbox, given: dict[str, Any], kind: str
) -> None:
    good = sandbox.books.of("catalogs.goods")[3]
    good.header["productNum"] = AWKWARD
    recorder, packets = recording(app)
    with opened(recorder, **given) as client:
        found = client.request(
            "catalogs.goods", {"id": "id", "productNum": "sku"}, filters=[Filter("sku", Operator.CONTAINS, "+b&c%d")]
        )

    assert [(good.id, AWKWARD)] == [(row["id"], row["sku"]) for row in found]
    assert [kind] == [each for each, _ in packets]


@pytest.mark.parametrize(("given", "version"), [({}, "0.25"), ({"version": "0.15"}, "0.15")])
def test_the_version_is_025_by_default(app: Starlette, given: dict[str, str], version: str) -> None:
    recorder, packets = recording(app)
    with opened(recorder, **given) as client:
        client.list_metadata()

    assert [version] == [packet["version"] for _, packet in packets]


def test_dimensions_are_sent_inside_from(app: Starlette) -> None:
    recorder, packets = recording(app)
    with opened(recorder) as client:
        (row,) = client.balance("goods", {"firm": "firm", "qty": "qty"}, dimensions=["firm"])

    (asked,) = [packet["params"] for _, packet in packets]
    assert {"from": {"type": "balance", "register": "goods", "dimensions": ["firm"]}} == {"from": asked["from"]}
    assert "dimensions" not in asked
    assert {"firm", "firm__pr", "qty"} == set(row)


def test_the_metadata_decides_the_spelling_of_receipts_else_the_sample() -> None:
    silent = {"resources": {"amount": {"valueType": "decimal (11:2)"}}}
    telling = {"resources": ["amount", "amountReceipt", "amountExpense"]}

    turnover, whole = SelectionType.TURNOVER, SelectionType.BALANCE_AND_TURNOVER
    assert [("amountReciept", "amountExpence"), ("amountReceipt", "amountExpense")] == metadata.sum_fields(
        silent, turnover
    )
    assert ("amountStart", "amountReceipt", "amountExpense", "amountFinal") == metadata.sum_fields(silent, whole)[0]
    assert [("amountReceipt", "amountExpense")] == metadata.sum_fields(telling, turnover)


def test_the_metadata_decides_the_dimensions_of_a_register(app: Starlette) -> None:
    recorder, packets = recording(app)
    with opened(recorder) as client:
        rows = client.ask(["turnover", "accumulationRegisters.saleIncomes", "2000-01-01", "2999-12-31"])

    assert rows
    assert {"firm", "person", "amountReciept", "amountExpence"} == set(packets[-1][1]["params"]["fields"])


def test_no_parameter_name_ends_in_a_blank(app: Starlette) -> None:
    recorder, packets = recording(app)
    with opened(recorder) as client:
        client.get_statistic("2023-06-07", "2023-06-08", partner_key="partner-key")

    expected = {
        "type": "partnersIntegrations",
        "dateFrom": "2023-06-07 00:00:00",
        "dateTo": "2023-06-08 23:59:59",
        "partnerAPIkey": "partner-key",
    }
    assert [expected] == [packet["params"] for _, packet in packets]


@pytest.mark.parametrize("declared", ["decimal (14:5)", "decimal(14:5)", {"type": "decimal", "length": "14:5"}])
def test_a_number_is_a_decimal_and_never_text(declared: Any) -> None:
    assert {"price": Kind.NUMBER} == metadata.register_shape({"resources": {"price": {"valueType": declared}}})[""]


def test_a_discount_is_a_decimal_and_no_link(client: Client, sandbox: dilovod_sandbox.Sandbox) -> None:
    (orders,) = [each for each in resources(made_options()) if each.name == "documents.saleOrder"]
    key = next(iter(sandbox.truth(orders.name)))

    assert Kind.NUMBER == client.shape(orders)[""]["discountPercent"]
    assert Decimal("0.000") == Decimal(client.get_object(key)["header"]["discountPercent"])


def test_the_packet_that_the_help_calls_a_response_is_the_webhook() -> None:
    sample = {"action": "objectChanged", "params": {"objectName": "documents.saleOrder", "id": "1109100000001038"}}

    assert ObjectRef("documents.saleOrder", "1109100000001038") == webhooks.read(sample, made_options())


def test_the_node_file_lists_its_webhooks_as_an_array() -> None:
    options = made_options(resources=["catalogs.goods", "documents.saleOrder"])

    written = node.node_file(options, "https://mirror.example.com")["webHookObjects"]

    assert ["catalogs.goods", "documents.saleOrder"] == written


def test_a_webhook_is_authenticated_by_its_address_and_optionally_a_secret() -> None:
    options = made_options(webhook_sources=["10.0.0.0/8", "192.0.2.7"], webhook_secret="s3cret")

    assert ["10.0.0.0/8", "192.0.2.7/32"] == [str(source) for source in options.webhook_sources]
    assert (
        "https://mirror.example.com/hooks/shop/s3cret"
        == node.node_file(options, "https://mirror.example.com")["webHookUrl"]
    )


def test_a_mark_is_sent_as_in_the_sample_and_not_as_in_the_text(app: Starlette) -> None:
    recorder, packets = recording(app)
    with opened(recorder) as client, suppress(RefusedError):
        client.send(ACTIONS["setDelMark"], {"id": "1109100000001001"})

    assert [{"header": {"id": "1109100000001001"}}] == [packet["params"] for _, packet in packets]


@pytest.mark.parametrize("placement", [{"autoPlacement": True}, [{"autoPlacement": True}]])
def test_a_placement_is_sent_as_in_the_text_and_not_as_in_the_sample(app: Starlette, placement: Any) -> None:
    recorder, packets = recording(app)
    with opened(recorder) as client, suppress(RefusedError):
        client.send(ACTIONS["saleOrderCreate"], {"header": {}, "goods": [], "placement": placement})

    assert [{"autoPlacement": True}] == [packet["params"]["arguments"]["placement"] for _, packet in packets]


def test_the_discount_of_an_order_is_a_number_and_no_contact() -> None:
    check = ACTIONS["saleOrderCreate"].check
    rows = [{"good": "1100300000001001", "qty": 1}]

    assert [] == check({"header": {"discountPercent": 0}, "goods": rows})
    assert ["header.discountPercent"] == [
        each.path for each in check({"header": {"discountPercent": "1100100000001001"}, "goods": rows})
    ]
