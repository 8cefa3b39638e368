from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.workers.connectors.directo.conftest import Account, client
from workers.connectors.directo import sandbox
from workers.connectors.directo.sandbox import Fault
from workers.errors import SetAside, TimedOutError, TryLater, VendorError

QUICK = {"timeout": timedelta(seconds=1)}
ERRORS = {
    Fault.HTML: TryLater,
    Fault.HALF: TryLater,
    Fault.EMPTY: TryLater,
    Fault.SCALAR: TryLater,
    Fault.OBJECT: TryLater,
    Fault.BUSY: TryLater,
    Fault.BROKEN: TryLater,
    Fault.SLOW: TimedOutError,
    Fault.DRIP: TimedOutError,
    Fault.XML_REFUSAL: SetAside,
}


def test_every_fault_has_an_expected_error() -> None:
    assert set(Fault) == set(ERRORS)


@pytest.mark.parametrize("account", [QUICK, QUICK | {"format": "xml"}], indirect=True, ids=["json", "xml"])
@pytest.mark.parametrize("fault", ERRORS)
def test_a_bad_reply_raises_the_right_error_and_the_next_is_read(account: Account, fault: Fault) -> None:
    for ask in (lambda: account.list_all("items"), lambda: account.fetch("items", "1012")):
        account.sandbox.faults.append(fault)
        with pytest.raises(VendorError) as raised:
            ask()
        assert ERRORS[fault] is type(raised.value)
    assert len(account.sandbox.truth("items")) == len(account.list_all("items").objects)


def test_retry_after_is_passed_on(account: Account) -> None:
    account.sandbox.faults.append(Fault.BUSY)
    with pytest.raises(TryLater) as raised:
        account.list_all("items")
    assert timedelta(seconds=1) == raised.value.after


def test_requests_above_the_rate_limit_are_refused_for_a_minute(account: Account) -> None:
    account.sandbox.per_minute = 2
    account.list_all("items")
    account.list_all("items")
    with pytest.raises(TryLater, match=r"429.*Rate limit"):
        account.list_all("items")
    account.clock.advance(minutes=1)
    account.list_all("items")


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (sandbox.NOT_ENABLED, "HTTP 400: API_NOT_ENABLED: API not enabled"),
        (sandbox.FORBIDDEN, "HTTP 403: FORBIDDEN: API key lacks required permissions"),
        (sandbox.NOT_FOUND, "HTTP 404: NOT_FOUND: Resource or endpoint not found"),
    ],
)
def test_a_resource_that_the_key_may_not_read_is_parked_whole(
    account: Account, refusal: sandbox.Refusal, text: str
) -> None:
    account.sandbox.refused["orders"] = refusal
    with pytest.raises(SetAside) as raised:
        account.list_all("orders")
    assert raised.value.whole_resource
    assert text == str(raised.value)
    assert account.list_all("items").end.complete


def test_the_error_for_a_wrong_key_does_not_contain_it(account: Account) -> None:
    wrong_key = client(account.url, api_key="my-secret-key")
    with pytest.raises(SetAside, match="HTTP 401: INVALID_API_KEY") as raised:
        wrong_key.check()
    assert "my-secret-key" not in str(raised.value)
    wrong_key.close()


def test_a_revoked_key_parks_the_whole_resource(account: Account) -> None:
    account.sandbox.key = "a new key"
    with pytest.raises(SetAside, match="HTTP 401: INVALID_API_KEY") as raised:
        account.fetch("items", "1012")
    assert raised.value.whole_resource


def test_a_refused_filter_raises_set_aside(account: Account) -> None:
    with pytest.raises(SetAside, match="HTTP 400: BAD_REQUEST: Invalid date") as raised:
        account.client.ask(["items", "ts=>2026-13-01"])
    assert not raised.value.whole_resource


@pytest.mark.parametrize("raw", [[1, {"code": "1"}], [None, {"code": "1"}]])
def test_an_element_that_is_not_an_object_is_unreadable_and_others_are_kept(account: Account, raw: list[Any]) -> None:
    account.sandbox.books.tables["items"] = raw
    listing = account.list_all("items")
    assert {"1": {"code": "1"}} == listing.objects
    (unreadable,) = [each for chunk in listing.chunks for each in chunk.unreadable]
    assert {"value": raw[0]} == unreadable.raw
