"""What a fetch deletes, which deletions are held, and what an approval covers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.workers import vendor_harness

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Harness


def test_absence_is_decided_by_the_fetch_alone(six: Harness) -> None:
    six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
    six.full_sync_again()
    six.vendor.listing["goods"] = lambda _: vendor_harness.whole({"1": {"v": 1}})
    six.full_sync_again()
    assert {"2": "due"} == six.states()
    assert {"1", "2"} == six.live().keys(), "absence from a listing enqueues the key"
    six.sync()
    assert {"1", "2"} == six.live().keys(), "the fetch still found it"
    del six.vendor.objects["goods"]["2"]
    six.full_sync_again()
    six.sync()
    assert {"1"} == six.live().keys()
    assert ("2", "deleted", "reconcile") == six.journal()[-1]


def test_an_object_that_is_gone_changes_nothing_more_until_it_is_back(six: Harness) -> None:
    six.vendor.objects["goods"]["1"] = {"v": 1}
    six.enqueue("1")
    six.sync()
    del six.vendor.objects["goods"]["1"]
    for _ in range(3):
        six.enqueue("1")
        six.sync()
    six.vendor.objects["goods"]["1"] = {"v": 1}
    six.enqueue("1")
    six.sync()
    assert ["created", "deleted", "restored"] == [kind for _, kind, _ in six.journal()]


@pytest.fixture
def full(connect: Connect) -> Iterator[Harness]:
    """A hundred goods, of which a tenth may go."""
    with connect(max_deletions=0.2) as connected:
        connected.vendor.objects["goods"] = {f"{number:03}": {"v": 1} for number in range(100)}
        connected.work()
        yield connected


def _lose(six: Harness, first: int, last: int) -> None:
    keys = [f"{number:03}" for number in range(first, last)]
    for key in keys:
        six.vendor.objects["goods"].pop(key, None)
    six.enqueue(*keys)
    six.sync()


def test_deletions_above_the_share_are_held_however_slowly_they_come(full: Harness) -> None:
    for number in range(30):
        _lose(full, number, number + 1)
        full.clock.advance(minutes=30)
    assert 80 == len(full.live())
    assert ["held"] * 10 == list(full.states().values())
    (reason,) = {row.reason for row in full.inbox().values()}
    assert "20%" in reason


def test_deletions_are_forgotten_after_a_day(full: Harness) -> None:
    _lose(full, 0, 20)
    full.clock.advance(hours=25)
    _lose(full, 20, 36)
    assert 64 == len(full.live())
    assert {} == full.states()


def test_ten_deletions_are_never_held_however_few_objects_there_are(connect: Connect) -> None:
    with connect(max_deletions=0.0) as six:
        six.vendor.objects["goods"] = {f"{number:03}": {"v": 1} for number in range(12)}
        six.work()
        _lose(six, 0, 12)
        assert 2 == len(six.live())
        assert ["held", "held"] == list(six.states().values())


def test_rows_of_registers_come_and_go(connect: Connect) -> None:
    with connect(kinds={"goods": {"register": True}}, max_deletions=0.0) as six:
        six.vendor.objects["goods"] = {f"{number:03}": {"v": 1} for number in range(40)}
        six.work()
        _lose(six, 0, 40)
        assert {} == six.live()


def test_approval_covers_exactly_the_held_keys_that_are_still_missing(full: Harness) -> None:
    _lose(full, 0, 40)
    held = sorted(key for key, state in full.states().items() if state == "held")
    assert 20 == len(held)
    full.vendor.objects["goods"][held[0]] = {"v": 2}
    assert 19 == full.retry(*held[:19])
    full.sync()
    assert held[0] in full.live(), "it came back"
    assert {held[19]: "held"} == full.states(), "this one was not approved"
    assert 100 - 20 - 18 == len(full.live())


def test_an_approval_is_used_up_by_the_fetch_that_found_the_object(full: Harness) -> None:
    """Else a deletion of years later would pass unseen."""
    _lose(full, 0, 21)
    ((key, _),) = full.states().items()
    full.vendor.objects["goods"][key] = {"v": 2}

    def gone_again() -> None:
        del full.vendor.objects["goods"][key]
        full.enqueue(key)

    full.vendor.meanwhile[f"goods/{key}"] = gone_again
    full.retry(key)
    full.sync()
    assert key in full.live()
    assert {key: "held"} == full.states()


def test_one_approval_does_not_let_the_other_held_deletions_pass(six: Harness) -> None:
    six.vendor.objects["goods"] = {f"{number:02}": {"v": number} for number in range(30)}
    six.full_sync_again()
    six.vendor.objects["goods"] = {}
    six.enqueue(*six.live())
    six.work()
    held = sorted(six.states())
    assert (20, {"held"}) == (len(held), set(six.states().values()))
    six.retry(held[0])
    six.work()
    six.webhook(*held[1:])
    six.work()
    assert held[1:] == sorted(six.live())


def test_enqueuing_a_held_key_fetches_it_again_and_does_not_approve(full: Harness) -> None:
    _lose(full, 0, 21)
    ((key, _),) = full.states().items()
    full.enqueue(key)
    full.sync()
    assert {key: "held"} == full.states()
    full.vendor.objects["goods"][key] = {"v": 2}
    full.enqueue(key)
    full.sync()
    assert {} == full.states()
    assert {"v": 2} == full.live()[key]
