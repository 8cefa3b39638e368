from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models.values import Tombstone
from tests.serving import served
from tests.workers.connectors.easyflor.conftest import Account, options
from workers.connectors import contract
from workers.connectors.easyflor import resources
from workers.connectors.easyflor.client import Client
from workers.connectors.easyflor.sandbox import Fault
from workers.errors import Fate, SetAside, TimedOut, TryLater

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

QUICK = {"timeout": timedelta(seconds=1.5)}
FATES: dict[Fault, type[Fate]] = {
    Fault.HTML: TryLater,
    Fault.HALF: TryLater,
    Fault.DRIP: TimedOut,
    Fault.EMPTY: TryLater,
    Fault.SCALAR: SetAside,
    Fault.NULL: SetAside,
    Fault.OBJECT: SetAside,
    Fault.BUSY: TryLater,
    Fault.BROKEN: TryLater,
    Fault.SLOW: TimedOut,
    Fault.MALFORMED: SetAside,
    Fault.REFUSED: SetAside,
}


def test_every_fault_but_a_single_401_has_its_fate() -> None:
    assert set(Fault) - {Fault.UNAUTHORIZED} == set(FATES)


@pytest.mark.parametrize("account", [QUICK], indirect=True)
@pytest.mark.parametrize("fault", FATES)
def test_a_bad_answer_is_sorted_by_fate_and_the_next_one_is_read(account: Account, fault: Fault) -> None:
    account.client.check()
    for ask in (lambda: account.read("debtor"), lambda: account.fetch("debtor", "417")):
        account.sandbox.faults.append(fault)
        with pytest.raises(Fate) as raised:
            ask()
        assert issubclass(type(raised.value), FATES[fault])
        assert (FATES[fault] is TimedOut) == isinstance(raised.value, TimedOut)
    assert len(account.sandbox.truth("debtor")) == len(account.read("debtor").objects)


@contextmanager
def answering(body: str, status: int = 200) -> Iterator[Client]:
    """A client of a vendor who says this to everything but a login."""

    def answer(request: Request) -> Response:
        if request.method == "POST":
            return JSONResponse({"Token": "my-token", "Expiration": "2099-01-01T00:00:00Z"})
        return Response(body, status, media_type="application/json")

    with served(Starlette(routes=[Route("/api/{path:path}", answer, methods=["GET", "POST"])])) as url:
        client = Client(options(url), contract.alone())
        try:
            yield client
        finally:
            client.close()


@pytest.mark.parametrize(
    "body",
    [
        '{"Password":"c2VjcmV0","Id":417',
        '[{"Password":"c2VjcmV0","Id":417',
        '[{"Password":"c2VjcmV0","Id":417}] trailing "c2VjcmV0"',
        '[{"Password":"c2VjcmV0","Id":NaN}]',
        '{"Password":"c2VjcmV0"}',
        '["c2VjcmV0"',
        '"c2VjcmV0"',
        '"c2VjcmV0',
    ],
)
def test_no_error_repeats_what_an_answer_holds(body: str) -> None:
    debtor = resources.resources(options())[0]
    with answering(body) as client:
        for ask in (
            lambda: list(client.list(debtor, None)),
            lambda: client.fetch(debtor, "417"),
            lambda: client.probe(debtor),
        ):
            try:
                shown = repr(ask())
            except Fate as fate:
                shown = str(fate)
            assert "c2VjcmV0" not in shown


@pytest.mark.parametrize("error", ["DocumentNotFound", "ArgumentNotFound", "documentnotfound"])
def test_only_the_vendors_own_word_of_a_missing_object_is_a_tombstone(error: str) -> None:
    debtor = resources.resources(options())[0]
    said = f'{{"error": "{error}", "message": "Document debtors/9 not found"}}'
    with answering(said, 400) as client:
        assert Tombstone("9") == client.fetch(debtor, "9")
    for status in (401, 403, 404):
        with answering(said, status) as client, pytest.raises(SetAside, match=f"HTTP {status}") as raised:
            client.fetch(debtor, "9")
        assert raised.value.whole_resource


@pytest.mark.parametrize("status", [400, 401, 404])
def test_no_error_repeats_a_password_or_a_token_that_the_vendor_sends_back(status: int) -> None:
    said = '{"error": "Refused", "message": "my-token of wouldntyouliketoknow is bad"}'
    with answering(said, status) as client, pytest.raises(SetAside, match=r"\*\*\* of \*\*\* is bad"):
        client.check()


def test_what_the_vendor_says_of_waiting_is_passed_on(account: Account) -> None:
    account.sandbox.faults.append(Fault.BUSY)
    with pytest.raises(TryLater) as raised:
        account.read("debtor")
    assert timedelta(seconds=1) == raised.value.after


def test_a_refusal_is_told_in_the_vendors_words(account: Account) -> None:
    account.sandbox.faults.append(Fault.MALFORMED)
    with pytest.raises(SetAside, match="HTTP 400: NoOrInvalidJson: No or invalid JSON"):
        account.fetch("debtor", "417")


def test_an_address_that_does_not_exist_sets_its_resource_aside_whole(account: Account) -> None:
    del account.sandbox.books.tables["country"]
    with pytest.raises(SetAside, match="HTTP 404: NotFound: No such command") as raised:
        account.read("country")
    assert raised.value.whole_resource
    assert account.read("debtor").end.complete


def test_a_server_that_fails_is_tried_later_in_its_own_words(account: Account) -> None:
    account.sandbox.faults.append(Fault.BROKEN)
    with pytest.raises(TryLater, match="not fetched"):
        account.fetch("debtor", "417")


def test_a_refused_tick_is_asked_once_more_and_no_oftener(account: Account) -> None:
    cursor = account.read("debtor").end.cursor
    account.sandbox.asked.clear()
    account.sandbox.faults.extend([Fault.REFUSED] * 3)
    with pytest.raises(SetAside, match="NoOrInvalidRequest"):
        account.read("debtor", cursor)
    assert 2 == len(account.sandbox.asked)
