"""A person's question goes through the gate like everybody's."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.workers import sixth
from workers import asking, errors, gate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from models.database import Database
    from tests.workers.sixth import Six

    Connect = Callable[..., AbstractContextManager[Six]]


@pytest.fixture
def connect(sqlite: Database, tmp_path: Path) -> Connect:
    return partial(sixth.connected, sqlite, tmp_path)


@pytest.fixture
def six(connect: Connect) -> Iterator[Six]:
    with connect() as connected:
        connected.vendor.objects["goods"] = {"1": {"v": 1}}
        yield connected


def test_an_answer_comes_decoded_and_leaves_nothing_held(six: Six) -> None:
    assert {"raw": {"v": 1}, "listed": "1"} == asking.ask(six.desk, ["goods", "1"])
    assert "well" == asking.check(six.desk)
    assert (0, {}) == (six.leases(), six.inbox())


def test_a_question_holds_the_gate(six: Six) -> None:
    refused = []

    def somebody_asks() -> None:
        with pytest.raises(gate.Shut):
            six.desk.gate.enter()
        refused.append(True)

    six.vendor.meanwhile["goods/1"] = somebody_asks
    asking.ask(six.desk, ["goods", "1"])
    six.vendor.meanwhile["check"] = somebody_asks
    asking.check(six.desk)
    assert [True, True] == refused


def test_a_question_waits_for_its_turn(six: Six) -> None:
    slot = six.desk.gate.enter()
    answers: list[object] = []
    asked = six.aside(lambda: answers.append(asking.ask(six.desk, ["goods", "1"])))
    asked.join(0.4)
    assert [] == six.vendor.asked
    six.desk.gate.abandon(slot)
    asked.join(10)
    assert 1 == len(answers)


def test_a_question_that_the_vendor_cannot_answer_now_shuts_the_gate_for_all(six: Six) -> None:
    six.vendor.instead["goods/1"] = [(429, {"Retry-After": "30"}, "slow down")]
    with pytest.raises(errors.TryLater, match="slow down"):
        asking.ask(six.desk, ["goods", "1"])
    with pytest.raises(gate.Shut):
        six.desk.gate.enter()


def test_a_refusal_leaves_the_gate_open_and_repeats_no_secret(six: Six) -> None:
    six.vendor.instead["goods/1"] = [(400, {}, "key very-secret is blocked")]
    with pytest.raises(errors.SetAside, match=r"key \*\*\* is blocked"):
        asking.ask(six.desk, ["goods", "1"])
    assert 0 == six.leases()
    six.desk.gate.enter()


def test_an_answer_that_is_not_understood_is_said_so(six: Six) -> None:
    six.vendor.instead["goods/1"] = [(200, {}, "<html>")]
    with pytest.raises(errors.TryLater, match="not JSON"):
        asking.ask(six.desk, ["goods", "1"])


def test_an_answer_that_took_longer_than_its_lease_is_an_answer_still(six: Six) -> None:
    six.vendor.meanwhile["goods/1"] = lambda: six.clock.pass_by(minutes=5)
    assert {"v": 1} == asking.ask(six.desk, ["goods", "1"])["raw"]
