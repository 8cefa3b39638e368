"""Wisedat's client beyond syncing: check, probe, ask, and reads from scripts."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import pytest
from starlette.responses import Response

from models.values import ObjectRef
from tests.workers.connectors.wisedat.conftest import intercepted, some_key
from workers.connectors.wisedat import table
from workers.connectors.wisedat.answers import DetailWithheldError, NotFoundError
from workers.errors import SetAside, VendorError

if TYPE_CHECKING:
    from starlette.requests import Request

    from tests.workers.connectors.wisedat.conftest import Server
    from workers.connectors.wisedat.client import Client


# Check, probe and ask.


def test_the_check_returns_the_company_and_the_servers_clock(server: Server, client: Client) -> None:
    result = client.check()
    assert "logged in to Wisedat; company Loja do Bairro, Lda" == result.summary
    assert server.clock.now == result.clock
    assert ["GET /status", "POST /authentication/login", "GET /company"] == server.sandbox.requests


@pytest.mark.parametrize("name", table.NAMES)
def test_each_resource_is_probed_with_one_request(server: Server, client: Client, name: str) -> None:
    client.read("taxes")
    server.sandbox.requests.clear()
    assert client.probe(server.resource(name)).startswith(str(len(server.sandbox.truth(name))))
    assert 1 == len(server.sandbox.requests)
    assert not table.ROWS[name].paged or "limit=1&page=1" in server.sandbox.requests[0]


@pytest.mark.parametrize(
    ("words", "request_line"),
    [
        (["products", "query=rose", "limit=5"], "GET /products?query=rose&limit=5"),
        (["orders", "id=ECL 2026/1"], "GET /orders?id=ECL+2026%2F1"),
        (["orders", "your_reference=a=b"], "GET /orders?your_reference=a%3Db"),
        (["products", "name=Azeite"], "GET /products?name=Azeite"),
        (["company"], "GET /company"),
        (["status"], "GET /status"),
        (["customeraddresses", "customer=201", "type=Empresa"], "GET /customeraddresses?customer=201&type=Empresa"),
    ],
)
def test_ask_makes_one_request_in_the_vendors_terms(
    server: Server, client: Client, words: list[str], request_line: str
) -> None:
    client.read("taxes")
    server.sandbox.requests.clear()
    client.ask(words)
    assert [request_line] == server.sandbox.requests


@pytest.mark.parametrize("words", [[], ["invoices"], ["products", "rose"], ["authentication/login"], ["../status"]])
def test_ask_explains_itself_with_an_example(client: Client, words: list[str]) -> None:
    with pytest.raises(SetAside, match="for example: products query=rose limit=5"):
        client.ask(words)


def test_an_undocumented_parameter_is_refused_because_the_vendor_would_ignore_it(
    server: Server, client: Client
) -> None:
    with pytest.raises(SetAside, match="taxes accepts id, but not limit"):
        client.ask(["taxes", "limit=1"])
    assert [] == server.sandbox.requests


def test_the_status_needs_no_login(server: Server, client: Client) -> None:
    assert 1 == client.status()["State"]
    assert ["GET /status"] == server.sandbox.requests


# Use from a script.


def test_values_are_sent_in_the_vendors_format(server: Server, client: Client) -> None:
    client.read("orders", closed=False, date=date(2026, 6, 1), series=2026, customer=None)
    client.read("products", modified_since=datetime(2026, 6, 1, 12, tzinfo=UTC), show_inactive=True)
    assert server.sandbox.requests[2:] == [
        "GET /orders?closed=false&date=2026-06-01&series=2026",
        "GET /products?modified_since=2026-06-01T12%3A00%3A00Z&show_inactive=true",
    ]


def test_every_yields_all_matching_objects_page_by_page(server: Server, client: Client) -> None:
    hidden = {key for key, raw in server.sandbox.truth("customers").items() if not raw["active"]}
    assert hidden
    shown = {str(raw["id"]) for raw in client.read_all("customers")}
    assert server.sandbox.truth("customers").keys() - hidden == shown
    assert server.sandbox.truth("customers").keys() == {
        str(raw["id"]) for raw in client.read_all("customers", show_inactive=True)
    }
    assert server.sandbox.truth("taxes").keys() == {raw["id"] for raw in client.read_all("taxes")}
    name = min(server.sandbox.truth("customers").values(), key=lambda raw: str(raw["name"]))["name"]
    assert name in {raw["name"] for raw in client.read_all("customers", name=name)}
    with pytest.raises(SetAside, match="Wisedat has no status to list"):
        list(client.read_all("status"))


def test_orders_can_be_filtered_by_closed(server: Server, client: Client) -> None:
    for closed in (False, True):
        expected = {key for key, raw in server.sandbox.truth("orders").items() if raw["closed"] is closed}
        assert expected == {raw["id"] for raw in client.read_all("orders", closed=closed)}


def test_a_read_raises_for_unknown_and_withheld_objects(server: Server, client: Client) -> None:
    key = some_key(server, "orders")
    server.sandbox.books.withheld.add(key)
    with pytest.raises(DetailWithheldError):
        client.read("orders", id=key)
    with pytest.raises(NotFoundError):
        client.read("orders", id="none")
    with pytest.raises(SetAside, match="Wisedat has no invoices"):
        client.read("invoices")


def test_addresses_can_be_filtered_by_type(server: Server, client: Client) -> None:
    (address,) = client.customer_addresses(some_key(server, "customers"), "Empresa")
    assert "Empresa" == address["type"]


def test_requests_are_made_one_at_a_time(server: Server, client: Client) -> None:
    for name in table.NAMES:
        server.read(client, name)
    assert 1 == server.sandbox.max_parallel


def test_a_key_that_changes_between_pages_costs_one_login(server: Server, client: Client) -> None:
    server.sandbox.between_pages.append(lambda _: server.sandbox.rotate())
    assert sorted(server.sandbox.truth("products")) == server.read(client, "products").keys
    assert 2 == server.sandbox.logins


def test_a_path_in_the_url_is_kept(server: Server) -> None:
    with server.opened(url=f"{server.url}/api/") as client, pytest.raises(VendorError):
        client.read("taxes")
    assert ["GET /api/status"] == server.sandbox.requests


def test_a_summary_that_cannot_be_read_has_its_detail_read_or_is_parked() -> None:
    page = (
        '{"pagination":{"limit":200,"page":1,"number_pages":1,"number_items":3},'
        '"products":[{"id":1,"name":"a"},{"id":2,"name":None},{"name":None}]}'
    )

    def intercept(request: Request) -> Response | None:
        return Response(page) if request.url.path == "/products" else None

    with intercepted(intercept) as (server, client):
        run = server.read(client, "products")
    assert ["1"] == run.keys
    assert [ObjectRef("products", "2")] == [ref for chunk in run.chunks for ref in chunk.refs]
    unreadable = [row for chunk in run.chunks for row in chunk.unreadable]
    assert ["the record is no JSON, and its key cannot be told"] == [row.reason for row in unreadable]
