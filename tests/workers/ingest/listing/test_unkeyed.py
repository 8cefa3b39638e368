"""Records without a key: one parked entry for each reason, as they are now, and everything else goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from models import status
from models.bookkeeping import parked

if TYPE_CHECKING:
    from tests.workers.conftest import Connect
    from tests.workers.vendor_harness import Chunks, Harness

KINDS: dict[str, dict[str, Any]] = {"fetchable": {}, "not fetchable": {"fetchable": False, "unpaged": True}}


def _row(number: int, reason: str = "no key", **fields: Any) -> list[Any]:
    return [f"?{number}", reason, {"a": number, **fields}, "name it"]


def _lists(six: Harness, *rows: list[Any], chunks: int = 1, objects: dict[str, Any] | None = None) -> None:
    """The listing brings these rows, in as many chunks, and the vendor's objects."""
    brought = six.vendor.objects["goods"] if objects is None else objects

    def answer(_: str | None) -> Chunks:
        size = -(-len(rows) // chunks) or 1
        parts: Chunks = [{"unreadable": list(rows[start : start + size])} for start in range(0, len(rows), size)]
        return [*parts, {"snapshots": brought, "end": {"cursor": "done", "complete": True}}]

    six.vendor.listing["goods"] = answer


def _entries(six: Harness) -> dict[str, tuple[int, list[Any]]]:
    details = ((row.reason, row.unreadable_raw) for row in six.inbox().values() if row.unreadable_raw)
    return {reason: (each["count"], each["samples"]) for reason, each in details}


def test_a_reason_has_one_entry_with_a_count_and_samples_however_the_values_change(anywhere: Connect) -> None:
    with anywhere() as six:
        for round_ in range(4):
            _lists(six, *(_row(1000 * round_ + number) for number in range(100)), _row(7, "odd"), chunks=3)
            six.full_sync_again()
            samples = [{"a": 1000 * round_ + number} for number in range(3)]
            assert {
                "100 records are not mirrored: no key; name it": (100, samples),
                "1 record is not mirrored: odd; name it": (1, [{"a": 7}]),
            } == _entries(six)
            six.clock.advance(hours=1)


def test_an_entry_shrinks_and_goes_with_its_records(connect: Connect) -> None:
    with connect() as six:
        _lists(six, *map(_row, range(5)), _row(9, "odd"))
        six.full_sync_again()
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        _lists(six, _row(1), _row(2))
        six.full_sync_again()
        assert [(2, [{"a": 1}, {"a": 2}])] == list(_entries(six).values())
        _lists(six)
        six.full_sync_again()
        assert ({}, {"1": {"v": 1}}) == (six.inbox(), six.live())


def test_a_poll_that_shows_some_of_them_never_lowers_the_count(connect: Connect) -> None:
    with connect(kinds={"goods": {"every": 60}}) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        _lists(six, *map(_row, range(5)))
        six.full_sync_again()
        _lists(six, _row(77))
        six.clock.advance(minutes=2)
        six.sync()
        assert [(5, [{"a": 77}])] == list(_entries(six).values())


@pytest.mark.parametrize("kind", KINDS)
def test_the_others_are_complete_and_leave_when_the_vendor_deletes_them(connect: Connect, kind: str) -> None:
    with connect(kinds={"goods": KINDS[kind]}) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        _lists(six, _row(1))
        six.work()
        began = six.column("complete_as_of")
        assert began is not None
        del six.vendor.objects["goods"]["2"]
        six.clock.advance(minutes=1)
        six.full_sync_twice()
        assert ({"1": {"v": 1}}, {"parked"}) == (six.live(), set(six.states().values()))
        assert six.column("complete_as_of") > began


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_in_which_nothing_has_a_key_deletes_nothing_and_is_not_complete(connect: Connect, kind: str) -> None:
    """The key is named wrongly, or the vendor has renamed its fields."""
    with connect(kinds={"goods": KINDS[kind]}) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}, "2": {"v": 1}}
        six.work()
        began = six.column("complete_as_of")
        _lists(six, *map(_row, range(600)), chunks=2, objects={})
        six.clock.advance(minutes=1)
        six.full_sync_twice()
        six.full_sync_twice()
        assert ({"1", "2"}, "open", began) == (set(six.live()), six.stream().state, six.column("complete_as_of"))
        assert [600] == [count for count, _ in _entries(six).values()]


def test_status_and_the_list_of_what_is_parked_tell_it_with_the_remedy(connect: Connect) -> None:
    with connect(omit=["password"]) as six:
        six.vendor.objects["goods"] = {"1": {"v": 1}}
        _lists(six, *(_row(number, password="p") for number in range(9)))
        six.work()
        (row,) = status.resources(six.database)
        assert (1, None) == (row.parked, row.last_error)
        assert "9 records are not mirrored: no key; name it" == row.warning
        with six.database.begin() as tx:
            (entry,) = parked.rows(tx)
            assert 0 == parked.retry(tx, connection="six")
        assert [{"a": 0}, {"a": 1}, {"a": 2}] == entry.unreadable_raw["samples"]


def test_a_long_record_is_sampled_by_its_fields_names(connect: Connect) -> None:
    with connect() as six:
        _lists(six, _row(1, long="x" * 5000))
        six.full_sync_again()
        assert [(1, [{"fields": ["a", "long"]}])] == list(_entries(six).values())


def test_entries_of_an_earlier_form_end_with_the_next_full_sync(connect: Connect) -> None:
    with connect() as six:
        six.enqueue("h1", "h2")
        with six.database.begin() as tx:
            tx.exec_driver_sql("UPDATE erpmirror_inbox SET state = 'parked', unreadable_raw = '{\"a\": 1}'")
        six.full_sync_again()
        assert {} == six.inbox()
