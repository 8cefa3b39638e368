"""`hand-in` and the other verbs on documents, against the Interpreter's sandbox."""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from models.bookkeeping import documents, inbox
from models.db.database import Database
from tests.serving import served
from tests.workers.cli.runner import ok, refused, run, write_settings
from tests.workers.ingest.document_harness import pdf, sha256
from workers import configuration, context
from workers.cli import settings_template
from workers.connectors import discovery
from workers.connectors.interpreter.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTE = "deliverynote"
ONE = pdf("one")
KEY = sha256(ONE)
LOST_REPLY = [Fault.GATEWAY]


@contextmanager
def installed(**options: Any) -> Iterator[Any]:
    """A migrated installation with a connection `goods_in` to the sandbox, which is yielded."""
    app = discovery.systems()["interpreter"].sandbox(inbox=Path("incoming").absolute())
    with served(app) as url:
        values = app.state.sandbox.settings() | {"url": url, "largest": 5000} | options
        books = settings_template.table(
            "books", {"system": "directo", "api_key": "k", "resources": ["items"], "url": url}
        )
        write_settings(settings_template.table("goods_in", values) + "\n" + books)
        ok("migrate")
        yield app.state.sandbox


@pytest.fixture
def sandbox() -> Iterator[Any]:
    with installed() as made:
        Path("a.pdf").write_bytes(ONE)
        yield made


def status(resource: str = NOTE) -> dict[str, Any]:
    rows = json.loads(ok("status", "--json").output)
    [row] = [row for row in rows if (row["connection"], row["resource"]) == ("goods_in", resource)]
    return dict(row)


def state(content: bytes = ONE) -> str | None:
    database = Database(configuration.load().database.url)
    with database.read() as tx:
        found = documents.get(tx, connection="goods_in", kind=NOTE, sha256=sha256(content))
    database.close()
    return None if found is None else found.state.value


def park(sandbox: Any) -> None:
    """Hand in a document whose reply is lost."""
    sandbox.faults.extend(LOST_REPLY)
    assert "parked" in refused("hand-in", "goods_in", NOTE, "a.pdf")
    assert 1 == len(sandbox.uploads)


def test_a_document_is_handed_in_and_its_content_printed(sandbox: Any) -> None:
    output = ok("hand-in", "goods_in", NOTE, "a.pdf").output
    assert f"a.pdf: new ({KEY})" in output
    raw = sandbox.truth(NOTE)[KEY]
    assert f"a.pdf: interpreted: {raw['supplierName']}, {len(raw['articles'])} articles" in output
    assert (1, 0, 0) == tuple(status()[name] for name in ("rows", "pending", "parked"))


def test_a_known_document_is_printed_and_not_sent_again(sandbox: Any) -> None:
    ok("hand-in", "goods_in", NOTE, "a.pdf")
    output = ok("hand-in", "goods_in", NOTE, "a.pdf").output
    assert "a.pdf: known already: interpreted" in output
    assert "a.pdf: interpreted: " in output
    assert {KEY: 1} == dict(sandbox.calls)


def test_several_documents_are_handed_in_at_once_for_one_order(sandbox: Any) -> None:
    Path("b.pdf").write_bytes(pdf("two"))
    order = str(next(iter(sandbox._orders)))
    output = ok("hand-in", "goods_in", NOTE, "a.pdf", "b.pdf", "--order", order).output
    assert 2 == output.count(": interpreted: ")
    assert {KEY: order, sha256(pdf("two")): order} == {each.sha256: each.order for each in sandbox.uploads}


def test_a_note_names_the_order_that_a_document_was_sent_with(sandbox: Any) -> None:
    ok("hand-in", "goods_in", NOTE, "a.pdf")
    assert "it was sent with no order" in ok("hand-in", "goods_in", NOTE, "a.pdf", "--order", "17").output
    assert 1 == len(sandbox.uploads)


def test_a_file_name_that_is_not_text_is_printed_escaped(sandbox: Any) -> None:
    name = os.fsdecode(b"caf\xe9.pdf")
    Path(name).write_bytes(ONE)
    assert r"caf\udce9.pdf: interpreted" in ok("hand-in", "goods_in", NOTE, name).output
    assert {KEY: 1} == dict(sandbox.calls)


def test_no_wait_leaves_the_document_to_the_workers(sandbox: Any) -> None:
    assert "new" in ok("hand-in", "goods_in", NOTE, "a.pdf", "--no-wait").output
    assert ([], "waiting", 1) == (sandbox.uploads, state(), status()["pending"])
    ok("poll", "goods_in")
    assert "interpreted" == state()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["goods_inn", NOTE, "a.pdf"], 'no connection "goods_inn" in'),
        (["goods_inn", NOTE, "a.pdf"], 'did you mean "goods_in"?'),
        (["goods_in", "delivery_note", "a.pdf"], 'did you mean "deliverynote"?'),
        (["goods_in", "x", "a.pdf"], "there are: deliverynote, invoice"),
        (["books", "items", "a.pdf"], "books is a connection to directo, which takes no documents"),
        (["goods_in", NOTE, "none.pdf"], "none.pdf: there is no such file"),
        (["goods_in", NOTE, "."], "this is not a file; name the PDFs in it"),
        (["goods_in", NOTE, "a.pdf", "page.pdf"], "page.pdf: this is not a PDF"),
        (["goods_in", NOTE, "a.pdf", "large.pdf"], "large.pdf: it is larger than 5000 bytes; `largest`"),
        (["goods_in", NOTE, "a.pdf", "--order", "1" * 201], "at most 200 characters"),
    ],
)
def test_a_mistake_is_an_error_with_its_remedy_and_nothing_is_handed_in(
    sandbox: Any, words: list[str], expected: str
) -> None:
    Path("page.pdf").write_text("<html>")
    Path("large.pdf").write_bytes(ONE + b" " * 5000)
    assert expected in refused("hand-in", *words)
    assert ([], None) == (sandbox.uploads, state())


def test_the_error_names_every_wrong_file(sandbox: Any) -> None:
    Path("page.pdf").write_text("<html>")
    output = refused("hand-in", "goods_in", NOTE, "none.pdf", "page.pdf", "a.pdf")
    assert "none.pdf" in output
    assert "page.pdf" in output
    assert [] == sandbox.uploads


def test_a_document_whose_reply_is_lost_is_parked_and_sent_again_by_retry(sandbox: Any) -> None:
    park(sandbox)
    assert "known already: parked" in run("hand-in", "goods_in", NOTE, "a.pdf").output
    ok("poll", "goods_in")
    assert 1 == len(sandbox.uploads)
    assert KEY in ok("parked", "list", "goods_in").output
    assert (1, 0, 0) == tuple(status()[name] for name in ("parked", "pending", "rows"))
    assert "502" in status()["last_error"]
    ok("parked", "retry", "goods_in", NOTE, KEY)
    ok("poll", "goods_in")
    assert ("interpreted", 2) == (state(), len(sandbox.uploads))
    assert (0, 0, 1, None) == tuple(status()[name] for name in ("parked", "pending", "rows", "last_error"))


def test_a_dropped_document_is_sent_when_it_is_handed_in_again(sandbox: Any) -> None:
    park(sandbox)
    ok("parked", "drop", "goods_in", NOTE, "--yes")
    ok("poll", "goods_in")
    assert (1, 0) == (len(sandbox.uploads), status()["parked"])
    ok("hand-in", "goods_in", NOTE, "a.pdf")
    assert ("interpreted", 2) == (state(), len(sandbox.uploads))


def test_a_parked_document_may_be_handed_in_with_another_order(sandbox: Any) -> None:
    assert "Purchase order not found" in refused("hand-in", "goods_in", NOTE, "a.pdf", "--order", "999999")
    order = str(next(iter(sandbox._orders)))
    assert "parked" in refused("hand-in", "goods_in", NOTE, "a.pdf", "--order", order)
    ok("parked", "retry", "goods_in")
    ok("poll", "goods_in")
    assert ("interpreted", ["999999", order]) == (state(), [each.order for each in sandbox.uploads])


def test_hand_in_does_not_wait_for_a_closed_gate_if_the_sender_of_the_document_died(sandbox: Any) -> None:
    ok("hand-in", "goods_in", NOTE, "a.pdf", "--no-wait")
    loaded = configuration.load()
    database = Database(loaded.database.url)
    gate = context.connection_context(database, loaded, "goods_in").gate
    with database.begin() as tx:
        now = database.now(tx)
        [item] = inbox.due(tx, connection="goods_in", now=now)
        documents.begin_sending(tx, item, now=now, until=now)
    lease = gate.acquire()
    with database.begin() as tx:
        gate.release_and_back_off(tx, lease, reason="slowly", after=timedelta(hours=1), counts=True)
    database.close()
    messages: list[str] = []
    command = threading.Thread(
        target=lambda: messages.append(refused("hand-in", "goods_in", NOTE, "a.pdf")), daemon=True
    )
    command.start()
    command.join(20)
    assert "a.pdf: sending" in "".join(messages)
    assert [] == sandbox.uploads


def test_a_refused_login_parks_the_resource_and_the_document_stays_unsent() -> None:
    with installed(api_key="wrong") as sandbox:
        Path("a.pdf").write_bytes(ONE)
        output = refused("hand-in", "goods_in", NOTE, "a.pdf")
        assert "a.pdf: waiting: " in output
        assert "parked retry" in output
        assert (1, {}) == (status()["parked"], dict(sandbox.calls))


def test_poll_scans_the_watched_folder(sandbox: Any) -> None:
    ok("poll", "goods_in")
    key = sandbox.drop(NOTE, ONE)
    ok("poll", "goods_in", NOTE)
    assert {key: 1} == dict(sandbox.calls)
    ok("poll", "goods_in", NOTE)
    assert ["done/deliverynote 1.pdf"] == [
        str(p.relative_to(sandbox.inbox / NOTE)) for p in sandbox.inbox.rglob("*.pdf")
    ]


def test_status_shows_the_error_of_an_unusable_folder(sandbox: Any) -> None:
    (sandbox.inbox / NOTE).rmdir()
    (sandbox.inbox / NOTE).write_text("in the way")
    refused("poll", "goods_in")
    assert "must be able to read and change this folder" in status()["last_error"]


def test_status_warns_of_files_that_cannot_be_read(sandbox: Any) -> None:
    (sandbox.inbox / NOTE / "folder.pdf").mkdir()
    ok("poll", "goods_in")
    assert "folder.pdf is no plain file" in " ".join(ok("status").output.split())


def test_a_backfill_sends_nothing_again(sandbox: Any) -> None:
    ok("hand-in", "goods_in", NOTE, "a.pdf")
    park_me = pdf("two")
    Path("b.pdf").write_bytes(park_me)
    sandbox.faults.extend(LOST_REPLY)
    refused("hand-in", "goods_in", NOTE, "b.pdf")
    ok("backfill", "goods_in")
    ok("backfill", "goods_in", NOTE)
    assert 2 == len(sandbox.uploads)


def test_export_and_rebuild_of_documents(sandbox: Any) -> None:
    ok("hand-in", "goods_in", NOTE, "a.pdf")
    before = ok("export", "goods_in", NOTE).output
    assert KEY == json.loads(before)["key"]
    assert sandbox.truth(NOTE)[KEY]["poReference"] == json.loads(before)["raw"]["poReference"]
    assert "1 objects rebuilt" in ok("rebuild", "goods_in", NOTE).output
    assert before == ok("export", "goods_in", NOTE).output
    assert KEY in ok("export", "goods_in", NOTE, "--format", "csv").output


def test_forget_removes_documents_too(sandbox: Any) -> None:
    ok("hand-in", "goods_in", NOTE, "a.pdf")
    ok("hand-in", "goods_in", "invoice", "a.pdf")
    ok("forget", "goods_in", NOTE, "--yes")
    assert (None, 0, 1) == (state(), status()["rows"], status("invoice")["rows"])
    assert "a.pdf: new" in ok("hand-in", "goods_in", NOTE, "a.pdf").output
    assert 3 == len(sandbox.uploads)


def test_forget_removes_waiting_and_parked_documents(sandbox: Any) -> None:
    park(sandbox)
    Path("b.pdf").write_bytes(pdf("two"))
    ok("hand-in", "goods_in", NOTE, "b.pdf", "--no-wait")
    ok("forget", "goods_in", "--yes")
    ok("poll", "goods_in")
    assert (None, None, 1) == (state(), state(pdf("two")), len(sandbox.uploads))
    assert (0, 0) == (status()["parked"], status()["pending"])


def test_a_file_in_the_folder_is_sent_when_it_is_a_few_seconds_old(sandbox: Any) -> None:
    path = sandbox.inbox / NOTE / "a.pdf"
    path.write_bytes(ONE)
    ok("poll", "goods_in")
    assert [] == sandbox.uploads
    os.utime(path, (time.time() - 5, time.time() - 5))
    ok("poll", "goods_in")
    assert 1 == len(sandbox.uploads)
