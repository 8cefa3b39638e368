"""The sandbox's writes, by a plain HTTP client written after the vendor's document: rules, errors, faults, the log."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from models import exact
from tests.workers.connectors.wisedat.commanding import action
from tests.workers.connectors.wisedat.conftest import NOON
from workers.connectors.wisedat.sandbox_server import Fault
from workers.connectors.wisedat.sandbox_writes import WriteFault

if TYPE_CHECKING:
    from models.values import JsonObject
    from tests.workers.connectors.wisedat.conftest import Caller

PLURAL = pytest.mark.parametrize("caller", [{"spelling": "plural"}], indirect=True)


def write(caller: Caller, method: str, path: str, body: JsonObject | None = None, **params: Any) -> httpx.Response:
    content = None if body is None else exact.dumps(body).encode()
    headers = {"Authorization": f"Bearer {caller.token}"}
    return caller.http.request(method, f"/{path}", content=content, params=params, headers=headers)


def done(answer: httpx.Response) -> Any:
    """The id of the answer to a write that must succeed."""
    assert answer.status_code in {200, 201}, answer.text
    return answer.json()["id"] if answer.content else None


def errors(answer: httpx.Response, status: int = 400) -> list[str]:
    assert status == answer.status_code
    found: list[str] = answer.json()["errors"]
    return found


def example(verb: str, resource: str, **changes: Any) -> JsonObject:
    given = {**action(verb, resource).example, **changes}
    return {name: value for name, value in given.items() if value is not ...}


# Addresses.


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "products", 400),
        ("POST", "product", 405),
        ("PUT", "product", 400),
        ("PUT", "products", 405),
        ("DELETE", "product", 400),
        ("DELETE", "products", 405),
        ("POST", "category", 400),
        ("POST", "categories", 405),
        ("PUT", "customer", 400),
        ("PUT", "customers", 405),
        ("DELETE", "customers", 400),
        ("DELETE", "customer", 405),
        ("PUT", "units", 400),
        ("PUT", "nothing", 404),
        ("PUT", "unit", 404),
        ("POST", "company", 404),
    ],
)
def test_the_documented_addresses_are_known_and_no_others(caller: Caller, method: str, path: str, status: int) -> None:
    assert status == write(caller, method, path, None if method == "DELETE" else {}).status_code


@PLURAL
@pytest.mark.parametrize("path", ["products", "categories", "customers", "units"])
def test_a_server_may_know_plural_addresses_only(caller: Caller, path: str) -> None:
    for method in ("POST", "PUT", "DELETE"):
        assert 400 == write(caller, method, path, None if method == "DELETE" else {}).status_code
    unknown = write(caller, "PUT", "product", {"id": 101})
    assert 404 == unknown.status_code
    assert {"Message", "MessageDetail"} == unknown.json().keys()


# Rules.


@pytest.mark.parametrize(
    ("method", "path", "body", "wanted"),
    [
        (
            "POST",
            "products",
            example("create", "products", name=..., price=...),
            ["name is mandatory", "price is mandatory"],
        ),
        ("POST", "products", example("create", "products", price="6.95"), ["price must be a number"]),
        (
            "POST",
            "products",
            example("create", "products", name="A B"),
            ["name must contain only alpha-numeric characters"],
        ),
        ("POST", "products", example("create", "products", name="ART001"), ["name must be unique"]),
        ("POST", "products", example("create", "products", barcode="5600000000001"), ["barcode must be unique"]),
        (
            "POST",
            "products",
            example("create", "products", price=Decimal(-1)),
            ["price must be equal or higher than 0"],
        ),
        ("POST", "products", example("create", "products", type=3), ["type can only be 1 or 2"]),
        (
            "POST",
            "products",
            example("create", "products", tax="XX", unit="YY"),
            ["tax XX doesn't exist", "unit YY doesn't exist"],
        ),
        ("POST", "products", example("create", "products", categories=[{"id": 99}]), ["category 99 doesn't exist"]),
        (
            "PUT",
            "product",
            example("update", "products", main_supplier=33),
            ["main_supplier must be included on suppliers"],
        ),
        (
            "PUT",
            "product",
            example("update", "products", suppliers=[{"id": 31, "cost_price": -1}]),
            ["cost_price must be equal or higher than 0"],
        ),
        ("PUT", "product", {"price": 1}, ["id is mandatory"]),
        ("POST", "category", {"name": "X", "id_parent": 99}, ["id_parent 99 doesn't exist"]),
        ("POST", "customers", example("create", "customers", code="C0001"), ["code must be unique"]),
        ("POST", "customers", example("create", "customers", tax_id="501442601"), ["tax_id must be a valid NIF"]),
        ("POST", "customers", example("create", "customers", email="x"), ["email must be a valid e-mail address"]),
        ("POST", "customers", example("create", "customers", country="XX", tax_id=...), ["Country XX doesn't exist"]),
        (
            "POST",
            "customers",
            example("create", "customers", billing_address=..., shipping_address=...),
            ["billing_address or shipping_address is mandatory"],
        ),
        (
            "POST",
            "customers",
            example(
                "create",
                "customers",
                shipping_address=...,
                billing_address={"street": "Rua A", "city": "Lisboa", "postal_code": "1100"},
            ),
            ["postal_code must be a valid Portuguese postal code"],
        ),
        (
            "POST",
            "customers",
            example("create", "customers", shipping_address=..., billing_address={"postal_code": "1100-001"}),
            ["street is mandatory", "city is mandatory"],
        ),
        ("POST", "customers", example("create", "customers", birthday="1974-02-30"), ["birthday must be a date"]),
        ("POST", "customeraddresses", example("create", "customeraddresses", type="Empresa"), ["type must be unique"]),
        (
            "POST",
            "customeraddresses",
            example("create", "customeraddresses", customer=999),
            ["customer 999 doesn't exist"],
        ),
        (
            "POST",
            "salesmen",
            example("create", "salesmen", commission=101),
            ["commission must be a number between 0 and 100"],
        ),
        ("POST", "taxes", example("create", "taxes", exemption_reason=...), ["exemption_reason is mandatory"]),
        ("POST", "taxes", example("create", "taxes", value=6), ["value must be 0 if, and only if, type is 0 or 4"]),
        ("POST", "taxes", example("create", "taxes", type=3), ["value must be 0 if, and only if, type is 0 or 4"]),
        ("POST", "taxes", example("create", "taxes", id="ABC"), ["id has at most 2 characters"]),
        ("POST", "taxes", example("create", "taxes", id="NO"), ["id must be unique"]),
        ("POST", "units", example("create", "units", id="GARRAF"), ["id has at most 5 characters"]),
        (
            "PUT",
            "series",
            {"id": "2026", "vat_cash_system": True},
            ["vat_cash_system can't be edited: the series has documents"],
        ),
        ("POST", "warehouses", example("create", "warehouses", code="SEDE"), ["code must be unique"]),
        (
            "POST",
            "orders",
            example("create", "orders", customer=999, alternate_billing_address=..., alternate_shipping_address=...),
            ["customer 999 doesn't exist", "The customer must have a billing address"],
        ),
        (
            "POST",
            "orders",
            example("create", "orders", alternate_billing_address="Obra"),
            ["alternate_billing_address isn't a type of the customer's addresses"],
        ),
        ("POST", "orders", example("create", "orders", series="2025", date="2025-06-01"), ["series must be active"]),
        ("POST", "orders", example("create", "orders", series="IVAC"), ["a series with vat_cash_system can't be used"]),
        ("POST", "orders", example("create", "orders", date="2027-06-01"), ["date must be in the series' interval"]),
        ("POST", "orders", example("create", "orders", sales_document="FT"), ["sales_document isn't of type 2"]),
        (
            "POST",
            "orders",
            example("create", "orders", currency="USD", exchange_rate=...),
            ["exchange_rate is mandatory"],
        ),
        (
            "POST",
            "orders",
            example("create", "orders", entity_discount=101),
            ["entity_discount must be a number between 0 and 100"],
        ),
        (
            "POST",
            "orders",
            example("create", "orders", items=[{"type": 4, "price": 1, "tax": "NO"}]),
            ["All the order's totals must be positive"],
        ),
        (
            "POST",
            "orders",
            example("create", "orders", items=[{"type": 1, "id": 999, "quantity": 0}]),
            ["quantity of an item must be higher than 0", "product 999 doesn't exist"],
        ),
        (
            "POST",
            "orders",
            example("create", "orders", items=[{"type": 1, "id": 101}]),
            ["quantity of an item of type 1 is mandatory"],
        ),
        (
            "POST",
            "orders",
            example("create", "orders", items=[{"type": 5, "price": 1}]),
            ["tax of an item of type 4 or 5 is mandatory"],
        ),
        ("POST", "orders", example("create", "orders", items=[{"type": 2}]), ["price of an item is mandatory"]),
        ("PUT", "orders", {"id": "ECL 2026/1", "notes": "x"}, ["Closed orders can't be modified"]),
    ],
)
def test_a_broken_rule_is_400_with_all_errors_and_changes_nothing(
    caller: Caller, method: str, path: str, body: JsonObject, wanted: list[str]
) -> None:
    before = {name: caller.sandbox.truth(name) for name in caller.sandbox.books.tables}
    assert wanted == errors(write(caller, method, path, body))
    assert before == {name: caller.sandbox.truth(name) for name in caller.sandbox.books.tables}
    assert [False] == [each.executed for each in caller.sandbox.writes]


@pytest.mark.parametrize(
    "path",
    ["product", "category", "customer", "salesmen", "suppliers", "orders", "taxes", "units", "series", "warehouses"],
)
def test_an_unknown_object_is_404(caller: Caller, path: str) -> None:
    unknown = "nothing" if path in {"orders", "taxes", "units", "series"} else 999
    plural = {"product": "products", "category": "categories", "customer": "customers"}.get(path, path)
    assert 1 == len(errors(write(caller, "PUT", path, {"id": unknown, "notes": "x"}), 404))
    assert 1 == len(errors(write(caller, "DELETE", "customers" if path == "customer" else path, id=unknown), 404))
    assert plural in caller.sandbox.books.tables


def test_an_unknown_address_of_a_customer_is_404(caller: Caller) -> None:
    assert errors(write(caller, "PUT", "customeraddresses", {"customer": 201, "type": "Obra"}), 404)
    assert errors(write(caller, "DELETE", "customeraddresses", customer=201, type="Obra"), 404)
    assert ["type is mandatory"] == errors(write(caller, "DELETE", "customeraddresses", customer=201))


@pytest.mark.parametrize(
    ("path", "id_"),
    [
        ("product", 101),
        ("category", 12),
        ("customers", 201),
        ("salesmen", 21),
        ("suppliers", 31),
        ("taxes", "NO"),
        ("units", "UN"),
        ("series", "2026"),
        ("warehouses", 1),
    ],
)
def test_an_object_in_use_is_not_deleted(caller: Caller, path: str, id_: Any) -> None:
    caller.sandbox.books.new_order()
    products = caller.sandbox.books.tables["products"]
    order, customer = caller.thing("orders"), caller.thing("customers")
    order.data["items"][0]["product"]["id"] = 101
    order.data["customer"]["id"] = customer.data["id"]
    customer.data["salesman"] = {"id": 21}
    products[0].data |= {"unit": {"id": "UN"}, "tax": {"id": "NO"}, "main_supplier": {"id": 31}}
    assert ["It can't be deleted because it is in use"] == errors(write(caller, "DELETE", path, id=id_))


@pytest.mark.parametrize("path", ["product", "category", "customers", "salesmen", "suppliers", "warehouses"])
def test_a_numeric_id_is_checked(caller: Caller, path: str) -> None:
    assert ["id is mandatory and must be numeric"] == errors(write(caller, "DELETE", path, id="x"))
    assert ["id is mandatory and must be numeric"] == errors(write(caller, "DELETE", path))


def test_an_open_order_is_deleted_and_a_closed_one_canceled_once(caller: Caller) -> None:
    assert 200 == write(caller, "DELETE", "orders", id="ECL 2026/2").status_code
    assert "ECL 2026/2" not in caller.sandbox.truth("orders")
    assert 200 == write(caller, "DELETE", "orders", id="ECL 2026/1").status_code
    assert caller.sandbox.truth("orders")["ECL 2026/1"]["canceled"]
    assert ["The order is already canceled"] == errors(write(caller, "DELETE", "orders", id="ECL 2026/1"))


def test_an_order_that_the_api_cannot_show_cannot_be_written(caller: Caller) -> None:
    caller.sandbox.books.withheld.add("ECL 2026/2")
    assert 409 == write(caller, "PUT", "orders", {"id": "ECL 2026/2", "notes": "x"}).status_code


# What is written.


def test_a_new_product_has_the_suggested_values_where_none_are_given(caller: Caller) -> None:
    id_ = done(write(caller, "POST", "products", {"name": "NOVO", "description": "Novo", "price": 2, "type": 2}))
    shown = caller.read("products", id=id_)
    assert ("NO", "UN", True, []) == (shown["tax"]["id"], shown["unit"]["id"], shown["active"], shown["categories"])


def test_an_update_changes_what_is_given_and_the_modification_date(caller: Caller) -> None:
    caller.advance(minutes=20)
    before = caller.read("products", id=105)
    done(write(caller, "PUT", "product", {"id": 105, "price": Decimal("1.23")}))
    assert {**before, "price": Decimal("1.23")} == caller.read("products", id=105)
    since = {"modified_since": "2026-06-01T12:10:00Z", "show_inactive": "true"}
    assert [105] == [row["id"] for row in caller.listed("products", **since)]


def test_a_tax_id_is_kept_and_a_name_fixed_by_sales_without_one(caller: Caller) -> None:
    customer = caller.thing("customers")
    caller.thing("orders").data["customer"]["id"] = customer.data["id"]
    kept = customer.data["tax_id"]
    done(write(caller, "PUT", "customer", {"id": 201, "tax_id": "501442600", "name": "Novo nome"}))
    assert (kept, "Novo nome") == (customer.data["tax_id"], customer.data["name"])
    customer.data["tax_id"] = ""
    assert ["name can't be changed: the customer has sales and no tax ID"] == errors(
        write(caller, "PUT", "customer", {"id": 201, "name": "Outro"})
    )
    done(write(caller, "PUT", "customer", {"id": 201, "tax_id": "501442600"}))
    assert "501442600" == customer.data["tax_id"]


def test_an_order_has_its_customers_terms_and_computed_totals(caller: Caller) -> None:
    items = [
        {"type": 1, "id": 101, "quantity": 2, "price": 10, "discount": 50, "tax": "NO"},
        {"type": 2, "price": 5},
        {"type": 3, "price": 1},
        {"type": 4, "price": 2, "tax": "IS"},
        {"type": 6},
        {"type": 6, "description": "Nota"},
    ]
    body = {"customer": 201, "date": "2026-06-01", "expiration_date": "2026-07-01", "series": "2026", "items": items}
    id_ = done(write(caller, "POST", "orders", body))
    shown, customer = caller.read("orders", id=id_), caller.read("customers", id=201)
    for name in ("payment_method", "payment_condition", "delivery_method", "currency", "salesman"):
        assert customer[name] == shown[name]
    assert customer["billing_address"] == shown["customer"]["billing_address"]
    assert [1, 2, 3, 4, 6] == [item["type"] for item in shown["items"]]
    totals = ("merchandise", "postage", "discounts", "subtotal", "taxes", "adjustment", "total")
    expected = ["10", "5", "2", "13", "3.45", "1", "15.45"]
    assert [Decimal(each) for each in expected] == [shown[name] for name in totals]
    assert (False, False, "") == (shown["closed"], shown["canceled"], shown["hash"])


def test_a_closed_order_gets_its_hash(caller: Caller) -> None:
    id_ = done(write(caller, "POST", "orders", example("create", "orders", closed=True)))
    assert caller.read("orders", id=id_)["hash"]
    assert errors(write(caller, "PUT", "orders", {"id": id_, "notes": "x"}))


def test_items_replace_all_items_and_the_totals_follow(caller: Caller) -> None:
    items = [{"type": 1, "id": 101, "quantity": 1, "price": 100, "tax": "NO"}]
    done(write(caller, "PUT", "orders", {"id": "ECL 2026/2", "items": items}))
    shown = caller.read("orders", id="ECL 2026/2")
    assert (1, Decimal(123)) == (len(shown["items"]), shown["total"])


def test_a_new_customer_of_an_order_brings_its_terms(caller: Caller) -> None:
    other = next(id_ for id_ in (202, 203) if caller.read("orders", id="ECL 2026/2")["customer"]["id"] != id_)
    done(write(caller, "PUT", "orders", {"id": "ECL 2026/2", "customer": other}))
    shown = caller.read("orders", id="ECL 2026/2")
    assert (other, caller.read("customers", id=other)["payment_method"]) == (
        shown["customer"]["id"],
        shown["payment_method"],
    )


@pytest.mark.parametrize("caller", [{}, {"silent_addresses": True}], indirect=True)
def test_an_address_moves_the_customers_date_unless_that_is_silent(caller: Caller) -> None:
    caller.advance(minutes=20)
    done(write(caller, "POST", "customeraddresses", example("create", "customeraddresses")))
    moved = caller.thing("customers").modified > NOON
    assert moved != caller.sandbox.books.silent_addresses
    assert "Armazém" in [each["type"] for each in caller.read("customeraddresses", customer=201)]


# Faults and the log.


def logged(caller: Caller) -> list[tuple[str, str, str, str, bool]]:
    return [(each.method, each.path, each.resource, each.id, each.executed) for each in caller.sandbox.writes]


def test_each_write_is_logged_with_its_object_and_whether_it_was_executed(caller: Caller) -> None:
    done(write(caller, "POST", "products", example("create", "products")))
    caller.advance(seconds=5)
    write(caller, "PUT", "product", {"id": 101, "type": 9})
    write(caller, "DELETE", "customeraddresses", customer=201, type="Empresa")
    write(caller, "PUT", "nothing", {"id": 1})
    caller.token = "wrong"
    write(caller, "PUT", "orders", {"id": "ECL 2026/2"})
    assert [
        ("POST", "products", "products", "113", True),
        ("PUT", "product", "products", "101", False),
        ("DELETE", "customeraddresses", "customeraddresses", "201", True),
        ("PUT", "nothing", "", "1", False),
        ("PUT", "orders", "orders", "ECL 2026/2", False),
    ] == logged(caller)
    times = [each.time for each in caller.sandbox.writes]
    assert NOON == times[0] < times[1] == times[-1]


def test_reads_and_logins_are_no_writes(caller: Caller) -> None:
    caller.log_in()
    caller.read("products")
    assert [] == caller.sandbox.writes


UPDATE: JsonObject = {"id": 101, "notes": "nova"}


@pytest.mark.parametrize(
    ("fault", "executed"),
    [(WriteFault.LOST_BEFORE, False), (WriteFault.LOST_AFTER, True), (WriteFault.HALF, True)],
)
@pytest.mark.parametrize(("method", "path"), [("PUT", "product"), ("POST", "products")])
def test_a_lost_answer(caller: Caller, fault: WriteFault, executed: bool, method: str, path: str) -> None:  # noqa: FBT001
    body = UPDATE if method == "PUT" else example("create", "products")
    caller.sandbox.write_faults.append(fault)
    with pytest.raises(httpx.RemoteProtocolError):
        write(caller, method, path, body)
    assert [executed] == [each.executed for each in caller.sandbox.writes]
    assert 200 == caller.get("products").status_code


@pytest.mark.parametrize(
    ("fault", "status"), [(WriteFault.BUSY, 429), (WriteFault.UNAVAILABLE, 503), (WriteFault.LOCKED, 409)]
)
def test_a_write_is_refused_as_often_as_it_is_set(caller: Caller, fault: WriteFault, status: int) -> None:
    caller.sandbox.write_faults += [fault] * 3
    assert [status] * 3 + [200] == [write(caller, "PUT", "product", UPDATE).status_code for _ in range(4)]
    assert [False, False, False, True] == [each.executed for each in caller.sandbox.writes]


def test_an_answer_may_come_doubled(caller: Caller) -> None:
    caller.sandbox.write_faults.append(WriteFault.DOUBLED)
    assert b'{"id":113}{"id":113}' == write(caller, "POST", "products", example("create", "products")).content


def test_a_slow_write_is_done_also_when_the_client_is_gone(caller: Caller) -> None:
    caller.sandbox.write_seconds = 0.4
    caller.sandbox.write_faults.append(WriteFault.SLOW)
    headers = {"Authorization": f"Bearer {caller.token}"}
    with httpx.Client(base_url=caller.http.base_url, trust_env=False) as impatient, pytest.raises(httpx.ReadTimeout):
        impatient.put("/product", json={"id": 101, "notes": "nova"}, headers=headers, timeout=0.05)
    assert [False] == [each.executed for each in caller.sandbox.writes]
    while not caller.sandbox.writes[0].executed:
        caller.read("units")
    assert "nova" == caller.read("products", id=101)["notes"]


def test_faults_of_writes_concern_no_reads_and_no_refused_token(caller: Caller) -> None:
    caller.sandbox.write_faults.append(WriteFault.BUSY)
    assert 200 == caller.get("products").status_code
    valid, caller.token = caller.token, "wrong"
    assert 401 == write(caller, "PUT", "product", UPDATE).status_code
    caller.token = valid
    assert 429 == write(caller, "PUT", "product", UPDATE).status_code
    assert 200 == write(caller, "PUT", "product", UPDATE).status_code


@pytest.mark.parametrize(
    ("fault", "executed"), [(Fault.BROKEN, False), (Fault.HTML, False), (Fault.EMPTY, False), (Fault.HALF, True)]
)
def test_the_faults_of_any_request_are_those_of_writes_too(caller: Caller, fault: Fault, executed: bool) -> None:  # noqa: FBT001
    caller.sandbox.faults.append(fault)
    write(caller, "POST", "products", example("create", "products"))
    assert [executed] == [each.executed for each in caller.sandbox.writes]
