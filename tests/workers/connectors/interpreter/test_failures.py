"""How each failure of an upload is classified: not processed, refused, or unclear."""

from __future__ import annotations

import re
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
from workers.errors import SetAside, TimedOutError, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUICK = {"timeout": timedelta(seconds=2)}
NOT_PROCESSED = {
    Fault.BUSY: timedelta(seconds=1),
    Fault.BUSY_WITHOUT_RETRY_AFTER: None,
    Fault.LIMIT_CODE: timedelta(seconds=7),
    Fault.LIMIT_CODE_WITHOUT_RETRY_AFTER: None,
}
REFUSED = {
    Fault.COMMON: (False, "900101 Something went wrong on the server; check the document"),
    Fault.NO_SUPPLIER: (False, "909001 Supplier not found; add the document's supplier in Lagerkoll"),
    Fault.NO_ORDER: (False, "909002 Purchase order not found; hand the document in again with an order"),
    Fault.NOT_ENABLED: (True, "909003 Feature interpreter missing; activate the Interpreter"),
}
UNCLEAR = {
    Fault.HTML: "not JSON: Underhåll",
    Fault.BROKEN: "HTTP 500 Internal Server Error",
    Fault.GATEWAY: "HTTP 502 Underhåll",
    Fault.HALF: "not JSON: [0-9]+ bytes of what begins like JSON",
    Fault.TORN: "without sending complete message body",
    Fault.EMPTY: "not JSON",
    Fault.SCALAR: "not an order: 2 bytes of text",
    Fault.NOTHING: "not an order: 2 bytes of what begins like JSON",
    Fault.SLOW: "no answer within 2 s",
}


def test_every_fault_is_tested() -> None:
    assert set(Fault) == {*NOT_PROCESSED, *REFUSED, *UNCLEAR}


@pytest.mark.parametrize("fault", NOT_PROCESSED)
def test_a_document_that_was_not_processed_is_tried_later(store: Store, fault: Fault) -> None:
    store.sandbox.faults.append(fault)
    with pytest.raises(TryLater, match="Too many requests") as raised:
        store.interpret()
    assert (NOT_PROCESSED[fault], True) == (raised.value.after, raised.value.refused)
    assert 0 == store.sandbox.calls[document().sha256]
    store.interpret()
    assert 1 == store.sandbox.calls[document().sha256]


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500, 503])
@pytest.mark.parametrize("fault", REFUSED)
def test_a_refusal_is_set_aside_with_the_vendors_message_whatever_its_status(
    store: Store, fault: Fault, status: int
) -> None:
    store.sandbox.error_status = status
    store.sandbox.faults.append(fault)
    with pytest.raises(SetAside) as raised:
        store.interpret()
    whole, message = REFUSED[fault]
    assert whole is raised.value.whole_resource
    assert str(raised.value).startswith(message)


@pytest.mark.parametrize("status", [200, 400, 401, 500])
def test_a_wrong_login_is_set_aside_for_the_whole_resource(store: Store, status: int) -> None:
    store.sandbox.error_status = status
    with store.other(api_key="wrong") as wrong_client, pytest.raises(SetAside, match="900001 Credentials") as raised:
        wrong_client.interpret(resource(), document())
    assert raised.value.whole_resource
    assert "check `store` and `api_key`" in str(raised.value)
    assert [] == store.sandbox.uploads


def test_an_unknown_order_is_refused_by_the_vendor(store: Store) -> None:
    with pytest.raises(SetAside, match="909002 Purchase order not found"):
        store.interpret(document(order_id="4711"))


@pytest.mark.parametrize("store", [QUICK], indirect=True)
@pytest.mark.parametrize("fault", UNCLEAR)
def test_an_unclear_outcome_is_not_refused_and_closes_the_gate(store: Store, fault: Fault) -> None:
    store.sandbox.faults.append(fault)
    with pytest.raises(TryLater) as raised:
        store.interpret()
    assert re.search(UNCLEAR[fault], str(raised.value))
    assert (False, True) == (raised.value.refused, raised.value.closes_gate)
    assert (1, {}) == (store.sandbox.calls[document().sha256], store.sandbox.truth("deliverynote"))


@pytest.mark.parametrize("store", [QUICK], indirect=True)
def test_a_document_sent_again_gets_the_same_answer(store: Store) -> None:
    store.sandbox.faults.append(Fault.SLOW)
    with pytest.raises(TimedOutError):
        store.interpret()
    snapshot = store.interpret()
    assert {snapshot.key: snapshot.raw} == store.sandbox.truth("deliverynote")
    assert 2 == store.sandbox.calls[snapshot.key]


def test_a_refused_connection_is_tried_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    unreachable = client(f"http://127.0.0.1:{port}")
    with pytest.raises(TryLater) as raised:
        unreachable.interpret(resource(), document())
    assert raised.value.refused
    unreachable.close()


@contextmanager
def _socket_server(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that accepts one connection and lets `answer` handle it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            peer, _ = listener.accept()
            with peer:
                answer(peer)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)


def _read_all(peer: socket.socket) -> None:
    read = b""
    while b"%%EOF" not in read:
        read += peer.recv(65536)


def _close(peer: socket.socket) -> None:
    _read_all(peer)


def _close_early(peer: socket.socket) -> None:
    peer.recv(10)


def _send_garbage(peer: socket.socket) -> None:
    _read_all(peer)
    peer.sendall(b"this is not HTTP\r\n\r\n")


def _close_in_the_headers(peer: socket.socket) -> None:
    _read_all(peer)
    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: appl")


def _close_in_an_error(peer: socket.socket) -> None:
    _read_all(peer)
    peer.sendall(b"HTTP/1.1 500 Oh\r\nContent-Length: 1000\r\n\r\n{")


@pytest.mark.parametrize("answer", [_close, _close_early, _send_garbage, _close_in_the_headers, _close_in_an_error])
def test_a_connection_that_is_lost_after_the_request_is_unclear(answer: Callable[[socket.socket], None]) -> None:
    with _socket_server(answer) as url:
        opened = client(url)
        with pytest.raises(TryLater) as raised:
            opened.interpret(resource(), document())
        opened.close()
    assert (False, True) == (raised.value.refused, raised.value.closes_gate)


@contextmanager
def _responding(response: Callable[[Request], Response]) -> Iterator[Any]:
    """A client of a server that answers every request with `response`."""

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
def test_the_field_names_of_an_error_may_have_any_case(body: str) -> None:
    with (
        _responding(lambda _: Response(body)) as made,
        pytest.raises(SetAside, match=r"^909001 Supplier not found; add the document's supplier"),
    ):
        made.interpret(resource(), document())


def test_an_undocumented_error_has_the_vendors_message() -> None:
    body = '{"errorCode": 909004, "errorMessage": "Too blurred", "errorField": "file"}'
    with (
        _responding(lambda _: Response(body, 422)) as made,
        pytest.raises(SetAside, match=r"^909004 Too blurred \(file\); .*`erpmirror parked retry CONNECTION`"),
    ):
        made.interpret(resource(), document())


@pytest.mark.parametrize("code", ["null", "0", '""'])
def test_an_empty_error_code_is_no_error(code: str) -> None:
    with _responding(lambda _: Response(f'{{"id": 7, "errorCode": {code}}}')) as made:
        assert 7 == made.interpret(resource(), document()).raw["id"]


@pytest.mark.parametrize("status", [403, 404, 405, 413, 503])
def test_a_page_of_another_server_is_unclear_whatever_its_status(status: int) -> None:
    with (
        _responding(lambda _: Response("<html>No</html>", status, {"Retry-After": "5"})) as made,
        pytest.raises(TryLater, match=rf"HTTP {status} 15 bytes of HTML") as raised,
    ):
        made.interpret(resource(), document())
    assert not raised.value.refused


def test_a_redirect_is_not_followed() -> None:
    with (
        _responding(lambda _: RedirectResponse("/elsewhere")) as made,
        pytest.raises(TryLater, match="set `url` to the address that it redirects to"),
    ):
        made.interpret(resource(), document())


@pytest.mark.parametrize("status", [200, 400, 403, 429, 500])
@pytest.mark.parametrize("page", ["<title>{}</title>", "{}", '{{"errorCode": 900101, "errorMessage": "{}"}}'])
def test_no_secret_is_in_an_error_even_if_the_server_echoes_it(page: str, status: int) -> None:
    before: list[str] = []

    def echo(request: Request) -> Response:
        body = f"{before[-1]}{request.headers['api_key']} for {request.headers['store']}"
        return Response(page.format(body), status)

    with _responding(echo) as made:
        for length in range(0, 200, 4):  # an excerpt is cut at some length
            before.append("x" * length)
            for ask in (lambda: made.interpret(resource(), document()), made.check):
                with pytest.raises(VendorError) as raised:
                    ask()
                assert "sandb" not in str(raised.value)


def test_no_secret_is_in_the_repr_of_an_error(store: Store) -> None:
    with store.other(api_key="my-secret-key") as wrong_client:
        for ask in (lambda: wrong_client.interpret(resource(), document()), wrong_client.check):
            with pytest.raises(SetAside) as raised:
                ask()
            assert "my-secret-key" not in repr(raised.value)
        assert "my-secret-key" not in repr(wrong_client)
    assert "%PDF" not in repr(document())
