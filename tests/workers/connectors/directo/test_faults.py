from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.workers.connectors.directo.conftest import Account, client
from workers.connectors.directo import sandbox
from workers.connectors.directo.sandbox import Fault
from workers.errors import Fate, SetAside, TimedOut, TryLater

QUICK = {"timeout": timedelta(seconds=1)}
FATES = {
    Fault.HTML: TryLater,
    Fault.HALF: TryLater,
    Fault.EMPTY: TryLater,
    Fault.SCALAR: SetAside,
    Fault.OBJECT: SetAside,
    Fault.BUSY: TryLater,
    Fault.BROKEN: TryLater,
    Fault.SLOW: TimedOut,
    Fault.DRIP: TimedOut,
    Fault.XML_REFUSAL: SetAside,
}


def test_every_fault_has_its_fate() -> None:
    assert set(Fault) == set(FATES)


@pytest.mark.parametrize("account", [QUICK, QUICK | {"format": "xml"}], indirect=True, ids=["json", "xml"])
@pytest.mark.parametrize("fault", FATES)
def test_a_bad_answer_is_sorted_by_fate_and_the_next_one_is_read(account: Account, fault: Fault) -> None:
    for ask in (lambda: account.list_all("items"), lambda: account.fetch("items", "1012")):
        account.sandbox.faults.append(fault)
        with pytest.raises(Fate) as raised:
            ask()
        assert FATES[fault] is type(raised.value)
    assert len(account.sandbox.truth("items")) == len(account.list_all("items").objects)


def test_what_the_vendor_says_of_waiting_is_passed_on(account: Account) -> None:
    account.sandbox.faults.append(Fault.BUSY)
    with pytest.raises(TryLater) as raised:
        account.list_all("items")
    assert timedelta(seconds=1) == raised.value.after


def test_more_than_the_vendor_grants_is_refused_until_a_minute_has_passed(account: Account) -> None:
    account.sandbox.per_minute = 2
    account.list_all("items")
    account.list_all("items")
    with pytest.raises(TryLater, match=r"429.*Rate limit"):
        account.list_all("items")
    account.clock.advance(minutes=1)
    account.list_all("items")


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (sandbox.NOT_ENABLED, "HTTP 400: API_NOT_ENABLED: API not enabled"),
        (sandbox.FORBIDDEN, "HTTP 403: FORBIDDEN: API key lacks required permissions"),
        (sandbox.NOT_FOUND, "HTTP 404: NOT_FOUND: Resource or endpoint not found"),
    ],
)
def test_a_resource_that_the_key_may_not_read_is_set_aside_whole(
    account: Account, refusal: sandbox.Refusal, words: str
) -> None:
    account.sandbox.refused["orders"] = refusal
    with pytest.raises(SetAside) as raised:
        account.list_all("orders")
    assert raised.value.whole_resource
    assert words == str(raised.value)
    assert account.list_all("items").end.complete


def test_a_wrong_key_is_told_without_the_key(account: Account) -> None:
    stranger = client(account.url, api_key="my-secret-key")
    with pytest.raises(SetAside, match="HTTP 401: INVALID_API_KEY") as raised:
        stranger.check()
    assert "my-secret-key" not in str(raised.value)
    stranger.close()


def test_a_revoked_key_sets_the_resource_aside_and_not_its_objects_one_by_one(account: Account) -> None:
    account.sandbox.key = "a new key"
    with pytest.raises(SetAside, match="HTTP 401: INVALID_API_KEY") as raised:
        account.fetch("items", "1012")
    assert raised.value.whole_resource


def test_a_filter_that_the_vendor_refuses_is_set_aside(account: Account) -> None:
    with pytest.raises(SetAside, match="HTTP 400: BAD_REQUEST: Invalid date") as raised:
        account.client.ask(["items", "ts=>2026-13-01"])
    assert not raised.value.whole_resource


@pytest.mark.parametrize("raw", [[1, {"code": "1"}], [None, {"code": "1"}]])
def test_an_element_that_is_no_record_is_set_aside_alone(account: Account, raw: list[Any]) -> None:
    account.sandbox.books.tables["items"] = raw
    reading = account.list_all("items")
    assert {"1": {"code": "1"}} == reading.objects
    (unreadable,) = [each for chunk in reading.chunks for each in chunk.unreadable]
    assert {"value": raw[0]} == unreadable.raw
