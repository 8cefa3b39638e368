"""How many requests a vendor gets, counted before its sandbox and compared with the formulas in OPERATING.md."""

from __future__ import annotations

import math
import re
import time
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from models.bookkeeping import inbox
from models.values import Cause, Lane, ObjectRef
from tests.mirroring import mirrored
from workers.connectors.easyflor import sandbox_scenario

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from models.db.database import Database
    from tests.mirroring import Mirror

PAGE = Path(__file__).parents[1] / ".github" / "OPERATING.md"
HEADING = "## What it asks of your ERP"
START = datetime(2026, 6, 1, 12, tzinfo=UTC)


class Clock:
    """The clock of the mirror and its vendor, which the test advances.

    It also runs by itself: if it stood still, the gate, which sleeps in real time, would wait longer for each request.
    """

    def __init__(self) -> None:
        self.now = START
        self._begun = time.monotonic()

    def __call__(self) -> datetime:
        return self.now + timedelta(seconds=time.monotonic() - self._begun)


class RequestCounter:
    """Counts the requests to a sandbox whose path contains one of `named`."""

    def __init__(self, *named: str) -> None:
        self.count = 0
        self._named = named

    def before(self, app: ASGIApp) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            path = scope["path"].casefold() if scope["type"] == "http" else ""
            self.count += any(name in path for name in self._named)
            await app(scope, receive, send)

        return counted


def stated() -> Iterator[tuple[str, str, dict[str, str]]]:
    """System, resource and formulas of each row of that page's table."""
    section = PAGE.read_text(encoding="utf-8").partition(HEADING)[2].partition("\n#")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    heads, *cells = rows
    for row in cells:
        system, resource = re.findall(r"`([^`]+)`", row[0])
        yield system, resource, {head.strip(): formula.strip("` ") for head, formula in zip(heads, row, strict=True)}


STATED = list(stated())
BATCHES, RECENT = (
    re.findall(rf"`{name}\(n\) = ([^`]+)`", PAGE.read_text(encoding="utf-8"))[0] for name in ("batches", "recent")
)


def _dilovod_good(mirror: Mirror) -> None:
    """A user edits a good, and the webhook comes."""
    sandbox = mirror.sandboxes["dilovod"]
    sandbox._edit_good(Random(1))
    hook = sandbox.sent_webhooks[-1]["params"]
    with mirror.database.begin() as tx:
        enqueued = [ObjectRef(hook["objectName"], hook["id"])]
        inbox.enqueue(
            tx,
            connection="dilovod",
            refs=enqueued,
            lane=Lane.LIVE,
            cause=Cause.WEBHOOK,
        )


def _wisedat(resource: str, **changes: Any) -> Callable[[Mirror], None]:
    """A user saves the first object of a resource."""

    def edit(mirror: Mirror) -> None:
        sandbox = mirror.sandboxes["wisedat"]
        sandbox.books.change(resource, min(sandbox.truth(resource)), **changes)

    return edit


def _paper(mirror: Mirror) -> None:
    """A user puts a delivery note into the watched folder."""
    mirror.sandboxes["interpreter"]._delivery_note()


def no_edit(_mirror: Mirror) -> None:
    """For resources whose sandbox has no edit of its own."""


EDITS: dict[tuple[str, str], Callable[[Mirror], Any]] = {
    ("dilovod", "catalogs.goods"): _dilovod_good,
    ("dilovod", "balanceRegisters.goods"): lambda mirror: mirror.sandboxes["dilovod"]._move_stock(Random(1)),
    ("directo", "items"): lambda mirror: mirror.sandboxes["directo"].books.reprice(Random(1)),
    ("directo", "stocklevels"): lambda mirror: mirror.sandboxes["directo"].books.move_stock(Random(1)),
    ("wisedat", "orders"): _wisedat("orders", notes="only the detail shows this"),
    ("wisedat", "customers"): _wisedat("customers", name="Nova Lda"),
    ("wisedat", "categories"): _wisedat("categories", name="Nova"),
    ("easyflor", "debtor"): lambda mirror: sandbox_scenario.Day(mirror.sandboxes["easyflor"].books).edit_debtor(
        Random(1)
    ),
    ("easyflor", "article"): lambda mirror: sandbox_scenario.Day(mirror.sandboxes["easyflor"].books).reprice(Random(1)),
    ("interpreter", "deliverynote"): _paper,
}

NAMED = {
    ("wisedat", "customers"): "customer",  # and their addresses
    ("easyflor", "debtor"): "debtor",  # and debtorsincedate
}
"""What the paths of a row's requests contain, if not its resource."""

LOGIN = "login"
_LOGINS = {"wisedat": ("status", "authentication"), "easyflor": ("authorizationtoken",)}

SIZES = {
    ("dilovod", "catalogs.goods"): (6, 520),
    ("wisedat", "orders"): (6, 210),
    ("interpreter", "deliverynote"): (3,),
}
"""Companies of one page and of several."""


def expected(formula: str, objects: int) -> int:
    """The formula's value for N objects."""
    return _evaluate(formula, N=objects, batches=lambda count: _evaluate(BATCHES, n=count))


def _evaluate(formula: str, **names: Any) -> int:
    known = {"ceil": math.ceil, "floor": math.floor, "__builtins__": {}}
    return int(eval(formula, known | names))  # noqa: S307 - our own page, without builtins


@contextmanager
def counted(
    database: Database,
    folder: Path,
    system: str,
    resource: str,
    objects: int,
    *,
    options: dict[str, Any] | None = None,
    **knobs: Any,
) -> Iterator[tuple[Mirror, RequestCounter, Clock]]:
    """A mirror of one resource, the counter of its vendor's requests, and the clock of both.

    `options`: further settings; `knobs`: of the sandbox.
    """
    clock, counter = Clock(), _counter(system, resource)
    database._clock = clock
    real = {"deleted": "items", LOGIN: {"wisedat": "orders", "easyflor": "debtor"}.get(system)}.get(resource, resource)
    settings = {"resources": [real], **(options or {})}
    knobs = {"seed": 2, "now": clock, "wrapper": counter.before, "options": settings, **knobs}
    if system != "interpreter":
        knobs["objects"] = objects
    with mirrored(database, folder, **{system: knobs}) as mirror:
        if system == "wisedat":
            mirror.sandboxes[system].largest_page = None  # no limit but the request's own
        if system == "interpreter":
            for _ in range(objects):
                _paper(mirror)
        yield mirror, counter, clock


def _counter(system: str, resource: str) -> RequestCounter:
    if resource == LOGIN:
        return RequestCounter(*_LOGINS[system])
    if system in {"dilovod", "interpreter"}:
        return RequestCounter("/")
    return RequestCounter(NAMED.get((system, resource), resource))


def an_hour(mirror: Mirror, counter: RequestCounter, clock: Clock) -> int:
    """The requests of the next sixty minutes."""
    before = counter.count
    for _ in range(12):
        clock.now += timedelta(minutes=5)
        mirror.work()
    return counter.count - before


@pytest.mark.parametrize(
    ("system", "resource", "formulas", "objects"),
    [
        pytest.param(*row, objects, marks=[pytest.mark.slow] if number else [])
        for row in STATED
        for number, objects in enumerate(SIZES.get(row[:2], (6, 30)))
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_vendor_gets_as_many_requests_as_operating_states(
    sqlite: Database, tmp_path: Path, system: str, resource: str, formulas: dict[str, str], objects: int
) -> None:
    with counted(sqlite, tmp_path, system, resource, objects) as (mirror, counter, clock):
        mirror.work()
        found = {"first load": counter.count}
        an_hour(mirror, counter, clock)
        found["quiet hour"] = an_hour(mirror, counter, clock)
        EDITS.get((system, resource), no_edit)(mirror)
        found["one edit"] = an_hour(mirror, counter, clock) - found["quiet hour"]
        count = 0 if resource == LOGIN else len(mirror.sandboxes[system].truth(resource))
        mirror.catch_up()
        assert {} == mirror.differences()
    if system == "interpreter":
        count -= 1  # the edit added one
    assert {head: expected(formula, count) for head, formula in formulas.items() if head in found} == found


@pytest.mark.parametrize("objects", [30, pytest.param(1200, marks=pytest.mark.slow)])
def test_with_a_lookback_dilovod_gets_as_many_requests_for_recent_documents(
    sqlite: Database, tmp_path: Path, objects: int
) -> None:
    given: dict[str, Any] = {"options": {"lookback": "60d"}, "days": 120}
    with counted(sqlite, tmp_path, "dilovod", "documents.saleOrder", objects, **given) as (mirror, counter, clock):
        mirror.work()
        an_hour(mirror, counter, clock)
        dates = [raw["header"]["date"] for raw in mirror.sandboxes["dilovod"].truth("documents.saleOrder").values()]
        recent = sum(date >= "2026-04-02 00:00:00" for date in dates)
        assert 0 < recent < objects
        assert _evaluate(RECENT, n=recent) == an_hour(mirror, counter, clock)
        counter.count = 0
        for _ in range(24):
            an_hour(mirror, counter, clock)
        metadata, everything = 1, 1 + objects // 500
        assert metadata + everything + 24 * _evaluate(RECENT, n=recent) == counter.count


def test_the_page_states_every_system() -> None:
    assert {"dilovod", "directo", "wisedat", "easyflor", "interpreter"} == {system for system, _, _ in STATED}
