"""What the client does where Directo's document contradicts itself; each test is named after the decision."""

from __future__ import annotations

import socket
import threading
from datetime import UTC, date, datetime
from random import Random
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from models.values import Snapshot
from tests.mirroring import mirrored
from tests.workers.connectors.directo.conftest import client, options
from workers.connectors.directo import cursors, queries, resources, sandbox, wall_clock
from workers.errors import SetAside

if TYPE_CHECKING:
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.connectors.directo.conftest import Account


def test_a_poll_filters_by_ts_with_the_operator_in_its_value(account: Account) -> None:
    cursor = account.list_all("items").end.cursor
    account.list_all("items", cursor)
    assert "items?ts=%3E2026-05-31T14%3A55%3A00" == account.sandbox.requests[-1]


def test_ts_without_operator_is_equality_and_an_operator_in_the_name_is_refused(account: Account) -> None:
    latest = max(each["ts"] for each in account.sandbox.truth("items").values())
    assert 1 == len(account.client.ask(["items", f"ts={latest}"]))
    assert 0 == len(account.client.ask(["items", f"ts=>{latest}"]))
    account.sandbox.requests.clear()
    with pytest.raises(SetAside, match="put the operator after the =, as in"):
        account.client.ask(["items", f"ts>={latest}"])
    assert [] == account.sandbox.requests


def test_not_equal_is_sent_before_the_value(account: Account) -> None:
    truth = account.sandbox.truth("customers").values()
    foreign = [each["code"] for each in truth if each["country"] != "EE"]
    assert foreign == [each["code"] for each in account.client.ask(["customers", "country=!EE"])]
    assert foreign == [each["code"] for each in account.client.read("customers", queries.field("country").is_not("EE"))]
    with pytest.raises(SetAside, match="customers country=!EE"):
        account.client.ask(["customers", "country!=EE"])


@pytest.mark.parametrize("inclusive", [False, True], ids=["exclusive", "inclusive"])
def test_no_change_is_missed_whether_bounds_are_included_or_not(
    sqlite: Database, tmp_path: Path, *, inclusive: bool
) -> None:
    with mirrored(sqlite, tmp_path, directo={"seed": 6}) as mirror:
        mirror.sandboxes["directo"].inclusive = inclusive
        mirror.work()
        for number in range(6):
            mirror.sandboxes["directo"].edit(Random(number))
            mirror.catch_up()
            assert {} == mirror.differences()


@pytest.mark.parametrize("bound", ["inclusive", "exclusive"])
def test_a_change_in_the_same_second_as_the_cursor_is_read(account: Account, bound: str) -> None:
    account.sandbox.inclusive = bound == "inclusive"
    account.sandbox.books.touch(account.sandbox.books.tables["items"][0])
    cursor = account.list_all("items").end.cursor
    account.sandbox.books.touch(account.sandbox.books.tables["items"][1], name="in the same second")
    assert "in the same second" in {each["name"] for each in account.list_all("items", cursor).objects.values()}


def test_the_same_bound_is_sent_for_greater_and_for_greater_or_equal() -> None:
    assert [("price", ">100")] == queries.field("price").above(100).params
    with pytest.raises(ValueError, match="at least"):
        queries.parse("price", ">=100")


@pytest.mark.parametrize(
    ("moment", "sent"),
    [
        ("2025-11-01", "2025-11-01T00:00:00"),
        (date(2025, 11, 1), "2025-11-01T00:00:00"),
        (datetime(2025, 11, 1, 8, 11, 5, 129000), "2025-11-01T08:11:05"),  # noqa: DTZ001
        (datetime(2025, 11, 1, 8, 11, 5, tzinfo=UTC), "2025-11-01T08:11:05Z"),
    ],
)
def test_dates_are_sent_in_whole_seconds_and_with_z_only_if_they_have_a_zone(
    account: Account, moment: date | str, sent: str
) -> None:
    list(account.client.read("orders", queries.field("date").above(moment)))
    assert f"orders?date=%3E{sent.replace(':', '%3A')}" == account.sandbox.requests[-1]


def test_neighbouring_windows_overlap() -> None:
    made = options("http://localhost", since="2020-01-01")
    first = cursors.Window.initial(made)
    second = first.next(wider=False)
    assert second is not None
    (_, before), (after, _) = first.bounds, second.bounds
    assert before is not None
    assert after is not None
    assert after < before


def test_the_percent_signs_of_a_partial_filter_are_encoded(account: Account) -> None:
    found = list(account.client.read("customers", queries.field("name").contains("Tamme")))
    assert {"Tamme OÜ"} == {each["name"] for each in found}
    assert ["customers?name=%25Tamme%25"] == account.sandbox.requests


def test_undeclared_fields_are_kept_as_sent(account: Account) -> None:
    undeclared = {"code": "1", "ourOwnField": {"a": [1]}, "name": 5}
    account.sandbox.books.tables["items"] = [dict(undeclared)]
    assert {"1": undeclared} == account.list_all("items").objects


@pytest.mark.parametrize(
    "account", [{"keys": {"items": ["barcode"]}, "filter": {"items": {"salesprice": ">0"}}}], indirect=True
)
def test_settings_may_name_other_keys_and_filters(account: Account) -> None:
    account.sandbox.books.tables["items"] = [{"barcode": "47400", "salesprice": 5}]
    assert Snapshot("47400", {"barcode": "47400", "salesprice": 5}) == account.fetch("items", "47400")
    assert ["items?barcode=47400&salesprice=%3E0"] == account.sandbox.requests


def test_the_header_is_sent_in_the_documented_case() -> None:
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n[]"
    received = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            caller, _ = listener.accept()
            with caller:
                while b"\r\n\r\n" not in received:
                    received.extend(caller.recv(4096))
                caller.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        opened = client(f"http://127.0.0.1:{listener.getsockname()[1]}")
        opened.check()
        opened.close()
        server.join()
    assert b"\r\nX-Directo-Key: sandbox-key\r\n" in bytes(received)


@pytest.mark.parametrize("refusal", [sandbox.FORBIDDEN, sandbox.NOT_ENABLED], ids=["403", "400"])
def test_a_missing_permission_parks_the_whole_resource_for_either_status(
    account: Account, refusal: sandbox.Refusal
) -> None:
    account.sandbox.refused["orders"] = refusal
    with pytest.raises(SetAside) as raised:
        account.list_all("orders")
    assert raised.value.whole_resource


@pytest.mark.parametrize("account", [{"filter": {"orders": {"totalamount": ">1"}}}], indirect=True)
@pytest.mark.parametrize("outcome", [sandbox.CalculatedFilter.REFUSED, sandbox.CalculatedFilter.IGNORED])
def test_a_filter_by_a_calculated_field_is_detected_when_refused_or_ignored(
    account: Account, outcome: sandbox.CalculatedFilter
) -> None:
    account.sandbox.calculated["totalamount"] = outcome
    account.sandbox.books.tables["orders"][0]["totalamount"] = 0
    with pytest.raises(SetAside, match="totalamount"):
        account.list_all("orders")


@pytest.mark.parametrize("account", [{"resources": ["customers"]}], indirect=True)
def test_all_deletions_are_read_and_only_mirrored_resources_are_enqueued(account: Account) -> None:
    books = account.sandbox.books
    books.delete_order(Random(1))
    books.remove("customers", books.tables["customers"][0])
    listing = account.list_all("deleted")
    assert ["deleted?"] == account.sandbox.requests
    assert 2 == len(listing.objects)
    assert ["customers"] == [ref.resource for chunk in listing.chunks for ref in chunk.refs]


def test_many_changes_cost_one_request(account: Account) -> None:
    cursor = account.list_all("orders").end.cursor
    account.clock.advance(minutes=10)
    for order in account.sandbox.books.tables["orders"]:
        account.sandbox.books.touch(order)
    account.sandbox.requests.clear()
    assert account.sandbox.truth("orders") == account.list_all("orders", cursor).objects
    assert 1 == len(account.sandbox.requests)


def test_a_value_with_a_comma_cannot_be_filtered_by(account: Account) -> None:
    with pytest.raises(ValueError, match="a comma is an operator"):
        queries.field("object").equals("TEAM1,E001")
    with pytest.raises(SetAside, match="a comma is an operator"):
        account.fetch("items", "A,B")
    assert [] == account.sandbox.requests


def test_a_field_of_several_codes_does_not_prove_an_ignored_filter(account: Account) -> None:
    account.sandbox.ignored.add("object")
    account.sandbox.books.tables["items"] = [{"code": "1", "object": "TEAM1, E001"}]
    assert 1 == len(list(account.client.read("items", queries.field("object").equals("E001"))))


def test_a_stamp_without_a_zone_is_in_the_settings_zone() -> None:
    assert "Europe/Tallinn" == options("http://localhost").timezone
    moment = wall_clock.parse("2026-06-01T12:00:00Z", ZoneInfo("Europe/Tallinn"))
    assert moment == wall_clock.parse("2026-06-01 15:00:00", ZoneInfo("Europe/Tallinn"))


def test_every_documented_resource_can_be_read(account: Account) -> None:
    for name in resources.catalogue(account.options):
        account.sandbox.books.tables.setdefault(name, [])
        assert list(account.sandbox.truth(name).values()) == list(account.client.read(name))
    assert len(resources.catalogue(account.options)) == len(account.sandbox.requests)
