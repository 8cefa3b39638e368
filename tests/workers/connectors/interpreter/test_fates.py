from __future__ import annotations

import socket
import threading
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from tests.serving import served
from tests.workers.connectors.interpreter.conftest import Store, client, document, resource
from workers.connectors.interpreter.sandbox import Fault
from workers.errors import Fate, SetAside, TimedOut, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUICK = {"timeout": timedelta(seconds=2)}
NOT_TAKEN = {
    Fault.BUSY: timedelta(seconds=1),
    Fault.BUSY_WITHOUT_A_WORD: None,
    Fault.BUSY_INSIDE: timedelta(seconds=7),
    Fault.BUSY_INSIDE_WITHOUT_A_WORD: None,
}
REFUSED = {
    Fault.COMMON: (False, "900101 Something went wrong on the server; look at the document"),
    Fault.NO_SUPPLIER: (False, "909001 Supplier not found; add the document's supplier in Lagerkoll"),
    Fault.NO_ORDER: (False, "909002 Purchase order not found; hand the document in once more with an order"),
    Fault.NOT_ENABLED: (True, "909003 Feature interpreter missing; have the Interpreter activated"),
}
DOUBTFUL = {
    Fault.HTML: "not JSON: <!DOCTYPE html>",
    Fault.BROKEN: "HTTP 500 Internal Server Error",
    Fault.GATEWAY: "HTTP 502 <!DOCTYPE html>",
    Fault.HALF: 'not JSON: {"id":1003',
    Fault.TORN: "without sending complete message body",
    Fault.EMPTY: "not JSON",
    Fault.SCALAR: "no order: 42",
    Fault.NOTHING: "no order: {}",
    Fault.SLOW: "no answer within 2 s",
}


def test_every_fault_has_its_fate() -> None:
    assert set(Fault) == {*NOT_TAKEN, *REFUSED, *DOUBTFUL}


@pytest.mark.parametrize("fault", NOT_TAKEN)
def test_what_the_vendor_did_not_take_is_tried_later(store: Store, fault: Fault) -> None:
    store.sandbox.faults.append(fault)
    with pytest.raises(TryLater, match="Too many requests") as raised:
        store.interpret()
    assert (NOT_TAKEN[fault], True) == (raised.value.after, raised.value.refused)
    assert 0 == store.sandbox.calls[document().sha256]
    store.interpret()
    assert 1 == store.sandbox.calls[document().sha256]


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500, 503])
@pytest.mark.parametrize("fault", REFUSED)
def test_a_refusal_is_set_aside_in_the_vendors_words_whatever_its_status(
    store: Store, fault: Fault, status: int
) -> None:
    store.sandbox.error_status = status
    store.sandbox.faults.append(fault)
    with pytest.raises(SetAside) as raised:
        store.interpret()
    whole, words = REFUSED[fault]
    assert whole is raised.value.whole_resource
    assert str(raised.value).startswith(words)


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_a_wrong_login_is_set_aside_for_the_whole_resource(store: Store, status: int) -> None:
    store.sandbox.error_status = status
    with store.other(api_key="wrong") as stranger, pytest.raises(SetAside, match="900001 Credentials") as raised:
        stranger.interpret(resource(), document())
    assert raised.value.whole_resource
    assert "check store and api_key" in str(raised.value)
    assert [] == store.sandbox.uploads


def test_an_order_that_nobody_knows_is_told_by_the_vendor(store: Store) -> None:
    with pytest.raises(SetAside, match="909002 Purchase order not found"):
        store.interpret(document(order_id="4711"))


@pytest.mark.parametrize("store", [QUICK], indirect=True)
@pytest.mark.parametrize("fault", DOUBTFUL)
def test_what_may_have_been_done_is_not_called_refused_and_nobody_is_to_follow(store: Store, fault: Fault) -> None:
    store.sandbox.faults.append(fault)
    with pytest.raises(TryLater) as raised:
        store.interpret()
    assert DOUBTFUL[fault] in str(raised.value)
    assert (False, True) == (raised.value.refused, raised.value.shuts_gate)
    assert (1, {}) == (store.sandbox.calls[document().sha256], store.sandbox.truth("deliverynote"))


@pytest.mark.parametrize("store", [QUICK], indirect=True)
def test_what_a_person_sends_again_is_answered_as_before(store: Store) -> None:
    store.sandbox.faults.append(Fault.SLOW)
    with pytest.raises(TimedOut):
        store.interpret()
    snapshot = store.interpret()
    assert {snapshot.key: snapshot.raw} == store.sandbox.truth("deliverynote")
    assert 2 == store.sandbox.calls[snapshot.key]


def test_a_call_that_nobody_answers_is_tried_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    nobody = client(f"http://127.0.0.1:{port}")
    with pytest.raises(TryLater) as raised:
        nobody.interpret(resource(), document())
    assert raised.value.refused
    nobody.close()


@contextmanager
def _line(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server of one connection, which does this with it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def take() -> None:
            connection, _ = listener.accept()
            with connection:
                answer(connection)

        thread = threading.Thread(target=take, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)


def _read_all(connection: socket.socket) -> None:
    read = b""
    while b"%%EOF" not in read:
        read += connection.recv(65536)


def _hang_up(connection: socket.socket) -> None:
    _read_all(connection)


def _hang_up_early(connection: socket.socket) -> None:
    connection.recv(10)


def _babble(connection: socket.socket) -> None:
    _read_all(connection)
    connection.sendall(b"this is no HTTP\r\n\r\n")


def _stop_in_the_headers(connection: socket.socket) -> None:
    _read_all(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: appl")


def _break_off_a_breakdown(connection: socket.socket) -> None:
    _read_all(connection)
    connection.sendall(b"HTTP/1.1 500 Oh\r\nContent-Length: 1000\r\n\r\n{")


@pytest.mark.parametrize("answer", [_hang_up, _hang_up_early, _babble, _stop_in_the_headers, _break_off_a_breakdown])
def test_a_connection_that_is_lost_after_the_call_leaves_a_doubt(answer: Callable[[socket.socket], None]) -> None:
    with _line(answer) as url:
        cut_off = client(url)
        with pytest.raises(TryLater) as raised:
            cut_off.interpret(resource(), document())
        cut_off.close()
    assert (False, True) == (raised.value.refused, raised.value.shuts_gate)


@contextmanager
def _answering(response: Callable[[Request], Response]) -> Iterator[Any]:
    """A client of somebody who answers everything so."""

    async def answer(request: Request) -> Response:
        await request.body()
        return response(request)

    with served(Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])) as url:
        made = client(url)
        yield made
        made.close()


@pytest.mark.parametrize(
    "body",
    [
        '{"ERRORCODE": "909001", "ErrorMessage": "Supplier not found"}',
        '{"errorcode": 909001, "errormessage": "Supplier not found", "errorField": null}',
    ],
)
def test_an_error_is_read_in_any_case(body: str) -> None:
    with (
        _answering(lambda _: Response(body)) as made,
        pytest.raises(SetAside, match=r"^909001 Supplier not found; add the document's supplier"),
    ):
        made.interpret(resource(), document())


def test_an_error_that_is_not_documented_is_told_in_the_vendors_words() -> None:
    said = '{"errorCode": 909004, "errorMessage": "Too blurred", "errorField": "file"}'
    with (
        _answering(lambda _: Response(said, 422)) as made,
        pytest.raises(SetAside, match=r"^909004 Too blurred \(file\); .*`erpmirror parked retry`"),
    ):
        made.interpret(resource(), document())


@pytest.mark.parametrize("code", ["null", "0", '""'])
def test_an_error_code_that_says_nothing_is_none(code: str) -> None:
    with _answering(lambda _: Response(f'{{"id": 7, "errorCode": {code}}}')) as made:
        assert 7 == made.interpret(resource(), document()).raw["id"]


@pytest.mark.parametrize("status", [403, 404, 405, 413, 503])
def test_a_strangers_page_under_any_status_leaves_a_doubt(status: int) -> None:
    with (
        _answering(lambda _: Response("<html>No</html>", status, {"Retry-After": "5"})) as made,
        pytest.raises(TryLater, match=rf"HTTP {status} <html>No</html>") as raised,
    ):
        made.interpret(resource(), document())
    assert not raised.value.refused


def test_a_redirection_is_not_followed_with_a_document() -> None:
    with (
        _answering(lambda _: RedirectResponse("/elsewhere")) as made,
        pytest.raises(SetAside, match="set `url` to where this leads"),
    ):
        made.interpret(resource(), document())


@pytest.mark.parametrize("status", [200, 400, 403, 429, 500])
@pytest.mark.parametrize("page", ["<p>{}</p>", '{{"errorCode": 900101, "errorMessage": "{}"}}'])
def test_no_secret_is_in_an_error_even_if_a_stranger_repeats_it(page: str, status: int) -> None:
    before: list[str] = []

    def echo(request: Request) -> Response:
        said = f"{before[-1]}{request.headers['api_key']} for {request.headers['store']}"
        return Response(page.format(said), status)

    with _answering(echo) as made:
        for length in range(0, 200, 4):  # the words of an error are cut somewhere
            before.append("x" * length)
            for ask in (lambda: made.interpret(resource(), document()), made.check):
                with pytest.raises(Fate) as raised:
                    ask()
                assert "sandb" not in str(raised.value)


def test_no_secret_is_in_a_repr_of_what_goes_wrong(store: Store) -> None:
    with store.other(api_key="my-secret-key") as stranger:
        for ask in (lambda: stranger.interpret(resource(), document()), stranger.check):
            with pytest.raises(SetAside) as raised:
                ask()
            assert "my-secret-key" not in repr(raised.value)
        assert "my-secret-key" not in repr(stranger)
    assert "%PDF" not in repr(document())
