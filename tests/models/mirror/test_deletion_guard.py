"""The limit on deletions: a share with a floor, over a window, until a person approves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from models.bookkeeping import stream_plans
from models.mirror import deletion_guard
from models.mirror.target import Target
from tests.models import write_path

if TYPE_CHECKING:
    from models.db.database import Database

KEYS = [f"{number:03}" for number in range(100)]


@pytest.fixture
def hundred(database: Database) -> Database:
    with database.begin() as tx:
        plan = stream_plans.Plan("invoices", timedelta(hours=1), polls=True)
        stream_plans.sync(tx, connection="books", system="directo", plans=[plan])
    write_path.write(database, {key: {"n": 1} for key in KEYS})
    return database


def permitted(database: Database, count: int, *, share: float = 0.2, revision: int = 10) -> bool:
    with database.read() as tx:
        return deletion_guard.permits(
            tx,
            write_path.TARGET,
            count=count,
            max_deletions=share,
            now=write_path.moment(revision),
        )


@pytest.mark.parametrize(
    ("count", "share", "allowed"),
    [
        (20, 0.2, True),
        (21, 0.2, False),
        (10, 0.0, True),
        (11, 0.0, False),
        (100, 1.0, True),
        (0, 0.0, True),
    ],
)
def test_the_share_is_of_what_was_alive_with_a_floor_of_ten(
    hundred: Database, count: int, share: float, *, allowed: bool
) -> None:
    assert allowed == permitted(hundred, count, share=share)


def test_deletions_of_the_window_count_together(hundred: Database) -> None:
    write_path.write(hundred, tombstones=KEYS[:15], revision=5)
    assert permitted(hundred, 5)
    assert not permitted(hundred, 6)


def test_deletions_older_than_a_day_no_longer_count(hundred: Database) -> None:
    write_path.write(hundred, tombstones=KEYS[:20], revision=5)
    day = 24 * 60
    assert not permitted(hundred, 1, revision=5 + day - 1)
    assert permitted(hundred, 16, revision=5 + day)


def test_approved_deletions_no_longer_count(hundred: Database) -> None:
    write_path.write(hundred, tombstones=KEYS[:20], revision=5)
    with hundred.begin() as tx:
        deletion_guard.record_approval(tx, write_path.TARGET, now=write_path.moment(5))
    assert permitted(hundred, 10, revision=6)


def test_deletions_of_other_resources_and_connections_do_not_count(hundred: Database) -> None:
    for connection, resource in (("books", "orders"), ("shop", "invoices")):
        target = Target(connection, "directo", resource)
        write_path.write(hundred, {key: {"n": 1} for key in KEYS}, target=target)
        write_path.write(hundred, tombstones=KEYS, revision=5, target=target)
    assert permitted(hundred, 20)
