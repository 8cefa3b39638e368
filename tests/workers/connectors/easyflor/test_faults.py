from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from models.values import Snapshot, Tombstone
from tests.serving import served
from tests.workers.connectors.easyflor.conftest import Account, options
from tests.workers.connectors.easyflor.test_auth import SessionBox
from workers.connectors import contract
from workers.connectors.easyflor import resources
from workers.connectors.easyflor.client import Client
from workers.connectors.easyflor.sandbox import Fault
from workers.errors import SetAside, TimedOutError, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.requests import Request

QUICK = {"timeout": timedelta(seconds=1.5)}
ERRORS: dict[Fault, type[VendorError]] = {
    Fault.HTML: TryLater,
    Fault.HALF: TryLater,
    Fault.DRIP: TimedOutError,
    Fault.EMPTY: TryLater,
    Fault.SCALAR: TryLater,
    Fault.NULL: TryLater,
    Fault.OBJECT: TryLater,
    Fault.BUSY: TryLater,
    Fault.BROKEN: TryLater,
    Fault.SLOW: TimedOutError,
    Fault.MALFORMED: SetAside,
    Fault.REFUSED: SetAside,
}


def test_every_fault_but_a_single_401_has_an_expected_error() -> None:
    assert set(Fault) - {Fault.UNAUTHORIZED} == set(ERRORS)


@pytest.mark.parametrize("account", [QUICK], indirect=True)
@pytest.mark.parametrize("fault", ERRORS)
def test_a_bad_reply_raises_the_right_error_and_the_next_is_read(account: Account, fault: Fault) -> None:
    account.client.check()
    for ask in (lambda: account.list_all("debtor"), lambda: account.fetch("debtor", "417")):
        account.sandbox.faults.append(fault)
        with pytest.raises(VendorError) as raised:
            ask()
        assert issubclass(type(raised.value), ERRORS[fault])
        assert (ERRORS[fault] is TimedOutError) == isinstance(raised.value, TimedOutError)
    assert len(account.sandbox.truth("debtor")) == len(account.list_all("debtor").objects)


@contextmanager
def answering(
    body: str,
    status: int = 200,
    *,
    expiration: str = "2099-01-01T00:00:00Z",
    logins: list[str] | None = None,
    runtime: contract.ClientRuntime | None = None,
) -> Iterator[Client]:
    """A client of an app that answers all but logins with `body`. `logins`: receives the path of each login."""

    def answer(request: Request) -> Response:
        if request.method == "POST":
            if logins is not None:
                logins.append(request.path_params["path"])
            return JSONResponse({"Token": "my-token", "Expiration": expiration})
        return Response(body, status, media_type="application/json")

    with served(Starlette(routes=[Route("/api/{path:path}", answer, methods=["GET", "POST"])])) as url:
        client = Client(options(url), runtime or contract.standalone())
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
def test_no_error_contains_values_of_a_reply(body: str) -> None:
    debtor = resources.resources(options())[0]
    with answering(body) as client:
        for ask in (
            lambda: list(client.list(debtor, None)),
            lambda: client.fetch(debtor, "417"),
            lambda: client.probe(debtor),
        ):
            try:
                result = repr(ask())
            except VendorError as error:
                result = str(error)
            assert "c2VjcmV0" not in result


@pytest.mark.parametrize("error", ["DocumentNotFound", "ArgumentNotFound", "documentnotfound"])
def test_only_a_400_with_the_right_error_is_a_tombstone(error: str) -> None:
    debtor = resources.resources(options())[0]
    body = f'{{"error": "{error}", "message": "Document debtors/9 not found"}}'
    with answering(body, 400) as client:
        assert Tombstone("9") == client.fetch(debtor, "9")
    for status in (401, 403, 404):
        with answering(body, status) as client, pytest.raises(SetAside, match=f"HTTP {status}"):
            client.fetch(debtor, "9")


@pytest.mark.parametrize(("status", "whole"), [(401, True), (403, True), (404, False), (410, False)])
def test_an_unexpected_status_of_a_point_read_parks_only_that_object(status: int, *, whole: bool) -> None:
    debtor = resources.resources(options())[0]
    body = '{"error": "Refused", "message": "no"}'
    with answering(body, status) as client, pytest.raises(SetAside) as raised:
        client.fetch(debtor, "9")
    assert whole == raised.value.whole_resource


@pytest.mark.parametrize("status", [204, 400, 401, 403, 404])
@pytest.mark.parametrize("body", ["", "<html><h1>Forbidden</h1></html>", "no such page", "{}", "[]", '"no"'])
def test_a_status_that_easyflor_did_not_write_refuses_nothing(status: int, body: str) -> None:
    debtor = resources.resources(options())[0]
    with answering("" if status == 204 else body, status) as client:
        for ask in (lambda: client.fetch(debtor, "9"), lambda: list(client.list(debtor, None))):
            with pytest.raises(TryLater) as raised:
                ask()
            assert not raised.value.closes_gate


ECHO = '{"error": "Refused", "message": "my-token of wouldntyouliketoknow is bad"}'


@pytest.mark.parametrize("status", [200, 400, 401, 404, 429, 500])
@pytest.mark.parametrize("body", [ECHO, "<title>my-token of wouldntyouliketoknow is bad</title>"], ids=["json", "html"])
def test_no_error_contains_a_password_or_token_from_the_reply(status: int, body: str) -> None:
    debtor = resources.resources(options())[0]
    with answering(body, status) as client:
        for ask in (client.check, lambda: list(client.list(debtor, None))):
            with pytest.raises(VendorError, match=r"\*\*\* of \*\*\* is bad"):
                ask()
        with pytest.raises(VendorError) as raised:
            client.fetch(debtor, "9")
    assert "my-token" not in str(raised.value)
    assert "wouldntyouliketoknow" not in str(raised.value)


@pytest.mark.parametrize(
    "expiration", ["0001-01-01T00:00:00", "2020-01-01T00:00:00Z", "9999-12-31T23:59:59.9999999Z", "soon"]
)
def test_a_token_with_an_unreadable_expiration_is_used(expiration: str) -> None:
    debtor, logins = resources.resources(options())[0], list[str]()
    with answering('[{"Id": 9}]', expiration=expiration, logins=logins) as client:
        assert [Snapshot("9", {"Id": 9})] * 3 == [client.fetch(debtor, "9") for _ in range(3)]
    assert ["authorizationtoken"] == logins


@pytest.mark.parametrize("form", ["/Date({milliseconds})/", "{iso}.0000000Z", "{iso}.0000000 +00:00"])
def test_a_tokens_expiration_is_read_in_every_notation_of_dotnet(form: str) -> None:
    box, soon = SessionBox(), datetime.now(UTC) + timedelta(hours=10)
    iso, milliseconds = soon.isoformat(timespec="seconds")[:19], int(soon.timestamp() * 1000)
    expiration = form.format(iso=iso, milliseconds=milliseconds)
    with answering('[{"Id": 9}]', expiration=expiration, runtime=box.runtime()) as client:
        client.fetch(resources.resources(options())[0], "9")
    assert box.until > box.now + timedelta(hours=9)  # without an expiration, half an hour


@pytest.mark.parametrize("before", [*("x" * length for length in range(180, 200, 3)), "x" + " " * 790])
def test_an_error_cut_off_within_a_secret_shows_no_part_of_it(before: str) -> None:
    with answering(before + "wouldntyouliketoknow", 500) as client, pytest.raises(TryLater) as raised:
        client.check()
    assert "xwo" not in str(raised.value).replace(" ", "")


def test_retry_after_is_passed_on(account: Account) -> None:
    account.sandbox.faults.append(Fault.BUSY)
    with pytest.raises(TryLater) as raised:
        account.list_all("debtor")
    assert timedelta(seconds=1) == raised.value.after


def test_the_error_for_a_refusal_contains_easyflors_text(account: Account) -> None:
    account.sandbox.faults.append(Fault.MALFORMED)
    with pytest.raises(SetAside, match="HTTP 400: NoOrInvalidJson: No or invalid JSON"):
        account.fetch("debtor", "417")


def test_an_unknown_address_parks_the_whole_resource(account: Account) -> None:
    del account.sandbox.books.tables["country"]
    with pytest.raises(SetAside, match="HTTP 404: NotFound: No such command") as raised:
        account.list_all("country")
    assert raised.value.whole_resource
    assert account.list_all("debtor").end.complete


def test_a_server_error_raises_try_later_with_its_text(account: Account) -> None:
    account.sandbox.faults.append(Fault.BROKEN)
    with pytest.raises(TryLater, match="not fetched"):
        account.fetch("debtor", "417")


def test_a_refused_poll_is_retried_once_in_the_other_form(account: Account) -> None:
    cursor = account.list_all("debtor").end.cursor
    account.sandbox.requests.clear()
    account.sandbox.faults.extend([Fault.REFUSED] * 3)
    with pytest.raises(SetAside, match="NoOrInvalidRequest"):
        account.list_all("debtor", cursor)
    assert 2 == len(account.sandbox.requests)
