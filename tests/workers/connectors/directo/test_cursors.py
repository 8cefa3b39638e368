from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from tests.workers.connectors.directo.conftest import Account, options
from workers.connectors.directo import cursors
from workers.errors import TimedOutError

ITEMS = "items?ts=%3E"


def next_since(account: Account, name: str = "items") -> str:
    """The `ts` that the poll after a full sync asks for."""
    cursor = account.list_all(name).end.cursor
    account.sandbox.requests.clear()
    account.list_all(name, cursor)
    return account.sandbox.requests[0].replace("%3A", ":").removeprefix(f"{name}?ts=%3E")


def touch(account: Account, ts: str) -> None:
    account.sandbox.books.tables["items"][0]["ts"] = ts


def test_the_cursor_is_the_greatest_stamp_less_the_overlap(account: Account) -> None:
    touch(account, "2026-06-01 14:30:00")
    assert next_since(account) == "2026-06-01T14:25:00"


@pytest.mark.parametrize(
    "ts",
    [
        "2026-06-01T11:30:00Z",
        "2026-06-01T11:30:00.129Z",
        "2026-06-01T14:30:00+03:00",
        "2026-06-01T11:30:00.0000001 +00:00",
        "/Date(1780313400000)/",
    ],
)
def test_a_stamp_with_a_zone_is_converted_to_directos_wall_clock(account: Account, ts: str) -> None:
    touch(account, ts)
    assert next_since(account) == "2026-06-01T14:25:00"


@pytest.mark.parametrize(
    "others",
    [
        ["2026-05-31 10:00:00"] * 2,
        ["2026-05-31T10:00:00", "0000-00-00 00:00:00", None],
        ["2026-13-41 10:00:00", "1899-01-01 00:00:00", ""],
        ["2026-06-01 14:29:59", "2026-05-31 24:00:00", "yesterday"],
        ["2026-06-01", "/Date(1780100000000)/", 7],
    ],
)
def test_odd_stamps_of_other_records_do_not_hide_the_greatest(account: Account, others: list[object]) -> None:
    items = account.sandbox.books.tables["items"]
    for number, item in enumerate(items):
        item["ts"] = [*others, "2026-06-01 14:30:00"][number % (len(others) + 1)]
    assert next_since(account) == "2026-06-01T14:25:00"


def test_the_cursor_never_passes_directos_clock_at_the_first_request(account: Account) -> None:
    touch(account, "2027-01-01 00:00:00")
    assert "2026-06-01T14:54:00" <= next_since(account) <= "2026-06-01T14:55:00"


def test_an_empty_full_sync_sets_the_cursor_to_directos_clock(account: Account) -> None:
    account.sandbox.books.tables["items"].clear()
    assert "2026-06-01T14:54:00" <= next_since(account) <= "2026-06-01T14:55:00"


@pytest.mark.parametrize("ts", ["0001-01-01T00:00:00", "0000-00-00 00:00:00", "", None, 5, "yesterday"])
def test_an_unreadable_stamp_is_ignored(account: Account, ts: str) -> None:
    for item in account.sandbox.books.tables["items"]:
        item["ts"] = ts
    assert "2026-06-01T14:54:00" <= next_since(account) <= "2026-06-01T14:55:00"


def test_a_change_in_the_hour_that_autumn_repeats_is_not_missed(account: Account) -> None:
    books = account.sandbox.books
    account.clock.now = datetime(2026, 10, 25, 0, 50, tzinfo=UTC)  # 03:50, summer time
    books.touch(books.tables["items"][0], name="first")
    cursor = account.list_all("items").end.cursor
    account.clock.advance(minutes=20)  # 03:10, winter time
    books.touch(books.tables["items"][1], name="second")
    listing = account.list_all("items", cursor)
    assert {"first", "second"} == {raw["name"] for raw in listing.objects.values()}
    account.clock.advance(minutes=55)  # 04:05
    books.touch(books.tables["items"][2], name="third")
    assert "third" in {raw["name"] for raw in account.list_all("items", listing.end.cursor).objects.values()}


@pytest.mark.parametrize(
    ("ts", "asked"),
    [
        ("2026-10-25 02:58:00", "2026-10-25T02:53:00"),  # before the hour
        ("2026-10-25 03:02:00", "2026-10-25T01:57:00"),  # the stamp is in it
        ("2026-10-25 03:50:00", "2026-10-25T02:45:00"),  # the stamp and the overlap are in it
        ("2026-10-25 04:02:00", "2026-10-25T02:57:00"),  # the overlap reaches into it
        ("2026-10-25 04:10:00", "2026-10-25T04:05:00"),  # after it
        ("2026-03-29 04:02:00", "2026-03-29T02:57:00"),  # 03:57 does not exist in spring
    ],
)
def test_the_overlap_grows_by_an_hour_across_a_change_of_summer_time(account: Account, ts: str, asked: str) -> None:
    account.clock.now = datetime(2026, 11, 1, tzinfo=UTC)
    account.sandbox.books.tables["items"] = [{"code": "1", "ts": ts}]
    assert asked == next_since(account)


def test_after_directos_clock_was_set_back_an_hour_the_second_poll_finds_changes(account: Account) -> None:
    books = account.sandbox.books
    account.clock.advance(hours=1)
    books.touch(books.tables["items"][0], name="ahead")
    cursor = account.list_all("items").end.cursor
    account.clock.advance(hours=-1, minutes=1)
    books.touch(books.tables["items"][1], name="right")
    account.clock.advance(minutes=4)
    cursor = account.list_all("items", cursor).end.cursor
    assert books.tables["items"][1]["code"] in account.list_all("items", cursor).objects


def test_a_poll_never_moves_the_cursor_back(account: Account) -> None:
    touch(account, "2026-06-01 14:30:00")
    cursor = account.list_all("items").end.cursor
    touch(account, "2026-06-01 14:27:00")
    assert cursor == account.list_all("items", cursor).end.cursor


FAST = {"timeout": timedelta(seconds=1), "since": "2016-01-01"}


@pytest.mark.parametrize("account", [FAST], indirect=True)
def test_a_full_sync_that_times_out_continues_by_halving_windows(account: Account) -> None:
    account.sandbox.slow_above = 5
    listing = account.list_all("orders")
    truth = account.sandbox.truth("orders")
    assert "" in {raw["date"] for raw in truth.values()}
    assert truth == listing.objects
    assert (True, None) == (listing.end.complete, listing.end.gap)
    asked = [query.replace("%3A", ":") for query in account.sandbox.requests]
    assert ["orders?", "orders?date=%3C2016-01-01T00:00:00"] == asked[:2]
    assert any("date=%3E2015-12-31T23:59:59&date=%3C" in query for query in asked)
    assert "&" not in asked[-1], "the last window has no end"
    by_ts = [query for query in asked if "ts=" in query]
    assert ("orders?ts=%3C2016-01-01T00:00:00", by_ts) == (by_ts[0], asked[-len(by_ts) :])


@pytest.mark.parametrize("account", [FAST], indirect=True)
def test_documents_that_were_all_saved_on_one_day_are_read_by_date_and_the_proof_is_said_to_lack(
    account: Account,
) -> None:
    account.sandbox.slow_above = 5
    for order in account.sandbox.books.tables["orders"]:
        order["ts"] = "2026-05-01 10:00:00"
    listing = account.list_all("orders")
    undated = {key: raw for key, raw in account.sandbox.truth("orders").items() if not raw["date"]}
    assert account.sandbox.truth("orders") == listing.objects | undated
    assert listing.end.complete
    assert "a document without a date may be missing" in str(listing.end.gap)
    (key,) = undated
    assert account.fetch("orders", key).raw == undated[key]


@pytest.mark.parametrize("account", [FAST], indirect=True)
def test_the_cursor_after_windows_is_limited_by_the_start_of_the_first(account: Account) -> None:
    account.sandbox.slow_above = 5
    cursor = None
    while True:
        (*_, last) = account.client.list(account.resource("orders"), cursor)
        account.clock.advance(minutes=1)  # an object that was already read changes between windows
        account.sandbox.books.touch(account.sandbox.books.tables["orders"][0])
        assert last.end is not None
        cursor = last.end.cursor
        if not last.end.more:
            break
    position = cursors.Position.decode(cursor)
    assert position.since is not None
    assert position.since <= datetime(2026, 6, 1, 14, 57)  # noqa: DTZ001


RECENT = datetime.now(UTC).date() - timedelta(days=4)


@pytest.mark.parametrize("account", [FAST | {"since": RECENT.isoformat()}], indirect=True)
def test_a_window_of_one_day_that_times_out_raises(account: Account) -> None:
    account.sandbox.slow_above = 2
    account.sandbox.books.tables["orders"] = [{"number": number, "date": f"{RECENT}T12:00:00"} for number in range(3)]
    with pytest.raises(TimedOutError):
        account.list_all("orders")
    before, after = RECENT - timedelta(days=1), RECENT + timedelta(days=1)
    assert f"orders?date=%3E{before}T23%3A59%3A59&date=%3C{after}T00%3A00%3A00" == account.sandbox.requests[-1]


@pytest.mark.parametrize("account", [FAST], indirect=True)
def test_a_resource_without_dates_is_not_split_into_windows(account: Account) -> None:
    account.sandbox.slow_above = 5
    with pytest.raises(TimedOutError):
        account.list_all("items")


def test_windows_overlap_by_a_second_each() -> None:
    made = options("http://localhost", since="2020-01-01")
    window = cursors.Window.initial(made)
    bounds = []
    following: cursors.Window | None = window
    while following is not None:
        bounds.append(following.bounds)
        following = following.next(wider=False)
    assert bounds[0][0] is None
    assert bounds[-1][1] is None
    gaps = [after - before for (_, before), (after, _) in itertools.pairwise(bounds) if after and before]
    assert [timedelta(seconds=-1)] * (len(bounds) - 1) == gaps
