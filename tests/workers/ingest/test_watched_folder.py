"""The watched folder, as scanners, people and other workers treat it."""

from __future__ import annotations

import os
import shutil
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.bookkeeping import folder_scans, parked, streams
from models.db import tables
from tests.workers.ingest import document_harness
from tests.workers.ingest.document_harness import KIND, pdf, sha256
from workers.ingest import watched_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from models.db.database import Database
    from tests.workers.ingest.document_harness import DocumentHarness

    Connect = Callable[..., AbstractContextManager[DocumentHarness]]

ONE = pdf("one")
KEY = sha256(ONE)
CUT = pdf("cut", end=b"")


@pytest.fixture
def connect(sqlite: Database, tmp_path: Path) -> Connect:
    return partial(document_harness.connected, sqlite, tmp_path, inbox="incoming")


@pytest.fixture
def six(connect: Connect) -> Iterator[DocumentHarness]:
    with connect() as connected:
        connected.work()
        yield connected


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "incoming" / KIND


def put(path: Path, content: bytes = ONE, *, age: float = 10) -> None:
    path.write_bytes(content)
    changed = time.time() - age
    os.utime(path, (changed, changed))


def again(six: DocumentHarness) -> None:
    """As if the next scan were due."""
    six.clock.advance(seconds=11)
    six.work()


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir() or path.is_symlink()}


def why(folder: Path, name: str) -> str:
    return (folder / "parked" / f"{name}.why.txt").read_text(encoding="utf-8")


def test_the_folders_are_made(six: DocumentHarness, tmp_path: Path) -> None:
    folders = {str(path.relative_to(tmp_path)) for path in (tmp_path / "incoming").rglob("*")}
    assert {f"incoming/{kind}{below}" for kind in (KIND, "invoice") for below in ("", "/done", "/parked")} == folders
    assert six.column("last_error", KIND) is None


@pytest.mark.parametrize("name", ["a.pdf", "A.PDF", "Lieferschein Nr. 7 – Ä.Pdf", "-rf.pdf", ".hidden.pdf"])
def test_a_whole_pdf_is_interpreted_and_moves_to_done(six: DocumentHarness, folder: Path, name: str) -> None:
    put(folder / name)
    again(six)
    assert [(KIND, KEY, None)] == six.vendor.received
    again(six)
    assert {f"done/{name}"} == tree(folder)
    assert ONE == (folder / "done" / name).read_bytes()


def test_the_work_session_that_finds_a_file_goes_on_with_it(six: DocumentHarness, folder: Path) -> None:
    put(folder / "a.pdf")
    six.clock.advance(seconds=11)
    six.full_sync()
    assert "interpreted" == six.state(ONE)


def test_each_kind_has_its_folder(six: DocumentHarness, folder: Path) -> None:
    put(folder.parent / "invoice" / "a.pdf")
    again(six)
    assert [("invoice", KEY, None)] == six.vendor.received


@pytest.mark.parametrize(
    ("content", "age"),
    [(ONE, 0), (CUT, 0), (CUT, 30), (b"", 30), (b"%PD", 30), (ONE, -1), (CUT, -1000)],
    ids=["just now", "under way", "slowly under way", "begun", "hardly begun", "clock askew", "from the future"],
)
def test_a_file_that_may_still_be_being_written_is_left(
    six: DocumentHarness, folder: Path, content: bytes, age: float
) -> None:
    put(folder / "a.pdf", content, age=age)
    again(six)
    assert ({"a.pdf"}, []) == (tree(folder), six.vendor.received)


def test_a_whole_file_from_the_future_is_interpreted(six: DocumentHarness, folder: Path) -> None:
    put(folder / "a.pdf", age=-1000)
    again(six)
    assert [KEY] == six.vendor.keys


def test_a_file_that_arrived_slowly_is_interpreted_once_it_is_whole(six: DocumentHarness, folder: Path) -> None:
    put(folder / "a.pdf", ONE[:12], age=30)
    again(six)
    put(folder / "a.pdf")
    again(six)
    assert [KEY] == six.vendor.keys


@pytest.mark.parametrize(
    ("content", "age", "words"),
    [
        (b"<html>", 3, "does not begin like a PDF"),
        (b"", 61, "does not begin like a PDF"),
        (CUT, 61, "cut off"),
        (pdf("x" * 1000), 3, "larger than 500 bytes; `largest`"),
        (b"%PDF-1.7\n%%EOF" + b"x" * 1025, 61, "larger than"),
    ],
    ids=["no PDF", "empty", "no end", "too large", "both"],
)
def test_what_is_no_usable_pdf_is_parked_with_the_reason_beside_it(
    connect: Connect, folder: Path, content: bytes, age: float, words: str
) -> None:
    with connect(largest=500) as six:
        six.work()
        put(folder / "a.pdf", content, age=age)
        again(six)
        assert {"parked/a.pdf", "parked/a.pdf.why.txt"} == tree(folder)
        assert words in why(folder, "a.pdf")
        assert ([], 0) == (six.vendor.received, six.count("documents"))


def test_an_end_that_is_not_at_the_end_does_not_count(six: DocumentHarness, folder: Path) -> None:
    put(folder / "a.pdf", b"%PDF-1.7\n%%EOF\n" + b"x" * 1025, age=61)
    put(folder / "b.pdf", b"%PDF-1.7\n%%EOF" + b"x" * 1019, age=61)
    again(six)
    assert {"parked/a.pdf", "parked/a.pdf.why.txt", "b.pdf"} <= tree(folder)
    assert 1 == len(six.vendor.received)


def test_a_document_that_is_parked_takes_its_file_along(six: DocumentHarness, folder: Path) -> None:
    six.vendor.instead.append((400, {}, "no supplier"))
    put(folder / "a.pdf")
    again(six)
    again(six)
    assert {"parked/a.pdf", "parked/a.pdf.why.txt"} == tree(folder)
    assert "no supplier" in why(folder, "a.pdf")
    assert f"erpmirror parked retry six {KIND} {KEY}" in why(folder, "a.pdf")


def test_a_parked_document_is_not_sent_again_because_its_file_is_there_again(
    six: DocumentHarness, folder: Path
) -> None:
    six.vendor.instead.append((400, {}, "no supplier"))
    put(folder / "a.pdf")
    again(six)
    again(six)
    put(folder / "a.pdf")
    again(six)
    with six.database.begin() as tx:
        parked.drop(tx, connection="six")
    put(folder / "a.pdf")
    again(six)
    assert [KEY] == six.vendor.keys
    assert {"a.pdf", "a (2).pdf", "a (3).pdf"} == {path.name for path in (folder / "parked").glob("*.pdf")}
    assert "dropped" in why(folder, "a (3).pdf")


def test_a_file_whose_document_waits_or_is_being_sent_is_left(six: DocumentHarness, folder: Path) -> None:
    six.vendor.instead.append((429, {"Retry-After": "3600"}, "slowly"))
    put(folder / "a.pdf")
    again(six)
    again(six)
    assert ("waiting", {"a.pdf"}, 1) == (six.state(ONE), tree(folder), len(six.vendor.received))
    six.clock.advance(hours=1)
    six.vendor.meanwhile = lambda: again_by_another(six)
    six.sync()
    assert {"a.pdf"} == tree(folder)
    again(six)
    assert {"done/a.pdf"} == tree(folder)


def again_by_another(six: DocumentHarness) -> None:
    six.change(KIND, full_due_at=six.clock.now)
    six.full_sync()
    assert "sending" == six.state(ONE)


def test_a_file_that_was_handed_in_another_way_moves_on_too(six: DocumentHarness, folder: Path) -> None:
    six.hand_in(ONE)
    six.work()
    put(folder / "copy.pdf")
    again(six)
    assert ({"done/copy.pdf"}, [KEY]) == (tree(folder), six.vendor.keys)


def test_no_file_in_done_or_parked_is_overwritten(six: DocumentHarness, folder: Path) -> None:
    for text in ("one", "two", "three"):
        put(folder / "a.pdf", pdf(text))
        again(six)
        again(six)
    assert {"done/a.pdf", "done/a (2).pdf", "done/a (3).pdf"} == tree(folder)
    assert {pdf(text) for text in ("one", "two", "three")} == {
        path.read_bytes() for path in (folder / "done").iterdir()
    }


def test_a_name_as_long_as_the_file_system_takes_is_moved_and_explained(six: DocumentHarness, folder: Path) -> None:
    name = "ä" * 125 + ".pdf"
    put(folder / name, b"<html>")
    again(six)
    [moved] = (folder / "parked").glob("*.pdf")
    assert b"<html>" == moved.read_bytes()
    assert (folder / "parked" / f"{moved.name}.why.txt").exists()


def test_a_name_that_is_no_text_is_accepted(six: DocumentHarness, folder: Path) -> None:
    put(Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.pdf")))
    again(six)
    again(six)
    assert [KEY] == six.vendor.keys
    assert [b"caf\xe9.pdf"] == [os.fsencode(path.name) for path in (folder / "done").iterdir()]


def test_a_warning_may_name_what_is_no_text(six: DocumentHarness, folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.pdf")).mkdir()
    again(six)
    assert r"caf\udce9.pdf is no plain file" in six.column("warning", KIND)


@pytest.mark.parametrize("how", ["renamed over", "written over"])
def test_a_file_that_took_the_place_of_the_one_that_was_seen_is_put_back(folder: Path, how: str) -> None:
    """A scanner may use one name for all: the next document must not be moved by the state of the last one."""
    (folder / "done").mkdir(parents=True)
    put(folder / "scan.pdf")
    seen = (folder / "scan.pdf").lstat()
    if how == "renamed over":
        put(folder / "next.part", pdf("two"))
        (folder / "next.part").rename(folder / "scan.pdf")
    else:
        put(folder / "scan.pdf", pdf("two"), age=5)
    assert watched_folder._move(folder / "scan.pdf", folder / "done", seen) is None
    assert {"scan.pdf"} == tree(folder)
    assert pdf("two") == (folder / "scan.pdf").read_bytes()


def test_only_plain_files_with_the_right_ending_are_taken(six: DocumentHarness, folder: Path, tmp_path: Path) -> None:
    put(tmp_path / "secret.pdf")
    (folder / "link.pdf").symlink_to(tmp_path / "secret.pdf")
    (folder / "folder.pdf").mkdir()
    os.mkfifo(folder / "pipe.pdf")
    put(folder / "note.txt")
    put(folder / "a.pdf.part")
    again(six)
    assert ([], 0) == (six.vendor.received, six.count("documents"))
    assert {"link.pdf", "pipe.pdf", "note.txt", "a.pdf.part"} == tree(folder)
    warning = six.column("warning", KIND)
    assert "folder.pdf is no plain file" in warning
    assert "(2 more)" in warning


def test_a_file_that_cannot_be_moved_is_reported_and_stops_no_other(six: DocumentHarness, folder: Path) -> None:
    (folder / "done").rmdir()
    (folder / "done").write_text("in the way")
    put(folder / "a.pdf")
    put(folder / "b.pdf", b"<html>")
    again(six)
    again(six)
    assert {"done", "a.pdf", "parked/b.pdf", "parked/b.pdf.why.txt"} == tree(folder)
    assert "done cannot be read, made or moved" in six.column("warning", KIND)
    (folder / "done").unlink()
    again(six)
    assert "done/a.pdf" in tree(folder)
    assert (None, [KEY]) == (six.column("warning", KIND), six.vendor.keys)


def test_a_folder_that_cannot_be_scanned_is_an_error_with_a_remedy_and_recovers(
    six: DocumentHarness, folder: Path
) -> None:
    before = six.column("last_read_at", KIND)
    shutil.rmtree(folder)
    folder.write_text("no folder")
    again(six)
    assert "must be able to read and change this folder" in six.column("last_error", KIND)
    assert before == six.column("last_read_at", KIND)
    folder.unlink()
    again(six)
    assert (None, {"done", "parked"}) == (six.column("last_error", KIND), {path.name for path in folder.iterdir()})


@pytest.mark.parametrize("fails", [False, True], ids=["well", "failing"])
def test_a_scan_leaves_the_reason_of_a_resource_that_was_parked_since(
    six: DocumentHarness, folder: Path, *, fails: bool
) -> None:
    begun = six.stream(KIND)
    six.vendor.instead.append((401, {}, "credentials do not match"))
    six.hand_in(ONE)
    six.sync()
    if fails:
        shutil.rmtree(folder)
        folder.write_text("no folder")
    watched_folder.scan(six.context, begun, began_at=six.clock.now)
    assert "parked" == six.stream(KIND).state
    assert "credentials do not match" in six.column("last_error", KIND)


def test_a_scan_requested_while_one_failed_is_still_due(six: DocumentHarness, folder: Path) -> None:
    begun = six.stream(KIND)
    six.clock.advance(seconds=1)
    with six.database.begin() as tx:
        streams.poll_now(tx, connection="six", resource=KIND)
    shutil.rmtree(folder)
    folder.write_text("no folder")
    watched_folder.scan(six.context, begun, began_at=six.clock.now)
    assert six.clock.now == six.stream(KIND).full_due_at
    assert "must be able to read and change" in six.column("last_error", KIND)


def test_a_connection_without_a_folder_scans_nothing_and_is_complete(sqlite: Database, tmp_path: Path) -> None:
    with document_harness.connected(sqlite, tmp_path) as six:
        six.work()
        assert (six.clock.now, None) == (six.column("complete_as_of", KIND), six.column("last_error", KIND))
        assert not (tmp_path / "incoming").exists()


def test_a_scan_leaves_no_run_and_plans_the_next(six: DocumentHarness) -> None:
    assert 0 == six.count("runs")
    due = six.stream(KIND).full_due_at
    assert six.clock.now < due
    again(six)
    assert due < six.stream(KIND).full_due_at


def test_it_is_complete_once_nothing_that_was_handed_in_before_waits(six: DocumentHarness, folder: Path) -> None:
    before = six.column("complete_as_of", KIND)
    six.vendor.instead.append((400, {}, "no supplier"))
    put(folder / "a.pdf")
    again(six)
    seen = six.clock.now
    again(six)
    assert before == six.column("complete_as_of", KIND)
    six.retry(KEY, resource=KIND)
    six.work()
    assert seen == six.column("complete_as_of", KIND)
    again(six)
    assert six.clock.now == six.column("complete_as_of", KIND)


def test_it_becomes_complete_also_where_something_always_waits(six: DocumentHarness) -> None:
    """Each scan finds a document waiting that was not there at the scan before."""
    before = six.column("complete_as_of", KIND)
    for number in range(6):
        content = pdf(str(number))
        six.vendor.instead.append((429, {"Retry-After": "15"}, "slowly"))
        six.hand_in(content)
        six.sync()
        six.clock.advance(seconds=11)
        six.full_sync()
        six.clock.advance(seconds=11)
        six.sync()
        six.sync()
    assert before < six.column("complete_as_of", KIND)


def test_a_backfill_sends_nothing_again(six: DocumentHarness, folder: Path) -> None:
    put(folder / "a.pdf")
    again(six)
    put(folder / "a.pdf")
    with six.database.begin() as tx:
        streams.backfill_now(tx, connection="six")
    six.work()
    assert ([KEY], False) == (six.vendor.keys, six.column("full_requested", KIND))
    again(six)
    assert [KEY] == six.vendor.keys


def test_a_scan_requested_during_a_scan_is_still_due(six: DocumentHarness, folder: Path) -> None:
    stale = six.stream(KIND)
    with six.database.begin() as tx:
        six.clock.advance(seconds=1)
        streams.poll_now(tx, connection="six", resource=KIND)
        now = six.clock.now
        later = timedelta(hours=1) + now
        folder_scans.finish(tx, stale, began_at=now, next_at=later, now=now, warning=None)
    assert now == six.stream(KIND).full_due_at
    put(folder / "a.pdf")
    six.work()
    assert [KEY] == six.vendor.keys


def test_several_workers_that_scan_at_once_have_every_file_interpreted_once(database: Database, tmp_path: Path) -> None:
    with document_harness.connected(database, tmp_path, inbox="incoming", concurrency=3) as six:
        six.work()
        folder = tmp_path / "incoming" / KIND
        contents = [pdf(str(number)) for number in range(5)]
        for round_ in range(3):
            for number, content in enumerate(contents):
                put(folder / f"{round_}-{number}.pdf", content)
            six.change(KIND, full_due_at=six.clock.now)
            workers = [six.in_thread(six.full_sync) for _ in range(4)]
            for worker in workers:
                worker.join(60)
            six.work()
            again(six)
            again(six)
        assert sorted(map(sha256, contents)) == sorted(six.vendor.keys)
        assert sorted(contents * 3) == sorted(path.read_bytes() for path in (folder / "done").iterdir())
        with six.database.read() as tx:
            assert [] == tx.execute(tables.inbox.select()).all()


def test_the_folder_is_scanned_while_the_vendor_is_busy(connect: Connect, folder: Path) -> None:
    with connect(concurrency=1) as six:
        six.work()
        six.vendor.may_answer.clear()
        six.hand_in(ONE)
        worker = six.in_thread(six.sync)
        assert six.vendor.busy.wait(20)
        six.hand_in(pdf("two"))
        put(folder / "no.pdf", b"<html>")
        six.clock.advance(seconds=11)
        six.full_sync()
        assert "parked/no.pdf" in tree(folder)
        six.vendor.may_answer.set()
        worker.join(30)
