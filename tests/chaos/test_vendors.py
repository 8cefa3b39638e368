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
from tests.chaos import fault_injector
from tests.chaos.fault_injector import FaultInjector
from tests.chaos.harness import ChaosHarness, chaos_harness
from tests.chaos.webhook_proxy import Handling
from tests.processes import until
from workers.connectors import discovery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from random import Random

    from tests.chaos.fault_injector import Answer, Fault
    from tests.chaos.results import FaultResult, Results

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
) -> Iterator[tuple[ChaosHarness, dict[str, FaultInjector]]]:
    """A running installation, and the fault injector of each vendor."""
    injectors = {name: FaultInjector() for name in systems}
    wrappers: dict[str, Callable[[Any], Any]] = {name: injector.wrap for name, injector in injectors.items()}
    with chaos_harness(database, folder, broker, systems=systems, wrappers=wrappers, **how) as harness:
        del harness.verbs["more sync"]
        harness.start()
        yield harness, injectors


def inject(
    harness: ChaosHarness, injectors: dict[str, FaultInjector], name: str, fault: Fault | Answer, *, most: int
) -> None:
    """Spoil so many answers of each vendor in this way."""
    with harness.fault(name, pause=PAUSE) as result, _injecting(injectors, fault, result, each=most, most=most):
        _wait(harness, injectors, lambda injector: injector.spoilt.total() >= most)


def inject_once(harness: ChaosHarness, injectors: dict[str, FaultInjector], name: str, fault: Fault | Answer) -> None:
    """Spoil each listing once, and of each vendor at least three full listings."""
    with harness.fault(name, pause=PAUSE) as result, _injecting(injectors, fault, result, each=1):
        _wait(harness, injectors, lambda injector: injector.full_syncs >= 3)


@contextmanager
def _injecting(
    injectors: dict[str, FaultInjector],
    fault: Fault | Answer,
    result: FaultResult,
    *,
    each: int,
    most: int = fault_injector.ALWAYS,
) -> Iterator[None]:
    for injector in injectors.values():
        injector.inject(fault, each=each, most=most)
    yield
    for injector in injectors.values():
        injector.stop()
        result.times += injector.spoilt.total()


def _wait(
    harness: ChaosHarness, injectors: dict[str, FaultInjector], has_enough: Callable[[FaultInjector], bool]
) -> None:
    def report() -> str:
        return f"{ {name: injector.spoilt for name, injector in injectors.items()} } {harness.report()}"

    until(lambda: all(map(has_enough, injectors.values())), seconds=200, what=report)


def _faults(harness: ChaosHarness, name: str, *faults: Callable[[], object]) -> None:
    with harness.fault(name, pause=PAUSE) as result:
        for fault in faults:
            time.sleep(0.3 + harness.random.random() / 2)
            fault()
            result.times += 1


# Webhooks.


def _apply_handling(harness: ChaosHarness, result: FaultResult, handling: Handling, *, least: int) -> None:
    """Handle at least so many webhooks in this way."""
    before = harness.webhook_proxy.affected
    harness.webhook_proxy.handling = handling
    until(lambda: harness.webhook_proxy.affected - before >= least, seconds=120, what=harness.report)
    harness.webhook_proxy.handling = Handling.FORWARD
    result.times += harness.webhook_proxy.affected - before


def _spoil_webhooks(harness: ChaosHarness) -> None:
    at = ("dilovod",)
    with harness.fault("webhooks dropped", at=at) as result:
        _apply_handling(harness, result, Handling.DROP, least=15)
    with harness.fault("webhooks doubled", at=at) as result:
        _apply_handling(harness, result, Handling.DOUBLE, least=15)
    with harness.fault("webhooks delayed beyond the reconciliation", at=at) as result:
        _apply_handling(harness, result, Handling.HOLD, least=15)
        time.sleep(3)
        harness.webhook_proxy.release()
    with harness.fault("webhooks reordered", at=at) as result:
        for _ in range(3):
            _apply_handling(harness, result, Handling.HOLD, least=6)
            harness.webhook_proxy.release(harness.random)


# Answers and logins.


def _spoil_answers(harness: ChaosHarness, injectors: dict[str, FaultInjector]) -> None:
    inject(harness, injectors, "429", fault_injector.BUSY, most=3)
    inject(harness, injectors, "503", fault_injector.BROKEN, most=2)
    inject(harness, injectors, "reset in the middle of a body", fault_injector.torn, most=3)
    inject(harness, injectors, "an answer takes a minute", fault_injector.a_minute_late, most=2)


def _spoil_documents(harness: ChaosHarness, injector: FaultInjector) -> None:
    inject(harness, {"interpreter": injector}, "429 for a document", fault_injector.BUSY, most=3)
    with harness.fault("reset in the middle of a document's answer", pause=PAUSE, at=("interpreter",)) as result:
        injector.inject(fault_injector.torn)
        until(lambda: _parked(harness.mirror.database) == {"interpreter"}, seconds=60, what=harness.report)
        injector.stop()
        result.times = injector.spoilt.total()
        harness.attended = "interpreter"


def _parked(database: Database) -> set[str]:
    c = tables.inbox.c
    with database.read() as tx:
        return set(tx.execute(sa.select(c.connection).where(c.state == "parked")).scalars())


def _logins_end(harness: ChaosHarness) -> None:
    wisedat, easyflor = harness.mirror.sandboxes["wisedat"], harness.mirror.sandboxes["easyflor"]
    _faults(harness, "sessions killed", *[wisedat.expire, easyflor.expire, easyflor.log_in_elsewhere] * 3)
    between = partial(wisedat.between_pages.append, lambda _: wisedat.rotate())
    _faults(harness, "key rotated", *[wisedat.rotate, partial(wisedat.restart, starting=2), between] * 2)


@pytest.mark.redis
@pytest.mark.postgresql
def test_lost_doubled_and_late_webhooks_and_torn_document_answers_lose_nothing(
    tmp_path: Path, results: Results, random: Random
) -> None:
    systems: dict[str, dict[str, Any]] = {"dilovod": {"seed": 4}, "interpreter": {"inbox": tmp_path / "incoming"}}
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        vendors(database, tmp_path, broker, systems=systems, results=results, random=random) as (harness, injectors),
    ):
        _spoil_webhooks(harness)
        _spoil_documents(harness, injectors["interpreter"])


@pytest.mark.redis
@pytest.mark.postgresql
def test_spoilt_answers_and_ended_sessions_lose_nothing(tmp_path: Path, results: Results, random: Random) -> None:
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        vendors(
            database, tmp_path, broker, systems=four(easyflor={"auth": "cookie"}), results=results, random=random
        ) as (harness, injectors),
    ):
        _spoil_answers(harness, injectors)
        _logins_end(harness)


# Listings and clocks.


def _listings_lack_rows(harness: ChaosHarness, injectors: dict[str, FaultInjector]) -> None:
    wisedat = harness.mirror.sandboxes["wisedat"]
    inject_once(harness, injectors, "a listing ends early, well-formed", fault_injector.ended_early)
    inject_once(harness, injectors, "a listing ends early, within a row", fault_injector.cut)
    wisedat.largest_page = None  # a listing is one page
    inject_once(harness, injectors, "an empty listing by mistake", fault_injector.emptied)
    inject_once(
        harness, injectors, "30 % of all rows missing from a listing", fault_injector.lacking(0.3, harness.random)
    )


def _rows_move(harness: ChaosHarness) -> None:
    wisedat = harness.mirror.sandboxes["wisedat"]
    wisedat.largest_page, wisedat.latest_first = 5, True
    _faults(
        harness, "rows move between pages", *[partial(wisedat.between_pages.append, wisedat.books.save_the_last)] * 8
    )


HOUR = timedelta(hours=1)
DATED = ("directo", "wisedat", "easyflor")
"""Vendors that are asked for changes since a moment of their own clock."""


def _clock_is(harness: ChaosHarness, name: str, clock: Clock, off: timedelta) -> None:
    """The vendors' clocks change, and each of them is asked some times."""
    asked = [harness.mirror.sandboxes[each].requests for each in DATED]
    with harness.fault(name, pause=PAUSE) as result:
        clock.off = off
        enough = [len(each) + 10 for each in asked]
        until(
            lambda: all(len(each) >= least for each, least in zip(asked, enough, strict=True)),
            seconds=120,
            what=harness.report,
        )
        result.times = 1


def _clocks_go_wrong(harness: ChaosHarness, injectors: dict[str, FaultInjector], clock: Clock) -> None:
    harness.stamps_rise = False
    _clock_is(harness, "clock an hour behind", clock, -HOUR)
    _clock_is(harness, "clock an hour ahead", clock, HOUR)
    _clock_is(harness, "clock set back by an hour", clock, timedelta())
    # Wisedat's objects have no stamp to compare with its clock, so its clock is trusted.
    dated = {name: injectors[name] for name in ("directo", "easyflor")}
    inject(harness, dated, "Date an hour ahead of the stamps", fault_injector.shifted(HOUR), most=20)
    inject(harness, dated, "Date an hour behind the stamps", fault_injector.shifted(-HOUR), most=20)


@pytest.mark.redis
@pytest.mark.postgresql
def test_incomplete_listings_delete_no_live_row(tmp_path: Path, results: Results, random: Random) -> None:
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        vendors(database, tmp_path, broker, systems=four(), results=results, random=random) as (harness, injectors),
    ):
        _listings_lack_rows(harness, injectors)
        _rows_move(harness)


@pytest.mark.redis
@pytest.mark.postgresql
def test_wrong_vendor_clocks_lose_no_change(tmp_path: Path, results: Results, random: Random) -> None:
    clock = Clock()
    systems = {name: knobs for name, knobs in four(**{name: {"now": clock} for name in DATED}).items() if name in DATED}
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        vendors(database, tmp_path, broker, systems=systems, results=results, random=random) as (harness, injectors),
    ):
        _clocks_go_wrong(harness, injectors, clock)


# Two wrong ones in a row, where nothing but listings can be asked.

LISTED = {"directo": ["items", "orders"], "wisedat": ["products", "orders"], "easyflor": ["debtor", "article"]}


def _held(harness: ChaosHarness) -> int:
    return sum(row.held for row in status.resources(harness.mirror.database))


@pytest.mark.redis
@pytest.mark.postgresql
def test_keys_missing_from_two_wrong_listings_are_held_until_a_right_one_names_them(
    tmp_path: Path, results: Results, random: Random
) -> None:
    systems = {name: knobs for name, knobs in four().items() if name in LISTED}
    for name, resources in LISTED.items():
        systems[name]["options"]["resources"] = resources
    with (
        processes.own_postgresql() as database,
        processes.own_redis() as broker,
        vendors(database, tmp_path, broker, systems=systems, results=results, random=random, max_deletions=0.2) as (
            harness,
            injectors,
        ),
        harness.fault("two empty listings in a row", pause=1) as result,
    ):
        with _injecting(injectors, fault_injector.emptied, result, each=2):
            _wait(harness, injectors, lambda injector: injector.full_syncs >= 4)
            until(lambda: _held(harness) >= 12, seconds=200, what=harness.report)
        until(lambda: not _held(harness), seconds=60, what=harness.report)
