from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from models.values import Snapshot, Tombstone
from workers.connectors.contract import CheckResult
from workers.connectors.directo.sandbox_data import KEYS
from workers.errors import SetAside

if TYPE_CHECKING:
    from tests.workers.connectors.directo.conftest import Account

ALL = ("items", "itemclasses", "customers", "orders", "invoices", "transactions", "stocklevels")


@pytest.mark.parametrize("name", ALL)
def test_a_full_sync_lists_every_object_as_sent(account: Account, name: str) -> None:
    listing = account.list_all(name)
    assert account.sandbox.truth(name) == listing.objects
    assert listing.end.complete
    assert not listing.end.more


@pytest.mark.parametrize("name", ALL)
def test_a_point_read_finds_each_object_and_nothing_else(account: Account, name: str) -> None:
    truth = account.sandbox.truth(name)
    key = next(iter(truth))
    assert Snapshot(key, truth[key]) == account.fetch(name, key)
    other = "OST:99" if name == "transactions" else "1:2" if name == "stocklevels" else "99"
    assert Tombstone(other) == account.fetch(name, other)


def test_operators_are_sent_percent_encoded_in_the_value(account: Account) -> None:
    end = account.list_all("orders").end
    account.sandbox.requests.clear()
    account.list_all("orders", end.cursor)
    account.fetch("transactions", "OST:1")
    assert ["orders?ts=%3E2026-05-31T14%3A55%3A00", "transactions?type=OST&number=1"] == account.sandbox.requests


def test_a_poll_lists_what_changed_and_the_overlap(account: Account) -> None:
    cursor = account.list_all("orders").end.cursor
    account.clock.advance(minutes=10)
    account.sandbox.books.order(Random(1))
    changed = account.list_all("orders", cursor)
    assert {"1001", "1015"} == set(changed.objects)
    assert not changed.end.complete
    assert changed.end.warning is None


def test_an_empty_poll_keeps_its_cursor(account: Account) -> None:
    account.sandbox.books.tables["orders"].clear()
    cursor = account.list_all("orders").end.cursor
    account.clock.advance(hours=3)
    assert cursor == account.list_all("orders", cursor).end.cursor


def test_an_ignored_ts_filter_is_reported_and_its_records_are_kept(account: Account) -> None:
    cursor = account.list_all("orders").end.cursor
    account.sandbox.ignored.add("ts")
    listing = account.list_all("orders", cursor)
    assert account.sandbox.truth("orders") == listing.objects
    assert "ignored the filter ts=>2026-05-31T14:55:00" in str(listing.end.warning)


@pytest.mark.parametrize("account", [{"format": "xml"}], indirect=True)
@pytest.mark.parametrize("name", ALL)
def test_xml_has_the_shape_of_json_with_text_for_scalars(account: Account, name: str) -> None:
    expected = {key: _as_text(raw) for key, raw in account.sandbox.truth(name).items()}
    listing = account.list_all(name)
    assert expected == listing.objects
    key = next(iter(expected))
    assert Snapshot(key, expected[key]) == account.fetch(name, key)


def _as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_text(item) for name, item in value.items() if item is not None}
    return [_as_text(item) for item in value] if isinstance(value, list) else str(value)


@pytest.mark.parametrize("key", ["A,B", ">1", "<1", "!1", "%x%"])
def test_a_key_that_begins_with_an_operator_is_not_requested(account: Account, key: str) -> None:
    account.sandbox.requests.clear()
    with pytest.raises(SetAside, match="operator"):
        account.fetch("items", key)
    assert [] == account.sandbox.requests


def test_a_point_read_whose_filter_is_ignored_proves_nothing(account: Account) -> None:
    account.sandbox.ignored.add("code")
    with pytest.raises(SetAside, match="ignored"):
        account.fetch("items", "no such item")


def test_a_record_without_key_is_unreadable_and_others_are_kept(account: Account) -> None:
    account.sandbox.books.tables["items"][0]["code"] = None
    listing = account.list_all("items")
    assert len(account.sandbox.books.tables["items"]) - 1 == len(listing.objects)
    (unreadable,) = [each for chunk in listing.chunks for each in chunk.unreadable]
    assert unreadable.raw == account.sandbox.books.tables["items"][0]
    assert "without code" in unreadable.reason


def test_the_later_of_two_states_in_one_reply_wins_in_any_order(account: Account) -> None:
    items = account.sandbox.books.tables["items"]
    old = items[0] | {"ts": "2020-01-01 00:00:00", "name": "old"}
    items[:0] = [old]
    items.append(dict(old))
    listing = account.list_all("items")
    assert items[1] == listing.objects[str(old["code"])]
    assert len(items) - 2 == len(listing.snapshots)


def far_apart(account: Account, resource: str, **changes: Any) -> list[dict[str, Any]]:
    """Two records with the same key, in different chunks of one reply."""
    table = account.sandbox.books.tables[resource]
    one = table[0]
    others = [one | {field: str(number) for field in KEYS[resource]} for number in range(600)]
    table[:] = [one, *others, one | changes]
    return [table[0], table[-1]]


@pytest.mark.parametrize("ts", [{}, {"ts": ""}, {"ts": None}])
def test_a_second_record_with_the_same_key_is_unreadable(account: Account, ts: dict[str, Any]) -> None:
    levels = account.sandbox.books.tables["stocklevels"]
    levels.append(levels[0] | {"quantity": 5, "location": "B2"} | ts)
    listing = account.list_all("stocklevels")
    (unreadable,) = [each for chunk in listing.chunks for each in chunk.unreadable]
    assert unreadable.raw == levels[-1]
    assert "different records of stocklevels with the same item_code and warehouse" == unreadable.reason
    assert 'keys.stocklevels = "row"' in unreadable.remedy


@pytest.mark.parametrize("account", [{}, {"format": "xml"}], indirect=True, ids=["json", "xml"])
def test_a_second_record_with_the_same_key_in_another_chunk_is_unreadable(account: Account) -> None:
    first, second = far_apart(account, "stocklevels", location="B2")
    listing = account.list_all("stocklevels")
    (unreadable,) = [each for chunk in listing.chunks for each in chunk.unreadable]
    assert "B2" == unreadable.raw["location"]
    assert [None] == [raw.get("location") for raw in listing.objects.values() if raw["warehouse"] == first["warehouse"]]
    assert second["warehouse"] == unreadable.raw["warehouse"]


@pytest.mark.parametrize(("ts", "kept"), [("2030-01-01 00:00:00", "other"), ("2001-01-01 00:00:00", "first")])
def test_the_later_of_two_states_in_one_reply_wins_across_chunks(account: Account, ts: str, kept: str) -> None:
    account.sandbox.books.tables["items"][0]["name"] = "first"
    first, _ = far_apart(account, "items", name="other", ts=ts)
    listing = account.list_all("items")
    assert kept == listing.objects[first["code"]]["name"]
    assert [] == [each for chunk in listing.chunks for each in chunk.unreadable]


def test_a_record_repeated_in_one_reply_is_listed_once(account: Account) -> None:
    first, _ = far_apart(account, "items")
    listing = account.list_all("items")
    assert 1 == [snapshot.key for snapshot in listing.snapshots].count(first["code"])
    assert [] == [each for chunk in listing.chunks for each in chunk.unreadable]


def test_a_key_from_before_keys_was_changed_raises_set_aside_with_a_remedy(account: Account) -> None:
    with pytest.raises(
        SetAside, match=r"'7' is not a key of transactions, which needs type and number.*`erpmirror forget`"
    ):
        account.fetch("transactions", "7")


STOCK = [
    {"code": f"I{number}", "stock": stock, "freequantity": number, "ts": "2026-01-01 10:00:00"}
    for number in range(300)
    for stock in ("A", "B")
]


def test_records_without_the_key_share_a_reason_and_name_the_setting_that_tells_them_apart(account: Account) -> None:
    account.sandbox.books.tables["stocklevels"] = STOCK
    listing = account.list_all("stocklevels")
    unreadable = [each for chunk in listing.chunks for each in chunk.unreadable]
    assert {"a record of stocklevels without item_code and warehouse"} == {each.reason for each in unreadable}
    assert all('set keys.stocklevels = ["code", "stock"] or keys' in each.remedy for each in unreadable)
    with pytest.raises(SetAside, match=r'it has code, .*; set keys.stocklevels = \["code", "stock"\] or'):
        account.client.probe(account.resource("stocklevels"))


@pytest.mark.parametrize("account", [{"keys": {"stocklevels": ["code", "stock"]}}], indirect=True)
def test_a_named_key_is_used_and_an_empty_field_is_a_value(account: Account) -> None:
    central = [{"code": "I1", "stock": empty, "freequantity": 1} for empty in ("", None)] + [{"code": "I1"}]
    account.sandbox.books.tables["stocklevels"] = [*STOCK, central[0]]
    assert {f"I{number}:{stock}" for number in range(300) for stock in "AB"} | {"I1:"} == set(
        account.list_all("stocklevels").objects
    )
    for record in central:
        account.sandbox.books.tables["stocklevels"] = [STOCK[0], record]
        assert ["I0:A", "I1:"] == list(account.list_all("stocklevels").objects)
    assert "can be read" in account.client.probe(account.resource("stocklevels"))


def test_a_key_field_that_no_record_has_is_named_wrongly_and_not_empty(account: Account) -> None:
    account.sandbox.books.tables["stocklevels"] = [{"item_code": "1", "stock": "A"}, {"item_code": "2", "stock": "A"}]
    listing = account.list_all("stocklevels")
    assert ({}, 2) == (listing.objects, sum(len(chunk.unreadable) for chunk in listing.chunks))


@pytest.mark.parametrize("account", [{"keys": {"stocklevels": "row"}}], indirect=True)
def test_a_hash_of_the_whole_row_may_be_the_key(account: Account) -> None:
    account.sandbox.books.tables["stocklevels"] = [{"a": 1, "b": None}, {"a": 1, "b": 2}, {"a": 1, "b": 2}]
    resource = account.resource("stocklevels")
    before = account.list_all("stocklevels").objects
    account.sandbox.books.tables["stocklevels"][0]["a"] = 2
    after = account.list_all("stocklevels").objects
    assert (2, 2, 1) == (len(before), len(after), len(before.keys() & after.keys()))
    assert (True, True, False, None) == (resource.unpaged, resource.register, resource.fetchable, resource.every)


def test_check_proves_the_key_with_one_request(account: Account) -> None:
    assert CheckResult("Directo lets this key read items", account.clock.now) == account.client.check()
    assert ["items?ts=%3E2999-12-31T00%3A00%3A00"] == account.sandbox.requests


def test_ask_takes_filters_in_directos_syntax(account: Account) -> None:
    assert [account.sandbox.truth("items")["1012"]] == account.client.ask(["items", "code=1012", "ts=>2000-01-01"])
    assert len(account.sandbox.truth("orders")) == len(account.client.ask(["orders"]))


@pytest.mark.parametrize("words", [[], ["items", "code"], ["../items"]])
def test_ask_explains_its_syntax(account: Account, words: list[str]) -> None:
    with pytest.raises(SetAside, match="as in: items code=1011"):
        account.client.ask(words)
