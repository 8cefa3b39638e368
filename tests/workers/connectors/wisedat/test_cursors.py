"""Wisedat's cursors: where polls start, restarts after shifted pages, tokens of objects."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from tests.workers.connectors.wisedat.conftest import serving
from workers.connectors.wisedat import cursors, table
from workers.connectors.wisedat.answers import Page

if TYPE_CHECKING:
    from tests.workers.connectors.wisedat.conftest import Server
    from workers.connectors.wisedat.client import Client

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
OVERLAP = timedelta(minutes=2)
NO_TIME = timedelta()
PRODUCTS = table.ROWS["products"]


def first(limit: int = 200) -> cursors.Position:
    return cursors.Position.decode(None, limit=limit)


def continued(cursor: str) -> cursors.Position:
    return cursors.Position.decode(cursor, limit=200)


def rows(*keys: int) -> list[str]:
    return [str(key) for key in keys]


def page(number: int, keys: list[str], *, pages: int, items: int | None) -> Page:
    return Page([{"id": key} for key in keys], number, pages, items)


def test_a_full_sync_does_not_filter_by_modification_time() -> None:
    assert {"limit": "200", "page": "1", "show_inactive": "true"} == first().params(PRODUCTS)


def test_show_inactive_is_sent_only_to_resources_that_accept_it() -> None:
    assert {"limit": "200", "page": "1"} == first().params(table.ROWS["orders"])


def test_the_next_poll_starts_at_the_servers_time_before_the_first_request_minus_the_overlap() -> None:
    position = first().with_clock(NOON, age=timedelta(seconds=7))
    end = position.end_after(page(1, rows(1), pages=1, items=1), rows(1), overlap=OVERLAP)
    assert (True, False) == (end.complete, end.more)
    assert "2026-06-01T11:57:53Z" == continued(end.cursor).params(PRODUCTS)["modified_since"]


def test_only_the_first_reply_sets_the_time() -> None:
    position = first(1).with_clock(NOON, age=NO_TIME)
    end = position.end_after(page(1, rows(1), pages=2, items=2), rows(1), overlap=OVERLAP)
    assert end.more
    later = continued(end.cursor).with_clock(NOON + timedelta(hours=1), age=NO_TIME)
    end = later.end_after(page(2, rows(2), pages=2, items=2), rows(2), overlap=OVERLAP)
    assert NOON - OVERLAP == continued(end.cursor).since


def test_a_server_clock_that_was_set_back_is_used() -> None:
    position = cursors.Position(since=NOON + timedelta(days=365), limit=200).with_clock(NOON, age=NO_TIME)
    end = position.end_after(page(1, [], pages=0, items=0), [], overlap=OVERLAP)
    assert NOON - OVERLAP == continued(end.cursor).since


def test_what_changed_while_the_clock_was_ahead_is_in_the_poll_after_next(server: Server, client: Client) -> None:
    server.clock.advance(hours=3)
    ahead = server.read(client, "products").end.cursor
    server.clock.advance(hours=-3)
    key = min(server.sandbox.truth("products"))
    server.sandbox.books.change("products", key, notes="vista")
    server.clock.advance(minutes=4)
    poll = server.read(client, "products", ahead)
    assert [] == poll.keys
    assert [key] == server.read(client, "products", poll.end.cursor).keys


def test_without_a_date_header_our_clock_minus_an_hour_is_used() -> None:
    started = first().with_clock(None, age=NO_TIME).started
    assert started is not None
    assert timedelta(minutes=59) < datetime.now(UTC) - started < timedelta(minutes=61)


def test_moments_are_sent_in_utc_without_fractions() -> None:
    moment = datetime.fromisoformat("2026-06-01T13:30:00.987+01:30")
    assert "2026-06-01T12:00:00Z" == cursors.utc_text(moment)


def test_a_run_keeps_its_page_size_when_the_setting_changes() -> None:
    position = first(5).with_clock(NOON, age=NO_TIME)
    end = position.end_after(page(1, rows(1, 2, 3, 4, 5), pages=2, items=6), rows(1, 2, 3, 4, 5), overlap=OVERLAP)
    assert ("5", "2") == tuple(continued(end.cursor).params(PRODUCTS)[name] for name in ("limit", "page"))


def test_a_new_run_uses_the_page_size_of_the_settings() -> None:
    end = first(5).with_clock(NOON, age=NO_TIME).end_after(page(1, [], pages=0, items=0), [], overlap=OVERLAP)
    assert "200" == continued(end.cursor).params(PRODUCTS)["limit"]


@pytest.mark.parametrize("cursor", ["", "{", "7", "null", '{"since":"noon"}', '{"unknown":1}', cursors.UNPAGED])
def test_an_unknown_cursor_starts_a_full_sync(cursor: str) -> None:
    assert first() == continued(cursor)


def test_a_run_restarts_with_half_the_page_size_down_to_a_minimum() -> None:
    position = first().with_clock(NOON, age=NO_TIME)
    end = position.end_after(page(1, rows(1), pages=2, items=201), rows(1), overlap=OVERLAP)
    smaller = continued(end.cursor).with_smaller_pages()
    assert smaller is not None
    assert (1, 100, NOON) == (smaller.page, smaller.limit, smaller.started)
    sizes = []
    while smaller is not None:
        sizes.append(smaller.limit)
        smaller = smaller.with_smaller_pages()
    assert [100, 50, 25] == sizes


def test_a_page_may_be_halved_down_to_one_object() -> None:
    sizes, position = [], first(11)
    while (smaller := position.with_smaller_pages(minimum=1)) is not None:
        sizes.append(smaller.limit)
        position = smaller
    assert [5, 2, 1] == sizes


@pytest.mark.parametrize(
    ("second", "why"),
    [
        (page(2, rows(3), pages=2, items=4), "an item more"),
        (page(2, rows(3), pages=3, items=3), "a page more"),
        (page(1, rows(1, 2), pages=2, items=3), "another page than requested"),
        (page(2, rows(), pages=2, items=3), "fewer rows than there are items"),
    ],
)
def test_after_pages_shifted_the_run_restarts_at_the_first(second: Page, why: str) -> None:
    position = first(2).with_clock(NOON, age=NO_TIME)
    end = position.end_after(page(1, rows(1, 2), pages=2, items=3), rows(1, 2), overlap=OVERLAP)
    end = continued(end.cursor).end_after(second, [row["id"] for row in second.rows], overlap=OVERLAP)
    assert end.more, why
    again = continued(end.cursor)
    assert (1, 2, 0, NOON) == (again.page, again.passes, again.rows, again.started)


def test_a_number_of_items_that_is_not_the_total_proves_nothing() -> None:
    position = first(2).with_clock(NOON, age=NO_TIME)
    end = position.end_after(page(1, rows(1, 2), pages=2, items=None), rows(1, 2), overlap=OVERLAP)
    end = continued(end.cursor).end_after(page(2, rows(3), pages=2, items=None), rows(3), overlap=OVERLAP)
    assert end.complete


def test_a_token_depends_on_the_summary_and_the_selection() -> None:
    def token(summary: dict[str, object], selection: str = "") -> str:
        return cursors.token("1", summary, selection=selection, now=NOON, details_every=timedelta(days=7))

    shown = token({"id": 1, "name": "a"})
    assert shown == token({"name": "a", "id": 1})
    assert shown != token({"id": 1, "name": "b"})
    assert shown != token({"id": 1, "name": "a"}, "images=keep")


def test_every_detail_is_due_once_per_period_and_spread_over_its_days() -> None:
    week = timedelta(days=7)
    keys = rows(*range(700))
    days = [
        {key: cursors.token(key, {}, selection="", now=NOON + timedelta(days=day), details_every=week) for key in keys}
        for day in range(8)
    ]
    due = [{key for key in keys if one[key] != other[key]} for one, other in pairwise(days)]
    assert sorted(keys) == sorted(key for each in due for key in each)
    assert all(60 < len(each) < 140 for each in due)


def test_a_change_within_the_overlap_is_listed_twice(server: Server, client: Client) -> None:
    cursor = server.read(client, "products").end.cursor
    server.clock.advance(minutes=5)
    key = min(server.sandbox.truth("products"))
    server.sandbox.books.change("products", key, notes="vista")
    server.clock.advance(minutes=1)
    first_poll = server.read(client, "products", cursor)
    assert [key] == first_poll.keys
    second_poll = server.read(client, "products", first_poll.end.cursor)
    assert [key] == second_poll.keys
    server.clock.advance(minutes=5)
    third_poll = server.read(client, "products", second_poll.end.cursor)
    fourth_poll = server.read(client, "products", third_poll.end.cursor)
    assert [] == fourth_poll.keys


@pytest.mark.parametrize("inclusive", [True, False])
def test_a_change_in_the_second_of_the_first_request_is_in_the_next_poll(inclusive: bool) -> None:  # noqa: FBT001
    with serving() as server, server.opened() as client:
        server.sandbox.inclusive = inclusive
        cursor = server.read(client, "products").end.cursor
        key = min(server.sandbox.truth("products"))
        server.sandbox.books.change("products", key, notes="vista")
        assert [key] == server.read(client, "products", cursor).keys


def test_a_poll_filters_in_utc_by_the_servers_clock(server: Server, client: Client) -> None:
    server.clock.now = datetime(2027, 10, 31, 0, 30, tzinfo=UTC)
    cursor = server.read(client, "orders", server.read(client, "orders").end.cursor).end.cursor
    server.sandbox.requests.clear()
    since = cursors.Position.decode(cursor, limit=200).since
    assert since is not None
    assert timedelta() <= datetime(2027, 10, 31, 0, 28, tzinfo=UTC) - since < timedelta(minutes=1)
    server.read(client, "orders", cursor)
    (asked,) = server.requests("GET /orders?limit=200&page=1&modified_since=")
    assert asked.endswith(f"modified_since={since:%Y-%m-%dT%H%%3A%M%%3A%SZ}")


def test_pages_are_read_again_until_none_shifts(server: Server, client: Client) -> None:
    gone = min(server.sandbox.truth("products"))
    server.sandbox.between_pages.append(lambda name: server.sandbox.books.remove(name, gone))
    run = server.read(client, "products")
    assert ["1", "2", "1", "2", "3"] == [asked.split("page=")[1][0] for asked in server.requests("GET /products")]
    assert (True, None) == (run.end.complete, run.end.warning)
    assert set(server.sandbox.truth("products")) <= set(run.keys)


def test_pages_that_always_shift_end_the_run_incomplete_with_a_warning(server: Server, client: Client) -> None:
    for _ in range(20):
        server.sandbox.between_pages.append(
            lambda _: server.sandbox.books.new_product(900 + len(server.sandbox.requests))
        )
    run = server.read(client, "products")
    assert not run.end.complete
    assert "shifted in each of 5 passes" in (run.end.warning or "")
    assert 10 == len(server.requests("GET /products"))


@pytest.mark.parametrize("number", [0, 1])
def test_an_empty_listing_may_number_its_page_0_or_1(number: int) -> None:
    position = cursors.Position(since=NOON, limit=200).with_clock(NOON + timedelta(hours=1), age=NO_TIME)
    end = position.end_after(page(number, [], pages=0, items=0), [], overlap=OVERLAP)
    assert (False, None) == (end.more, end.warning)
    assert NOON + timedelta(hours=1) - OVERLAP == continued(end.cursor).since


def passes(*keys: str) -> int:
    """The number of passes of a poll with one key per page."""
    position = cursors.Position(since=NOON, limit=1, started=NOON)
    while True:
        key = keys[position.page - 1]
        end = position.end_after(page(position.page, [key], pages=len(keys), items=len(keys)), [key], overlap=OVERLAP)
        if not end.more:
            assert None is end.warning
            return position.passes
        position = continued(end.cursor)


def test_two_keys_with_equal_short_hashes_have_different_ones_in_the_next_pass() -> None:
    assert 1 == passes("1", "2")
    assert 2 == passes("33682", "38684")
    assert 1 == passes("69235", "95303")


def test_after_a_poll_that_always_shifts_the_next_starts_at_the_same_time() -> None:
    position = cursors.Position(since=NOON, limit=2, page=2, passes=5, started=NOON + timedelta(hours=1))
    end = position.end_after(page(2, rows(1), pages=3, items=5), rows(1), overlap=OVERLAP)
    assert (False, False, NOON) == (end.more, end.complete, continued(end.cursor).since)
    assert end.warning


def test_a_poll_detects_objects_that_move_between_pages_although_the_totals_stay(
    server: Server, client: Client
) -> None:
    cursor = server.read(client, "products").end.cursor
    for key in sorted(server.sandbox.truth("products")):
        server.clock.advance(seconds=1)
        server.sandbox.books.change("products", key, notes="vista")
    server.sandbox.requests.clear()
    server.sandbox.latest_first = True
    server.sandbox.between_pages.append(server.sandbox.books.save_the_last)
    poll = server.read(client, "products", cursor)
    assert sorted(server.sandbox.truth("products")) == poll.keys
    assert ["1", "2", "1", "2", "3"] == [asked.split("page=")[1][0] for asked in server.requests("GET /products")]


def test_only_a_poll_stores_the_hashes_of_its_keys_up_to_a_limit() -> None:
    keys = rows(*range(1000))
    full = cursors.Position(limit=1000, started=NOON)
    poll = cursors.Position(limit=1000, started=NOON, since=NOON)
    for number in range(1, 20):
        one = page(number, keys, pages=20, items=20_000)
        full = continued(full.end_after(one, [f"{number}-{key}" for key in keys], overlap=OVERLAP).cursor)
        poll = continued(poll.end_after(one, [f"{number}-{key}" for key in keys], overlap=OVERLAP).cursor)
    assert (20, "") == (full.page, full.seen)
    assert (20, 6000 * 8) == (poll.page, len(poll.seen))


def test_a_change_during_a_run_is_listed_by_the_next_poll(server: Server, client: Client) -> None:
    key = min(server.sandbox.truth("products"))
    server.sandbox.between_pages.append(lambda name: server.sandbox.books.change(name, key, notes="entretanto"))
    cursor = server.read(client, "products").end.cursor
    server.clock.advance(minutes=5)
    assert [key] == server.read(client, "products", cursor).keys


def test_a_moment_of_any_year_is_sent_with_all_its_digits() -> None:
    assert "0001-01-01T00:00:00Z" == cursors.utc_text(datetime(1, 1, 1, tzinfo=UTC))
