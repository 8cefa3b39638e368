"""How many requests each vendor gets, against the fewest that its API allows for the same knowledge and bounds."""

from __future__ import annotations

import tempfile
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import anyio

from models.bookkeeping import webhooks
from models.bookkeeping.webhooks import AcceptedWebhook
from models.db import migration
from models.db.database import Database
from tests.benchmarks.measure import Answer, quotients, say
from tests.mirroring import mirrored
from tests.test_requests import EDITS, LOGIN, an_hour, counted, expected, no_edit
from workers.ingest import loop

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from tests.mirroring import Mirror
    from tests.test_requests import Clock

QUESTION = "Does a vendor get more requests than necessary?"

MANY = 1000
SIZES = (6, 30, 60, 110, 210)
"""Objects in each round: companies of one page and of several."""

_WITHIN: dict[str, tuple[float, float]] = defaultdict(lambda: (1.0, 1.0))
"""Situation -> what the ratio must be and aims at."""

FIRST, HOUR, BURST = "a first load", "a quiet hour", f"{MANY:,} edits of one object in a minute"


_WITHIN[FIRST] = 1.3, 1.05  # what Dilovod shows of many objects is proved before it is believed

_A_MINUTE = timedelta(minutes=1)
_ANNOUNCED = ("dilovod", "catalogs.goods")
_ANSWERS_AFTER = 0.05
_BETWEEN = 0.005


@dataclass(frozen=True, slots=True)
class Fewest:
    """The fewest requests for one resource of N objects, and why it cannot be fewer."""

    first: str
    hour: str
    burst: str
    why: str


FEWEST = {
    ("dilovod", "catalogs.goods"): Fewest(
        "1 + 2 * (floor(N / 500) + 1)",
        "floor(N / 500) + 1",
        "1",
        "getMetadata names the fields to list, once in 24 h; a page holds 500 and no count is given, so only a page "
        "that is not full ends a listing; one `request` shows headers, another the rows of their table part. Whoever "
        "believes both unseen needs no more; ours reads 20 objects by getObject, too, two of each later batch, and the "
        "versions before and after. Nothing "
        "shows what changed since, so `reconcile_every` (1 h) is one listing. A webhook has no content, so the last "
        "one costs one getObject; those that wait together cost one",
    ),
    ("dilovod", "balanceRegisters.goods"): Fewest(
        "1 + 1", "12", "0", "getMetadata names the dimensions, then all rows in one reply; each `every` (5 min) anew"
    ),
    ("directo", "items"): Fewest("1", "12", "0", "no pages; one `ts` filter for each `every` (5 min)"),
    ("directo", "stocklevels"): Fewest("1", "12", "0", "likewise; no request spans two resources"),
    ("directo", "deleted"): Fewest("1", "12", "0", "likewise"),
    ("wisedat", "orders"): Fewest(
        "ceil(N / 200) + N",
        "12",
        "1",
        "pages of `page_size` (200), the page count is given; lines are in the detail by id alone; one "
        "`modified_since` for each `every` (5 min)",
    ),
    ("wisedat", "customers"): Fewest(
        "ceil(N / 200) + 2 * N", "12", "2", "likewise, and customeraddresses takes one customer"
    ),
    ("wisedat", "categories"): Fewest("ceil(N / 200)", "12", "0", "whole objects in the list"),
    ("wisedat", "taxes"): Fewest("1", "1", "0", "a bare list, read once an hour"),
    ("wisedat", LOGIN): Fewest(
        "2",
        "2 * 2",
        "0",
        "the status shows the key, which a day or a restart ends; a token lasts 30 min. A key that is "
        "stored would be a refused login after each restart, which a server may hold against the user",
    ),
    ("easyflor", "debtor"): Fewest("1", "1", "0", "one stream; one `since` for each `every` (1 h)"),
    ("easyflor", "article"): Fewest("1", "0", "0", "one stream, no since; `full_every` (24 h)"),
    ("easyflor", LOGIN): Fewest("1", "1", "0", "one token, which the stand-in gives for an hour"),
    ("interpreter", "deliverynote"): Fewest("N", "0", "1", "one POST a file, and the same file is the same document"),
}
"""By the vendors' own documents. No request spans two resources anywhere."""


def answers(rounds: int) -> list[Answer]:
    """Requests that the vendors received, all resources together."""
    ours: dict[str, list[float]] = defaultdict(list)
    fewest: dict[str, list[float]] = defaultdict(list)
    by_vendor: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for number in range(rounds):
        objects = SIZES[number % len(SIZES)]
        sums: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for system, resource in FEWEST:
            for situation, found in _counted(system, resource, objects).items():
                sums[situation].append(found)
                ours_so_far, fewest_so_far = by_vendor[situation].get(system, (0, 0))
                by_vendor[situation][system] = (ours_so_far + found[0], fewest_so_far + found[1])
        for situation, pairs in sums.items():
            ours[situation].append(sum(one for one, _ in pairs))
            fewest[situation].append(sum(other for _, other in pairs))
        say(f"  requests: round {number + 1} of {rounds}, {objects} objects, {dict(sums)}")
    answered = [
        _answer(situation, ours[situation], fewest[situation], _by_vendor(by_vendor[situation])) for situation in ours
    ]
    return [*answered, _spread(rounds)]


def _answer(situation: str, ours: list[float], fewest: list[float], note: str) -> Answer:
    return Answer(
        f"requests for {situation}",
        "the fewest that the APIs allow",
        "lower",
        must=_WITHIN[situation][0],
        aim=_WITHIN[situation][1],
        unit="requests",
        ours=ours,
        reference=fewest,
        ratios=quotients(ours, fewest),
        note=note,
    )


def _by_vendor(counts: dict[str, tuple[int, int]]) -> str:
    return "; ".join(f"{system} {ours} of {fewest}" for system, (ours, fewest) in counts.items())


def _counted(system: str, resource: str, objects: int) -> dict[str, tuple[int, int]]:
    """Situation -> our requests and the fewest."""
    fewest, found = FEWEST[system, resource], {}
    with (
        _database() as (database, folder),
        counted(database, folder, system, resource, objects) as (mirror, counter, clock),
    ):
        mirror.work()
        held = 0 if resource == LOGIN else len(mirror.sandboxes[system].truth(resource))
        found[FIRST] = (counter.count, expected(fewest.first, held))
        an_hour(mirror, counter, clock)
        quiet = an_hour(mirror, counter, clock)
        found[HOUR] = (quiet, expected(fewest.hour, held))
        _burst(mirror, clock, system, resource)
        found[BURST] = (an_hour(mirror, counter, clock) - quiet, expected(fewest.burst, held))
        mirror.catch_up()
        if different := mirror.differences():
            raise AssertionError(f"the mirror is not equal: {different}")
    return found


def _burst(mirror: Mirror, clock: Clock, system: str, resource: str) -> None:
    """Edits of one object within a minute, right after a poll."""
    edit = EDITS.get((system, resource), no_edit)
    if system == "interpreter":
        sandbox = mirror.sandboxes[system]
        paper = sandbox._paper(resource).pdf()
        edit = lambda _: sandbox._again(resource, paper)  # noqa: E731 - a person who puts the same file there again
    for _ in range(MANY):
        clock.now += _A_MINUTE / MANY
        if (system, resource) == _ANNOUNCED:
            _edited(mirror)
        else:
            edit(mirror)


def _edited(mirror: Mirror) -> None:
    """A user saves a good, and its webhook is accepted."""
    sandbox = mirror.sandboxes["dilovod"]
    sandbox._edit_good(Random(1))
    hook = sandbox.sent_webhooks[-1]["params"]
    with mirror.database.begin() as tx:
        webhook = AcceptedWebhook("dilovod", "{}", resource=hook["objectName"], key=hook["id"])
        webhooks.append(tx, [webhook])


# Webhooks that come while the vendor answers.


@dataclass
class _Slow:
    """A vendor that answers slowly, and the moments of its requests."""

    begun: list[float] = field(default_factory=list)

    def before(self, app: ASGIApp) -> ASGIApp:
        async def slow(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                self.begun.append(time.monotonic())
                await anyio.sleep(_ANSWERS_AFTER)
            await app(scope, receive, send)

        return slow


def _spread(rounds: int) -> Answer:
    """A request is needed for a webhook that came after the request before had begun: that one may miss the edit."""
    ours: list[float] = []
    needed: list[float] = []
    for number in range(rounds):
        made, wanted = _asked_meanwhile()
        ours.append(made)
        needed.append(wanted)
        say(f"  requests: {MANY:,} webhooks one by one, round {number + 1} of {rounds}: {made}, {wanted} needed")
    note = (
        f"a webhook each {_BETWEEN * 1000:g} ms, a vendor that answers after {_ANSWERS_AFTER * 1000:g} ms, one "
        "request at a time: at most one request is under way and one waits, however many webhooks come"
    )
    return _answer(f"{MANY:,} webhooks of one object, one by one", ours, needed, note)


def _asked_meanwhile() -> tuple[int, int]:
    proxy, announced, done = _Slow(), [], threading.Event()
    options = {"resources": ["catalogs.goods"]}
    with (
        _database() as (database, folder),
        mirrored(database, folder, dilovod={"wrapper": proxy.before, "objects": 6, "options": options}) as mirror,
    ):
        mirror.work()
        proxy.begun.clear()

        def edit() -> None:
            for _ in range(MANY):
                _edited(mirror)
                announced.append(time.monotonic())
                time.sleep(_BETWEEN)
            done.set()

        user = threading.Thread(target=edit)
        user.start()
        while not done.is_set():
            loop.sync(mirror.context("dilovod"))
        user.join()
        mirror.work()
        if different := mirror.differences():
            raise AssertionError(f"the mirror is not equal: {different}")
    asked = sorted(proxy.begun)
    needed = sum(
        any(earlier < at <= later for at in announced) for earlier, later in zip([0.0, *asked], asked, strict=False)
    )
    return len(asked), needed


@contextmanager
def _database() -> Iterator[tuple[Database, Path]]:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{folder}/mirror.db")
        migration.migrate(database)
        yield database, Path(folder)
        database.close()
