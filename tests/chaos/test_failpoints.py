"""SIGKILL between each two steps of the way from a webhook to its row, one step after the other."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from models.failpoints import Point
from tests import layers, processes
from tests.chaos import test_commands, test_subscriptions
from tests.chaos.harness import ChaosHarness, chaos_harness
from tests.processes import until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from tests.chaos.results import Results

ROOT = Path(__file__).parent.parent.parent

_DOCUMENTS = [point for point in Point if point.startswith(("document", "file"))]
_SELDOM = [Point.COLUMNS_ADDED, Point.COLUMNS_COMMITTED, Point.SESSION_KEPT]
WAYS = {
    "a webhook's way": ("webhooks-", "wakeup-"),
    "a key's way": ("lease-", "fetched", "row-", "key-"),
    "its rows and parts": ("rows-", "parts-"),
    "a listing's way": ("listing-", "chunk-"),
}
"""Way -> how the names of its steps begin. (The spool's are reached in the tests that take the database down.)"""


def test_every_failpoint_is_hit_somewhere_in_the_code() -> None:
    reached = set()
    for path in layers.Tree(ROOT).modules.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Point":
                reached.add(node.attr)
    assert {point.name for point in Point} == reached


def _killed_at_each(harness: ChaosHarness, way: str, points: Sequence[Point]) -> None:
    with harness.fault(f"killed at each step of {way}", hurried=True) as result:
        for point in points:
            _killed_at(harness, point)
            result.times += 1


def _killed_at(harness: ChaosHarness, point: Point) -> None:
    harness.arm(point)
    _await_hit(harness, point)


def _await_hit(harness: ChaosHarness, point: Point) -> None:
    def passed() -> bool:
        harness.revive()  # in each round: the process that takes the point's file dies a moment later
        return harness.was_hit(point)

    until(passed, seconds=150, what=lambda: f"{point} is reached: {harness.report()}")
    harness.revive()
    harness.leases_run_out()


@pytest.mark.chaos
@pytest.mark.redis
@pytest.mark.postgresql
@pytest.mark.timeout(900)
def test_killed_at_each_everyday_step_nothing_is_lost(tmp_path: Path, results: Results, random: Random) -> None:
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        chaos_harness(database, tmp_path, broker, results=results, random=random) as harness,
    ):
        harness.start()
        for way, begins in WAYS.items():
            _killed_at_each(harness, way, [point for point in Point if point.startswith(begins)])


def test_every_failpoint_is_in_a_chaos_test() -> None:
    hit = [point for begins in WAYS.values() for point in Point if point.startswith(begins)]
    spooled = [point for point in Point if point.startswith("spool-")]
    others = [*test_commands.STEPS, *test_subscriptions.STEPS]
    assert sorted(Point) == sorted([*hit, *spooled, *_SELDOM, *_DOCUMENTS, *others])


_UNCERTAIN = {Point.DOCUMENT_SENDING, Point.DOCUMENT_INTERPRETED, Point.DOCUMENT_JOURNALED}
"""After these it is unknown whether the document arrived, so it is parked."""


@pytest.mark.chaos
@pytest.mark.redis
@pytest.mark.postgresql
@pytest.mark.timeout(600)
def test_killed_while_columns_are_added_and_after_a_login_nothing_is_lost(
    tmp_path: Path, results: Results, random: Random
) -> None:
    # What changed within Wisedat's overlap is fetched at every poll.
    systems: dict[str, dict[str, Any]] = {"wisedat": {"seed": 4, "options": {"overlap": "10s"}}, "dilovod": {"seed": 4}}
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        chaos_harness(database, tmp_path, broker, results=results, random=random, systems=systems) as harness,
    ):
        for point in _SELDOM:
            harness.arm(point)  # the first load is where they are reached
        harness.revive()
        with harness.fault("killed while columns are added, and after a login", hurried=True) as result:
            for point in _SELDOM:
                _await_hit(harness, point)
                result.times += 1


@pytest.mark.chaos
@pytest.mark.redis
@pytest.mark.postgresql
@pytest.mark.timeout(600)
def test_killed_at_each_step_of_a_document_nothing_is_lost(tmp_path: Path, results: Results, random: Random) -> None:
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        chaos_harness(
            database, tmp_path, broker, results=results, random=random, systems={"interpreter": {"seed": 4}}
        ) as harness,
    ):
        harness.attended = "interpreter"  # expiring all leases also expires that of a running upload
        harness.start()
        with harness.fault("killed at each step of a document's way", hurried=True, pause=0.3) as result:
            for point in _DOCUMENTS:
                _killed_at(harness, point)
                if point in _UNCERTAIN:
                    until(
                        lambda: harness.is_parked("interpreter"),
                        seconds=150,
                        what=lambda: f"it is parked: {harness.report()}",
                    )
                    harness.retry_parked("interpreter")
                result.times += 1
