"""Vendors that lose, refuse, delay, cut and forget: whatever they answer, no live row is deleted and no change lost."""

from __future__ import annotations

import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models import status
from models.db import tables
from models.db.database import Database
from tests import processes
from tests.chaos import meddling
from tests.chaos.meddling import Meddler
from tests.chaos.postbox import Habit
from tests.chaos.stage import Stage, stage
from tests.processes import until
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

    from tests.chaos.ledger import Ledger, Line
    from tests.chaos.meddling import Answer, Asked

    Trick = Callable[[Asked, Answer], Answer | None] | Answer

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900)]

RESOURCES = {
    "dilovod": ["catalogs.goods", "documents.saleOrder", "balanceRegisters.goods"],
    "directo": ["items", "orders", "transactions", "stocklevels"],
    "wisedat": ["products", "customers", "orders", "categories", "taxes"],
    "easyflor": ["debtor", "article", "country", "purchase"],
}
"""Of each kind of resource one or two: with point reads and without, paged and not, registers."""

SLOWER = {"every": "2s", "full_every": "6s", "reconcile_every": "4s"}
"""Four vendors take four times as long as one. (What changed within Wisedat's overlap is fetched at every poll.)"""

PAUSE = 0.2
"""Seconds between two edits."""


class Clock:
    """The vendors' clock. `off`: how far ahead of ours it is."""

    def __init__(self) -> None:
        self.off = timedelta()

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.off


def four(**knobs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The four vendors that are polled, each with its options."""
    found: dict[str, dict[str, Any]] = {}
    for name, resources in RESOURCES.items():
        known = discovery.systems()[name].options.model_fields
        slower = {key: value for key, value in SLOWER.items() if key in known}
        own = {"overlap": "10s"} if name == "wisedat" else {}
        options = slower | own | {"resources": resources}
        found[name] = {"seed": 4, "options": options} | knobs.get(name, {})
    return found


@contextmanager
def vendors(
    database: Database, folder: Path, broker: str, *, systems: dict[str, dict[str, Any]], **how: Any
) -> Iterator[tuple[Stage, dict[str, Meddler]]]:
    """A running stage, and the meddler before each vendor."""
    meddlers = {name: Meddler() for name in systems}
    doors: dict[str, Callable[[Any], Any]] = {name: meddler.before for name, meddler in meddlers.items()}
    with stage(database, folder, broker, systems=systems, doors=doors, **how) as on:
        del on.verbs["more sync"]
        on.start()
        yield on, meddlers


def play(on: Stage, meddlers: dict[str, Meddler], name: str, trick: Trick, *, most: int) -> None:
    """Spoil so many answers of each vendor in this way."""
    with on.fault(name, pause=PAUSE) as line, _played(meddlers, trick, line, each=most, most=most):
        _wait(on, meddlers, lambda meddler: meddler.spoilt.total() >= most)


def play_once(on: Stage, meddlers: dict[str, Meddler], name: str, trick: Trick) -> None:
    """Spoil each listing once, and of each vendor at least three full listings."""
    with on.fault(name, pause=PAUSE) as line, _played(meddlers, trick, line, each=1):
        _wait(on, meddlers, lambda meddler: meddler.full_syncs >= 3)


@contextmanager
def _played(
    meddlers: dict[str, Meddler], trick: Trick, line: Line, *, each: int, most: int = meddling.ALWAYS
) -> Iterator[None]:
    for meddler in meddlers.values():
        meddler.play(trick, each=each, most=most)
    yield
    for meddler in meddlers.values():
        meddler.stop()
        line.times += meddler.spoilt.total()


def _wait(on: Stage, meddlers: dict[str, Meddler], has_enough: Callable[[Meddler], bool]) -> None:
    def report() -> str:
        return f"{ {name: meddler.spoilt for name, meddler in meddlers.items()} } {on.report()}"

    until(lambda: all(map(has_enough, meddlers.values())), seconds=200, what=report)


def _faults(on: Stage, name: str, *faults: Callable[[], object]) -> None:
    with on.fault(name, pause=PAUSE) as line:
        for fault in faults:
            time.sleep(0.3 + on.random.random() / 2)
            fault()
            line.times += 1


# Webhooks.


def _apply_habit(on: Stage, line: Line, habit: Habit, *, least: int) -> None:
    """Treat at least so many webhooks in this way."""
    before = on.postbox.affected
    on.postbox.habit = habit
    until(lambda: on.postbox.affected - before >= least, seconds=120, what=on.report)
    on.postbox.habit = Habit.SEND
    line.times += on.postbox.affected - before


def _spoil_webhooks(on: Stage) -> None:
    at = ("dilovod",)
    with on.fault("webhooks dropped", at=at) as line:
        _apply_habit(on, line, Habit.LOSE, least=15)
    with on.fault("webhooks doubled", at=at) as line:
        _apply_habit(on, line, Habit.DOUBLE, least=15)
    with on.fault("webhooks delayed beyond the reconciliation", at=at) as line:
        _apply_habit(on, line, Habit.HOLD, least=15)
        time.sleep(3)
        on.postbox.release()
    with on.fault("webhooks reordered", at=at) as line:
        for _ in range(3):
            _apply_habit(on, line, Habit.HOLD, least=6)
            on.postbox.release(on.random)


# Answers and logins.


def _spoil_answers(on: Stage, meddlers: dict[str, Meddler]) -> None:
    play(on, meddlers, "429", meddling.BUSY, most=3)
    play(on, meddlers, "503", meddling.BROKEN, most=2)
    play(on, meddlers, "reset in the middle of a body", meddling.torn, most=3)
    play(on, meddlers, "an answer takes a minute", meddling.a_minute_late, most=2)


def _spoil_documents(on: Stage, meddler: Meddler) -> None:
    play(on, {"interpreter": meddler}, "429 for a document", meddling.BUSY, most=3)
    with on.fault("reset in the middle of a document's answer", pause=PAUSE, at=("interpreter",)) as line:
        meddler.play(meddling.torn)
        until(lambda: _parked(on.mirror.database) == {"interpreter"}, seconds=60, what=on.report)
        meddler.stop()
        line.times = meddler.spoilt.total()
        on.attended = "interpreter"


def _parked(database: Database) -> set[str]:
    c = tables.inbox.c
    with database.read() as tx:
        return set(tx.execute(sa.select(c.connection).where(c.state == "parked")).scalars())


def _logins_end(on: Stage) -> None:
    wisedat, easyflor = on.mirror.sandboxes["wisedat"], on.mirror.sandboxes["easyflor"]
    _faults(on, "sessions killed", *[wisedat.expire, easyflor.expire, easyflor.log_in_elsewhere] * 3)
    between = partial(wisedat.between_pages.append, lambda _: wisedat.rotate())
    _faults(on, "key rotated", *[wisedat.rotate, partial(wisedat.restart, starting=2), between] * 2)


@pytest.mark.redis
@pytest.mark.postgresql
def test_lost_doubled_and_late_webhooks_and_torn_document_answers_lose_nothing(
    tmp_path: Path, ledger: Ledger, random: Random
) -> None:
    systems: dict[str, dict[str, Any]] = {"dilovod": {"seed": 4}, "interpreter": {"inbox": tmp_path / "incoming"}}
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        vendors(database, tmp_path, broker, systems=systems, ledger=ledger, random=random) as (on, meddlers),
    ):
        _spoil_webhooks(on)
        _spoil_documents(on, meddlers["interpreter"])


@pytest.mark.redis
@pytest.mark.postgresql
def test_spoilt_answers_and_ended_sessions_lose_nothing(tmp_path: Path, ledger: Ledger, random: Random) -> None:
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        vendors(
            database, tmp_path, broker, systems=four(easyflor={"auth": "cookie"}), ledger=ledger, random=random
        ) as (on, meddlers),
    ):
        _spoil_answers(on, meddlers)
        _logins_end(on)


# Listings and clocks.


def _listings_lack_rows(on: Stage, meddlers: dict[str, Meddler]) -> None:
    wisedat = on.mirror.sandboxes["wisedat"]
    play_once(on, meddlers, "a listing ends early, well-formed", meddling.ended_early)
    play_once(on, meddlers, "a listing ends early, within a row", meddling.cut)
    wisedat.largest_page = None  # a listing is one page
    play_once(on, meddlers, "an empty listing by mistake", meddling.emptied)
    play_once(on, meddlers, "30 % of all rows missing from a listing", meddling.lacking(0.3, on.random))


def _rows_move(on: Stage) -> None:
    wisedat = on.mirror.sandboxes["wisedat"]
    wisedat.largest_page, wisedat.latest_first = 5, True
    _faults(on, "rows move between pages", *[partial(wisedat.between_pages.append, wisedat.books.save_the_last)] * 8)


HOUR = timedelta(hours=1)
DATED = ("directo", "wisedat", "easyflor")
"""Vendors that are asked for changes since a moment of their own clock."""


def _clock_is(on: Stage, name: str, clock: Clock, off: timedelta) -> None:
    """The vendors' clocks change, and each of them is asked some times."""
    asked = [on.mirror.sandboxes[each].requests for each in DATED]
    with on.fault(name, pause=PAUSE) as line:
        clock.off = off
        enough = [len(each) + 10 for each in asked]
        until(
            lambda: all(len(each) >= least for each, least in zip(asked, enough, strict=True)),
            seconds=120,
            what=on.report,
        )
        line.times = 1


def _clocks_go_wrong(on: Stage, meddlers: dict[str, Meddler], clock: Clock) -> None:
    on.stamps_rise = False
    _clock_is(on, "clock an hour behind", clock, -HOUR)
    _clock_is(on, "clock an hour ahead", clock, HOUR)
    _clock_is(on, "clock set back by an hour", clock, timedelta())
    # Wisedat's objects have no stamp to compare with its clock, so its clock is trusted.
    dated = {name: meddlers[name] for name in ("directo", "easyflor")}
    play(on, dated, "Date an hour ahead of the stamps", meddling.shifted(HOUR), most=20)
    play(on, dated, "Date an hour behind the stamps", meddling.shifted(-HOUR), most=20)


@pytest.mark.redis
@pytest.mark.postgresql
def test_incomplete_listings_delete_no_live_row(tmp_path: Path, ledger: Ledger, random: Random) -> None:
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        vendors(database, tmp_path, broker, systems=four(), ledger=ledger, random=random) as (on, meddlers),
    ):
        _listings_lack_rows(on, meddlers)
        _rows_move(on)


@pytest.mark.redis
@pytest.mark.postgresql
def test_wrong_vendor_clocks_lose_no_change(tmp_path: Path, ledger: Ledger, random: Random) -> None:
    clock = Clock()
    systems = {name: knobs for name, knobs in four(**{name: {"now": clock} for name in DATED}).items() if name in DATED}
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        vendors(database, tmp_path, broker, systems=systems, ledger=ledger, random=random) as (on, meddlers),
    ):
        _clocks_go_wrong(on, meddlers, clock)


# Two wrong ones in a row, where nothing but listings can be asked.

LISTED = {"directo": ["items", "orders"], "wisedat": ["products", "orders"], "easyflor": ["debtor", "article"]}


def _held(on: Stage) -> int:
    return sum(row.held for row in status.resources(on.mirror.database))


@pytest.mark.redis
@pytest.mark.postgresql
def test_keys_missing_from_two_wrong_listings_are_held_until_a_right_one_names_them(
    tmp_path: Path, ledger: Ledger, random: Random
) -> None:
    systems = {name: knobs for name, knobs in four().items() if name in LISTED}
    for name, resources in LISTED.items():
        systems[name]["options"]["resources"] = resources
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        vendors(database, tmp_path, broker, systems=systems, ledger=ledger, random=random, max_deletions=0.2) as (
            on,
            meddlers,
        ),
        on.fault("two empty listings in a row", pause=1) as line,
    ):
        with _played(meddlers, meddling.emptied, line, each=2):
            _wait(on, meddlers, lambda meddler: meddler.full_syncs >= 4)
            until(lambda: _held(on) >= 12, seconds=60, what=on.report)
        until(lambda: not _held(on), seconds=60, what=on.report)
