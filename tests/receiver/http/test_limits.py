"""Slow, many and huge requests over real sockets. The receiver's limits are short; those of the tests end hangs."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from receiver.http import multipart, server
from receiver.http.errors import HANDLERS
from receiver.webhooks import payload
from tests.receiver.http import tcp
from tests.serving import served

if TYPE_CHECKING:
    from starlette.requests import Request

    from models.db.database import Database

# Slow


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /livez HTTP/1.1\r\nHost: loc", tcp.ALIVE + b"GET /li"])
def test_a_connection_that_is_not_used_is_closed(limited: tcp.OpenLimited, sent: bytes) -> None:
    with limited(timeout_keep_alive=60) as address, address.connect() as sock:
        sock.sendall(sent)
        assert tcp.closed(sock)


@pytest.mark.parametrize(
    ("opening", "chunk"),
    [
        (b"", b"G"),
        (b"GET /livez HTTP/1.1\r\n", b"X-Slow: 1\r\n"),
        (tcp.ALIVE + b"GET /livez HTTP/1.1\r\n", b"X-Slow: 1\r\n"),
        # Answered already, while the body goes on.
        (b"POST /livez HTTP/1.1\r\n" + tcp.HOST + tcp.CHUNKED, b"1\r\na\r\n"),
        (b"GET /hooks/shop HTTP/1.1\r\n" + tcp.HOST + b"Content-Length: 10000000\r\n\r\n", b"a"),
    ],
)
def test_a_slow_head_or_an_unwanted_slow_body_is_cut_off(
    limited: tcp.OpenLimited, opening: bytes, chunk: bytes
) -> None:
    with limited() as address, address.connect() as sock:
        sock.sendall(opening)
        assert tcp.flood(sock, chunk, pause=0.05)
        assert address.alive()


def test_an_endless_unwanted_body_is_cut_off_at_full_speed_too(limited: tcp.OpenLimited) -> None:
    with limited() as address, address.connect() as sock:
        sock.sendall(b"POST /livez HTTP/1.1\r\n" + tcp.HOST + tcp.CHUNKED)
        assert tcp.flood(sock, b"8000\r\n" + b"a" * 0x8000 + b"\r\n", pause=0.01)


def test_responses_that_are_not_read_are_not_kept(limited: tcp.OpenLimited) -> None:
    with limited() as address, socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(60)
        sock.connect(address)
        assert tcp.flood(sock, b"GET /openapi.json HTTP/1.1\r\n" + tcp.HOST + b"\r\n", pause=0)
        assert address.alive()


def test_a_connection_that_is_used_stays(limited: tcp.OpenLimited) -> None:
    assert server.OPTIONS["http"] is tcp.ShortLimits.__base__
    with limited() as address, address.connect() as sock:
        until = time.monotonic() + 5 * tcp.ShortLimits.idle_seconds
        while time.monotonic() < until:
            assert tcp.exchange(sock, tcp.ALIVE).startswith(b"HTTP/1.1 200 ")
            time.sleep(tcp.ShortLimits.idle_seconds / 10)


def test_a_connection_whose_request_is_being_handled_stays(limited: tcp.OpenLimited, sqlite: Database) -> None:
    with limited() as address, address.connect() as sock:
        with sqlite.begin():  # SQLite allows one writer, so the poll has to wait
            sock.sendall(b"POST /polls/shop HTTP/1.1\r\n" + tcp.HOST + b"\r\n")
            time.sleep(4 * tcp.ShortLimits.idle_seconds)
        assert sock.recv(65536).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("kind", ["packet", "form"])
def test_a_slow_body_is_408(kind: str) -> None:
    async def packet(request: Request) -> JSONResponse:
        return JSONResponse(await payload.read(request, seconds=0.2))

    async def form(request: Request) -> JSONResponse:
        return JSONResponse(len(await multipart.read(request, largest=10**9, seconds=0.2)))

    routes = [Route("/packet", packet, methods=["POST"]), Route("/form", form, methods=["POST"])]
    with served(Starlette(routes=routes, exception_handlers=HANDLERS), **server.OPTIONS) as url:
        address = tcp.Address(("127.0.0.1", int(url.rpartition(":")[2])))
        with address.connect() as sock:
            head = f"POST /{kind} HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b\r\n".encode()
            sock.sendall(head + tcp.HOST + tcp.CHUNKED + b"5\r\n--b\r\n\r\n")
            sending = threading.Thread(target=tcp.flood, args=[sock, b"1\r\na\r\n"], kwargs={"pause": 0.05})
            sending.start()
            answer = b""
            while chunk := sock.recv(65536):
                answer += chunk
            sending.join()
    assert (408, "too_slow") == tcp.error(answer)


def test_a_webhook_whose_body_stops_half_way_is_not_stored(limited: tcp.OpenLimited, sqlite: Database) -> None:
    with limited() as address, address.connect() as sock:
        sock.sendall(b"POST /hooks/shop HTTP/1.1\r\n" + tcp.HOST + b"Content-Length: 500\r\n\r\n" + tcp.PACKET.encode())
        # The receiver waits as long as a webhook's body may take, and serves others meanwhile.
        assert (408, "too_slow") == tcp.error(tcp.exchange(sock, b""))
        assert address.alive()
    assert 0 == tcp.rows(sqlite)


# Many


def test_a_client_that_opens_many_connections_and_sends_nothing_closes_only_its_own(
    limited: tcp.OpenLimited,
) -> None:
    with limited(http=_without_idle_limit()) as address, ExitStack() as opened:
        idle = [opened.enter_context(address.connect()) for _ in range(3 * tcp.ShortLimits.max_connections)]
        for sock in idle[::2]:
            sock.sendall(b"GET /livez HTTP/1.1\r\n")
        for _ in range(10):
            assert address.alive()
        # The oldest are closed, whether they began a request or not; the newest are open.
        assert all(tcp.closed(sock) for sock in idle[: 2 * tcp.ShortLimits.max_connections])
        idle[-1].sendall(tcp.ALIVE)
        assert idle[-1].recv(65536).startswith(b"HTTP/1.1 200 ")


def test_a_connection_whose_request_is_being_handled_is_not_closed_for_idle_ones(
    limited: tcp.OpenLimited, sqlite: Database
) -> None:
    with limited(http=_without_idle_limit()) as address, ExitStack() as opened:
        with sqlite.begin():  # SQLite allows one writer, so the poll has to wait
            served_one = opened.enter_context(address.connect())
            served_one.sendall(b"POST /polls/shop HTTP/1.1\r\n" + tcp.HOST + b"\r\n")
            assert address.alive()
            for _ in range(3 * tcp.ShortLimits.max_connections):
                opened.enter_context(address.connect())
            assert address.alive()
        assert served_one.recv(65536).startswith(b"HTTP/1.1 202 ")


def _without_idle_limit() -> type[server.LimitedProtocol]:
    """Few connections, and an idle limit that is not reached."""
    return type("WithoutIdleLimit", (tcp.ShortLimits,), {"idle_seconds": 120.0})


# Bombs


def _multipart(body: bytes) -> dict[str, Any]:
    return {"headers": {"Content-Type": "multipart/form-data; boundary=b0"}, "content": body}


def _nested(depth: int) -> bytes:
    inner = b"".join(b"Content-Type:multipart/a;boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(1, depth))
    return b"--b0\r\n" + inner


BOMBS = {
    "a form in a form in a form": _multipart(_nested(1200)),
    "the same with many lines": _multipart(_nested(400) + b"\n" * 40_000),
    "a message in a message": _multipart(b"--b0\r\n" + b"Content-Type:message/rfc822\r\n\r\n" * 1900),
    "very many parts": _multipart(b"--b0\r\n\r\n\r\n" * 5000),
    "very many headers": _multipart(b"--b0\r\n" + b"A: b\r\n" * 8000),
    "one endless header": _multipart(b"--b0\r\n" + b"A" * 60_000),
    "nearly boundaries": _multipart(b"--b0\r\n\r\n" + b"\r\n--b" * 10_000),
    "a long boundary": {
        "headers": {"Content-Type": f"multipart/form-data; boundary={'b' * 30_000}"},
        "content": b"--b",
    },
    "a nesting of lists": {"content": b"[" * 60_000},
    "an exponent beyond all": {"content": b'{"action":"a","b":1e99999999999999999999}'},
    "a long exponent": {"content": b'{"action":"a","b":1e' + b"9" * 50_000 + b"}"},
    "an exponent below all": {"content": b'{"action":"a","b":-1e-99999999999999999999}'},
    "a long number": {"content": b'{"action":"a","b":' + b"9" * 60_000 + b"}"},
    "very many fields": {
        "headers": {"Content-Type": "application/x-www-form-urlencoded"},
        "content": b"a=1&" * 15_000,
    },
}


def test_a_body_made_to_exhaust_the_parser_is_malformed(
    limited: tcp.OpenLimited, sqlite: Database, capfd: pytest.CaptureFixture[str]
) -> None:
    with limited() as address, httpx.Client(base_url="http://{}:{}".format(*address), trust_env=False) as client:
        answers = {name: client.post("/hooks/shop", timeout=30, **bomb) for name, bomb in BOMBS.items()}
    found = {name: (answer.status_code, answer.json()["error"]) for name, answer in answers.items()}
    assert dict.fromkeys(BOMBS, (400, "malformed")) == found
    assert 0 == tcp.rows(sqlite)
    output = capfd.readouterr()
    for unwanted in ("Traceback", "ERROR", "WARNING", "boundary"):
        assert unwanted not in output.out + output.err
