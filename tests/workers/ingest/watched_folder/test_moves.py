"""Where a file is moved, and when: to `done` or `parked`, under a free name, once its document is settled."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.bookkeeping import parked
from tests.workers.ingest.document_harness import KIND, pdf
from tests.workers.ingest.watched_folder.conftest import KEY, ONE, again, put, tree, why
from workers.ingest import watched_folder

if TYPE_CHECKING:
    from tests.workers.ingest.document_harness import DocumentHarness


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
