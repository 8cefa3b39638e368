"""Uploads: the request that is sent, and the snapshot that comes back."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from models.values import Document, Snapshot
from tests.workers.connectors.interpreter.conftest import Store, as_document, document, resource


def test_the_snapshot_is_the_vendors_whole_answer_under_the_documents_hash(store: Store) -> None:
    given = document("invoice")
    snapshot = store.interpret(given, "invoice")
    assert hashlib.sha256(given.content).hexdigest() == given.sha256 == snapshot.key
    assert {given.sha256: snapshot.raw} == store.sandbox.truth("invoice")
    assert ({}, None) == (store.sandbox.truth("deliverynote"), snapshot.listed)


def test_the_login_is_sent_in_the_vendors_headers(store: Store) -> None:
    store.interpret()
    sent = store.recorder.headers()
    assert ("3546", "sandbox-key") == (sent["store"], sent["api_key"])
    assert not {"user_id", "user_token", "authorization"} & sent.keys()


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("Följesedel å.pdf", "Följesedel å.pdf"),
        ('a"b\r\nX: 1.pdf', "a%22b%0D%0AX: 1.pdf"),
        ("caf\udce9.pdf", "caf?.pdf"),
    ],
)
def test_no_file_name_breaks_the_request(store: Store, name: str, sent: str) -> None:
    store.interpret(document(name=name))
    assert [sent] == [upload.name for upload in store.sandbox.uploads]


def test_the_content_is_sent_unchanged(store: Store) -> None:
    content = b"%PDF-1.7\r\n" + bytes(range(256)) * 4096 + b"\r\n--boundary\r\n%%EOF"
    store.interpret(as_document(content))
    assert [hashlib.sha256(content).hexdigest()] == [upload.sha256 for upload in store.sandbox.uploads]


def test_every_request_uses_a_new_connection(store: Store) -> None:
    store.client.check()
    store.interpret(document(number=1))
    store.interpret(document(number=2))
    assert 3 == len({scope["client"] for scope in store.recorder.scopes})
    assert "close" == store.recorder.headers()["connection"]


def test_documents_are_interpreted_in_parallel_and_each_gets_its_own_answer(store: Store) -> None:
    store.sandbox.latency = 0.3
    documents = [document(number=number, order=1001 + number) for number in range(8)]

    def interpret(given: Document) -> Snapshot:
        with store.other() as client:
            return client.interpret(resource(), given)

    with ThreadPoolExecutor(4) as threads:
        snapshots = list(threads.map(interpret, documents))
    assert [1001 + number for number in range(8)] == [snapshot.raw["id"] for snapshot in snapshots]
    assert dict.fromkeys((each.sha256 for each in documents), 1) == dict(store.sandbox.calls)
    assert 4 == store.sandbox.max_parallel


def test_an_empty_order_is_not_sent(store: Store) -> None:
    given = document("invoice")
    store.interpret(Document(given.sha256, given.name, given.content, ""), "invoice")
    assert [None] == [upload.order for upload in store.sandbox.uploads]
