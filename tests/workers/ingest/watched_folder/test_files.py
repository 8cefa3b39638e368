"""Which files of the folder are taken as documents, which are left, and which are parked as unusable."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.workers.ingest.document_harness import KIND, pdf
from tests.workers.ingest.watched_folder.conftest import CUT, KEY, ONE, again, put, tree, why

if TYPE_CHECKING:
    from tests.workers.ingest.document_harness import DocumentHarness
    from tests.workers.ingest.watched_folder.conftest import Connect


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


def test_people_who_may_read_the_folder_may_read_what_was_parked(six: DocumentHarness, folder: Path) -> None:
    for each in ("done", "parked"):
        (folder / each).rmdir()
    folder.chmod(0o2770)
    put(folder / "a.pdf", b"no PDF at all, though it ends like one\n%%EOF\n")
    umask = os.umask(0o077)
    try:
        again(six)
    finally:
        os.umask(umask)
    parked = folder / "parked"
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in (parked, folder / "done", *parked.glob("*.txt"))}
    assert {"parked": "0o770", "done": "0o770", "a.pdf.why.txt": "0o660"} == modes


def test_an_end_that_is_not_at_the_end_does_not_count(six: DocumentHarness, folder: Path) -> None:
    put(folder / "a.pdf", b"%PDF-1.7\n%%EOF\n" + b"x" * 1025, age=61)
    put(folder / "b.pdf", b"%PDF-1.7\n%%EOF" + b"x" * 1019, age=61)
    again(six)
    assert {"parked/a.pdf", "parked/a.pdf.why.txt", "b.pdf"} <= tree(folder)
    assert 1 == len(six.vendor.received)


def test_a_pdf_with_junk_before_and_nulls_after_is_sent_as_it_is(six: DocumentHarness, folder: Path) -> None:
    content = b"From: scanner\r\n\r\n" + ONE + b"\0" * 2000
    put(folder / "a.pdf", content)
    again(six)
    assert [hashlib.sha256(content).hexdigest()] == six.vendor.keys


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


def test_a_warning_may_name_what_is_no_text(six: DocumentHarness, folder: Path) -> None:
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.pdf")).mkdir()
    again(six)
    assert r"caf\udce9.pdf is no plain file" in six.column("warning", KIND)
