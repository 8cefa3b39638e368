"""The whole mirror of Directo: codes that its filters cannot say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from tests.mirroring import Mirror, mirrored
from tests.workers.connectors.directo.conftest import options
from workers.connectors.directo import resources

if TYPE_CHECKING:
    from pathlib import Path

    from models.db.database import Database

ODD = (
    *("NYM 3x2,5", "100%WOOL", "%", "<OLD>", ">NEW", "=SAME", "!NOT", "!<BOTH", ",", "A,B,C", "*", "ANY*"),
    *(" LEADING", "TRAILING ", "TAB\t", "LINE\n", "\u00a0", "x" * 900, "Š" * 200),
)
"""Codes of items that a filter cannot name: they have operators or wildcards, or a server may cut them."""

PLAIN = ("A/B", "A?B", "A#B", "A&B", "A=B", "A<B", "A B", "..", "A:B", '"', "'", "Õ", "007")
"""Codes that only have to be percent-encoded."""

ITEMS = resources.catalogue(options("http://localhost"))["items"]


@pytest.mark.parametrize("code", ODD, ids=ascii)
def test_a_code_that_a_filter_cannot_name_is_not_fetched(code: str) -> None:
    assert not ITEMS.fetches(code)


@pytest.mark.parametrize("code", PLAIN)
def test_a_code_that_only_has_to_be_encoded_is_fetched(code: str) -> None:
    assert ITEMS.fetches(code)


def _books(mirror: Mirror, *codes: str) -> None:
    books = mirror.sandboxes["directo"].books
    for code in codes:
        books.add("items", {"code": code, "name": "as before"})


def _remove(mirror: Mirror, *codes: str, announced: bool) -> None:
    books = mirror.sandboxes["directo"].books
    for record in [each for each in books.tables["items"] if each["code"] in codes]:
        books.remove("items", record, announced=announced)


def _parked(mirror: Mirror) -> int:
    return sum(each.parked + each.held + each.pending for each in mirror.status().values())


@pytest.mark.parametrize("announced", [True, False], ids=["announced", "silent"])
def test_objects_with_any_code_go_when_the_vendor_deletes_them(
    sqlite: Database, tmp_path: Path, *, announced: bool
) -> None:
    with mirrored(sqlite, tmp_path, directo={"objects": 40, "options": {"max_deletions": 1}}) as mirror:
        _books(mirror, *ODD, *PLAIN)
        mirror.work()
        assert {} == mirror.differences()
        gone = [*ODD[::2], *PLAIN[::2]]
        _remove(mirror, *gone, announced=announced)
        mirror.catch_up()
        assert ({}, 0) == (mirror.differences(), _parked(mirror))
        with sqlite.read() as tx:
            deleted = tx.execute(sa.text("SELECT _key FROM directo_items WHERE _deleted_at IS NOT NULL")).scalars()
            assert sorted(gone) == sorted(deleted)
        _books(mirror, *gone)
        mirror.catch_up()
        assert ({}, 0) == (mirror.differences(), _parked(mirror))


def test_an_edited_object_with_such_a_code_comes_with_the_poll_and_is_not_asked_for(
    sqlite: Database, tmp_path: Path
) -> None:
    with mirrored(sqlite, tmp_path, directo={"options": {"resources": ["items"]}}) as mirror:
        _books(mirror, *ODD)
        mirror.work()
        sandbox = mirror.sandboxes["directo"]
        sandbox.requests.clear()
        for record in sandbox.books.tables["items"]:
            sandbox.books.touch(record, name=f"edited {Random(1).random()}")
        mirror.catch_up()
        assert ({}, 0) == (mirror.differences(), _parked(mirror))
        assert [] == [each for each in sandbox.requests if "code=" in each]


def test_deletions_of_such_codes_count_towards_max_deletions(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, directo={"options": {"max_deletions": 0.2}}) as mirror:
        _books(mirror, *ODD)
        mirror.work()
        _remove(mirror, *ODD, announced=False)
        mirror.catch_up()
        assert len(ODD) == mirror.status()["items"].held


def test_a_deletion_at_directo_is_mirrored_within_the_stated_bound() -> None:
    assert ITEMS.bound + ITEMS.confirms_after == ITEMS.total_bound


SINCE = datetime.now(UTC).date() - timedelta(days=8)


def _windows() -> dict[str, Any]:
    return {"options": {"resources": ["orders"], "timeout": "3s", "since": SINCE.isoformat()}}


def test_documents_without_a_date_are_mirrored_also_where_windows_are_needed(sqlite: Database, tmp_path: Path) -> None:
    with mirrored(sqlite, tmp_path, directo=_windows()) as mirror:
        sandbox = mirror.sandboxes["directo"]
        sandbox.slow_above = len(sandbox.books.tables["orders"]) - 1
        mirror.work()
        assert {} == mirror.differences()
        assert mirror.status()["orders"].complete_as_of is not None
        mirror.catch_up()
        assert ({}, 0) == (mirror.differences(), _parked(mirror))


def test_without_the_proof_a_known_document_without_a_date_stays_and_status_says_what_is_not_proved(
    sqlite: Database, tmp_path: Path
) -> None:
    with mirrored(sqlite, tmp_path, directo=_windows()) as mirror:
        sandbox = mirror.sandboxes["directo"]
        mirror.work()
        began = mirror.status()["orders"].complete_as_of
        for order in sandbox.books.tables["orders"]:
            order["ts"] = f"{SINCE + timedelta(days=2)} 10:00:00"
        sandbox.slow_above = len(sandbox.books.tables["orders"]) - 1
        mirror.catch_up()
        result = mirror.status()["orders"]
        assert ({}, began) == (mirror.differences(), result.complete_as_of)
        assert "a document without a date may be missing" in str(result.warning)
