"""Sends writes to the sandbox over HTTP: each is executed once, and its outcome is what the answer proves."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import Response

from models import exact
from models.values import ObjectRef
from tests.workers.connectors.wisedat.commanding import ALL, action, changed
from tests.workers.connectors.wisedat.conftest import SharedSessions, intercepted, serving
from workers.connectors.commands import GONE, GoneType, Sent
from workers.connectors.wisedat.sandbox_server import Fault
from workers.connectors.wisedat.sandbox_writes import WriteFault
from workers.errors import BusyError, RefusedError, SetAside, TimedOutError, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request

    from models.values import JsonObject
    from tests.workers.connectors.wisedat.conftest import Server
    from workers.connectors.wisedat.client import Client

UPDATES = [resource for verb, resource in ALL if verb == "update"]


def send(client: Client, write: str, arguments: JsonObject | None = None) -> Sent:
    verb, resource = write.split()
    each = action(verb, resource)
    return client.send(each, each.example if arguments is None else arguments)


def refusal(client: Client, write: str, arguments: JsonObject | None = None) -> VendorError:
    with pytest.raises(VendorError) as raised:
        send(client, write, arguments)
    return raised.value


def visible(verb: str, resource: str) -> JsonObject:
    """The example without what reads do not show."""
    return {name: value for name, value in action(verb, resource).example.items() if name != "warehouse"}


def executed(server: Server) -> list[str]:
    return [f"{each.method} {each.path} {each.id}" for each in server.sandbox.writes if each.executed]


def arrived(server: Server) -> list[str]:
    return [f"{each.method} {each.path}" for each in server.sandbox.writes]


def deletion_of(resource: str, ref: ObjectRef | None) -> JsonObject:
    """The arguments that delete this object, or the example's address."""
    deletion = action("delete", resource)
    if resource == "customeraddresses":
        return deletion.example
    assert ref is not None
    is_number = deletion.schema["properties"]["id"]["type"] == "integer"
    return {"id": int(ref.key) if is_number else ref.key}


# Done.


@pytest.mark.parametrize("spelling", ["documented", "plural"])
def test_each_example_is_executed_once_and_names_its_object(spelling: str) -> None:
    created: dict[str, ObjectRef | None] = {}
    with serving(spelling=spelling) as server, server.opened() as client:
        for verb, resource in sorted(ALL, key=lambda each: ("create", "update", "delete").index(each[0])):
            each = action(verb, resource)
            arguments = deletion_of(resource, created[resource]) if verb == "delete" else each.example
            before = executed(server)
            sent = client.send(each, arguments)
            assert 1 == len(executed(server)) - len(before), (verb, resource)
            assert sent.ref is not None
            created.setdefault(resource, sent.ref)
            assert each.subject(arguments) in {None, sent.ref}
            is_there = verb != "delete" or resource == "customeraddresses"
            assert is_there == (sent.ref.key in server.sandbox.truth(sent.ref.resource)), (verb, resource)
        expected = {"documented": 33, "plural": 33 + 6}[spelling]
        assert expected == len(arrived(server))


def test_the_documented_addresses_are_used_where_the_server_knows_them(server: Server, client: Client) -> None:
    for write in ("create categories", "update products", "update customers", "update units"):
        send(client, write)
    assert ["POST category", "PUT product", "PUT customer", "PUT units"] == arrived(server)


def test_a_new_object_is_found_by_the_id_that_the_answer_names(server: Server, client: Client) -> None:
    assert Sent({"id": 113}, ObjectRef("products", "113")) == send(client, "create products")
    assert "AZEITE075" == server.sandbox.truth("products")["113"]["name"]
    assert ObjectRef("orders", "ECL 2026/13") == send(client, "create orders").ref
    assert ObjectRef("taxes", "M9") == send(client, "create taxes").ref


def test_an_address_is_written_into_its_customer(server: Server, client: Client) -> None:
    assert Sent(None, ObjectRef("customers", "201")) == send(client, "create customeraddresses")
    kinds = [address["type"] for address in server.sandbox.truth("customers")["201"]["addresses"]]
    assert "Armazém" in kinds


def test_a_resource_with_other_keys_gets_none(server: Server) -> None:
    with server.opened(keys={"series": "row"}) as client:
        assert ObjectRef("series", "") == send(client, "create series").ref
        assert ObjectRef("series", "") == send(client, "update series").ref
        assert [""] == client.find(action("create", "series"), {"id": "2027"}, ("id",))


def test_numbers_are_sent_digit_by_digit(server: Server, client: Client) -> None:
    price = exact.loads("1234567890123.123456789")
    send(client, "update products", {"id": 101, "price": price})
    assert price == server.sandbox.truth("products")["101"]["price"]


def test_an_id_with_any_character_is_sent_as_it_is(server: Server, client: Client) -> None:
    order = server.sandbox.books.new_order(id_="ECL 2026/A&B 50% nº+#/0999 ")
    send(client, "delete orders", {"id": order.data["id"]})
    assert order.data["id"] not in server.sandbox.truth("orders")


# What is expected after an update, and what is shown.


@pytest.mark.parametrize("resource", UPDATES)
def test_an_update_is_told_from_one_that_did_not_arrive(client: Client, resource: str) -> None:
    update, arguments = action("update", resource), visible("update", resource)
    assert update.expected is not None

    def shown() -> JsonObject:
        found = client.read_back(update, arguments)
        assert isinstance(found, dict)
        assert update.shown is not None
        return update.shown(arguments, found)

    assert update.expected(arguments) != shown()
    client.send(update, arguments)
    assert update.expected(arguments) == shown()


@pytest.mark.parametrize("resource", UPDATES)
def test_after_an_update_of_one_field_it_is_as_expected(server: Server, client: Client, resource: str) -> None:
    update = action("update", resource)
    keys = update.schema["required"]
    context = {"main_supplier": ["suppliers"], "type": ["value", "exemption_reason"], "value": ["type"]}
    fields = [name for name in visible("update", resource) if name not in keys]
    for name in fields:
        wanted = [*keys, name, *(context.get(name, []) if resource in {"products", "taxes"} else [])]
        arguments = {each: update.example[each] for each in wanted if each in update.example}
        client.send(update, arguments)
        found = client.read_back(update, arguments)
        assert isinstance(found, dict)
        assert update.expected is not None
        assert update.shown is not None
        assert update.expected(arguments) == update.shown(arguments, found), name
    assert len(fields) == len(executed(server))


def test_a_deletion_is_read_back_as_gone(client: Client) -> None:
    for resource in ("products", "customers", "orders", "taxes", "warehouses"):
        arguments = deletion_of(resource, send(client, f"create {resource}").ref)
        deletion = action("delete", resource)
        assert not isinstance(client.read_back(deletion, arguments), GoneType)
        client.send(deletion, arguments)
        assert GONE is client.read_back(deletion, arguments)


def test_a_closed_order_is_canceled_and_counts_as_deleted(server: Server, client: Client) -> None:
    order = server.sandbox.books.new_order(closed=True)
    arguments = {"id": order.data["id"]}
    assert not isinstance(client.read_back(action("delete", "orders"), arguments), GoneType)
    sent = client.send(action("delete", "orders"), arguments)
    assert ObjectRef("orders", order.data["id"]) == sent.ref
    assert server.sandbox.truth("orders")[order.data["id"]]["canceled"]
    assert GONE is client.read_back(action("delete", "orders"), arguments)
    assert not isinstance(client.read_back(action("update", "orders"), arguments), GoneType)


@pytest.mark.parametrize("resource", UPDATES)
def test_what_is_read_back_has_the_form_of_the_mirror(server: Server, client: Client, resource: str) -> None:
    update = action("update", resource)
    subject = update.subject(update.example)
    assert subject is not None
    assert server.sandbox.truth(subject.resource)[subject.key] == client.read_back(update, update.example)


def test_an_order_that_the_api_cannot_show_is_read_back_as_such(server: Server, client: Client) -> None:
    server.sandbox.books.withheld.add("ECL 2026/2")
    assert {"detail_unavailable": True} == client.read_back(action("update", "orders"), {"id": "ECL 2026/2"})


def test_a_write_changes_no_other_object(client: Client) -> None:
    for verb, resource in ALL:
        each = action(verb, resource)
        assert not each.may_change_others
        assert [] == list(client.also_changes(each, each.example))


# Finding what may have been created.


@pytest.mark.parametrize(
    ("resource", "name"),
    [
        ("products", "name"),
        ("products", "barcode"),
        ("customers", "code"),
        ("salesmen", "code"),
        ("suppliers", "code"),
        ("orders", "your_reference"),
        ("taxes", "id"),
        ("units", "id"),
        ("series", "id"),
        ("warehouses", "code"),
    ],
)
def test_a_new_object_is_found_by_its_unique_field(client: Client, resource: str, name: str) -> None:
    creation = action("create", resource)
    assert creation.unique[resource][name].path == (name,)
    assert [] == client.find(creation, creation.example, (name,))
    sent = client.send(creation, creation.example)
    assert sent.ref is not None
    assert [sent.ref.key] == client.find(creation, creation.example, (name,))
    assert [] == client.find(creation, changed(creation.example, name, "another"), (name,))
    assert [] == client.find(creation, {}, (name,))


def test_an_inactive_object_is_found_and_one_that_only_contains_the_value_is_not(
    server: Server, client: Client
) -> None:
    creation = action("create", "products")
    client.send(creation, creation.example)
    client.send(creation, {**creation.example, "name": "AZEITE0751", "barcode": ""})
    server.sandbox.books.change("products", "113", active=False)
    assert ["113"] == client.find(creation, creation.example, ("name",))
    assert ["113"] == client.find(creation, {"name": "azeite075"}, ("name",))


def test_an_order_is_found_by_the_token_alone(client: Client) -> None:
    creation = action("create", "orders")
    token = "EMABCDEFGHIJKLMNOP"
    sent = client.send(creation, {**creation.example, "your_reference": f"PO 4711 {token}"})
    client.send(creation, {**creation.example, "your_reference": f"PO 4711 {token}Q"})
    assert sent.ref is not None
    assert [sent.ref.key] == client.find(
        creation, {**creation.example, "your_reference": f"PO\t4711\n {token.lower()} "}, ("your_reference",)
    )


def test_a_server_that_ignores_the_filter_is_not_asked_for_every_order() -> None:
    with serving(objects=60) as server, server.opened() as client:
        for order in server.sandbox.books.tables["orders"]:
            order.data["your_reference"] = "the filter of the sandbox finds EM"
        creation = action("create", "orders")
        with pytest.raises(SetAside, match="ignores the filter"):
            client.find(creation, {"your_reference": "EM"}, ("your_reference",))


def test_two_orders_with_the_same_reference_are_both_found(client: Client) -> None:
    creation = action("create", "orders")
    keys = [client.send(creation, creation.example).ref, client.send(creation, creation.example).ref]
    client.send(creation, {**creation.example, "your_reference": "PO 47112"})
    assert keys == [ObjectRef("orders", key) for key in client.find(creation, creation.example, ("your_reference",))]


def test_an_order_that_the_api_cannot_show_is_found_by_the_vendors_filter(server: Server, client: Client) -> None:
    creation = action("create", "orders")
    sent = client.send(creation, creation.example)
    assert sent.ref is not None
    server.sandbox.books.withheld.add(sent.ref.key)
    assert [sent.ref.key] == client.find(creation, creation.example, ("your_reference",))


# What the answer proves.


def is_write(request: Request) -> bool:
    return request.method != "GET" and not request.url.path.endswith("/login")


@contextmanager
def answering(
    status: int, body: str = "", *, media_type: str = "application/json", **headers: str
) -> Iterator[tuple[Server, Client]]:
    """A client whose writes are all answered like this, and executed by nobody."""

    def intercept(request: Request) -> Response | None:
        return Response(body, status, headers=headers, media_type=media_type) if is_write(request) else None

    with intercepted(intercept) as opened:
        yield opened


@pytest.mark.parametrize(
    ("write", "status", "body", "key"),
    [
        ("create products", 201, '{"id": 113}', "113"),
        ("create products", 200, '{"id": 113}', "113"),
        ("create products", 201, '{"ID": "113"}', "113"),
        ("create products", 201, "113", "113"),
        ("create products", 201, '"113"', "113"),
        ("create products", 201, ' {"id": 113.0}\n', "113"),
        ("create orders", 201, '{"id": "ECL 2026/13"}', "ECL 2026/13"),
        ("create orders", 201, '"ECL 2026/13"', "ECL 2026/13"),
        ("create series", 201, '{"id": 7}', "2027"),
        ("create series", 201, "", "2027"),
        ("create taxes", 204, "", "M9"),
        ("create customeraddresses", 201, "", "201"),
        ("create customeraddresses", 201, '{"id": 201}', "201"),
        ("update products", 200, "", "101"),
        ("update products", 204, "", "101"),
        ("update products", 200, "null", "101"),
        ("update products", 200, "true", "101"),
        ("update products", 200, "{}", "101"),
        ("update products", 200, '{"id": "101"}', "101"),
        ("update products", 200, "101", "101"),
        ("delete orders", 200, "", "ECL 2026/2"),
        ("delete customeraddresses", 200, '{"customer": 201}', "201"),
    ],
)
def test_an_answer_that_proves_the_write(write: str, status: int, body: str, key: str) -> None:
    with answering(status, body) as (_, client):
        sent = send(client, write)
    assert sent.ref is not None
    assert key == sent.ref.key


@pytest.mark.parametrize(("status", "body"), [(201, ""), (204, ""), (201, "null"), (201, "{}"), (201, "true")])
def test_a_creation_that_was_done_may_leave_the_id_open(status: int, body: str) -> None:
    with answering(status, body) as (_, client):
        assert send(client, "create products").ref is None


@pytest.mark.parametrize(
    ("write", "status", "body"),
    [
        ("create products", 200, ""),
        ("create products", 201, '{"id": 113'),
        ("create products", 201, '{"id": 113}{"id": 113}'),
        ("create products", 201, '{"id": 0}'),
        ("create products", 201, '{"id": "new"}'),
        ("create products", 201, "[113]"),
        ("create products", 201, '{"product": 113}'),
        ("create products", 201, "<html>Em manutenção</html>"),
        ("create products", 200, "Em manutenção"),
        ("create products", 200, '{"errors": ["Barcode must be unique"]}'),
        ("create products", 202, '{"id": 113}'),
        ("create orders", 201, '{"id": null}'),
        ("update products", 200, "<html>Em manutenção</html>"),
        ("update products", 200, "false"),
        ("update products", 200, '{"id": 102}'),
        ("update products", 200, "102"),
        ("update products", 200, '{"errors": ["The unit is unknown"]}'),
        ("update products", 202, ""),
        ("delete orders", 206, ""),
        ("update products", 302, ""),
        ("update products", 400, '{"message": "upstream request timeout"}'),
        ("update products", 408, "<html>Request Timeout</html>"),
        ("update products", 500, "An error has occurred."),
        ("update products", 503, ""),
        ("create products", 502, "<html>Bad Gateway</html>"),
    ],
)
def test_an_answer_that_proves_nothing_leaves_it_open(write: str, status: int, body: str) -> None:
    with answering(status, body) as (_, client):
        error = refusal(client, write)
    assert isinstance(error, TryLater)
    assert not error.refused


@pytest.mark.parametrize("status", [400, 404, 409, 403, 422])
def test_a_list_of_errors_refuses_the_write_with_all_of_them(status: int) -> None:
    errors = [f"Item {number}: the price must be higher than 0" for number in range(60)]
    with answering(status, exact.dumps({"errors": errors})) as (server, client):
        error = refusal(client, "update products")
        assert 1 == len(server.sandbox.writes) or not server.sandbox.writes
    assert isinstance(error, RefusedError)
    assert str(error).startswith(f"HTTP {status} Item 0: ")
    assert all(each in str(error) for each in errors)
    assert (status == 403) == error.whole_resource


def test_dotnets_errors_by_field_refuse_the_write() -> None:
    with answering(400, '{"title": "Bad", "errors": {"Price": ["not a number", "mandatory"]}}') as (_, client):
        error = refusal(client, "update products")
    assert isinstance(error, RefusedError)
    assert "HTTP 400 Price: not a number; Price: mandatory" == str(error)


def test_a_sentence_of_the_vendor_refuses_the_write() -> None:
    with answering(400, "Parameter id is mandatory and must be numeric", media_type="text/plain") as (_, client):
        assert isinstance(refusal(client, "delete products"), RefusedError)


def test_endless_errors_are_cut() -> None:
    with answering(400, exact.dumps({"errors": ["x" * 100_000]})) as (_, client):
        assert 5000 > len(str(refusal(client, "update products")))


def test_an_error_that_repeats_the_login_hides_it() -> None:
    with answering(400, '{"errors": ["login sandbox-password refused for sandbox-key"]}') as (_, client):
        assert "HTTP 400 login *** refused for ***" == str(refusal(client, "update products"))


def test_an_object_that_is_being_edited_is_tried_again_alone() -> None:
    with answering(409, "The order was edited by another application", media_type="text/plain") as (_, client):
        error = refusal(client, "update orders")
    assert isinstance(error, TryLater)
    assert (True, False) == (error.refused, error.closes_gate)


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (400, "<html>Bad Request</html>", {}),
        (403, "<html>Blocked by the firewall</html>", {}),
        (409, "<html>Conflict</html>", {}),
        (413, "", {}),
        (429, "busy", {"Retry-After": "7"}),
        (302, "", {"Location": "https://portal.example/login"}),
        (307, "", {"Location": "http://127.0.0.1:9/product"}),
        (304, "", {}),
    ],
)
def test_what_stands_between_did_not_pass_the_write_on(status: int, body: str, headers: dict[str, str]) -> None:
    with answering(status, body, **headers) as (_, client):
        error = refusal(client, "update products")
    assert isinstance(error, TryLater)
    assert error.refused
    assert (timedelta(seconds=7) if status == 429 else None) == error.after


# Two spellings of an address.


def answering_path(path: str, status: int, body: str) -> Callable[[Request], Response | None]:
    def intercept(request: Request) -> Response | None:
        return Response(body, status) if is_write(request) and request.url.path == f"/{path}" else None

    return intercept


UNKNOWN = [
    (404, ""),
    (404, "Not Found"),
    (404, "<html><h2>HTTP Error 404. The requested resource is not found.</h2></html>"),
    (404, '{"Message": "No HTTP resource was found that matches the request URI"}'),
    (405, '{"Message": "The requested resource does not support http method \'PUT\'."}'),
]


@pytest.mark.parametrize(("status", "body"), UNKNOWN)
@pytest.mark.parametrize(
    ("write", "path"),
    [
        ("update products", "product"),
        ("create categories", "category"),
        ("delete categories", "category"),
        ("update customers", "customer"),
    ],
)
def test_an_unknown_address_is_followed_by_the_plural_one(write: str, path: str, status: int, body: str) -> None:
    with intercepted(answering_path(path, status, body)) as (server, client):
        server.sandbox.spelling = "plural"
        send(client, write)
        assert [(write.split()[1], True)] == [(each.path, each.executed) for each in server.sandbox.writes]


def test_the_spelling_is_remembered() -> None:
    with serving(spelling="plural") as server, server.opened() as client:
        for _ in range(3):
            send(client, "update products")
        send(client, "create categories")
        assert [
            "PUT product",
            "PUT products",
            "PUT products",
            "PUT products",
            "POST category",
            "POST categories",
        ] == arrived(server)
        with server.opened() as another:
            send(another, "update products")
        assert ["PUT product", "PUT products"] == arrived(server)[-2:]


@pytest.mark.parametrize(("status", "body"), [each for each in UNKNOWN if each[0] == 404])
def test_a_404_about_the_object_refuses_the_write_without_a_second_one(status: int, body: str) -> None:
    with intercepted(answering_path("product", status, body)) as (server, client):
        error = refusal(client, "update products", {"id": 999, "price": 1})
        assert isinstance(error, RefusedError)
        assert "it does not exist" in str(error)
        assert [] == server.sandbox.writes


def test_an_object_that_does_not_exist_is_refused_in_the_vendors_words(server: Server, client: Client) -> None:
    error = refusal(client, "update products", {"id": 999, "price": 1})
    assert isinstance(error, RefusedError)
    assert "HTTP 404 The object of products indicated by the id does not exist" == str(error)
    assert ["PUT product"] == arrived(server)


def test_a_missing_type_of_address_is_refused() -> None:
    with answering(404, "Not Found") as (_, client):
        missing = refusal(client, "update customeraddresses", {"customer": 201, "type": "Obra", "street": "Rua A"})
        no_customer = refusal(client, "create customeraddresses", {"customer": 999, "type": "Obra", "street": "Rua A"})
    assert isinstance(missing, RefusedError)
    assert isinstance(no_customer, RefusedError)
    assert "it does not exist" in str(missing)
    assert "it does not exist" in str(no_customer)


def test_where_no_spelling_is_known_the_write_is_refused() -> None:
    with answering(404, "Not Found") as (_, client):
        error = refusal(client, "update products")
    assert isinstance(error, RefusedError)
    assert str(error).endswith("this server knows no PUT /product or PUT /products")


def test_an_address_that_was_known_may_be_known_again() -> None:
    unknown = False

    def intercept(request: Request) -> Response | None:
        return Response("Not Found", 404) if unknown and is_write(request) else None

    with intercepted(intercept) as (_, client):
        send(client, "update products")
        unknown = True
        error = refusal(client, "update products")
    assert isinstance(error, TryLater)
    assert error.refused


def test_while_nothing_can_be_read_a_404_is_tried_again() -> None:
    unreachable = False

    def intercept(request: Request) -> Response | None:
        nonlocal unreachable
        unreachable = unreachable or is_write(request)
        return Response("<html>Not Found</html>", 404) if unreachable else None

    with intercepted(intercept) as (_, client):
        for write in ("update products", "create categories", "delete taxes"):
            unreachable = False
            error = refusal(client, write)
            assert isinstance(error, TryLater), write
            assert error.refused


def test_a_404_is_refused_where_the_user_may_not_read() -> None:
    def intercept(request: Request) -> Response | None:
        if is_write(request):
            return Response("Not Found", 404)
        return Response("No permission", 403) if request.url.path == "/products" else None

    with intercepted(intercept) as (_, client):
        error = refusal(client, "update products")
    assert isinstance(error, RefusedError)
    assert "it cannot be read: HTTP 403 No permission" in str(error)


# The login.


def test_an_expired_token_is_renewed_and_the_write_executed_once(server: Server, client: Client) -> None:
    client.status()
    send(client, "update products")
    server.sandbox.expire()
    send(client, "create orders")
    assert ["PUT product 101", "POST orders ECL 2026/13"] == executed(server)
    assert ["PUT product", "POST orders", "POST orders"] == arrived(server)


def login_fails(how: Callable[[Server], None], **options: Any) -> VendorError:
    """The error of a write whose login fails like this; nothing was written."""
    with serving() as server, server.opened(**options) as client:
        how(server)
        error = refusal(client, "create products")
        assert [] == server.sandbox.writes
        return error


def fault(*faults: Fault) -> Callable[[Server], None]:
    return lambda server: server.sandbox.faults.extend(faults)


@pytest.mark.parametrize(
    "how",
    [
        fault(Fault.HTML),
        fault(Fault.HALF),
        fault(Fault.EMPTY),
        fault(Fault.BROKEN),
        fault(Fault.BUSY),
        fault(Fault.SLOW),
        lambda server: server.sandbox.restart(starting=9),
    ],
)
def test_a_login_that_fails_for_now_wrote_nothing(how: Callable[[Server], None]) -> None:
    error = login_fails(how, timeout="1s")
    assert isinstance(error, TryLater)
    assert error.refused


@pytest.mark.parametrize("how", [fault(Fault.HTML), fault(Fault.HALF), fault(Fault.BROKEN), fault(Fault.SLOW)])
def test_a_login_whose_second_step_fails_wrote_nothing(how: Callable[[Server], None]) -> None:
    def after_status(server: Server) -> None:
        how(server)
        server.sandbox.faults.appendleft(Fault.DRIP)
        server.sandbox.drip = 0.0

    error = login_fails(after_status, timeout="1s", rsa_padding="pkcs1")
    assert isinstance(error, TryLater)
    assert error.refused


def test_a_login_that_is_refused_wrote_nothing() -> None:
    error = login_fails(lambda _: None, password="wrong")
    assert isinstance(error, SetAside)
    assert not isinstance(error, RefusedError)
    assert error.whole_resource


def test_a_plan_that_is_inactive_wrote_nothing() -> None:
    def inactive(server: Server) -> None:
        server.sandbox.state = 6

    error = login_fails(inactive)
    assert isinstance(error, SetAside)
    assert error.whole_resource


def test_a_write_that_is_refused_with_401_again_and_again_wrote_nothing() -> None:
    with answering(401, "Invalid/Inexistent/Expired token") as (server, client):
        error = refusal(client, "create products")
        assert 2 == server.sandbox.logins
    assert isinstance(error, SetAside)
    assert error.whole_resource


def test_a_401_of_a_proxy_wrote_nothing() -> None:
    with answering(401, "<html>Proxy</html>") as (_, client):
        error = refusal(client, "create products")
    assert isinstance(error, TryLater)
    assert error.refused


def test_a_write_that_waits_for_another_login_wrote_nothing(server: Server) -> None:
    def busy() -> None:
        raise BusyError("another worker is logging in")

    sessions = SharedSessions(waiting=[busy])
    with server.opened(sessions.runtime) as client:
        error = refusal(client, "create products")
    assert isinstance(error, BusyError)
    assert error.refused
    assert [] == server.sandbox.writes


@pytest.mark.parametrize("expires", ["here", "there"])
def test_a_login_that_fails_after_an_earlier_write_wrote_nothing(server: Server, expires: str) -> None:
    sessions = SharedSessions()
    with server.opened(sessions.runtime) as client:
        send(client, "update products")
        if expires == "here":
            sessions.age()
        server.sandbox.restart(starting=9)
        error = refusal(client, "create products")
    assert isinstance(error, TryLater)
    assert error.refused
    assert ["PUT product 101"] == executed(server)


def test_no_connection_wrote_nothing(server: Server) -> None:
    with server.opened(url="http://127.0.0.1:9") as client:
        error = refusal(client, "create products")
    assert isinstance(error, TryLater)
    assert error.refused


def test_a_failure_after_a_renewed_login_is_one_of_the_write(server: Server, client: Client) -> None:
    send(client, "update products")
    server.sandbox.expire()
    server.sandbox.write_faults.append(WriteFault.LOST_AFTER)
    error = refusal(client, "create products")
    assert isinstance(error, TryLater)
    assert not error.refused
    assert ["PUT product 101", "POST products 113"] == executed(server)


# What may happen to a write at the vendor's door.


@pytest.mark.parametrize(
    ("fault", "refused", "is_executed"),
    [
        (WriteFault.LOST_BEFORE, False, False),
        (WriteFault.LOST_AFTER, False, True),
        (WriteFault.BUSY, True, False),
        (WriteFault.UNAVAILABLE, False, False),
        (WriteFault.LOCKED, True, False),
        (WriteFault.HALF, False, True),
    ],
)
@pytest.mark.parametrize("write", ["create products", "update products"])
def test_a_fault_is_refused_only_if_the_write_certainly_was_not_taken(
    server: Server,
    client: Client,
    write: str,
    fault: WriteFault,
    refused: bool,  # noqa: FBT001
    is_executed: bool,  # noqa: FBT001
) -> None:
    server.sandbox.write_faults.append(fault)
    error = refusal(client, write)
    assert isinstance(error, TryLater)
    assert refused == error.refused
    assert [is_executed] == [each.executed for each in server.sandbox.writes]
    again = action(*write.split()).example
    send(client, write, {**again, "name": "AZEITE2", "barcode": ""} if write == "create products" else again)
    assert [is_executed, True] == [each.executed for each in server.sandbox.writes]


def test_a_doubled_answer_leaves_a_creation_open(server: Server, client: Client) -> None:
    server.sandbox.write_faults.append(WriteFault.DOUBLED)
    error = refusal(client, "create products")
    assert isinstance(error, TryLater)
    assert not error.refused
    assert ["113"] == client.find(action("create", "products"), action("create", "products").example, ("name",))


def test_an_answer_that_comes_too_late_leaves_it_open_and_it_is_found_later(server: Server) -> None:
    server.sandbox.write_seconds = 1.5
    server.sandbox.write_faults.append(WriteFault.SLOW)
    creation = action("create", "products")
    with server.opened() as client:
        assert [] == client.find(creation, creation.example, ("name",))
    with server.opened(timeout="1s") as client:
        error = refusal(client, "create products")
        assert isinstance(error, TimedOutError)
        assert not error.refused
    with server.opened() as client:
        while not executed(server):
            time.sleep(0.01)
        assert ["113"] == client.find(creation, creation.example, ("name",))
    assert ["POST products 113"] == executed(server)
