from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from receiver.api import recent_entries
from receiver.api.journal_pages import Entry, Selection
from receiver.api.recent_entries import RecentEntries

if TYPE_CHECKING:
    from collections.abc import Sequence

ALL = Selection()
MANY = recent_entries._MOST_ENTRIES


def _entries(first: int, last: int, *, key: str = "k", size: int = 2) -> list[Entry]:
    return [Entry(id_, "shop", "goods", "created", key, b"x" * size) for id_ in range(first, last + 1)]


def _ids(entries: Sequence[Entry]) -> list[int]:
    return [entry.id for entry in entries]


def _begun(last: int) -> RecentEntries:
    recent = RecentEntries()
    recent.restart(last)
    recent.confirm("feed", 1)
    return recent


async def _wait(recent: RecentEntries, selection: Selection, position: int) -> int:
    loop = asyncio.get_running_loop()
    return await recent.wait(selection, position, until=loop.time() + 60, gone=loop.create_future())


async def _woken(recent: RecentEntries, *selections: Selection, position: int = 0) -> list[asyncio.Task[int]]:
    waiting = [asyncio.create_task(_wait(recent, selection, position)) for selection in selections]
    await asyncio.sleep(0)
    return waiting


def test_entries_are_kept_up_to_a_number_and_the_older_ones_are_read_from_the_database() -> None:
    async def follow() -> None:
        recent = _begun(5)
        assert (False, True) == (recent.has_all_after(4), recent.is_behind(4))
        recent.add(_entries(6, 5 + MANY))
        assert recent.has_all_after(5)
        recent.add(_entries(6 + MANY, 7 + MANY))
        assert (False, True) == (recent.has_all_after(6), recent.is_behind(6))
        assert (True, False) == (recent.has_all_after(7), recent.is_behind(7))
        found, position = recent.after(7, ALL, limit=3, size=10**6)
        assert ([8, 9, 10], 10) == (_ids(found), position)

    asyncio.run(follow())


def test_large_entries_are_kept_up_to_a_size() -> None:
    async def follow() -> None:
        recent = _begun(0)
        recent.add(_entries(1, 10, size=recent_entries._MOST_BYTES // 4))
        assert [7, 8, 9, 10] == _ids(recent.after(6, ALL, limit=100, size=10**9)[0])
        assert recent.is_behind(5)

    asyncio.run(follow())


def test_a_reader_is_woken_only_by_what_it_wants_and_passes_over_the_rest() -> None:
    async def follow() -> None:
        recent = _begun(0)
        of_a, of_b = await _woken(recent, Selection(key="a"), Selection(key="b", kind="created"))
        recent.add(_entries(1, 4, key="a"))
        recent.add(_entries(5, 6, key="b"))
        assert (0, 4) == (await of_a, await of_b)

    asyncio.run(follow())


def test_with_many_different_filters_each_finds_its_own() -> None:
    async def follow() -> None:
        recent = _begun(0)
        selections = [Selection(key=str(number)) for number in range(50)]
        selections += [Selection("shop", "goods", "created", "7"), Selection(resource="goods", key="7"), ALL]
        waiting = await _woken(recent, *selections)
        recent.add(_entries(1, 1, key="7"))
        await asyncio.gather(*(waiting[number] for number in (7, 50, 51, 52)))
        assert 4 == sum(each.done() for each in waiting)
        recent.end()
        await asyncio.gather(*waiting)

    asyncio.run(follow())


def test_many_are_woken_in_groups_so_that_others_are_served_in_between() -> None:
    async def follow() -> None:
        recent = _begun(0)
        waiting = await _woken(recent, *[ALL] * 100)
        recent.add(_entries(1, 1))
        done: list[int] = []
        while not done or done[-1] < len(waiting):
            await asyncio.sleep(0)
            done.append(sum(each.done() for each in waiting))
        steps = [after - before for before, after in zip([0, *done], done, strict=False)]
        assert recent_entries._WOKEN_AT_ONCE == max(steps)

    asyncio.run(follow())


def test_a_reader_that_is_woken_late_misses_nothing_when_more_follows() -> None:
    async def follow() -> None:
        recent = _begun(0)
        waiting = await _woken(recent, *[ALL] * 100)
        for id_ in range(1, 10):
            recent.add(_entries(id_, id_))
        for each in waiting:
            assert list(range(1, 10)) == _ids(recent.after(await each, ALL, limit=100, size=1000)[0])

    asyncio.run(follow())


def test_a_changed_feed_and_a_journal_that_was_set_back_wake_everyone_to_ask() -> None:
    async def follow() -> None:
        recent = _begun(9)
        for is_renamed in (True, False):
            generation = recent.generation
            (waiting,) = await _woken(recent, Selection(key="never"), position=9)
            if is_renamed:
                recent.confirm("other", 1)
            else:
                recent.doubt()
            assert 9 == await waiting
            assert generation < recent.generation

    asyncio.run(follow())


def test_the_time_that_is_up_passes_over_what_was_not_wanted() -> None:
    async def follow() -> None:
        recent, loop = _begun(0), asyncio.get_running_loop()
        gone = loop.create_future()
        waiting = asyncio.create_task(recent.wait(Selection(key="z"), 0, until=loop.time() + 0.05, gone=gone))
        await asyncio.sleep(0)
        recent.add(_entries(1, 3))
        assert 3 == await waiting
        assert {} == recent._waiting

    asyncio.run(follow())


def test_a_client_that_has_gone_waits_no_longer() -> None:
    async def follow() -> None:
        recent, loop = _begun(0), asyncio.get_running_loop()
        gone = loop.create_future()
        waiting = asyncio.create_task(recent.wait(ALL, 0, until=loop.time() + 60, gone=gone))
        await asyncio.sleep(0)
        gone.set_result(None)
        await waiting
        assert {} == recent._waiting

    asyncio.run(follow())
