"""The sandbox's server: login, lists and faults follow the vendor's rules and formats."""

from __future__ import annotations

import base64
import threading
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA1

from tests.workers.connectors.wisedat.conftest import LOGIN, NOON
from workers.connectors.wisedat import sandbox_server, table

if TYPE_CHECKING:
    from tests.workers.connectors.wisedat.conftest import Caller

PAGED = [row for row in table.TABLE if row.paged]
BARE = [row for row in table.TABLE if not row.paged and not row.single]
# Login.


def test_the_status_is_200_even_for_an_unknown_key(caller: Caller) -> None:
    assert {"State": 2} == caller.status("other")


@pytest.mark.parametrize("state", [0, 2, 3, 4, 5, 6])
def test_only_an_online_server_sends_a_public_key(caller: Caller, state: int) -> None:
    caller.sandbox.state = state

    assert {"State": state} == caller.status()


def test_the_public_key_is_base64_and_big_endian(caller: Caller) -> None:
    shown = caller.status()

    assert 1 == shown["State"]
    assert {"Modulus", "Exponent"} == set(shown["PublicKey"])
    assert "AQAB" == shown["PublicKey"]["Exponent"]
    assert 1024 == int.from_bytes(base64.b64decode(shown["PublicKey"]["Modulus"]), "big").bit_length()


def test_the_public_key_may_be_a_list(caller: Caller) -> None:
    by_name = caller.status()["PublicKey"]
    caller.sandbox.key_as_list = True

    assert [by_name["Modulus"], by_name["Exponent"]] == caller.status()["PublicKey"]


@pytest.mark.parametrize(("method", "path"), [("GET", "/status"), ("POST", "/authentication/login")])
def test_without_an_authorization_header_status_and_login_are_400(caller: Caller, method: str, path: str) -> None:
    assert 400 == caller.http.request(method, path).status_code


def test_a_login_returns_a_token_in_three_parts_that_is_accepted(caller: Caller) -> None:
    assert 3 == len(caller.token.split("."))
    assert 200 == caller.get("products").status_code
    assert (1, 0) == (caller.sandbox.logins, caller.sandbox.refused_logins)


@pytest.mark.parametrize("login", ["sandbox-key;espelho;wrong", f"{{{LOGIN}}}", ""])
def test_a_wrong_login_is_401(caller: Caller, login: str) -> None:
    assert 401 == caller.log_in(caller.encrypted_login(login)).status_code
    assert (1, 1) == (caller.sandbox.logins, caller.sandbox.refused_logins)


@pytest.mark.parametrize("encrypted_login", ["not base64!", base64.b64encode(b"short").decode()])
def test_a_login_that_is_not_encrypted_is_401(caller: Caller, encrypted_login: str) -> None:
    assert 401 == caller.log_in(encrypted_login).status_code


@pytest.mark.parametrize("caller", [{"padding": "oaep"}], indirect=True)
def test_a_server_with_oaep_refuses_the_other_padding(caller: Caller) -> None:
    oaep = padding.OAEP(padding.MGF1(SHA1()), SHA1(), None)  # noqa: S303

    assert 401 == caller.log_in().status_code
    assert 200 == caller.log_in(caller.encrypted_login(scheme=oaep)).status_code


def test_a_token_lasts_thirty_minutes(caller: Caller) -> None:
    caller.advance(minutes=29, seconds=59)
    assert 200 == caller.get("products").status_code
    caller.advance(seconds=1)
    assert 401 == caller.get("products").status_code


@pytest.mark.parametrize("path", ["company", "products", "taxes", "customeraddresses", "nothing"])
def test_reads_without_a_valid_token_are_401(caller: Caller, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "WDAPI sandbox-key"}):
        assert 401 == caller.http.get(f"/{path}", headers=headers).status_code


def test_a_new_key_invalidates_every_token(caller: Caller) -> None:
    before = caller.status()["PublicKey"]
    caller.sandbox.rotate()

    assert 401 == caller.get("products").status_code
    assert before != caller.status()["PublicKey"]
    assert 200 == caller.log_in().status_code
    assert 200 == caller.get("products").status_code


def test_a_login_encrypted_with_the_previous_key_fails(caller: Caller) -> None:
    encrypted_login = caller.encrypted_login()
    caller.sandbox.rotate()

    assert 401 == caller.log_in(encrypted_login).status_code


def test_the_key_changes_once_a_day(caller: Caller) -> None:
    before = caller.status()["PublicKey"]
    caller.advance(hours=23)
    assert before == caller.status()["PublicKey"]
    caller.advance(hours=1)
    assert before != caller.status()["PublicKey"]


def test_a_server_that_starts_reports_offline_first(caller: Caller) -> None:
    caller.sandbox.restart(starting=2)

    assert [0, 0, 1] == [caller.status()["State"] for _ in range(3)]


def test_tokens_can_expire_under_the_same_key(caller: Caller) -> None:
    before = caller.status()["PublicKey"]
    caller.sandbox.expire()

    assert 401 == caller.get("products").status_code
    assert before == caller.status()["PublicKey"]


# Lists.


@pytest.mark.parametrize("row", PAGED, ids=lambda row: row.name)
def test_a_paged_list_is_wrapped_and_counted(caller: Caller, row: table.Row) -> None:
    caller.sandbox.largest_page = None
    known = len(caller.listed(row.name, show_inactive="true"))

    answer = caller.read(row.name, limit=2, page=1, show_inactive="true")

    pages = -(-known // 2)
    assert {"limit": 2, "page": 1, "number_pages": pages, "number_items": known} == answer["pagination"]
    assert {"pagination", "salesmen" if row.name == "suppliers" else row.name} == set(answer)


def test_a_page_has_fifty_rows_by_default(caller: Caller) -> None:
    caller.sandbox.largest_page = None
    for number in range(60):
        caller.sandbox.books.new_product(100 + number)

    assert 50 == len(caller.read("products")["products"])


def test_a_limit_above_the_maximum_is_reduced(caller: Caller) -> None:
    answer = caller.read("orders", limit=200)

    assert (5, 5) == (answer["pagination"]["limit"], len(answer["orders"]))


def test_a_page_beyond_the_last_is_empty(caller: Caller) -> None:
    assert [] == caller.read("orders", page=99)["orders"]


@pytest.mark.parametrize("row", PAGED, ids=lambda row: row.name)
def test_the_pages_together_contain_every_object_once(caller: Caller, row: table.Row) -> None:
    keys = [str(line["id"]) for line in caller.listed(row.name, limit=2, show_inactive="true")]

    assert sorted(caller.sandbox.truth(row.name)) == sorted(keys)


@pytest.mark.parametrize("row", BARE, ids=lambda row: row.name)
def test_unpaged_lists_are_bare_arrays_of_whole_objects(caller: Caller, row: table.Row) -> None:
    rows = caller.read(row.name)

    assert isinstance(rows, list)
    (field_,) = row.key
    assert sorted(caller.sandbox.truth(row.name)) == sorted(str(each[field_]) for each in rows)
    assert rows[0] == caller.read(row.name, id=rows[0][field_])


def test_the_company_is_one_object(caller: Caller) -> None:
    assert {"LOJA": caller.read("company")} == caller.sandbox.truth("company")


@pytest.mark.parametrize("row", [row for row in PAGED if row.inactive], ids=lambda row: row.name)
def test_inactive_objects_are_listed_on_request_and_shown_by_id(caller: Caller, row: table.Row) -> None:
    inactive = caller.thing(row.name)
    caller.sandbox.books.touch(inactive, active=False)

    def named(**params: str) -> bool:
        return inactive.data["id"] in [line["id"] for line in caller.listed(row.name, **params)]

    assert (False, False, True) == (named(), named(show_inactive="false"), named(show_inactive="true"))
    assert caller.read(row.name, id=inactive.data["id"])["active"] is False


@pytest.mark.parametrize("row", PAGED, ids=lambda row: row.name)
def test_modified_since_filters_by_modification_time(caller: Caller, row: table.Row) -> None:
    changed = caller.thing(row.name, -1)
    caller.sandbox.books.touch(changed)

    def since(moment: datetime) -> list[Any]:
        return [line["id"] for line in caller.listed(row.name, modified_since=f"{moment:%Y-%m-%dT%H:%M:%SZ}")]

    caller.sandbox.books.touch(changed, active=True)
    assert [changed.data["id"]] == since(NOON)
    assert [] == since(NOON + timedelta(seconds=1))
    caller.sandbox.inclusive = False
    assert [] == since(NOON)
    assert [changed.data["id"]] == since(NOON - timedelta(seconds=1))


@pytest.mark.parametrize("params", [{"limit": "x"}, {"page": "0"}, {"page": "-1"}, {"modified_since": "yesterday"}])
def test_an_invalid_parameter_is_400_with_errors(caller: Caller, params: dict[str, str]) -> None:
    answer = caller.get("products", **params)

    assert 400 == answer.status_code
    assert ["errors"] == list(answer.json())
    assert all(isinstance(error, str) for error in answer.json()["errors"])


@pytest.mark.parametrize(
    ("name", "params", "field_"),
    [
        ("products", {"name": "art003"}, "name"),
        ("customers", {"code": "C0002"}, "code"),
        ("customers", {"query": "C0002"}, "code"),
        ("orders", {"your_reference": "P-77"}, "your_reference"),
    ],
)
def test_a_list_is_filtered_by_its_parameters(caller: Caller, name: str, params: dict[str, str], field_: str) -> None:
    wanted = caller.thing(name, 2 if name == "products" else 1)
    if name == "orders":
        caller.sandbox.books.touch(wanted, your_reference="P-77/2")

    found = caller.listed(name, **params)

    assert [wanted.data["id"]] == [line["id"] for line in found]
    assert next(iter(params.values())).lower() in wanted.data[field_].lower()


@pytest.mark.parametrize("closed", [True, False])
def test_orders_can_be_filtered_by_closed(caller: Caller, *, closed: bool) -> None:
    assert {closed} == {order["closed"] for order in caller.listed("orders", closed=str(closed).lower())}


def test_an_object_saved_between_two_pages_moves_if_the_latest_come_first(caller: Caller) -> None:
    caller.sandbox.latest_first = True
    caller.sandbox.between_pages.append(caller.sandbox.books.save_the_last)
    caller.advance(seconds=1)

    keys = [line["id"] for line in caller.listed("orders")]

    known = set(caller.sandbox.truth("orders"))
    assert (len(known), len(known) - 1) == (len(keys), len(set(keys)))


def test_the_key_may_change_between_two_pages(caller: Caller) -> None:
    caller.sandbox.between_pages.append(lambda _: caller.sandbox.rotate())

    assert [200, 401] == [caller.get("orders", page=page).status_code for page in (1, 2)]
    assert 200 == caller.log_in().status_code
    assert 200 == caller.get("orders", page=2).status_code


def test_the_name_of_the_list_of_suppliers_can_be_changed(caller: Caller) -> None:
    caller.sandbox.suppliers_under = "suppliers"

    assert {"pagination", "suppliers"} == set(caller.read("suppliers"))


# The server.


def test_the_date_header_is_the_servers_clock(caller: Caller) -> None:
    caller.advance(hours=3)

    assert NOON + timedelta(hours=3) == parsedate_to_datetime(caller.get("taxes").headers["Date"])
    assert NOON + timedelta(hours=3) == parsedate_to_datetime(caller.http.get("/status").headers["Date"])


def test_requests_are_recorded_in_order(caller: Caller) -> None:
    caller.get("orders", id="ECL 2026/1")

    assert ["GET /status", "POST /authentication/login", "GET /orders?id=ECL+2026%2F1"] == caller.sandbox.requests


def test_parallel_requests_are_counted(caller: Caller) -> None:
    assert 1 == caller.sandbox.max_parallel
    caller.sandbox.latency = 0.5

    threads = [threading.Thread(target=caller.get, args=("taxes",)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 2 == caller.sandbox.max_parallel


@pytest.mark.parametrize(
    ("fault", "status", "begins"),
    [("html", 200, "<!DOCTYPE"), ("empty", 200, ""), ("scalar", 200, "42"), ("429", 429, "busy"), ("500", 500, "An")],
)
def test_a_fault_replaces_the_next_answer(caller: Caller, fault: str, status: int, begins: str) -> None:
    caller.sandbox.faults.append(sandbox_server.Fault(fault))

    answer = caller.get("taxes")

    assert (status, begins) == (answer.status_code, answer.text[: len(begins)])
    assert begins or answer.content == b""
    assert 200 == caller.get("taxes").status_code


def test_an_answer_can_be_cut_dripping_or_slow(caller: Caller) -> None:
    whole = caller.get("units").content
    caller.sandbox.drip = caller.sandbox.slow = 0.001
    caller.sandbox.faults += [sandbox_server.Fault.HALF, sandbox_server.Fault.DRIP, sandbox_server.Fault.SLOW]

    assert [whole[: len(whole) // 2], whole, whole] == [caller.get("units").content for _ in range(3)]


@pytest.mark.parametrize("path", ["nothing", "products/101", "product"])
def test_undocumented_paths_are_404(caller: Caller, path: str) -> None:
    assert 404 == caller.get(path).status_code


def test_what_the_document_only_reads_cannot_be_written(caller: Caller) -> None:
    answer = caller.http.patch("/products", json={}, headers={"Authorization": f"Bearer {caller.token}"})

    assert 405 == answer.status_code
