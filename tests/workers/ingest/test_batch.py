"""Batches: many keys are fetched by few requests, and whatever goes wrong, every row is what a fetch would write."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models import failpoints
from models.bookkeeping import inbox, streams
from models.db import tables
from models.failpoints import Point
from models.values import Cause, Lane, ObjectRef
from tests.mirroring import Mirror, mirrored
from tests.slow_params import slow_except
from tests.workers.connectors.dilovod.disagreements import (
    DISAGREEMENTS,
    ORDERS,
    grow_rows,
    hide,
    refuse,
    restrict,
    round_amounts,
)
from tests.workers.ingest.test_obstacles import guard
from workers.connectors.dilovod.sandbox import Fault
from workers.ingest import loop

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from models.bookkeeping.streams import Stream
    from models.db.database import Database
    from workers.connectors.dilovod.sandbox import Sandbox

GOODS, PERSONS = "catalogs.goods", "catalogs.persons"
LINES = f"{ORDERS}.tpGoods"
OBJECTS = 120
NAME = "dilovod"

SYNC = """
import sys
from pathlib import Path
from models.db.database import Database
from workers import configuration, context
from workers.ingest import loop

file, url = sys.argv[1:]
loop.sync(context.connection_context(Database(url), configuration.load(Path(file)), "dilovod"))
"""


@contextmanager
def company(database: Database, folder: Path, resource: str = ORDERS, objects: int = OBJECTS) -> Iterator[Mirror]:
    knobs: dict[str, Any] = {"seed": 4, "objects": objects, "options": {"resources": [resource]}}
    with mirrored(database, folder, dilovod=knobs) as mirror:
        yield mirror


def sandbox_of(mirror: Mirror) -> Sandbox:
    sandbox: Sandbox = mirror.sandboxes[NAME]
    return sandbox


def asked(mirror: Mirror) -> Counter[str]:
    """The requests since the last call."""
    requests = sandbox_of(mirror).requests
    counts = Counter(requests)
    requests.clear()
    return counts


def stream(mirror: Mirror, resource: str = ORDERS) -> Stream:
    with mirror.database.read() as tx:
        found = streams.get(tx, NAME, resource)
    assert found is not None
    return found


def save_all(mirror: Mirror, resource: str = ORDERS) -> None:
    """Every object is saved without a webhook."""
    books = sandbox_of(mirror).books
    for number, thing in enumerate(books.of(resource)):
        books.touch(thing, remark=f"saved {number}")


def journal(mirror: Mirror) -> Counter[tuple[str, str]]:
    """How many entries there are of each kind and cause."""
    c = tables.changes.c
    with mirror.database.read() as tx:
        return Counter((row.kind, row.cause) for row in tx.execute(sa.select(c.kind, c.cause)))


def test_a_first_load_and_a_sweep_that_finds_many_differences_read_in_batches(
    database: Database, tmp_path: Path
) -> None:
    with company(database, tmp_path) as mirror:
        mirror.work()
        # Two steps of a proof, and a batch: ten objects twice and two are read both ways.
        assert {"getMetadata": 1, "request": 1 + 2 * 3 + 3, "getObject": 2 * 10 + 2} == asked(mirror)
        assert {} == mirror.differences()
        save_all(mirror)
        mirror.catch_up()
        assert {"request": 1 + 3, "getObject": 2} == asked(mirror)
        assert {} == mirror.differences()
        assert {("created", Cause.BACKFILL): OBJECTS, ("updated", Cause.RECONCILE): OBJECTS} == journal(mirror)
        row = mirror.status()[ORDERS]
        assert (0, 0, None) == (row.pending, row.parked, row.last_error)
        assert row.complete_as_of is not None


def test_keys_that_wait_for_different_reasons_keep_their_causes(sqlite: Database, tmp_path: Path) -> None:
    with company(sqlite, tmp_path) as mirror:
        loop.full_sync(mirror.context(NAME))
        half = sorted(sandbox_of(mirror).truth(ORDERS))[::2]
        with sqlite.begin() as tx:
            chosen = sa.update(tables.inbox).where(tables.inbox.c.key.in_(half))
            tx.execute(chosen.values(cause=Cause.RECONCILE))
        mirror.work()
        assert {("created", cause): OBJECTS // 2 for cause in (Cause.BACKFILL, Cause.RECONCILE)} == journal(mirror)


@pytest.mark.parametrize("changed", [11, 12])
def test_few_differences_are_read_one_by_one(sqlite: Database, tmp_path: Path, changed: int) -> None:
    with company(sqlite, tmp_path) as mirror:
        mirror.work()
        asked(mirror)
        for order in sandbox_of(mirror).books.of(ORDERS)[:changed]:
            sandbox_of(mirror).books.touch(order, remark="saved")
        mirror.catch_up()
        expected = {"request": 1, "getObject": changed} if changed < 12 else {"request": 1 + 3, "getObject": 2}
        assert expected == asked(mirror)
        assert {} == mirror.differences()


def test_a_small_first_load_is_read_one_by_one(sqlite: Database, tmp_path: Path) -> None:
    with company(sqlite, tmp_path, objects=49) as mirror:
        mirror.work()
        assert {"getMetadata": 1, "request": 1, "getObject": 49} == asked(mirror)


@pytest.mark.parametrize(
    "disagree", slow_except(DISAGREEMENTS, quick=[round_amounts, refuse]), ids=lambda f: f.__name__
)
def test_where_request_shows_something_else_objects_are_read_one_by_one_and_the_reason_is_told(
    database: Database, tmp_path: Path, disagree: Callable[[Sandbox], None]
) -> None:
    with company(database, tmp_path) as mirror:
        disagree(sandbox_of(mirror))
        mirror.work()
        assert {} == mirror.differences()
        assert DISAGREEMENTS[disagree] in str(stream(mirror).unbatched)
        assert 0 == mirror.status()[ORDERS].pending


@pytest.mark.parametrize(
    "disagree",
    slow_except([each for each in DISAGREEMENTS if each is not grow_rows], quick=restrict),
    ids=lambda f: f.__name__,
)
def test_a_disagreement_after_the_proof_has_everything_read_again(
    database: Database, tmp_path: Path, disagree: Callable[[Sandbox], None]
) -> None:
    with company(database, tmp_path) as mirror:
        mirror.work()
        asked(mirror)
        disagree(sandbox_of(mirror))
        save_all(mirror)
        mirror.catch_up()
        assert {} == mirror.differences()
        assert None is not stream(mirror).unbatched
        assert (None, OBJECTS) == (stream(mirror).batch_plan, mirror.status()[ORDERS].rows)
        assert asked(mirror)["getObject"] >= OBJECTS
        mirror.catch_up()  # what was read by itself is not read again
        assert {"request": 1} == asked(mirror)
        assert mirror.status()[ORDERS].complete_as_of is not None


def test_what_batches_brought_before_a_disagreement_is_read_again(sqlite: Database, tmp_path: Path) -> None:
    """Rows whose form no sample had were stored without a field; the first object that shows it tells."""
    with company(sqlite, tmp_path) as mirror:
        mirror.work()
        grow_rows(sandbox_of(mirror))  # of orders that are in the mirror
        assert OBJECTS // 2 == len(mirror.differences()[ORDERS])
        for _ in range(20):  # until a random object of a batch is one of them
            save_all(mirror)
            mirror.catch_up()
            if stream(mirror).unbatched is not None:
                break
        assert {} == mirror.differences()


def test_newer_metadata_have_the_proof_tried_again(sqlite: Database, tmp_path: Path) -> None:
    with company(sqlite, tmp_path) as mirror:
        hide(sandbox_of(mirror))
        mirror.work()
        assert None is not stream(mirror).unbatched
        sandbox_of(mirror).books.requests.hidden = set()
        save_all(mirror)
        with sqlite.begin() as tx:
            a_day_ago = tx.now - timedelta(hours=25)
            streams.update(tx, NAME, ORDERS, metadata_read_at=a_day_ago)
        asked(mirror)
        mirror.catch_up()
        assert (None, {}) == (stream(mirror).unbatched, mirror.differences())
        assert OBJECTS > asked(mirror)["getObject"]


def test_a_field_that_all_objects_get_has_them_read_again_in_batches(sqlite: Database, tmp_path: Path) -> None:
    with company(sqlite, tmp_path) as mirror:
        mirror.work()
        books = sandbox_of(mirror).books
        books.kinds[ORDERS].fields["shelf"] = "varchar (9)"
        for order in books.of(ORDERS):  # their versions stay
            order.header["shelf"] = ""
        for order in books.of(ORDERS)[:20]:
            books.touch(order)
        asked(mirror)
        mirror.catch_up()
        assert ({}, None) == (mirror.differences(), stream(mirror).unbatched)
        assert asked(mirror)["getObject"] < OBJECTS // 2


@pytest.mark.parametrize("place", [ORDERS, LINES])
def test_an_object_that_is_saved_between_its_header_and_its_lines_is_stored_whole(
    database: Database, tmp_path: Path, place: str
) -> None:
    with company(database, tmp_path) as mirror:
        mirror.work()
        sandbox = sandbox_of(mirror)
        saved = sandbox.books.of(ORDERS)[5]

        def save() -> None:
            saved.parts["tpGoods"][0]["qty"] = "99.000"
            sandbox.books.touch(saved, remark="saved meanwhile")

        save_all(mirror)
        with mirror.database.begin() as tx:
            streams.update(tx, NAME, ORDERS, full_due_at=tx.now)
        loop.full_sync(mirror.context(NAME))
        sandbox.books.requests.meanwhile[place] = save
        mirror.work()
        assert {} == mirror.differences()
        assert "99.000" == saved.parts["tpGoods"][0]["qty"]


def test_shifting_pages_and_repeated_rows_store_nothing_wrong(database: Database, tmp_path: Path) -> None:
    with company(database, tmp_path) as mirror:
        sandbox_of(mirror).books.requests.shuffles = True
        sandbox_of(mirror).books.requests.repeats = True
        mirror.work()
        mirror.catch_up()
        assert {} == mirror.differences()


@pytest.mark.parametrize("cuts", [False, True])
def test_a_vendor_that_refuses_or_cuts_long_lists_is_asked_by_shorter_ones(
    sqlite: Database,
    tmp_path: Path,
    cuts: bool,  # noqa: FBT001 - a column of a truth table
) -> None:
    with company(sqlite, tmp_path, objects=400) as mirror:
        knobs = sandbox_of(mirror).books.requests
        knobs.longest_list, knobs.cuts_lists = 60, cuts
        mirror.work()
        assert ({}, None) == (mirror.differences(), stream(mirror).unbatched)
        assert asked(mirror)["getObject"] < 100


def test_a_part_that_only_some_objects_have_rows_of_is_read_in_batches_once_one_was_seen(
    sqlite: Database, tmp_path: Path
) -> None:
    with company(sqlite, tmp_path, GOODS, 300) as mirror:
        books = sandbox_of(mirror).books
        kits = [good for good in books.of(GOODS) if good.header["isGroup"] == "0"][:200:2]
        for kit in kits:
            books.add_row(kit, "tpGoods", good=kits[0].id, qty="3.000")
        mirror.work()
        assert ({}, None) == (mirror.differences(), stream(mirror, GOODS).unbatched)
        assert asked(mirror)["getObject"] < 60


def test_a_deletion_is_only_made_by_a_fetch(database: Database, tmp_path: Path) -> None:
    with company(database, tmp_path) as mirror:
        mirror.work()
        books = sandbox_of(mirror).books
        save_all(mirror)
        marked, removed = books.of(ORDERS)[:2]
        books.mark(marked)
        books.remove(removed)
        asked(mirror)
        mirror.catch_up()
        assert {} == mirror.differences()
        assert OBJECTS - 2 == mirror.status()[ORDERS].rows
        assert 4 == asked(mirror)["getObject"]


def test_a_webhook_that_comes_while_its_object_is_read_in_a_batch_is_not_lost(
    database: Database, tmp_path: Path
) -> None:
    with company(database, tmp_path, PERSONS) as mirror:
        mirror.work()
        books = sandbox_of(mirror).books
        persons = books.of(PERSONS)[60:62]

        def change() -> None:  # after the answer was made
            for person in persons:
                person.header["phone"] = "+380000"
            with mirror.database.begin() as tx:
                refs = [ObjectRef(PERSONS, person.id) for person in persons]
                inbox.enqueue(tx, connection=NAME, refs=refs, lane=Lane.LIVE, cause=Cause.WEBHOOK)

        save_all(mirror, PERSONS)
        with mirror.database.begin() as tx:
            streams.update(tx, NAME, PERSONS, full_due_at=tx.now)
        loop.full_sync(mirror.context(NAME))
        books.requests.meanwhile[PERSONS] = change
        mirror.work()
        assert {} == mirror.differences()
        written = journal(mirror)
        # One of the two may be the object that the batch reads both ways, which has the newer state already.
        assert OBJECTS + 1 <= written["updated", Cause.WEBHOOK] + written["updated", Cause.RECONCILE] <= OBJECTS + 2


def test_live_keys_go_before_a_batch(sqlite: Database, tmp_path: Path) -> None:
    with company(sqlite, tmp_path) as mirror:
        loop.full_sync(mirror.context(NAME))
        asked(mirror)
        with sqlite.begin() as tx:
            refs = [ObjectRef(ORDERS, sandbox_of(mirror).books.of(ORDERS)[-1].id)]
            inbox.enqueue(tx, connection=NAME, refs=refs, lane=Lane.LIVE, cause=Cause.WEBHOOK)
        sandbox_of(mirror).books.requests.meanwhile[ORDERS] = lambda: None
        loop.sync(mirror.context(NAME))
        first = sandbox_of(mirror).requests[0], sandbox_of(mirror).requests[1:11]
        assert ("getObject", ["getObject"] * 10) == first


@pytest.mark.parametrize("fault", slow_except([Fault.HTML, Fault.BROKEN, Fault.OBJECT, Fault.HALF], quick=Fault.OBJECT))
@pytest.mark.parametrize("before", [0, 10, 12])
def test_an_answer_that_fails_in_a_batch_costs_no_key(
    sqlite: Database, tmp_path: Path, fault: Fault, before: int
) -> None:
    with company(sqlite, tmp_path) as mirror:
        loop.full_sync(mirror.context(NAME))
        sandbox = sandbox_of(mirror)
        answered = len(sandbox.requests) + before

        class Faults(type(sandbox.faults)):  # type: ignore[misc]
            def __bool__(self) -> bool:
                return len(self) > 0 and len(sandbox.requests) >= answered

        sandbox.faults = Faults([fault])
        mirror.catch_up()
        assert ({}, 0) == (mirror.differences(), mirror.status()[ORDERS].pending)
        assert [] == [*sandbox.faults]


def test_a_row_that_the_database_refuses_is_parked_alone(database: Database, tmp_path: Path) -> None:
    with company(database, tmp_path, PERSONS) as mirror:
        mirror.work()
        refused = sandbox_of(mirror).books.of(PERSONS)[33]
        guard(database, "NEW.phone = 'none'", table="dilovod_catalogs_persons")
        save_all(mirror, PERSONS)
        refused.header["phone"] = "none"
        mirror.catch_up()
        assert {PERSONS: (refused.id,)} == mirror.differences()
        assert (1, 0) == (mirror.status()[PERSONS].parked, mirror.status()[PERSONS].pending)


KILLED_AT = [
    Point.LEASE_TAKEN,
    Point.FETCHED,
    Point.CHUNK_ARRIVED,
    Point.ROWS_WRITTEN,
    Point.CHUNK_ENQUEUED,
    Point.CHUNK_ADVANCED,
    Point.CHUNK_JOURNALED,
    Point.CHUNK_COMMITTED,
]


@pytest.mark.parametrize("point", slow_except(KILLED_AT, quick=Point.CHUNK_JOURNALED))
def test_a_worker_that_is_killed_in_a_batch_loses_nothing(database: Database, tmp_path: Path, point: Point) -> None:
    with company(database, tmp_path) as mirror:
        loop.full_sync(mirror.context(NAME))
        armed = tmp_path / "armed"
        armed.mkdir()
        (armed / point).write_text("")
        url = database.url.render_as_string(hide_password=False)
        killed = subprocess.run(
            [sys.executable, "-c", SYNC, str(mirror.settings.file), url],
            env=os.environ | {failpoints.VARIABLE: str(armed)},
            stdout=subprocess.DEVNULL,
            check=False,
        )
        assert -9 == killed.returncode
        with database.begin() as tx:
            tx.execute(sa.delete(tables.leases))  # it runs out
        mirror.catch_up()
        assert ({}, OBJECTS) == (mirror.differences(), mirror.status()[ORDERS].rows)
        assert {("created", Cause.BACKFILL): OBJECTS} == journal(mirror)
