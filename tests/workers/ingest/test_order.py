"""Whatever order hooks, polls and listings come in, whatever of them is lost: it ends as the vendor has it."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise, product
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models import exact
from models.bookkeeping import inbox, streams
from models.db import tables
from models.values import Cause, Lane, ObjectRef
from tests.mirroring import mirrored
from tests.slow_params import slow_except
from tests.test_story import alive, replayed
from tests.workers import vendor_harness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from models.db.database import Database
    from tests.mirroring import Mirror
    from tests.workers.vendor_harness import Chunks, Harness

GONE = None
STATES = {
    "edited and reverted": (2, 1, 2),
    "deleted and created again": (GONE, 1, 2),
    "edited, deleted, created as it first was": (2, GONE, 1),
    "deleted, created, deleted": (GONE, 2, GONE),
}
"""What becomes of an object that was 1, event by event."""

HOOKS = {"".join(word): word for word in product("-!~", repeat=3)}
"""What becomes of the webhook of each event: lost, in time, or late (after everything else) and twice."""

LISTINGS = [(when, during) for when in range(4) for during in (False, True) if when < 3 or not during]
"""Before which event a full listing is asked for, and whether that event happens while its answer is on its way."""


class Company:
    """The made-up vendor's objects, one per story and way that its webhooks arrive, and when each changed."""

    def __init__(self, six: Harness, stories: Iterable[str]) -> None:
        self.six = six
        self.changed: dict[str, int] = {}
        self.counter = 0
        self.keys: dict[str, tuple[str, str]] = {}
        self.stories = list(stories)
        six.vendor.listing["goods"] = self._listed
        self.begin(0)

    @property
    def objects(self) -> dict[str, Any]:
        return self.six.vendor.objects["goods"]

    def begin(self, number: int) -> None:
        """Every object as it is before its story; a third of the fates of its hooks, another one each time."""
        pairs = product(self.stories, list(HOOKS)[number % 3 :: 3])
        self.keys = {f"{place:02}": pair for place, pair in enumerate(pairs)}
        for key in self.keys:
            self._becomes(key, 1)

    def event(self, number: int) -> None:
        for key, (story, _) in self.keys.items():
            self._becomes(key, STATES[story][number])

    def hooks(self, number: int, sign: str) -> list[str]:
        return [key for key, (_, hooks) in self.keys.items() if HOOKS[hooks][number] == sign]

    def _becomes(self, key: str, state: int | None) -> None:
        self.counter += 1
        self.changed[key] = self.counter
        if state is GONE:
            self.objects.pop(key, None)
        else:
            self.objects[key] = {"v": state}

    def _listed(self, cursor: str | None) -> Chunks:
        since = int(cursor or 0)
        listed = {key: raw for key, raw in self.objects.items() if self.changed[key] > since}
        return [{"snapshots": listed, "end": {"cursor": str(self.counter), "complete": cursor is None}}]


@pytest.mark.parametrize("fetchable", [True, False], ids=["point reads", "listings alone"])
@pytest.mark.parametrize(
    ("poll", "stories"),
    [(1, list(STATES)[:2]), pytest.param(2, list(STATES)[2:], marks=pytest.mark.slow)],
)
def test_every_order_of_events_webhooks_polls_and_listings_ends_equal_to_the_vendor(
    sqlite: Database, tmp_path: Path, *, fetchable: bool, poll: int, stories: list[str]
) -> None:
    kinds = {"goods": {"fetchable": fetchable, "unpaged": not fetchable, "every": 60}}
    with vendor_harness.connected(sqlite, tmp_path, kinds=kinds, max_deletions=1.0, concurrency=2) as six:
        company = Company(six, stories)
        _polled(six)
        for number, (listing, during) in enumerate(LISTINGS):
            company.begin(number)
            _polled(six)
            assert company.objects == six.live()
            _told(six, company, poll=poll, listing=listing, during=during)
            _polled(six)
            assert company.objects == six.live(), (listing, during)
            assert {} == six.inbox()
        target = six.context.target(six.context.resources["goods"])
        assert alive(sqlite, target) == replayed(sqlite, "goods")
        assert ([], []) == (_fallen(sqlite), _repeated(sqlite))


def _told(six: Harness, company: Company, *, poll: int, listing: int, during: bool) -> None:
    """The three events, with their hooks, one poll and one listing between them."""
    happened = 0
    for number in range(4):
        if number == listing:
            if during:
                six.vendor.meanwhile["goods"] = lambda: company.event(listing)
                happened = number + 1
            six.full_sync_again()
        if number == poll:
            six.clock.advance(seconds=61)
            six.sync()
        if number < 3:
            if happened <= number:
                company.event(number)
            six.webhook(*company.hooks(number, "!"))
            six.sync()
    for number in (2, 0, 1, 2):
        six.webhook(*company.hooks(number, "~"))
    six.sync()


def _polled(six: Harness) -> None:
    """One polling interval, and the listing that confirms what was missing."""
    six.clock.advance(seconds=61)
    six.change(full_due_at=six.clock.now)
    six.work()
    six.clock.advance(seconds=61)
    six.work()


def _histories(database: Database) -> Iterable[list[Any]]:
    """The journal, object by object."""
    c = tables.changes.c
    found: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
    with database.read() as tx:
        for row in tx.execute(sa.select(c.resource, c.key, c.kind, c.revision, c.after).order_by(c.id)):
            found[row.resource, row.key].append(row)
    return found.values()


def _fallen(database: Database) -> list[Any]:
    """Entries of a lower revision than the one before."""
    return [
        other for history in _histories(database) for one, other in pairwise(history) if other.revision < one.revision
    ]


def _repeated(database: Database) -> list[Any]:
    """Entries that tell what an earlier entry already reported."""
    pairs = [pair for history in _histories(database) for pair in pairwise(history)]
    return [other for one, other in pairs if exact.canonical(one.after) == exact.canonical(other.after)]


# Dilovod and Directo.


class Dilovod:
    """Goods at Dilovod: marked, unmarked, removed, created again under their id; only some hooks come."""

    system, resource = "dilovod", "catalogs.goods"
    knobs: dict[str, Any] = {"options": {"resources": ["catalogs.goods"], "max_deletions": 1.0}}  # noqa: RUF012 - constant
    stories: dict[str, tuple[str, str, str]] = {  # noqa: RUF012 - likewise
        "marked and unmarked": ("mark", "unmark", "edit"),
        "edited and reverted": ("edit", "revert", "mark"),
        "deleted and created again": ("remove", "create", "mark"),
        "unmarked, then gone": ("mark", "unmark", "remove"),
    }

    def __init__(self, sandbox: Any) -> None:
        self.books = sandbox.books
        self.keys = sorted(sandbox.truth(self.resource))
        self.first = {key: dict(self.books.things[key].header) for key in self.keys}

    def happens(self, key: str, what: str) -> None:
        thing = self.books.things.get(key)
        match what:
            case "mark" | "unmark":
                self.books.mark(thing, "1" if what == "mark" else "0")
            case "edit" | "revert":
                self.books.touch(thing, productNum="other" if what == "edit" else self.first[key]["productNum"])
            case "remove":
                self.books.remove(thing)
            case "create":
                again = self.books.add(self.resource, id_=key, **self.first[key])
                self.books.touch(again, version="70")  # it goes on


class Directo:
    """Items at Directo: no hooks, but polls that tell what changed, and a list of deletions that may be silent."""

    system, resource = "directo", "items"
    knobs: dict[str, Any] = {"options": {"resources": ["items"], "max_deletions": 1.0}}  # noqa: RUF012 - constant
    stories: dict[str, tuple[str, str, str]] = {  # noqa: RUF012 - likewise
        "edited and reverted": ("edit", "revert", "edit"),
        "deleted and created again": ("remove", "create", "edit"),
        "deleted in silence, created again": ("vanish", "create", "remove"),
        "created again, gone in silence": ("remove", "create", "vanish"),
    }

    def __init__(self, sandbox: Any) -> None:
        self.books = sandbox.books
        self.items = {self.books.key("items", item): item for item in self.books.tables["items"]}
        self.first = {key: dict(item) for key, item in self.items.items()}
        self.keys = sorted(self.items)

    def happens(self, key: str, what: str) -> None:
        match what:
            case "edit" | "revert":
                self.books.touch(self.items[key], name="other" if what == "edit" else self.first[key]["name"])
            case "remove" | "vanish":
                self.books.remove("items", self.items[key], announced=what == "remove")
            case "create":
                self.items[key] = self.books.add("items", dict(self.first[key]))


@pytest.mark.parametrize("listing", slow_except([1, 2], quick=1))
@pytest.mark.parametrize("vendor", [Dilovod, Directo])
def test_each_systems_objects_end_equal_to_the_vendor_in_every_order(
    sqlite: Database, tmp_path: Path, vendor: type[Dilovod | Directo], listing: int
) -> None:
    clock = vendor_harness.Clock()
    sqlite._clock = clock
    knobs = {"seed": 4, "objects": 40, "now": clock} | vendor.knobs
    with mirrored(sqlite, tmp_path, **{vendor.system: knobs}) as mirror:
        company = vendor(mirror.sandboxes[vendor.system])
        mirror.work()
        stories = dict(zip(company.keys, product(company.stories, HOOKS.values()), strict=False))
        late: list[str] = []
        for number in range(3):
            clock.advance(minutes=6)
            if number == listing:
                _listed_in_full(mirror, vendor.system)
            for key, (story, hooks) in stories.items():
                company.happens(key, company.stories[story][number])
                late += [key, key] if hooks[number] == "~" else []
            _hooks(mirror, vendor, [key for key, (_, hooks) in stories.items() if hooks[number] == "!"])
        _hooks(mirror, vendor, late[::-1])
        clock.advance(minutes=6)
        mirror.catch_up()
        assert {} == mirror.differences()
        context = mirror.context(vendor.system)
        target = context.target(context.resources[vendor.resource])
        assert alive(sqlite, target) == replayed(sqlite, vendor.resource)
        assert ([], []) == (_fallen(sqlite), _repeated(sqlite))


def _listed_in_full(mirror: Mirror, system: str) -> None:
    with mirror.database.begin() as tx:
        now = mirror.database.now(tx)
        for row in streams.open_streams(tx, connection=system):
            streams.update(tx, system, row.resource, full_due_at=now)
    mirror.work()


def _hooks(mirror: Mirror, vendor: type[Dilovod | Directo], keys: list[str]) -> None:
    """As if webhooks had come and been folded, at Directo as if the keys had been enqueued."""
    with mirror.database.begin() as tx:
        inbox.enqueue(
            tx,
            connection=vendor.system,
            refs=[ObjectRef(vendor.resource, key) for key in keys],
            lane=Lane.LIVE,
            cause=Cause.WEBHOOK,
        )
    mirror.work()


# Clocks that are none.


def _edited_item(sandbox: Any, name: str) -> None:
    sandbox.books.touch(sandbox.books.tables["items"][0], name=name)


def _edited_order(sandbox: Any, name: str) -> None:
    sandbox.books.change("orders", min(sandbox.truth("orders")), notes=name)


def _edited_debtor(sandbox: Any, name: str) -> None:
    sandbox.books.touch("debtor", sandbox.books.tables["debtor"][0], Name=name)


SINCE: dict[str, tuple[str, Callable[[Any, str], None]]] = {
    "directo": ("items", _edited_item),
    "wisedat": ("orders", _edited_order),
    "easyflor": ("debtor", _edited_debtor),
}
"""The systems that list what changed since, a resource of each, and how an object of it is edited."""


@pytest.mark.parametrize("system", SINCE)
@pytest.mark.parametrize(
    "first",
    [
        datetime(2026, 10, 25, 0, 20, tzinfo=UTC),  # Tallinn: 3:20, and at 1:20 again
        datetime(2026, 10, 24, 23, 50, tzinfo=UTC),  # Lisbon and Amsterdam
        datetime(2026, 3, 29, 0, 30, tzinfo=UTC),  # spring leaves an hour out
    ],
)
def test_nothing_that_changes_around_a_clock_change_is_lost(
    sqlite: Database, tmp_path: Path, system: str, first: datetime
) -> None:
    """Polls alone, no full sync, every few minutes for three hours, an edit before each."""
    clock = vendor_harness.Clock()
    clock.now, sqlite._clock = first, clock
    resource, edit = SINCE[system]
    knobs = {"seed": 6, "objects": 4, "now": clock, "options": {"resources": [resource], "full_every": "30d"}}
    with mirrored(sqlite, tmp_path, **{system: knobs}) as mirror:
        _open(mirror, system)
        for number in range(9):
            edit(mirror.sandboxes[system], f"edit {number}")
            clock.advance(minutes=20)
            with sqlite.begin() as tx:
                streams.poll_now(tx, connection=system)
            mirror.work()
            assert {} == mirror.differences(), clock.now


def _open(mirror: Mirror, system: str) -> None:
    mirror.work()
    assert {} == mirror.differences(), f"{system} is read in full first"


def test_a_stamp_in_the_future_hides_no_later_change(sqlite: Database, tmp_path: Path) -> None:
    """Directo is the one whose objects bear the stamp that is asked by."""
    clock = vendor_harness.Clock()
    sqlite._clock = clock
    knobs = {"seed": 6, "objects": 6, "now": clock, "options": {"resources": ["items"], "full_every": "30d"}}
    with mirrored(sqlite, tmp_path, directo=knobs) as mirror:
        mirror.work()
        books = mirror.sandboxes["directo"].books
        books.touch(books.tables["items"][0], name="from a clock that runs ahead")
        books.tables["items"][0]["ts"] = "2031-01-01 00:00:00"
        for number in range(1, 4):
            clock.advance(minutes=6)
            mirror.work()
            assert {} == mirror.differences()
            books.touch(books.tables["items"][number], name=f"later {number}")
        clock.advance(minutes=6)
        mirror.work()
        assert {} == mirror.differences()


@pytest.mark.parametrize("system", SINCE)
@pytest.mark.parametrize("off", [timedelta(hours=1), -timedelta(hours=1)], ids=["ahead", "behind"])
def test_with_a_vendor_whose_clock_is_an_hour_off_nothing_is_lost(
    sqlite: Database, tmp_path: Path, system: str, off: timedelta
) -> None:
    clock = vendor_harness.Clock()
    sqlite._clock = clock
    resource, edit = SINCE[system]
    theirs = {"now": lambda: clock.now + off}
    knobs = {"seed": 6, "objects": 4, "options": {"resources": [resource], "full_every": "30d"}} | theirs
    with mirrored(sqlite, tmp_path, **{system: knobs}) as mirror:
        _open(mirror, system)
        for number in range(3):
            edit(mirror.sandboxes[system], f"edit {number}")
            clock.advance(minutes=61)
            mirror.work()
            assert {} == mirror.differences()
