"""Wisedat's client as the core uses it: fetches and listings."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import JSONResponse, Response

from models import exact
from models.values import Snapshot, Tombstone, Withheld
from tests.workers.connectors.wisedat.conftest import intercepted, some_key
from workers.connectors import contract
from workers.connectors.wisedat import sandbox_server, table
from workers.connectors.wisedat.answers import MaybeGoneError
from workers.errors import SetAside, TimedOutError, TooLargeError, TryLater, VendorError

if TYPE_CHECKING:
    from starlette.requests import Request

    from tests.workers.connectors.wisedat.conftest import Server
    from workers.connectors.wisedat.client import Client

DETAILED = [row.name for row in table.TABLE if row.detail]
PAGED = [row.name for row in table.TABLE if row.paged]
BARE = [row.name for row in table.TABLE if not row.paged]


# Fetch.


@pytest.mark.parametrize("name", PAGED)
def test_a_fetch_returns_the_whole_object(server: Server, client: Client, name: str) -> None:
    for key, truth in server.sandbox.truth(name).items():
        found = client.fetch(server.resource(name), key)
        assert isinstance(found, Snapshot)
        assert (key, exact.canonical(truth), None) == (found.key, exact.canonical(found.raw), found.listed)


@pytest.mark.parametrize("name", table.NAMES)
def test_an_unknown_key_is_a_tombstone(server: Server, client: Client, name: str) -> None:
    assert Tombstone("99999") == client.fetch(server.resource(name), "99999")


@pytest.mark.parametrize("key", ["ECL 2024/7", "a&b=c#d?e", "100% nº+1", "../company", "ç;ã"])
def test_an_orders_id_is_escaped_in_the_url(server: Server, client: Client, key: str) -> None:
    server.sandbox.books.new_order(id_=key)
    found = client.fetch(server.resource("orders"), key)
    assert isinstance(found, Snapshot)
    assert key == found.raw["id"]


def test_an_order_that_the_api_cannot_show_is_withheld_and_has_a_summary(server: Server, client: Client) -> None:
    key = some_key(server, "orders")
    server.sandbox.books.withheld.add(key)
    assert Withheld(key, {"detail_unavailable": True}) == client.fetch(server.resource("orders"), key)
    line = server.read(client, "orders").lines[key]
    assert line.summary is not None
    assert server.sandbox.truth("orders")[key] == line.summary | {"detail_unavailable": True}


def test_an_inactive_object_is_fetched_like_any_other(server: Server, client: Client) -> None:
    key = some_key(server, "customers")
    server.sandbox.books.change("customers", key, active=False)
    assert isinstance(client.fetch(server.resource("customers"), key), Snapshot)


def test_a_refused_id_is_set_aside_with_the_vendors_message(server: Server, client: Client) -> None:
    with pytest.raises(SetAside, match="HTTP 400 Parameter id must be numeric") as raised:
        client.fetch(server.resource("products"), "A1")
    assert not raised.value.whole_resource


def test_an_error_page_does_not_prove_that_an_object_was_deleted() -> None:
    page = Response("<html>404 - File or directory not found.</html>", 404, media_type="text/html")
    with intercepted(lambda asked: page if asked.url.path == "/products" else None) as (server, client):
        with pytest.raises(MaybeGoneError):
            client.fetch(server.resource("products"), "1")
        assert Tombstone("99999") == client.fetch(server.resource("orders"), "99999")


@pytest.mark.parametrize("key", ["1", "99999"])
def test_a_stray_error_page_is_followed_by_a_list_and_a_second_request(key: str) -> None:
    asked: list[str] = []

    def first_is_a_page(request: Request) -> Response | None:
        asked.append(path := request.url.path)
        return Response("<html>404</html>", 404) if path == "/products" and asked.count(path) == 1 else None

    with intercepted(first_is_a_page) as (server, client):
        found = client.fetch(server.resource("products"), key)
        assert isinstance(found, Snapshot if key in server.sandbox.truth("products") else Tombstone)
    assert ["/products"] * 3 == asked[-3:]


@pytest.mark.parametrize("answer", [{"id": 7}, [], {"pagination": {}, "products": []}, 42])
def test_an_answer_of_another_form_is_tried_later(answer: Any) -> None:
    another = JSONResponse(answer)
    with intercepted(lambda asked: another if asked.url.path == "/products" else None) as (server, client):
        resource = server.resource("products")
        with pytest.raises(TryLater, match="malformed"):
            client.fetch(resource, "5")


# Customers and their addresses.


def test_a_customer_has_all_addresses_in_addition_to_those_of_its_detail(server: Server, client: Client) -> None:
    customers = server.sandbox.books.tables["customers"]
    thing = max(customers, key=lambda customer: len(customer.addresses))
    found = client.fetch(server.resource("customers"), str(thing.data["id"]))
    assert isinstance(found, Snapshot)
    assert thing.addresses == found.raw["addresses"]
    assert thing.addresses[-1:] == found.raw["other_addresses"]


def test_a_customer_without_addresses_has_an_empty_list(server: Server, client: Client) -> None:
    key = some_key(server, "customers")
    server.sandbox.books.tables["customers"][0].addresses.clear()
    assert [] == client.customer_addresses(key)


def test_an_unknown_customer_has_no_addresses(client: Client) -> None:
    assert [] == client.customer_addresses(99999)


def test_only_customers_need_a_second_request(server: Server, client: Client) -> None:
    for name in DETAILED:
        client.fetch(server.resource(name), some_key(server, name))
    assert 1 == len(server.requests("GET /customeraddresses"))


# Listings.


@pytest.mark.parametrize("name", DETAILED)
def test_a_full_sync_lists_every_object_with_a_token(server: Server, client: Client, name: str) -> None:
    run = server.read(client, name)
    assert sorted(server.sandbox.truth(name)) == run.keys
    assert {} == run.objects
    assert (True, None) == (run.end.complete, run.end.warning)
    assert not any(line.changed for line in run.lines.values())
    again = server.read(client, name)
    assert {key: line.token for key, line in run.lines.items()} == {
        key: line.token for key, line in again.lines.items()
    }


@pytest.mark.parametrize("name", [*BARE, "categories"])
def test_resources_without_detail_are_listed_as_whole_objects(server: Server, client: Client, name: str) -> None:
    run = server.read(client, name)
    assert exact.canonical(server.sandbox.truth(name)) == exact.canonical(run.objects)
    assert {} == run.lines
    assert run.end.complete


@pytest.mark.parametrize("name", BARE)
def test_a_bare_list_is_one_request_whatever_the_cursor(server: Server, client: Client, name: str) -> None:
    cursor = server.read(client, name).end.cursor
    server.sandbox.requests.clear()
    assert server.sandbox.truth(name).keys() == server.read(client, name, cursor).objects.keys()
    assert [f"GET /{name}"] == server.sandbox.requests


def test_one_call_of_list_makes_one_request(server: Server, client: Client) -> None:
    client.read("taxes")
    server.sandbox.requests.clear()
    chunks = list(client.list(server.resource("products"), None))
    assert 1 == len(server.sandbox.requests)
    assert [True] == [chunk.end.more for chunk in chunks if chunk.end]
    assert chunks[-1].end is not None


def test_a_poll_lists_what_the_vendor_reports_as_changed_whatever_its_token(server: Server) -> None:
    key = some_key(server, "orders")
    with server.opened(details_every="3650d") as client:  # so long that no token changes because of its period
        full = server.read(client, "orders")
        server.clock.advance(hours=1)
        server.sandbox.books.change("orders", key, notes="só no detalhe")
        poll = server.read(client, "orders", full.end.cursor)
    assert [key] == poll.keys
    assert full.lines[key].token == poll.lines[key].token
    assert poll.lines[key].changed


def test_a_poll_lists_whole_objects_of_resources_without_detail(server: Server, client: Client) -> None:
    cursor = server.read(client, "categories").end.cursor
    server.clock.advance(hours=1)
    key = some_key(server, "categories")
    server.sandbox.books.change("categories", key, name="Outra")
    assert {key: "Outra"} == {
        name: raw["name"] for name, raw in server.read(client, "categories", cursor).objects.items()
    }


def test_the_token_changes_with_the_summary(server: Server, client: Client) -> None:
    before = server.read(client, "products").lines
    key = some_key(server, "products")
    thing = server.sandbox.books.find("products", key)
    assert thing is not None
    thing.data["current_stock"] += 1  # a stock that moves without the modification date
    after = server.read(client, "products").lines
    assert [key] == [each for each in after if after[each].token != before[each].token]


def test_every_detail_is_fetched_again_within_details_every(server: Server, client: Client) -> None:
    before = server.read(client, "customers").lines
    seen = set()
    for _ in range(7):
        server.clock.advance(days=1)
        after = server.read(client, "customers").lines
        seen |= {key for key in after if after[key].token != before[key].token}
    assert before.keys() == seen


def test_only_orders_have_summaries_in_their_lines(server: Server, client: Client) -> None:
    stored = {
        name for name in DETAILED if any(line.summary is not None for line in server.read(client, name).lines.values())
    }
    assert {"orders"} == stored


def test_listings_and_details_have_digests_instead_of_images(server: Server, client: Client) -> None:
    thing = next(thing for thing in server.sandbox.books.tables["products"] if thing.data["images"])
    found = client.fetch(server.resource("products"), str(thing.data["id"]))
    assert isinstance(found, Snapshot)
    assert {"sha256", "size"} == found.raw["images"][0].keys()
    assert thing.data["images"][0] not in exact.dumps(found.raw)
    page = client.read("products", limit=1)
    assert thing.data["images"][0] not in exact.dumps(page)


def test_images_are_kept_if_configured(server: Server) -> None:
    thing = next(thing for thing in server.sandbox.books.tables["products"] if thing.data["images"])
    with server.opened(images="keep") as client:
        found = client.fetch(server.resource("products", images="keep"), str(thing.data["id"]))
        assert isinstance(found, Snapshot)
        assert thing.data["images"] == found.raw["images"]
        stored = server.read(client, "products", images="keep").lines
    with server.opened() as client:
        hashed = server.read(client, "products").lines
    assert [] == [key for key in stored if stored[key].token == hashed[key].token]


def test_a_large_reply_comes_in_bounded_chunks() -> None:
    many = [{"id": f"U{number}", "description": "x"} for number in range(1200)]
    with intercepted(lambda asked: JSONResponse(many) if asked.url.path == "/units" else None) as (server, client):
        chunks = list(client.list(server.resource("units"), None))
    assert [500, 500, 200, 0] == [len(chunk.snapshots) for chunk in chunks]


def test_rows_without_an_id_share_a_reason_and_name_the_setting_that_tells_them_apart() -> None:
    sent = [*({"description": f"{number}"} for number in range(19)), {"id": "UN", "description": "x"}]
    with intercepted(lambda asked: JSONResponse(sent) if asked.url.path == "/units" else None) as (server, client):
        (first, last) = client.list(server.resource("units"), None)
        by_row = client.list(server.resource("units", keys={"units": "row"}), None)
        named = client.list(server.resource("units", keys={"units": ["description"]}), None)
        assert 20 == len({row.key for chunk in by_row for row in chunk.snapshots})
        assert {"x", *map(str, range(19))} == {row.key for chunk in named for row in chunk.snapshots}
    assert ["UN"] == [row.key for row in first.snapshots]
    assert {"an object of units without id"} == {row.reason for row in last.unreadable}
    assert all('keys.units = ["description"] or keys.units = "row"' in row.remedy for row in last.unreadable)


def test_a_company_without_an_id_is_not_deleted() -> None:
    odd = JSONResponse({"Message": "busy"})
    with intercepted(lambda asked: odd if asked.url.path == "/company" else None) as (server, client):
        resource = server.resource("company")
        with pytest.raises(TryLater, match="malformed"):
            client.fetch(resource, "LOJA")


def test_after_a_timeout_the_run_continues_with_smaller_pages(server: Server) -> None:
    server.sandbox.largest_page = None
    server.sandbox.slow = 30
    with server.opened(timeout="1s") as client:
        client.read("taxes")
        server.sandbox.faults.append(sandbox_server.Fault.SLOW)
        run = server.read(client, "products")
    assert ["200", "100"] == [asked.split("limit=")[1].split("&")[0] for asked in server.requests("GET /products")]
    assert sorted(server.sandbox.truth("products")) == run.keys


def test_a_timeout_of_the_smallest_page_is_tried_later(server: Server) -> None:
    server.sandbox.slow = 30
    with server.opened(timeout="1s", page_size=40) as client:
        client.read("taxes")
        server.sandbox.faults.append(sandbox_server.Fault.SLOW)
        with pytest.raises(TimedOutError):
            server.read(client, "products")


IMAGE = base64.b64encode(bytes(9000)).decode()
"""12,000 characters."""


def with_images(server: Server, *, largest: int) -> contract.ClientRuntime:
    """Give every product that image. Returns a runtime whose clients accept bodies of `largest` bytes."""
    server.sandbox.largest_page = None
    for thing in server.sandbox.books.tables["products"]:
        thing.data["images"] = [IMAGE]
    return replace(contract.standalone(), largest=largest)


def test_after_a_page_that_is_too_large_the_run_continues_with_smaller_ones(server: Server) -> None:
    with server.opened(with_images(server, largest=30_000), page_size=8) as client:
        run = server.read(client, "products")
    limits = [asked.split("limit=")[1].split("&")[0] for asked in server.requests("GET /products")]
    assert ["8", "4", *["2"] * 6] == limits
    assert sorted(server.sandbox.truth("products")) == run.keys
    assert run.end.complete


def test_a_poll_with_smaller_pages_still_filters_by_modification_time(server: Server) -> None:
    runtime = with_images(server, largest=30_000)
    with server.opened(runtime, page_size=2) as client:
        cursor = server.read(client, "products").end.cursor
    for thing in server.sandbox.books.tables["products"][:4]:
        server.sandbox.books.touch(thing, notes="changed")
    server.sandbox.requests.clear()
    with server.opened(runtime, page_size=8) as client:
        run = server.read(client, "products", cursor)
    assert all("modified_since=" in asked for asked in server.requests("GET /products"))
    assert [thing.data["id"] for thing in server.sandbox.books.tables["products"][:4]] == list(map(int, run.keys))


def test_a_single_object_that_is_too_large_sets_its_resource_aside_with_a_remedy(server: Server) -> None:
    with server.opened(with_images(server, largest=10_000), page_size=3) as client:
        with pytest.raises(SetAside, match=r"larger than .* MiB with a `page_size` of 1: .*`images`") as raised:
            server.read(client, "products")
        assert type(raised.value) is SetAside
        with pytest.raises(TooLargeError):
            client.fetch(server.resource("products"), some_key(server, "products"))


FAULTS = [
    (sandbox_server.Fault.HTML, TryLater),
    (sandbox_server.Fault.HALF, TryLater),
    (sandbox_server.Fault.EMPTY, TryLater),
    (sandbox_server.Fault.BUSY, TryLater),
    (sandbox_server.Fault.BROKEN, TryLater),
    (sandbox_server.Fault.SCALAR, TryLater),
]


@pytest.mark.parametrize(("fault", "expected"), FAULTS)
def test_a_faulty_answer_raises_a_vendor_error(
    server: Server, client: Client, fault: sandbox_server.Fault, expected: type[VendorError]
) -> None:
    client.read("taxes")
    for name in ("products", "taxes", "company"):
        server.sandbox.faults.append(fault)
        with pytest.raises(expected):
            list(client.list(server.resource(name), None))
    server.sandbox.faults.append(fault)
    with pytest.raises(expected):
        client.fetch(server.resource("products"), some_key(server, "products"))


def test_the_vendor_has_no_metadata(server: Server, client: Client) -> None:
    assert None is client.shape(server.resource("products"))
