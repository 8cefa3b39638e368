"""GET requests to Lagerkoll: check, probe, ask, and the methods for scripts."""

from __future__ import annotations

import pytest

from tests.workers.connectors.interpreter.conftest import Store, client, document, resource
from workers.connectors.interpreter.sandbox import Fault
from workers.errors import SetAside, TryLater

USER_LOGIN = {"api_key": None, "user_id": "17", "user_token": "sandbox-token"}


@pytest.mark.parametrize("path", ["", "/", "/v1/interpreter", "/v1/interpreter/"])
def test_the_vendors_other_resources_are_siblings_of_the_interpreter(store: Store, path: str) -> None:
    opened = client(f"{store.url}{path}")
    assert 4 == len(opened.suppliers()["suppliers"])
    opened.interpret(resource(), document())
    opened.close()
    prefix = path.rstrip("/")
    assert [f"{prefix.removesuffix('/interpreter')}/suppliers/", f"{prefix}/deliverynote"] == [
        scope["path"] for scope in store.recorder.scopes
    ]


def test_the_check_proves_the_login_without_a_document(store: Store) -> None:
    result = store.client.check()
    assert "logged in to Lagerkoll as store 3546" == result.summary
    assert result.clock is not None
    assert result.clock.tzinfo is not None
    assert [("GET", b"limit=1")] == [(scope["method"], scope["query_string"]) for scope in store.recorder.scopes]


def test_a_users_login_works_like_an_api_key(store: Store) -> None:
    with store.other(**USER_LOGIN) as user:
        assert user.check().summary
    sent = store.recorder.headers()
    assert ("3546", "17", "sandbox-token") == (sent["store"], sent["user_id"], sent["user_token"])
    assert "api_key" not in sent


def test_the_check_of_a_wrong_login_is_set_aside_with_a_remedy(store: Store) -> None:
    with (
        store.other(store="1") as wrong_client,
        pytest.raises(SetAside, match="900001 Credentials don't match; check `store`"),
    ):
        wrong_client.check()


def test_a_probe_makes_no_request(store: Store) -> None:
    assert "hand one in as invoice" in store.client.probe(resource("invoice"))
    assert [] == store.recorder.scopes


def test_suppliers_can_be_filtered_by_the_documented_parameters(store: Store) -> None:
    found = store.client.suppliers(query="skruv")
    assert ["Bergs Skruv & Mutter"] == [each["name"] for each in found["suppliers"]]
    first = store.client.suppliers(limit=3, order="desc")
    second = store.client.suppliers(limit=3, order="desc", page=1)
    assert (2, 3, 1) == (first["pages"], len(first["suppliers"]), len(second["suppliers"]))
    latest = max(each["changed"] for each in store.client.suppliers()["suppliers"])
    assert [] == store.client.suppliers(since=latest)["suppliers"]


def test_the_methods_return_the_vendors_replies(store: Store) -> None:
    assert [2] == [each["id"] for each in store.client.supplier(2)["suppliers"]]
    assert {"paymentTerms", "since"} == set(store.client.payment_terms())
    assert "since" in store.client.supplier_delivery_terms(since=5)
    assert b"since=5" == store.recorder.scopes[-1]["query_string"]
    assert 1003 == store.client.purchase_order(1003)["id"]


@pytest.mark.parametrize(
    ("words", "target"),
    [
        (["suppliers", "since=0", "query=a=b"], "/suppliers/?since=0&query=a%3Db"),
        (["suppliers/12"], "/suppliers/12?"),
        (["payment_terms"], "/payment_terms/?"),
        (["payment_terms/", "since=7"], "/payment_terms/?since=7"),
        (["supplier_delivery_terms"], "/supplier_delivery_terms/?"),
        (["purchase_orders"], "/purchase_orders/?"),
        (["purchase_orders/1003"], "/purchase_orders/1003?"),
    ],
)
def test_ask_makes_one_request_in_the_vendors_terms(store: Store, words: list[str], target: str) -> None:
    assert isinstance(store.client.ask(words), dict)
    (scope,) = store.recorder.scopes
    assert ("GET", target) == (scope["method"], f"{scope['path']}?{scope['query_string'].decode()}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "for example: suppliers"),
        (["deliverynote"], "for example: suppliers"),
        (["../secrets"], "for example: suppliers"),
        (["suppliers", "since"], "for example: suppliers"),
        (["suppliers/12", "since=0"], "for example: suppliers"),
        (["suppliers/a"], "'a' is not an id"),
        (["suppliers/1/2"], "'1/2' is not an id"),
        (["payment_terms/1"], "for example: suppliers"),
        (["payment_terms", "page=1"], "payment_terms has no parameter page; it has since"),
        (["suppliers", "nmae=x"], "suppliers has no parameter nmae; it has query, since, page, limit, order"),
    ],
)
def test_ask_refuses_undocumented_requests(store: Store, words: list[str], message: str) -> None:
    with pytest.raises(SetAside, match=message):
        store.client.ask(words)
    assert [] == store.recorder.scopes


def test_a_refusal_has_the_vendors_message(store: Store) -> None:
    with pytest.raises(SetAside, match="901101 Purchase order not found"):
        store.client.purchase_order(4711)


def test_requests_above_the_rate_limit_are_tried_later(store: Store) -> None:
    store.sandbox.per_minute = 1
    store.client.check()
    with pytest.raises(TryLater, match="Too many requests") as raised:
        store.client.check()
    assert raised.value.refused


def test_faults_apply_only_to_documents(store: Store) -> None:
    store.sandbox.faults.append(Fault.HTML)
    store.client.check()
    assert [Fault.HTML] == list(store.sandbox.faults)
