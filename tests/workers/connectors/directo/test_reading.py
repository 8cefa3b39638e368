from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from models.values import Snapshot, Tombstone
from workers.connectors.contract import Greeting
from workers.connectors.directo.sandbox_books import KEYS
from workers.errors import SetAside

if TYPE_CHECKING:
    from tests.workers.connectors.directo.conftest import Account

ALL = ("items", "itemclasses", "customers", "orders", "invoices", "transactions", "stocklevels")


@pytest.mark.parametrize("name", ALL)
def test_a_full_reading_names_every_object_as_the_vendor_shows_it(account: Account, name: str) -> None:
    reading = account.list_all(name)
    assert account.sandbox.truth(name) == reading.objects
    assert reading.end.complete
    assert not reading.end.more


@pytest.mark.parametrize("name", ALL)
def test_a_point_read_finds_each_object_and_nothing_else(account: Account, name: str) -> None:
    truth = account.sandbox.truth(name)
    key = next(iter(truth))
    assert Snapshot(key, truth[key]) == account.fetch(name, key)
    other = "OST:99" if name == "transactions" else "1:2" if name == "stocklevels" else "99"
    assert Tombstone(other) == account.fetch(name, other)


def test_operators_travel_in_the_value_percent_encoded(account: Account) -> None:
    end = account.list_all("orders").end
    account.sandbox.asked.clear()
    account.list_all("orders", end.cursor)
    account.fetch("transactions", "OST:1")
    assert ["orders?ts=%3E2026-05-31T14%3A55%3A00", "transactions?type=OST&number=1"] == account.sandbox.asked


def test_a_tick_brings_what_changed_and_little_more(account: Account) -> None:
    cursor = account.list_all("orders").end.cursor
    account.clock.advance(minutes=10)
    account.sandbox.books.order(Random(1))
    changed = account.list_all("orders", cursor)
    assert {"1001", "1015"} == set(changed.objects)
    assert not changed.end.complete
    assert changed.end.warning is None


def test_a_tick_that_brings_nothing_keeps_its_cursor(account: Account) -> None:
    account.sandbox.books.tables["orders"].clear()
    cursor = account.list_all("orders").end.cursor
    account.clock.advance(hours=3)
    assert cursor == account.list_all("orders", cursor).end.cursor


def test_a_filter_that_is_ignored_is_noticed_and_its_records_are_kept(account: Account) -> None:
    cursor = account.list_all("orders").end.cursor
    account.sandbox.ignored.add("ts")
    reading = account.list_all("orders", cursor)
    assert account.sandbox.truth("orders") == reading.objects
    assert "ignored the filter ts=>2026-05-31T14:55:00" in str(reading.end.warning)


@pytest.mark.parametrize("account", [{"format": "xml"}], indirect=True)
@pytest.mark.parametrize("name", ALL)
def test_xml_has_the_shape_of_json_with_text_for_scalars(account: Account, name: str) -> None:
    expected = {key: _as_text(raw) for key, raw in account.sandbox.truth(name).items()}
    reading = account.list_all(name)
    assert expected == reading.objects
    key = next(iter(expected))
    assert Snapshot(key, expected[key]) == account.fetch(name, key)


def _as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_text(item) for name, item in value.items() if item is not None}
    return [_as_text(item) for item in value] if isinstance(value, list) else str(value)


@pytest.mark.parametrize("key", ["A,B", ">1", "<1", "!1", "%x%"])
def test_a_key_that_reads_as_an_operator_is_not_asked_for(account: Account, key: str) -> None:
    account.sandbox.asked.clear()
    with pytest.raises(SetAside, match="operator"):
        account.fetch("items", key)
    assert [] == account.sandbox.asked


def test_a_point_read_whose_filter_is_ignored_proves_nothing(account: Account) -> None:
    account.sandbox.ignored.add("code")
    with pytest.raises(SetAside, match="ignored"):
        account.fetch("items", "no such item")


def test_a_record_without_key_is_set_aside_alone(account: Account) -> None:
    account.sandbox.books.tables["items"][0]["code"] = None
    reading = account.list_all("items")
    assert len(account.sandbox.books.tables["items"]) - 1 == len(reading.objects)
    (unreadable,) = [each for chunk in reading.chunks for each in chunk.unreadable]
    assert unreadable.raw == account.sandbox.books.tables["items"][0]
    assert "without code" in unreadable.reason


def test_of_two_states_in_one_reply_the_later_wins_in_any_order(account: Account) -> None:
    items = account.sandbox.books.tables["items"]
    old = items[0] | {"ts": "2020-01-01 00:00:00", "name": "old"}
    items[:0] = [old]
    items.append(dict(old))
    reading = account.list_all("items")
    assert items[1] == reading.objects[str(old["code"])]
    assert len(items) - 2 == len(reading.snapshots)


def far_apart(account: Account, resource: str, **changes: Any) -> list[dict[str, Any]]:
    """Two records with one key, in different chunks of a reply."""
    table = account.sandbox.books.tables[resource]
    one = table[0]
    others = [one | {field: str(number) for field in KEYS[resource]} for number in range(600)]
    table[:] = [one, *others, one | changes]
    return [table[0], table[-1]]


@pytest.mark.parametrize("ts", [{}, {"ts": ""}, {"ts": None}])
def test_two_records_with_one_key_are_not_lost_in_silence(account: Account, ts: dict[str, Any]) -> None:
    levels = account.sandbox.books.tables["stocklevels"]
    levels.append(levels[0] | {"quantity": 5, "location": "B2"} | ts)
    reading = account.list_all("stocklevels")
    (unreadable,) = [each for chunk in reading.chunks for each in chunk.unreadable]
    assert unreadable.raw == levels[-1]
    assert "keys" in unreadable.reason


@pytest.mark.parametrize("account", [{}, {"format": "xml"}], indirect=True, ids=["json", "xml"])
def test_two_records_with_one_key_are_not_lost_however_far_apart(account: Account) -> None:
    first, second = far_apart(account, "stocklevels", location="B2")
    reading = account.list_all("stocklevels")
    (unreadable,) = [each for chunk in reading.chunks for each in chunk.unreadable]
    assert "B2" == unreadable.raw["location"]
    assert [None] == [raw.get("location") for raw in reading.objects.values() if raw["warehouse"] == first["warehouse"]]
    assert second["warehouse"] == unreadable.raw["warehouse"]


@pytest.mark.parametrize(("ts", "kept"), [("2030-01-01 00:00:00", "other"), ("2001-01-01 00:00:00", "first")])
def test_of_two_states_in_one_reply_the_later_wins_however_far_apart(account: Account, ts: str, kept: str) -> None:
    account.sandbox.books.tables["items"][0]["name"] = "first"
    first, _ = far_apart(account, "items", name="other", ts=ts)
    reading = account.list_all("items")
    assert kept == reading.objects[first["code"]]["name"]
    assert [] == [each for chunk in reading.chunks for each in chunk.unreadable]


def test_a_record_that_comes_twice_in_one_reply_is_one(account: Account) -> None:
    first, _ = far_apart(account, "items")
    reading = account.list_all("items")
    assert 1 == [snapshot.key for snapshot in reading.snapshots].count(first["code"])
    assert [] == [each for chunk in reading.chunks for each in chunk.unreadable]


def test_a_key_from_before_keys_was_changed_is_set_aside_with_what_to_do(account: Account) -> None:
    with pytest.raises(SetAside, match=r"'7' is no key of transactions by type and number.*`erpmirror forget`"):
        account.fetch("transactions", "7")


def test_a_resource_whose_records_all_lack_the_key_is_set_aside_whole(account: Account) -> None:
    account.sandbox.books.tables["stocklevels"] = [{"item": str(number), "stock": "A"} for number in range(500)]
    with pytest.raises(
        SetAside, match=r"without item_code and warehouse; it has item, stock; the setting `keys`"
    ) as raised:
        account.list_all("stocklevels")
    assert raised.value.whole_resource


def test_check_proves_the_key_with_one_request(account: Account) -> None:
    assert Greeting("Directo lets this key read items", account.clock.now) == account.client.check()
    assert ["items?ts=%3E2999-12-31T00%3A00%3A00"] == account.sandbox.asked


def test_ask_speaks_the_vendors_language(account: Account) -> None:
    assert [account.sandbox.truth("items")["1012"]] == account.client.ask(["items", "code=1012", "ts=>2000-01-01"])
    assert len(account.sandbox.truth("orders")) == len(account.client.ask(["orders"]))


@pytest.mark.parametrize("words", [[], ["items", "code"], ["../items"]])
def test_ask_explains_what_it_takes(account: Account, words: list[str]) -> None:
    with pytest.raises(SetAside, match="as in: items code=1011"):
        account.client.ask(words)
