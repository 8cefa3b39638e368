"""When the folder is scanned, what a failed scan leaves, and as of when it is complete."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.bookkeeping import folder_scans, streams
from models.db import tables
from tests.workers.ingest import document_harness
from tests.workers.ingest.document_harness import KIND, pdf, sha256
from tests.workers.ingest.watched_folder.conftest import KEY, ONE, again, put, tree
from workers.ingest import watched_folder

if TYPE_CHECKING:
    from models.db.database import Database
    from tests.workers.ingest.document_harness import DocumentHarness
    from tests.workers.ingest.watched_folder.conftest import Connect


def test_the_folders_are_made(six: DocumentHarness, tmp_path: Path) -> None:
    folders = {str(path.relative_to(tmp_path)) for path in (tmp_path / "incoming").rglob("*")}
    assert {f"incoming/{kind}{below}" for kind in (KIND, "invoice") for below in ("", "/done", "/parked")} == folders
    assert six.column("last_error", KIND) is None


def test_a_scan_leaves_no_run_and_plans_the_next(six: DocumentHarness) -> None:
    assert 0 == six.count("runs")
    due = six.stream(KIND).full_due_at
    assert six.clock.now < due
    again(six)
    assert due < six.stream(KIND).full_due_at


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


def test_a_connection_without_a_folder_scans_nothing_and_is_complete(sqlite: Database, tmp_path: Path) -> None:
    with document_harness.connected(sqlite, tmp_path) as six:
        six.work()
        assert (six.clock.now, None) == (six.column("complete_as_of", KIND), six.column("last_error", KIND))
        assert not (tmp_path / "incoming").exists()


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
