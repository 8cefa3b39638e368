"""The setting `lookback`: polls list the recent documents, full syncs all; what that finds, and when."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from models.db import tables
from tests.serving import served
from tests.test_requests import an_hour, counted
from tests.workers.connectors.dilovod.conftest import made_options, recording
from tests.workers.connectors.dilovod.test_full_sync import lines, read_all
from workers import configuration, context
from workers.connectors.contract import standalone
from workers.connectors.dilovod import cursors
from workers.connectors.dilovod import sandbox as dilovod_sandbox
from workers.connectors.dilovod.client import Client
from workers.connectors.dilovod.resources import PAGE, resources
from workers.ingest import loop

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.db.database import Database
    from tests.mirroring import Mirror
    from tests.test_requests import Clock, RequestCounter
    from workers.connectors.contract import Resource
    from workers.connectors.dilovod.sandbox_data import VendorObject

NAME = "documents.saleOrder"
NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
LOOKBACK = {"lookback": "60d"}
LONG_AGO = "2025-01-07 10:00:00"


# What is scheduled


def _resources(**given: Any) -> dict[str, Resource]:
    return {each.name: each for each in resources(made_options(**given))}


def test_with_a_lookback_documents_are_polled_and_bound_by_the_full_sync() -> None:
    orders = _resources(**LOOKBACK, reconcile_every="2h")[NAME]
    assert (timedelta(hours=2), timedelta(days=1), timedelta(days=1)) == (orders.every, orders.full_every, orders.bound)
    assert timedelta(days=3) == _resources(**LOOKBACK, full_every="3d")[NAME].bound


def test_without_one_every_document_is_listed_every_reconcile_interval() -> None:
    orders = _resources(full_every="3d")[NAME]
    assert (None, timedelta(hours=1), timedelta(hours=1)) == (orders.every, orders.full_every, orders.bound)


def test_a_lookback_concerns_documents_alone() -> None:
    with_one, without = _resources(**LOOKBACK), _resources()
    assert {NAME} == {name for name, each in with_one.items() if each != without[name]}


@pytest.mark.parametrize(
    ("lookback", "remedy"),
    [
        ("60m", 'write at least "1d", as in "60d"; m stands for minutes'),
        ("23h", 'write at least "1d"'),
        ("0d", "a duration is"),
        ("60", "a duration is"),
        (60, "a duration is"),
        ("9999d", "at most"),
    ],
)
def test_a_lookback_that_is_none_is_refused_with_a_remedy(lookback: Any, remedy: str) -> None:
    with pytest.raises(ValueError, match=remedy):
        made_options(lookback=lookback)


# What a poll lists


@contextmanager
def opened_at(
    sandbox_app: Any, now: datetime = NOON, **given: Any
) -> Iterator[tuple[Client, Resource, list[dict[str, Any]]]]:
    """A client with that clock, the orders, and the params of its `request`s."""
    app, packets = recording(sandbox_app)
    options = LOOKBACK | given
    asked: list[dict[str, Any]] = []
    with served(app) as url:
        client = Client(made_options(url=url, **options), replace(standalone(), now=lambda: now))
        try:
            yield client, _resources(**options)[NAME], asked
        finally:
            client.close()
            asked += [packet["params"] for _, packet in packets if packet["action"] == "request"]


def _app(*dates: str) -> tuple[Any, list[VendorObject]]:
    """A sandbox with an order of each date."""
    app = dilovod_sandbox.create(objects=len(dates), now=lambda: NOON)
    orders = app.state.sandbox.books.of(NAME)
    for order, date in zip(orders, dates, strict=True):
        order.header["date"] = date
    return app, orders


def _listed(client: Client, resource: Resource, cursor: str | None = cursors.DONE) -> list[str]:
    return [line.key for line in lines(read_all(client, resource, cursor)[0])]


def test_a_poll_lists_the_recent_documents_and_those_of_the_future_and_a_full_sync_all() -> None:
    app, orders = _app(
        "2026-04-01 23:59:59", "2026-04-02 00:00:00", "2026-06-01 15:00:00", "2027-01-01 00:00:00", LONG_AGO
    )
    with opened_at(app) as (client, resource, asked):
        recent, end = read_all(client, resource, cursors.DONE)
        everything, full_end = read_all(client, resource)
    assert [order.id for order in orders[1:4]] == [line.key for line in lines(recent)]
    assert [order.id for order in orders] == [line.key for line in lines(everything)]
    assert (False, True) == (end.complete, full_end.complete)
    since = {"alias": "date", "operator": ">=", "value": "2026-04-02 00:00:00"}
    assert [[since], None] == [params.get("filters") for params in asked]


def test_a_line_has_the_same_token_in_both() -> None:
    app, _ = _app("2026-06-01 15:00:00", "2026-05-01 15:00:00")
    with opened_at(app) as (client, resource, _):
        assert set(lines(read_all(client, resource)[0])) == set(lines(read_all(client, resource, cursors.DONE)[0]))


@pytest.mark.parametrize(
    ("now", "timezone", "since"),
    [
        (datetime(2026, 6, 1, 20, 59, 59, tzinfo=UTC), "Europe/Kyiv", "2026-05-31 00:00:00"),
        (datetime(2026, 6, 1, 21, tzinfo=UTC), "Europe/Kyiv", "2026-06-01 00:00:00"),
        (datetime(2026, 1, 1, 21, 59, 59, tzinfo=UTC), "Europe/Kyiv", "2025-12-31 00:00:00"),
        (datetime(2026, 1, 1, 22, tzinfo=UTC), "Europe/Kyiv", "2026-01-01 00:00:00"),
        (datetime(2026, 6, 1, 21, tzinfo=UTC), "UTC", "2026-05-31 00:00:00"),
    ],
)
def test_the_first_day_is_one_of_the_vendors_wall_clock(now: datetime, timezone: str, since: str) -> None:
    options = made_options(lookback="1d", timezone=timezone)
    orders = _resources(lookback="1d")[NAME]
    assert since == cursors.since(orders, cursors.DONE, options, lambda: now)


def test_all_pages_of_a_poll_have_the_date_of_its_first_and_need_only_the_cursor() -> None:
    app, _ = _app(*["2026-06-01 15:00:00"] * (PAGE + 1), *[LONG_AGO] * 3)
    cursor, days, listed = cursors.DONE, 0, set[str]()
    found: list[Any] = []
    while cursor != cursors.DONE or not days:
        with opened_at(app, NOON + timedelta(days=days)) as (client, resource, asked):
            (chunk,) = client.list(resource, cursor)
        assert chunk.end is not None
        listed |= {line.key for line in chunk.lines}
        cursor, days = chunk.end.cursor, days + 1
        found += [(params["limit"]["offset"], params["filters"][0]["value"]) for params in asked]
    assert [(0, "2026-04-02 00:00:00"), (PAGE, "2026-04-02 00:00:00")] == found
    assert PAGE + 1 == len(listed)


@pytest.mark.parametrize("how", ["refused", "not declared", "missing in many"])
def test_without_a_version_a_poll_still_lists_the_recent_documents(how: str) -> None:
    count = cursors.MAX_UNVERSIONED + 1
    app, orders = _app(*["2026-06-01 15:00:00"] * count, LONG_AGO)
    books = app.state.sandbox.books
    if how == "refused":
        books.unknown_fields = {"version"}
    elif how == "not declared":
        del books.kinds[NAME].fields["version"]
    else:
        for order in orders:
            order.header["version"] = ""
    with opened_at(app) as (client, resource, _):
        assert {order.id for order in orders[:count]} == set(_listed(client, resource))


def test_documents_that_have_no_date_are_all_listed() -> None:
    app, orders = _app("2026-06-01 15:00:00", LONG_AGO)
    books = app.state.sandbox.books
    del books.kinds[NAME].fields["date"]
    for order in orders:
        del order.header["date"]
    with opened_at(app) as (client, resource, _):
        assert [order.id for order in orders] == _listed(client, resource)


# What the mirror finds, and when


@contextmanager
def mirrored_orders(
    database: Database, folder: Path, objects: int = 6
) -> Iterator[tuple[Mirror, RequestCounter, Clock, list[VendorObject]]]:
    """A mirror of orders of this moment, of which the last is an old one, after its first load."""
    with counted(database, folder, "dilovod", NAME, objects, options=LOOKBACK) as (mirror, counter, clock):
        orders = mirror.sandboxes["dilovod"].books.of(NAME)
        orders[-1].header["date"] = LONG_AGO
        mirror.work()
        assert {} == mirror.differences()
        yield mirror, counter, clock, orders


def _a_day(mirror: Mirror, counter: RequestCounter, clock: Clock) -> None:
    for _ in range(24):
        an_hour(mirror, counter, clock)


def _causes(database: Database, key: str) -> list[str]:
    c = tables.changes.c
    with database.read() as tx:
        return list(tx.execute(sa.select(c.cause).where(c.key == key).order_by(c.id)).scalars())


def test_a_change_without_a_webhook_is_found_within_the_hour_in_a_recent_document_and_within_the_day_in_an_old_one(
    database: Database, tmp_path: Path
) -> None:
    with mirrored_orders(database, tmp_path) as (mirror, counter, clock, (recent, *_, old)):
        loaded = mirror.status()[NAME].complete_as_of
        assert loaded is not None
        for order in (recent, old):
            mirror.sandboxes["dilovod"].books.touch(order, remark="без вебхука")
        an_hour(mirror, counter, clock)
        assert ({NAME: (old.id,)}, loaded) == (mirror.differences(), mirror.status()[NAME].complete_as_of)
        _a_day(mirror, counter, clock)
        result = mirror.status()[NAME]
        assert ({}, 24 * 3600) == (mirror.differences(), result.bound)
        assert result.complete_as_of is not None
        assert timedelta(days=1) <= result.complete_as_of - loaded < timedelta(hours=25)
        assert (["backfill", "poll"], ["backfill", "reconcile"]) == (
            _causes(database, recent.id),
            _causes(database, old.id),
        )


def test_a_document_whose_date_leaves_the_lookback_is_not_deleted(sqlite: Database, tmp_path: Path) -> None:
    with mirrored_orders(sqlite, tmp_path) as (mirror, counter, clock, (moved, *_)):
        mirror.sandboxes["dilovod"].books.touch(moved, date=LONG_AGO)
        an_hour(mirror, counter, clock)
        assert ({NAME: (moved.id,)}, 6) == (mirror.differences(), mirror.status()[NAME].rows)
        _a_day(mirror, counter, clock)
        assert ({}, ["backfill", "reconcile"]) == (mirror.differences(), _causes(sqlite, moved.id))


@pytest.mark.parametrize("days", [0, 30])
def test_a_document_whose_date_enters_the_lookback_is_found_within_the_hour(
    sqlite: Database, tmp_path: Path, days: int
) -> None:
    with mirrored_orders(sqlite, tmp_path) as (mirror, counter, clock, (*_, moved)):
        books = mirror.sandboxes["dilovod"].books
        books.touch(moved, date=books.wall_clock(days=days))
        an_hour(mirror, counter, clock)
        assert ({}, ["backfill", "poll"]) == (mirror.differences(), _causes(sqlite, moved.id))


def test_a_new_document_without_a_webhook_is_found_within_the_hour(sqlite: Database, tmp_path: Path) -> None:
    with mirrored_orders(sqlite, tmp_path) as (mirror, counter, clock, orders):
        sandbox = mirror.sandboxes["dilovod"]
        sandbox._new_order(sandbox.books.random)
        an_hour(mirror, counter, clock)
        assert ({}, len(orders) + 1) == (mirror.differences(), mirror.status()[NAME].rows)


def test_a_recent_document_that_is_marked_is_deleted_within_the_hour_and_a_removed_one_within_the_day(
    sqlite: Database, tmp_path: Path
) -> None:
    with mirrored_orders(sqlite, tmp_path) as (mirror, counter, clock, (marked, removed, *_)):
        books = mirror.sandboxes["dilovod"].books
        books.mark(marked)
        books.remove(removed)
        an_hour(mirror, counter, clock)
        assert ({NAME: (removed.id,)}, 5) == (mirror.differences(), mirror.status()[NAME].rows)
        _a_day(mirror, counter, clock)
        assert ({}, 4) == (mirror.differences(), mirror.status()[NAME].rows)


def _one_step(mirror: Mirror) -> bool:
    """What is most urgent, by a worker that has done nothing before; whether more waits."""
    return loop.sync(mirror.context("dilovod"), budget=timedelta(0)).has_more


def test_a_poll_that_stopped_between_two_pages_is_continued_by_another_worker(sqlite: Database, tmp_path: Path) -> None:
    with mirrored_orders(sqlite, tmp_path, PAGE + 2) as (mirror, _counter, clock, orders):
        sandbox = mirror.sandboxes["dilovod"]
        for order in (orders[0], orders[PAGE]):  # one on each page
            sandbox.books.touch(order, remark="без вебхука")
        clock.now += timedelta(hours=1)
        sandbox.requests.clear()
        assert _one_step(mirror)
        assert ["request"] == sandbox.requests
        while _one_step(mirror):
            pass
        assert ["getObject", "getObject", "request", "request"] == sorted(sandbox.requests)
        assert {} == mirror.differences()


def test_one_that_stopped_long_ago_starts_again(sqlite: Database, tmp_path: Path) -> None:
    with mirrored_orders(sqlite, tmp_path, PAGE + 2) as (mirror, counter, clock, orders):
        clock.now += timedelta(hours=1)
        counter.count = 0
        assert _one_step(mirror)
        mirror.sandboxes["dilovod"].books.touch(orders[0], remark="після першої сторінки")
        clock.now += timedelta(minutes=11)
        mirror.work()
        assert ({}, 1 + 2 + 1) == (mirror.differences(), counter.count)


def test_once_the_setting_is_removed_all_are_listed_within_the_hour(sqlite: Database, tmp_path: Path) -> None:
    with mirrored_orders(sqlite, tmp_path) as (mirror, counter, clock, (*_, old)):
        mirror.sandboxes["dilovod"].books.touch(old, remark="без вебхука")
        file = mirror.settings.file
        text = file.read_text(encoding="utf-8").splitlines()
        file.write_text("\n".join(line for line in text if not line.startswith("lookback")), encoding="utf-8")
        restarted = replace(mirror, settings=configuration.load(file))
        context.sync_streams(sqlite, restarted.settings)
        an_hour(restarted, counter, clock)
        assert ({}, 3600) == (restarted.differences(), restarted.status()[NAME].bound)
