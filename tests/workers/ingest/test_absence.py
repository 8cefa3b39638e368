"""What a listing lacks is not gone: one that is wrong deletes nothing, and what is truly gone goes in time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from models.bookkeeping import inbox
from models.values import Lane
from tests.mirroring import mirrored
from tests.workers import vendor_harness

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Chunks, Harness

KINDS: dict[str, dict[str, Any]] = {
    "fetchable": {},
    "names": {},
    "not fetchable": {"fetchable": False, "unpaged": True},
    "register": {"fetchable": False, "unpaged": True, "register": True},
    "no key can be asked for": {"unsayable": "."},
}

FAULTS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "empty": lambda _: {},
    "30 % missing": lambda objects: {key: raw for key, raw in objects.items() if int(key) % 10 not in {1, 4, 8}},
    "ends early": lambda objects: dict(list(objects.items())[: len(objects) // 2]),
}


def _company(six: Harness, kind: str, count: int = 40) -> None:
    """Forty objects, read; their listing shows them, or their names alone."""
    six.vendor.objects["goods"] = {f"{number:02}": {"v": 1} for number in range(count)}
    _listed(six, kind)
    six.work()
    assert six.vendor.objects["goods"] == six.live()


def _listed(
    six: Harness, kind: str, wrong: Callable[[dict[str, Any]], dict[str, Any]] = lambda objects: objects
) -> None:
    def answer(_: str | None) -> Chunks:
        listed = wrong(six.vendor.objects["goods"])
        return vendor_harness.named(listed) if kind == "names" else vendor_harness.whole(listed)

    six.vendor.listing["goods"] = answer


def _deletions(six: Harness) -> list[str]:
    return sorted(key for key, kind, _ in six.journal() if kind == "deleted")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", KINDS)
def test_one_wrong_listing_deletes_nothing_and_a_true_deletion_comes_all_the_same(
    connect: Connect, kind: str, fault: str
) -> None:
    with connect(kinds={"goods": KINDS[kind]}) as six:
        _company(six, kind)
        six.clock.advance(minutes=1)
        del six.vendor.objects["goods"]["14"]
        _listed(six, kind, FAULTS[fault])
        six.full_sync_again()
        _listed(six, kind)
        six.sync()
        six.clock.advance(seconds=60)
        six.work()
        assert ["14"] == _deletions(six)
        assert (six.vendor.objects["goods"], {}) == (six.live(), six.states())


@pytest.mark.parametrize("kind", ["not fetchable", "register", "no key can be asked for"])
def test_a_second_listing_that_comes_at_once_confirms_nothing(connect: Connect, kind: str) -> None:
    """A person polls, or a webhook comes, while the vendor is still wrong: it has a minute to recover."""
    with connect(kinds={"goods": KINDS[kind]}) as six:
        _company(six, kind)
        _listed(six, kind, FAULTS["empty"])
        for _ in range(3):
            six.clock.advance(seconds=10)
            six.webhook("00")
            six.sync()
            six.full_sync_again()
        assert [] == _deletions(six)
        _listed(six, kind)
        six.clock.advance(seconds=60)
        six.work()
        assert (six.vendor.objects["goods"], {}, []) == (six.live(), six.states(), _deletions(six))


@pytest.mark.parametrize("waits", ["enqueued", "parked"])
def test_only_what_a_listing_lacked_before_counts_as_missing_twice(connect: Connect, waits: str) -> None:
    """Not what waits for another reason: that a webhook came says nothing against an object."""
    with connect(kinds={"goods": KINDS["not fetchable"] | {"every": 60}}) as six:
        _company(six, "not fetchable")
        if waits == "enqueued":
            six.webhook("07")
            six.sync()
        else:
            six.vendor.listing["goods"] = lambda _: [
                {"unreadable": [["07", "odd", {}]]},
                {"end": {"cursor": "done"}},
            ]
            six.clock.advance(minutes=2)
            six.sync()
            assert {"07": "parked"} == six.states()
        six.clock.advance(seconds=1)
        _listed(six, "not fetchable", lambda objects: {key: raw for key, raw in objects.items() if key != "07"})
        six.full_sync_again()
        assert [] == _deletions(six)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["not fetchable", "no key can be asked for"])
def test_two_wrong_listings_in_a_row_are_held_for_a_person_or_mended_by_the_next(
    connect: Connect, kind: str, fault: str
) -> None:
    """Twelve and more of forty at once: none is deleted, and the next right listing ends the hold."""
    with connect(kinds={"goods": KINDS[kind]}) as six:
        _company(six, kind)
        _listed(six, kind, FAULTS[fault])
        six.clock.advance(minutes=1)
        six.full_sync_twice()
        missing = six.vendor.objects["goods"].keys() - FAULTS[fault](six.vendor.objects["goods"]).keys()
        assert ([], dict.fromkeys(missing, "held")) == (_deletions(six), six.states())
        _listed(six, kind)
        six.clock.advance(minutes=1)
        six.full_sync_again()
        assert (six.vendor.objects["goods"], {}) == (six.live(), six.states())


@pytest.mark.parametrize(("kind", "count"), [("register", 40), ("not fetchable", 8)])
def test_where_deletions_are_not_held_the_next_right_listing_restores_all(
    connect: Connect, kind: str, count: int
) -> None:
    """A register, or ten objects at most: the journal tells that they went and that they came back."""
    with connect(kinds={"goods": KINDS[kind]}) as six:
        _company(six, kind, count)
        _listed(six, kind, FAULTS["empty"])
        six.clock.advance(minutes=1)
        six.full_sync_twice()
        assert ({}, count) == (six.live(), len(_deletions(six)))
        _listed(six, kind)
        six.clock.advance(minutes=1)
        six.full_sync_again()
        assert (six.vendor.objects["goods"], {}) == (six.live(), six.states())
        assert 3 * count == len(six.journal())


def test_two_wrong_listings_delete_nothing_that_can_be_fetched(connect: Connect) -> None:
    with connect(kinds={"goods": KINDS["names"]}) as six:
        _company(six, "names", 8)
        _listed(six, "names", FAULTS["empty"])
        for _ in range(3):
            six.clock.advance(minutes=1)
            six.full_sync_again()
            six.work()
        assert ([], {}) == (_deletions(six), six.states())


def test_the_confirmation_is_one_listing_however_much_is_missing(connect: Connect) -> None:
    with connect(kinds={"goods": KINDS["not fetchable"]}) as six:
        _company(six, "not fetchable")
        six.vendor.asked.clear()
        _listed(six, "not fetchable", FAULTS["empty"])
        six.clock.advance(minutes=1)
        six.full_sync_again()
        _listed(six, "not fetchable")
        six.clock.advance(minutes=1)
        six.work()
        assert ["goods", "goods"] == six.vendor.asked


def test_a_key_that_no_fetch_can_ask_for_is_decided_by_listings_and_its_neighbours_by_fetches(
    connect: Connect,
) -> None:
    with connect(kinds={"goods": {"unsayable": "[,%]"}}) as six:
        six.vendor.objects["goods"] = {key: {"v": 1} for key in ("plain", "a,b", "100%", "kept", "k,ept")}
        six.work()
        for key in ("plain", "a,b", "100%"):
            del six.vendor.objects["goods"][key]
        six.vendor.asked.clear()
        six.clock.advance(minutes=1)
        six.full_sync_again()
        six.work()
        assert ["plain"] == _deletions(six)
        six.clock.advance(minutes=1)
        six.work()
        assert ["100%", "a,b", "plain"] == _deletions(six)
        assert (six.vendor.objects["goods"], {}) == (six.live(), six.states())
        assert ["goods", "goods/plain", "goods"] == six.vendor.asked


@pytest.mark.parametrize("state", ["due", "parked"])
def test_an_announced_change_of_such_a_key_is_read_by_a_full_sync_and_no_request_fails(
    connect: Connect, state: str
) -> None:
    with connect(kinds={"goods": {"unsayable": ","}}) as six:
        six.vendor.objects["goods"] = {"a,b": {"v": 1}, "c,d": {"v": 1}, "plain": {"v": 1}}
        six.work()
        six.vendor.objects["goods"] = {"a,b": {"v": 2}, "plain": {"v": 1}}
        six.vendor.asked.clear()
        six.clock.advance(hours=1)
        six.enqueue("a,b", "c,d", "x,y", lane=Lane.BULK)
        if state == "parked":
            with six.database.begin() as tx:
                for item in inbox.due(tx, connection="six", now=six.clock.now, limit=3):
                    inbox.park(tx, item, reason="cannot be asked for")
            six.full_sync_again()
        six.work()
        six.clock.advance(minutes=1)
        six.work()
        assert (six.vendor.objects["goods"], {}) == (six.live(), six.states())
        assert ["goods", "goods"] == six.vendor.asked


SYSTEMS = {
    "dilovod": "balanceRegisters.goods",
    "directo": "stocklevels",
    "wisedat": "taxes",
    "easyflor": "debtor",
}
"""A resource of each system whose listing is one reply."""


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_true_deletion_comes_within_the_bound(sqlite: Database, tmp_path: Path, system: str) -> None:
    clock = vendor_harness.Clock()
    sqlite._clock = clock
    resource = SYSTEMS[system]
    knobs = {"seed": 3, "objects": 12, "now": clock, "options": {"resources": [resource]}}
    with mirrored(sqlite, tmp_path, **{system: knobs}) as mirror:
        mirror.work()
        before = len(mirror.sandboxes[system].truth(resource))
        _vanishes(mirror.sandboxes[system], system)
        assert before > len(mirror.sandboxes[system].truth(resource))
        rule = mirror.context(system).resources[resource]
        for passes in (rule.bound, rule.total_bound - rule.bound):
            clock.now += passes
            mirror.work()
        assert {} == mirror.differences()


def _vanishes(sandbox: Any, system: str) -> None:
    books = sandbox.books
    match system:
        case "dilovod":
            del books.movements[0]
            books.movements[:] = [each for each in books.movements if each.place != books.movements[0].place]
        case "directo":
            books.tables["stocklevels"].pop()
        case "wisedat":
            books.remove("taxes", min(sandbox.truth("taxes")))
        case "easyflor":
            books.tables["debtor"].pop()
