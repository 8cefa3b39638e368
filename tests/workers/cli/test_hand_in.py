"""Documents as a person at the command line meets them, with a vendor's stand-in over HTTP."""

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
import structlog
from typer.testing import CliRunner

from models.bookkeeping import documents, inbox
from models.db.database import Database
from tests.serving import served
from tests.workers.ingest.reader import pdf, sha256
from workers import cli, configuration, context
from workers.cli import settings_template
from workers.connectors import discovery
from workers.connectors.interpreter.sandbox import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer.testing import Result

NOTE = "deliverynote"
ONE = pdf("one")
KEY = sha256(ONE)
IN_DOUBT = [Fault.GATEWAY]


@pytest.fixture(autouse=True)
def _own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(configuration.VARIABLE, raising=False)
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def run(*words: str) -> Result:
    result = CliRunner().invoke(cli.app, list(words))
    assert "Traceback" not in result.output
    return result


def ok(*words: str) -> str:
    result = run(*words)
    assert 0 == result.exit_code, result.output
    return result.output


def refused(*words: str) -> str:
    result = run(*words)
    assert 1 == result.exit_code, result.output
    return " ".join(result.stderr.split())


@contextmanager
def installed(**options: Any) -> Iterator[Any]:
    """A migrated installation whose connection `goods_in` leads to the stand-in, which is yielded."""
    app = discovery.systems()["interpreter"].sandbox(inbox=Path("incoming").absolute())
    with served(app) as url:
        values = app.state.sandbox.settings() | {"url": url, "largest": 5000} | options
        books = settings_template.table(
            "books", {"system": "directo", "api_key": "k", "resources": ["items"], "url": url}
        )
        Path("erpmirror.toml").write_text(settings_template.table("goods_in", values) + "\n" + books, encoding="utf-8")
        ok("migrate")
        yield app.state.sandbox


@pytest.fixture
def sandbox() -> Iterator[Any]:
    with installed() as made:
        Path("a.pdf").write_bytes(ONE)
        yield made


def status(resource: str = NOTE) -> dict[str, Any]:
    rows = json.loads(ok("status", "--json"))
    [row] = [row for row in rows if (row["connection"], row["resource"]) == ("goods_in", resource)]
    return dict(row)


def state(content: bytes = ONE) -> str | None:
    database = Database(configuration.load().database.url)
    with database.read() as tx:
        found = documents.get(tx, connection="goods_in", kind=NOTE, sha256=sha256(content))
    database.close()
    return None if found is None else found.state.value


def park(sandbox: Any) -> None:
    """Hand in a document whose answer is lost."""
    sandbox.faults.extend(IN_DOUBT)
    assert "parked" in refused("hand-in", "goods_in", NOTE, "a.pdf")
    assert 1 == len(sandbox.uploads)


def test_a_document_is_handed_in_read_and_shown(sandbox: Any) -> None:
    said = ok("hand-in", "goods_in", NOTE, "a.pdf")
    assert f"a.pdf: new ({KEY})" in said
    raw = sandbox.truth(NOTE)[KEY]
    assert f"a.pdf: interpreted: {raw['supplierName']}, {len(raw['articles'])} articles" in said
    assert (1, 0, 0) == tuple(status()[name] for name in ("rows", "pending", "parked"))


def test_a_document_that_is_known_is_not_sent_again_and_shown_all_the_same(sandbox: Any) -> None:
    ok("hand-in", "goods_in", NOTE, "a.pdf")
    said = ok("hand-in", "goods_in", NOTE, "a.pdf")
    assert "a.pdf: known already: interpreted" in said
    assert "a.pdf: interpreted: " in said
    assert {KEY: 1} == dict(sandbox.calls)


def test_several_documents_are_handed_in_at_once_for_one_order(sandbox: Any) -> None:
    Path("b.pdf").write_bytes(pdf("two"))
    order = str(next(iter(sandbox._orders)))
    said = ok("hand-in", "goods_in", NOTE, "a.pdf", "b.pdf", "--order", order)
    assert 2 == said.count(": interpreted: ")
    assert {KEY: order, sha256(pdf("two")): order} == {each.sha256: each.order for each in sandbox.uploads}


def test_an_order_that_comes_too_late_is_told(sandbox: Any) -> None:
    ok("hand-in", "goods_in", NOTE, "a.pdf")
    assert "it was sent with no order" in ok("hand-in", "goods_in", NOTE, "a.pdf", "--order", "17")
    assert 1 == len(sandbox.uploads)


def test_a_name_that_is_no_text_is_shown_all_the_same(sandbox: Any) -> None:
    name = os.fsdecode(b"caf\xe9.pdf")
    Path(name).write_bytes(ONE)
    assert r"caf\udce9.pdf: interpreted" in ok("hand-in", "goods_in", NOTE, name)
    assert {KEY: 1} == dict(sandbox.calls)


def test_no_wait_leaves_it_to_the_workers(sandbox: Any) -> None:
    assert "new" in ok("hand-in", "goods_in", NOTE, "a.pdf", "--no-wait")
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
        (["goods_in", NOTE, "."], "this is no file; name the PDFs in it"),
        (["goods_in", NOTE, "a.pdf", "page.pdf"], "page.pdf: this is not a PDF"),
        (["goods_in", NOTE, "a.pdf", "large.pdf"], "large.pdf: it is larger than 5000 bytes; `largest`"),
        (["goods_in", NOTE, "a.pdf", "--order", "1" * 201], "at most 200 characters"),
    ],
)
def test_a_mistake_is_named_with_its_remedy_and_nothing_is_handed_in(
    sandbox: Any, words: list[str], expected: str
) -> None:
    Path("page.pdf").write_text("<html>")
    Path("large.pdf").write_bytes(ONE + b" " * 5000)
    assert expected in refused("hand-in", *words)
    assert ([], None) == (sandbox.uploads, state())


def test_every_file_that_is_wrong_is_named(sandbox: Any) -> None:
    Path("page.pdf").write_text("<html>")
    said = refused("hand-in", "goods_in", NOTE, "none.pdf", "page.pdf", "a.pdf")
    assert "none.pdf" in said
    assert "page.pdf" in said
    assert [] == sandbox.uploads


def test_a_document_in_doubt_says_so_and_is_sent_once_more_when_a_person_says_so(sandbox: Any) -> None:
    park(sandbox)
    assert "known already: parked" in run("hand-in", "goods_in", NOTE, "a.pdf").output
    ok("poll", "goods_in")
    assert 1 == len(sandbox.uploads)
    assert KEY in ok("parked", "list", "goods_in")
    assert (1, 0, 0) == tuple(status()[name] for name in ("parked", "pending", "rows"))
    assert "502" in status()["last_error"]
    ok("parked", "retry", "goods_in", NOTE, KEY)
    ok("poll", "goods_in")
    assert ("interpreted", 2) == (state(), len(sandbox.uploads))
    assert (0, 0, 1, None) == tuple(status()[name] for name in ("parked", "pending", "rows", "last_error"))


def test_a_parked_document_that_was_dropped_is_sent_when_it_is_handed_in_again(sandbox: Any) -> None:
    park(sandbox)
    ok("parked", "drop", "goods_in", NOTE, "--yes")
    ok("poll", "goods_in")
    assert (1, 0) == (len(sandbox.uploads), status()["parked"])
    ok("hand-in", "goods_in", NOTE, "a.pdf")
    assert ("interpreted", 2) == (state(), len(sandbox.uploads))


def test_another_order_may_be_named_for_what_is_parked(sandbox: Any) -> None:
    assert "Purchase order not found" in refused("hand-in", "goods_in", NOTE, "a.pdf", "--order", "999999")
    order = str(next(iter(sandbox._orders)))
    assert "parked" in refused("hand-in", "goods_in", NOTE, "a.pdf", "--order", order)
    ok("parked", "retry", "goods_in")
    ok("poll", "goods_in")
    assert ("interpreted", ["999999", order]) == (state(), [each.order for each in sandbox.uploads])


def test_nobody_waits_at_a_shut_gate_for_a_document_whose_sender_died(sandbox: Any) -> None:
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
    said: list[str] = []
    person = threading.Thread(target=lambda: said.append(refused("hand-in", "goods_in", NOTE, "a.pdf")), daemon=True)
    person.start()
    person.join(20)
    assert "a.pdf: sending" in "".join(said)
    assert [] == sandbox.uploads


def test_a_login_that_is_refused_parks_the_resource_and_leaves_the_document_unsent() -> None:
    with installed(api_key="wrong") as sandbox:
        Path("a.pdf").write_bytes(ONE)
        said = refused("hand-in", "goods_in", NOTE, "a.pdf")
        assert "a.pdf: waiting: " in said
        assert "parked retry" in said
        assert (1, {}) == (status()["parked"], dict(sandbox.calls))


def test_poll_looks_at_the_folder_now(sandbox: Any) -> None:
    ok("poll", "goods_in")
    key = sandbox.drop(NOTE, ONE)
    ok("poll", "goods_in", NOTE)
    assert {key: 1} == dict(sandbox.calls)
    ok("poll", "goods_in", NOTE)
    assert ["done/deliverynote 1.pdf"] == [
        str(p.relative_to(sandbox.inbox / NOTE)) for p in sandbox.inbox.rglob("*.pdf")
    ]


def test_status_shows_what_is_wrong_with_the_folder(sandbox: Any) -> None:
    (sandbox.inbox / NOTE).rmdir()
    (sandbox.inbox / NOTE).write_text("in the way")
    refused("poll", "goods_in")
    assert "must be able to read and change this folder" in status()["last_error"]


def test_status_warns_of_single_files(sandbox: Any) -> None:
    (sandbox.inbox / NOTE / "folder.pdf").mkdir()
    ok("poll", "goods_in")
    assert "folder.pdf is no plain file" in " ".join(ok("status").split())


def test_a_backfill_sends_nothing_again(sandbox: Any) -> None:
    ok("hand-in", "goods_in", NOTE, "a.pdf")
    park_me = pdf("two")
    Path("b.pdf").write_bytes(park_me)
    sandbox.faults.extend(IN_DOUBT)
    refused("hand-in", "goods_in", NOTE, "b.pdf")
    ok("backfill", "goods_in")
    ok("backfill", "goods_in", NOTE)
    assert 2 == len(sandbox.uploads)


def test_export_and_rebuild_work_on_what_was_read(sandbox: Any) -> None:
    ok("hand-in", "goods_in", NOTE, "a.pdf")
    before = ok("export", "goods_in", NOTE)
    assert KEY == json.loads(before)["key"]
    assert sandbox.truth(NOTE)[KEY]["poReference"] == json.loads(before)["raw"]["poReference"]
    assert "1 objects rebuilt" in ok("rebuild", "goods_in", NOTE)
    assert before == ok("export", "goods_in", NOTE)
    assert KEY in ok("export", "goods_in", NOTE, "--format", "csv")


def test_forget_forgets_documents_too(sandbox: Any) -> None:
    ok("hand-in", "goods_in", NOTE, "a.pdf")
    ok("hand-in", "goods_in", "invoice", "a.pdf")
    ok("forget", "goods_in", NOTE, "--yes")
    assert (None, 0, 1) == (state(), status()["rows"], status("invoice")["rows"])
    assert "a.pdf: new" in ok("hand-in", "goods_in", NOTE, "a.pdf")
    assert 3 == len(sandbox.uploads)


def test_forget_takes_what_waits_and_what_is_parked(sandbox: Any) -> None:
    park(sandbox)
    Path("b.pdf").write_bytes(pdf("two"))
    ok("hand-in", "goods_in", NOTE, "b.pdf", "--no-wait")
    ok("forget", "goods_in", "--yes")
    ok("poll", "goods_in")
    assert (None, None, 1) == (state(), state(pdf("two")), len(sandbox.uploads))
    assert (0, 0) == (status()["parked"], status()["pending"])


def test_files_in_the_folder_come_under_their_own_age(sandbox: Any) -> None:
    path = sandbox.inbox / NOTE / "a.pdf"
    path.write_bytes(ONE)
    ok("poll", "goods_in")
    assert [] == sandbox.uploads
    os.utime(path, (time.time() - 5, time.time() - 5))
    ok("poll", "goods_in")
    assert 1 == len(sandbox.uploads)
