"""Our decisions where Wisedat's document (API 1.3) contradicts itself or is incomplete, one test each."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse, Response

from models.values import Kind, Snapshot, Tombstone, Withheld
from tests.workers.connectors.wisedat.conftest import intercepted
from workers.connectors.wisedat import answers, auth, table
from workers.connectors.wisedat.client import PARAMETERS
from workers.errors import SetAside, TryLater, VendorError

if TYPE_CHECKING:
    from starlette.requests import Request

    from tests.workers.connectors.wisedat.conftest import Server
    from workers.connectors.wisedat.client import Client


def fetched(server: Server, client: Client, name: str, key: str) -> dict[str, Any]:
    found = client.fetch(server.resource(name), key)
    assert isinstance(found, Snapshot)
    return found.raw


@pytest.mark.parametrize("name", ["products", "categories", "customers"])
def test_reads_use_the_plural_although_writes_are_documented_in_the_singular(
    server: Server, client: Client, name: str
) -> None:
    client.fetch(server.resource(name), min(server.sandbox.truth(name)))
    server.read(client, name)
    assert {f"/{name}"} == {line.split()[1].partition("?")[0] for line in server.requests(f"GET /{name}")}
    assert [] == [line for line in server.sandbox.requests if "/product?" in line or "/category" in line]


def test_only_reads_are_made(server: Server, client: Client) -> None:
    for name in table.NAMES:
        server.read(client, name)
        client.fetch(server.resource(name), "1")
    assert {"POST /authentication/login"} == {line for line in server.sandbox.requests if not line.startswith("GET ")}


def test_parameters_are_a_plain_query_string_without_the_documents_braces(server: Server, client: Client) -> None:
    server.read(client, "products")
    assert "GET /products?limit=200&page=1&show_inactive=true" in server.sandbox.requests


@pytest.mark.parametrize("wrapper", ["suppliers", "salesmen", "fornecedores"])
def test_the_list_of_suppliers_may_be_named_suppliers_salesmen_or_anything(
    server: Server, client: Client, wrapper: str
) -> None:
    server.sandbox.suppliers_under = wrapper
    assert sorted(server.sandbox.truth("suppliers")) == server.read(client, "suppliers").keys


def test_a_list_named_suppliers_takes_precedence_over_salesmen() -> None:
    pagination = {"limit": 1, "page": 1, "number_pages": 1, "number_items": 1}
    both = {"pagination": pagination, "salesmen": [{"id": 1}], "suppliers": [{"id": 2}]}
    assert [{"id": 2}] == answers.parse_page(table.ROWS["suppliers"], both).rows
    with pytest.raises(TryLater):
        answers.parse_page(table.ROWS["suppliers"], {"pagination": pagination, "one": [], "two": []})


@pytest.mark.parametrize("name", ["suppliers", "salesmen", "units"])
def test_http_statuses_mean_the_same_where_the_documents_headings_are_shifted(
    server: Server, client: Client, name: str
) -> None:
    assert Tombstone("99999") == client.fetch(server.resource(name), "99999")
    server.sandbox.expire()
    assert fetched(server, client, name, min(server.sandbox.truth(name)))
    assert 2 == server.sandbox.logins
    if name != "units":
        with pytest.raises(SetAside, match="HTTP 400"):
            client.fetch(server.resource(name), "A")


@pytest.mark.parametrize("name", ["suppliers", "products", "customers", "units"])
def test_a_409_means_an_order_that_the_api_cannot_show_and_nothing_else(name: str) -> None:
    conflict = Response("Conflict", 409)
    with intercepted(lambda asked: conflict if asked.url.path in {f"/{name}", "/orders"} else None) as (server, client):
        assert Withheld("ECL 2026/1", {"detail_unavailable": True}) == client.fetch(
            server.resource("orders"), "ECL 2026/1"
        )
        resource = server.resource(name)
        with pytest.raises(VendorError, match="HTTP 409"):
            client.fetch(resource, "1")


@pytest.mark.parametrize("name", ["customers", "salesmen", "suppliers"])
def test_the_parameter_that_is_documented_as_a_second_name_is_code(server: Server, client: Client, name: str) -> None:
    truth = min(server.sandbox.truth(name).values(), key=lambda raw: str(raw["code"]))
    (found,) = client.read_all(name, code=truth["code"], show_inactive=True)
    assert truth["code"] == found["code"]


def test_an_order_id_is_text_although_400_is_documented_for_ids_that_are_not_numeric(
    server: Server, client: Client
) -> None:
    key = min(server.sandbox.truth("orders"))
    assert not key.isdecimal()
    assert key == fetched(server, client, "orders", key)["id"]
    assert Kind.TEXT == server.resource("orders").shape[""]["id"]


def test_the_name_of_an_order_items_product_is_text_although_documented_as_int(server: Server, client: Client) -> None:
    raw = fetched(server, client, "orders", min(server.sandbox.truth("orders")))
    names = [item["product"]["name"] for item in raw["items"] if item.get("product")]
    assert names
    assert {str} == {type(name) for name in names}
    assert Kind.TEXT == server.resource("orders").shape["items"]["product.name"]


def test_a_location_may_be_in_another_country_than_the_documents_sample(server: Server, client: Client) -> None:
    key = min(server.sandbox.truth("orders"))
    thing = server.sandbox.books.find("orders", key)
    assert thing is not None
    thing.data["loading_location"]["country"] = {"iso_3166_1": "ES", "name": "Espanha"}
    raw = fetched(server, client, "orders", key)
    assert {"iso_3166_1": "ES", "name": "Espanha"} == raw["loading_location"]["country"]


def test_a_unit_and_a_currency_are_objects_although_the_document_lacks_a_brace(server: Server, client: Client) -> None:
    (product, *_) = client.read("products")["products"]
    assert {"id", "description"} == product["unit"].keys()
    assert {"currency.id", "alt_currency.id"} <= server.resource("company").shape[""].keys()


def test_a_customers_payment_method_has_id_and_description_as_in_orders(server: Server, client: Client) -> None:
    raw = fetched(server, client, "customers", min(server.sandbox.truth("customers")))
    assert {"id", "description"} == raw["payment_method"].keys()
    declared = server.resource("customers").shape[""]
    assert {Kind.TEXT} == {declared["payment_method.id"], declared["payment_method.description"]}


@pytest.mark.parametrize("name", ["suppliers", "series"])
@pytest.mark.parametrize("sent", [31, "31"])
def test_a_key_is_text_whether_the_id_is_a_number_or_text(name: str, sent: object) -> None:
    detail = JSONResponse({"id": sent, "description": "x"})
    with intercepted(lambda asked: detail if asked.url.path == f"/{name}" else None) as (server, client):
        found = client.fetch(server.resource(name), "31")
    assert isinstance(found, Snapshot)
    assert ("31", sent) == (found.key, found.raw["id"])


def test_units_are_read_at_units_although_the_document_copied_taxes(server: Server, client: Client) -> None:
    client.read("taxes")
    server.sandbox.requests.clear()
    assert sorted(server.sandbox.truth("units")) == server.read(client, "units").keys
    assert ["GET /units"] == server.sandbox.requests


def test_the_list_of_taxes_is_requested_without_the_id_of_its_usage_line(server: Server, client: Client) -> None:
    server.read(client, "taxes")
    assert ["GET /taxes"] == server.requests("GET /taxes")


@pytest.mark.parametrize("wrapped", [False, True])
def test_addresses_are_requested_by_customer_and_type_and_may_be_wrapped(
    server: Server,
    client: Client,
    wrapped: bool,  # noqa: FBT001
) -> None:
    server.sandbox.addresses_wrapped = wrapped
    key = min(server.sandbox.truth("customers"))
    assert server.sandbox.truth("customers")[key]["addresses"] == client.customer_addresses(key)
    client.customer_addresses(key, "Entrega")
    assert [f"GET /customeraddresses?customer={key}", f"GET /customeraddresses?customer={key}&type=Entrega"] == (
        server.requests("GET /customeraddresses")
    )


def test_the_addresses_of_the_second_request_are_separate_from_those_of_the_detail(
    server: Server,
) -> None:
    shape = server.resource("customers").shape
    assert {"addresses", "other_addresses"} <= shape.keys()
    assert {"billing_address.street", "shipping_address.street"} <= shape[""].keys()


def test_a_birthday_is_a_date_without_time_zone(server: Server, client: Client) -> None:
    thing = next(thing for thing in server.sandbox.books.tables["customers"] if thing.data["birthday"])
    raw = fetched(server, client, "customers", str(thing.data["id"]))
    assert "1974-04-25" == raw["birthday"]
    assert Kind.DATE == server.resource("customers").shape[""]["birthday"]
    orders = server.resource("orders").shape[""]
    assert {Kind.DATE} == {orders["date"], orders["expiration_date"]}


def test_modified_since_is_a_date_with_its_time_in_utc(server: Server, client: Client) -> None:
    cursor = server.read(client, "orders").end.cursor
    server.read(client, "orders", cursor)
    (asked,) = server.requests("GET /orders?limit=200&page=1&modified_since=")
    sent = asked.rpartition("=")[2].replace("%3A", ":")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", sent)


@pytest.mark.parametrize("as_list", [False, True])
def test_the_public_key_is_an_object_or_the_list_of_the_document(
    server: Server,
    client: Client,
    as_list: bool,  # noqa: FBT001
) -> None:
    server.sandbox.key_as_list = as_list
    assert isinstance(client.status()["PublicKey"], list if as_list else dict)
    assert 1024 == auth.public_key(client.status()).key_size
    assert client.read("taxes")


def test_a_400_for_a_missing_header_is_set_aside() -> None:
    missing = Response("400 Bad Request - No Authorization property on the request header", 400)
    asked: list[str] = []

    def refusing(request: Request) -> Response:
        asked.append(request.url.path)
        return missing

    with intercepted(refusing) as (_, client), pytest.raises(SetAside, match="No Authorization property"):
        client.read("taxes")
    assert ["/status"] == asked


def test_the_login_is_sent_without_the_documents_braces(server: Server, client: Client) -> None:
    # The sandbox accepts the login only without braces.
    assert client.read("taxes")
    assert 1 == server.sandbox.logins


def test_a_status_of_200_may_still_be_a_refusal(server: Server, client: Client) -> None:
    server.sandbox.state = 3
    with pytest.raises(SetAside, match="State 3"):
        client.read("taxes")


def test_every_documented_read_is_a_resource_or_can_be_asked_for() -> None:
    assert {*table.NAMES, "status", "customeraddresses"} == PARAMETERS.keys()


def test_lists_are_requested_with_inactive_objects(server: Server, client: Client) -> None:
    for name in ("products", "customers", "salesmen", "suppliers"):
        key = min(server.sandbox.truth(name))
        server.sandbox.books.change(name, key, active=False)
        assert key in server.read(client, name).keys
    assert [] == [
        line for line in server.requests("GET /orders") + server.requests("GET /categories") if "inactive" in line
    ]
