"""The sandbox: its scenario, its documents, and the vendor's rules that it enforces."""

from __future__ import annotations

import gc
import hashlib
import re
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random

import httpx
import pytest

from models.values import Snapshot
from tests.workers.connectors.interpreter.conftest import Store, as_document, document, paper
from workers.connectors.interpreter import sandbox, sandbox_data
from workers.connectors.interpreter.sandbox_data import Row
from workers.errors import SetAside, TryLater

LOGIN = {"store": "3546", "api_key": "sandbox-key"}


def files_in_folder(store: Store) -> list[tuple[str, Path]]:
    """Kind and path of each file in the folder."""
    return sorted((path.parent.name, path) for path in store.sandbox.inbox.rglob("*.pdf"))


def interpret_all(store: Store) -> dict[tuple[str, str], Snapshot]:
    """Interpret every document in the folder once, and again after TryLater."""
    done: dict[tuple[str, str], Snapshot] = {}
    for kind, path in files_in_folder(store):
        given = as_document(path.read_bytes(), name=path.name)
        while (kind, given.sha256) not in done:
            with suppress(TryLater):
                done[kind, given.sha256] = store.interpret(given, kind)
    return done


def test_every_document_of_the_scenario_can_be_interpreted(store: Store) -> None:
    sentences = list(store.sandbox.scenario())
    assert len(sentences) >= 8
    assert len(sentences) == len(set(sentences))
    done = interpret_all(store)
    for kind in sandbox.KINDS:
        assert set(store.sandbox.dropped[kind]) == {sha256 for each, sha256 in done if each == kind}
        mirrored = {sha256: snapshot.raw for (each, sha256), snapshot in done.items() if each == kind}
        assert mirrored == store.sandbox.truth(kind)
    assert Counter(sha256 for _, sha256 in done) == store.sandbox.calls


def test_the_scenario_has_every_kind_of_document_that_mirrors_get_wrong(store: Store) -> None:
    list(store.sandbox.scenario())
    files = [path.read_bytes() for _, path in files_in_folder(store)]
    assert len(set(files)) < len(files), "a file comes twice"
    answers = [snapshot.raw for snapshot in interpret_all(store).values()]
    articles = [article for answer in answers for article in answer.get("articles", ())]
    assert len(store.sandbox.uploads) > len(answers), "one had to wait"
    assert any("deliveryFrom" in answer for answer in answers)
    assert any("articleId" not in article for article in articles)
    assert any(isinstance(article.get("orderedAmount"), str) for article in articles)
    assert {type(None), list} == {type(article["batches"]) for article in articles}
    assert {True, False} == {bool(article["batches"]) for article in articles if article["batches"] is not None}


def test_the_scenario_is_the_same_for_the_same_seed(store: Store, tmp_path: Path) -> None:
    other = sandbox.create(inbox=tmp_path / "other", now=store.clock).state.sandbox
    assert list(store.sandbox.scenario()) == list(other.scenario())
    assert store.sandbox.dropped == other.dropped


def test_everyday_edits_put_documents_into_the_folder(store: Store) -> None:
    random = Random(3)
    for _ in range(20):
        assert store.sandbox.edit(random)
    assert 20 == len(files_in_folder(store))
    assert len({path.read_bytes() for _, path in files_in_folder(store)}) < 20


def test_a_dropped_file_is_complete_and_looks_old(store: Store) -> None:
    sha256 = store.sandbox.drop("invoice", document("invoice").content)
    ((kind, path),) = files_in_folder(store)
    assert ("invoice", sha256) == (kind, hashlib.sha256(path.read_bytes()).hexdigest())
    assert path.stat().st_mtime < time.time() - 5
    assert [path] == [each for each in store.sandbox.inbox.rglob("*") if each.is_file()]


def test_the_default_folder_is_temporary() -> None:
    app = sandbox.create()
    folder = Path(app.state.sandbox.settings()["inbox"])
    assert {"deliverynote", "invoice"} == {each.name for each in folder.iterdir()}
    del app
    gc.collect()
    assert not folder.exists()


def test_equal_documents_have_equal_answers(store: Store) -> None:
    first, again, other = (store.interpret(document(number=number)).raw for number in (1, 1, 2))
    assert first == again
    assert first != other
    assert {document(number=1).sha256: 2, document(number=2).sha256: 1} == dict(store.sandbox.calls)


def test_the_answer_has_what_is_printed(store: Store) -> None:
    rows = (Row("A-(1)", "Takfärg \\ 10 l", 3, "0.10", "empty"), Row("", "Frakt (enligt avtal)"))
    raw = store.interpret(document(supplier="Åkerlund (Import) AB", order=1007, quoted=False, rows=rows)).raw
    assert (1007, "Åkerlund (Import) AB", 4) == (raw["id"], raw["supplierName"], raw["supplierId"])
    goods, text = raw["articles"]
    assert ("A-(1)", "Takfärg \\ 10 l", 3, []) == (
        goods["articleId"],
        goods["articleName"],
        goods["orderedAmount"],
        goods["batches"],
    )
    assert ("Frakt (enligt avtal)", False) == (text["articleName"], "articleId" in text)


def test_any_pdf_gets_an_answer(store: Store) -> None:
    raw = store.interpret(as_document(b"%PDF-1.7\nscanned\n%%EOF")).raw
    assert raw["articles"]
    assert raw == store.interpret(as_document(b"%PDF-1.7\nscanned\n%%EOF")).raw


def test_a_papers_pdf_has_a_correct_table_of_offsets() -> None:
    file = paper(supplier="Åkerlund (Import) AB").pdf()
    assert file.startswith(b"%PDF-1.4\n")
    assert file.endswith(b"%%EOF\n")
    table = int(re.findall(rb"startxref\n(\d+)\n", file)[0])
    assert file[table:].startswith(b"xref\n0 7\n0000000000 65535 f \n")
    offsets = [int(offset) for offset in re.findall(rb"(\d{10}) 00000 n \n", file[table:])]
    assert [b"%d 0 obj" % number for number in range(1, 7)] == [file[offset : offset + 7] for offset in offsets]
    (length,) = re.findall(rb"/Length (\d+) >>\nstream\n", file)
    stream = file.index(b"stream\n") + len(b"stream\n")
    assert b"\nendstream" == file[stream + int(length) :][:10]
    assert "Supplier: Åkerlund (Import) AB" in sandbox_data.printed_lines(file)


def test_requests_above_the_limit_are_refused_for_a_minute(store: Store) -> None:
    store.sandbox.per_minute = 2
    store.interpret(document(number=1))
    store.client.check()
    with pytest.raises(TryLater, match="Too many requests"):
        store.interpret(document(number=2))
    store.clock.advance(minutes=1)
    store.interpret(document(number=2))
    assert 1 == store.sandbox.calls[document(number=2).sha256]


@pytest.mark.parametrize(
    "body",
    [
        {"json": {"file": "x"}},
        {"files": [("file", ("a.pdf", b"%PDF-")), ("file", ("b.pdf", b"%PDF-"))]},
        {"files": [("document", ("a.pdf", b"%PDF-"))]},
        {"files": [("file", ("a.txt", b"hello"))]},
    ],
)
def test_anything_but_one_pdf_is_refused(store: Store, body: dict[str, object]) -> None:
    answer = httpx.post(f"{store.url}/v1/interpreter/invoice", headers=LOGIN, **body)  # type: ignore[arg-type]
    assert (400, 900101, "file") == (answer.status_code, answer.json()["errorCode"], answer.json()["errorField"])
    assert Counter() == store.sandbox.calls


def test_an_unknown_kind_is_not_found(store: Store) -> None:
    assert 404 == httpx.post(f"{store.url}/orders", headers=LOGIN).status_code
    assert 404 == httpx.get(f"{store.url}/v1/roles/", headers=LOGIN).status_code


def test_an_existing_order_is_accepted(store: Store) -> None:
    known = store.client.ask(["purchase_orders"])["purchaseOrders"]
    store.interpret(document(order_id=str(known[0]["id"])))
    with pytest.raises(SetAside, match="909002"):
        store.interpret(document(order_id="1"))
