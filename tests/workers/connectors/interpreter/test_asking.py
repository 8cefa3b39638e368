from __future__ import annotations

import pytest

from tests.workers.connectors.interpreter.conftest import Store, client, document, resource
from workers.connectors.interpreter.sandbox import Fault
from workers.errors import SetAside, TryLater

PERSON = {"api_key": None, "user_id": "17", "user_token": "sandbox-token"}


@pytest.mark.parametrize("path", ["", "/", "/v1/interpreter", "/v1/interpreter/"])
def test_the_vendors_other_resources_lie_beside_the_interpreter(store: Store, path: str) -> None:
    asking = client(f"{store.url}{path}")
    assert 4 == len(asking.suppliers()["suppliers"])
    asking.interpret(resource(), document())
    asking.close()
    prefix = path.rstrip("/")
    assert [f"{prefix.removesuffix('/interpreter')}/suppliers/", f"{prefix}/deliverynote"] == [
        scope["path"] for scope in store.door.scopes
    ]


def test_the_check_says_that_the_login_is_good_and_spends_no_document(store: Store) -> None:
    greeting = store.client.check()
    assert "Lagerkoll knows store 3546 and lets us in" == greeting.says
    assert greeting.clock is not None
    assert greeting.clock.tzinfo is not None
    assert [("GET", b"limit=1")] == [(scope["method"], scope["query_string"]) for scope in store.door.scopes]


def test_a_person_is_let_in_like_a_machine(store: Store) -> None:
    with store.other(**PERSON) as person:
        assert person.check().says
    sent = store.door.headers()
    assert ("3546", "17", "sandbox-token") == (sent["store"], sent["user_id"], sent["user_token"])
    assert "api_key" not in sent


def test_the_check_of_a_wrong_login_is_set_aside_with_a_remedy(store: Store) -> None:
    with (
        store.other(store="1") as stranger,
        pytest.raises(SetAside, match="900001 Credentials don't match; check store"),
    ):
        stranger.check()


def test_a_probe_says_that_only_a_document_can_show(store: Store) -> None:
    assert "hand one in as invoice" in store.client.probe(resource("invoice"))
    assert [] == store.door.scopes


def test_suppliers_are_asked_for_by_the_documented_parameters(store: Store) -> None:
    found = store.client.suppliers(query="skruv")
    assert ["Bergs Skruv & Mutter"] == [each["name"] for each in found["suppliers"]]
    first = store.client.suppliers(limit=3, order="desc")
    second = store.client.suppliers(limit=3, order="desc", page=1)
    assert (2, 3, 1) == (first["pages"], len(first["suppliers"]), len(second["suppliers"]))
    latest = max(each["changed"] for each in store.client.suppliers()["suppliers"])
    assert [] == store.client.suppliers(since=latest)["suppliers"]


def test_the_methods_show_what_the_vendor_shows(store: Store) -> None:
    assert [2] == [each["id"] for each in store.client.supplier(2)["suppliers"]]
    assert {"paymentTerms", "since"} == set(store.client.payment_terms())
    assert "since" in store.client.supplier_delivery_terms(since=5)
    assert b"since=5" == store.door.scopes[-1]["query_string"]
    assert 1003 == store.client.purchase_order(1003)["id"]


@pytest.mark.parametrize(
    ("words", "asked"),
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
def test_a_question_is_asked_in_the_vendors_terms(store: Store, words: list[str], asked: str) -> None:
    assert isinstance(store.client.ask(words), dict)
    (scope,) = store.door.scopes
    assert ("GET", asked) == (scope["method"], f"{scope['path']}?{scope['query_string'].decode()}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "ask as in"),
        (["deliverynote"], "ask as in"),
        (["../secrets"], "ask as in"),
        (["suppliers", "since"], "ask as in"),
        (["suppliers/12", "since=0"], "ask as in"),
        (["suppliers/a"], "'a' is no id"),
        (["suppliers/1/2"], "'1/2' is no id"),
        (["payment_terms/1"], "ask as in"),
        (["payment_terms", "page=1"], "payment_terms has no parameter page; it has since"),
        (["suppliers", "nmae=x"], "suppliers has no parameter nmae; it has query, since, page, limit, order"),
    ],
)
def test_a_question_that_the_vendor_does_not_document_is_not_asked(store: Store, words: list[str], said: str) -> None:
    with pytest.raises(SetAside, match=said):
        store.client.ask(words)
    assert [] == store.door.scopes


def test_what_the_vendor_refuses_to_show_is_told_in_his_words(store: Store) -> None:
    with pytest.raises(SetAside, match="901101 Purchase order not found"):
        store.client.purchase_order(4711)


def test_too_many_questions_are_tried_later(store: Store) -> None:
    store.sandbox.per_minute = 1
    store.client.check()
    with pytest.raises(TryLater, match="Too many requests") as raised:
        store.client.check()
    assert raised.value.refused


def test_faults_are_for_documents_and_not_for_questions(store: Store) -> None:
    store.sandbox.faults.append(Fault.HTML)
    store.client.check()
    assert [Fault.HTML] == list(store.sandbox.faults)
