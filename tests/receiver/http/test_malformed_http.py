"""Requests that are not HTTP or that a proxy could understand differently, over real sockets."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from receiver.http import server
from tests.receiver.http import tcp
from tests.serving import served

if TYPE_CHECKING:
    from starlette.requests import Request

    from models.db.database import Database


@pytest.mark.parametrize(
    ("expected", "raw"),
    [
        ((414, "too_large"), b"GET /" + b"a" * 3_000_000),
        ((414, "too_large"), b"GET /hooks/shop?packet=" + b"a" * 300_000 + b" HTTP/1.1\r\n" + tcp.HOST + b"\r\n"),
        ((431, "too_large"), tcp.ALIVE[:-2] + b"X: " + b"a" * 3_000_000 + b"\r\n\r\n"),
        ((431, "too_large"), tcp.ALIVE[:-2] + b"X: a\r\n" * 500_000 + b"\r\n"),
        ((431, "too_large"), tcp.ALIVE[:-2] + b"".join(b"X-%d: a\r\n" % number for number in range(50_000))),
        ((400, "malformed"), b"G" * 100_000),
        ((400, "malformed"), b"\r\n" * 50 + b"\x16\x03\x01" + b"\x00" * 500),
        ((400, "malformed"), b"GET /livez\r\n\r\n"),
        ((400, "malformed"), b"CONNECT localhost:80 HTTP/1.1\r\n" + tcp.HOST + b"\r\n"),
        ((400, "malformed"), b"GET /livez#part HTTP/1.1\r\n" + tcp.HOST + b"\r\n"),
        ((400, "malformed"), tcp.ALIVE[:-2] + tcp.HOST + b"\r\n"),
        ((400, "malformed"), tcp.ALIVE[:-2] + b"X : a\r\n\r\n"),
        ((400, "malformed"), tcp.ALIVE[:-2] + b"X: a\r\n folded\r\n\r\n"),
        ((400, "malformed"), tcp.ALIVE[:-2] + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
        ((400, "malformed"), tcp.ALIVE[:-2] + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ((400, "malformed"), tcp.ALIVE[:-2] + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ((400, "malformed"), tcp.ALIVE[:-2] + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ((400, "malformed"), b"GET /livez HTTP/1.1\r\n\r\n"),
        ((400, "malformed"), tcp.ALIVE[:-2] + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ((400, "malformed"), tcp.ALIVE[:-2] + b"Content-Length: -1\r\n\r\n"),
        ((400, "malformed"), tcp.ALIVE[:-2] + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n"),
        ((400, "malformed"), tcp.ALIVE[:-2] + b"Transfer-Encoding: gzip\r\n\r\n"),
        ((413, "too_large"), tcp.HOOK + b"Content-Length: 70000\r\n\r\n"),
        ((413, "too_large"), tcp.HOOK + b"Content-Length: 9999999999999999999\r\n\r\n"),
        (
            (400, "malformed"),
            tcp.HOOK + b"Content-Length: 99999999999999999999\r\n\r\n",
        ),  # of no possible size
        ((413, "too_large"), tcp.HOOK + tcp.CHUNKED + (b"4000\r\n" + b"a" * 0x4000 + b"\r\n") * 5),
        # One byte a chunk, each with an extension of a kilobyte.
        (
            (400, "malformed"),
            tcp.HOOK + tcp.CHUNKED + (b"1;" + b"n" * 1000 + b"\r\na\r\n") * 500 + b"0\r\n\r\n",
        ),
    ],
)
def test_bytes_that_are_too_large_or_not_http_are_refused_in_json_while_they_arrive(
    limited: tcp.OpenLimited,
    sqlite: Database,
    capfd: pytest.CaptureFixture[str],
    expected: tuple[int, str],
    raw: bytes,
) -> None:
    with limited() as address:
        assert expected == address.error(raw)
        assert address.alive()
    assert 0 == tcp.rows(sqlite)
    output = capfd.readouterr()
    for unwanted in ("Traceback", "ERROR", "WARNING"):
        assert unwanted not in output.err


@pytest.mark.parametrize(
    "rest",
    [
        b"zz\r\n",
        b"-1\r\na\r\n",
        b"ffffffffffffffffffffffff\r\n",
        b"1\r\naa\r\n",
        b"1" * 100_000,
        b"1;" + b"n" * 100_000,
        b"0\r\n" + b"X-Trailer: 1\r\n" * 20_000,
    ],
)
@pytest.mark.parametrize(
    "target", [b"POST /livez", b"POST /hooks/shop", b"GET /hooks/shop?packet=1", b"POST /polls/shop"]
)
def test_a_broken_body_ends_the_connection_and_stores_nothing(
    limited: tcp.OpenLimited, sqlite: Database, capfd: pytest.CaptureFixture[str], target: bytes, rest: bytes
) -> None:
    with limited() as address:
        for pause in (0.0, 0.1):  # together with the head, and after the response to the head alone
            with address.connect() as sock:
                sock.sendall(target + b" HTTP/1.1\r\n" + tcp.HOST + tcp.CHUNKED)
                time.sleep(pause)
                with suppress(ConnectionResetError, BrokenPipeError):
                    sock.sendall(rest)
                assert tcp.closed(sock)
        assert address.alive()
    assert 0 == tcp.rows(sqlite)
    assert "Traceback" not in capfd.readouterr().err


def test_a_wrong_content_length_is_obeyed(limited: tcp.OpenLimited, sqlite: Database) -> None:
    head = b"POST /hooks/shop HTTP/1.1\r\n" + tcp.HOST + b"Content-Length: %d\r\n\r\n"
    hidden = b"GET /hooks/shop?packet=1 HTTP/1.1\r\n\r\n"
    with limited() as address:
        with address.connect() as sock:  # shorter than the body: the packet is cut, and the rest is not a request
            assert (400, "malformed") == tcp.error(tcp.exchange(sock, head % 10 + tcp.PACKET[:10].encode()))
            assert (400, "malformed") == tcp.error(tcp.exchange(sock, tcp.PACKET[10:].encode() + b"\r\n\r\n"))
        with address.connect() as sock:  # a request inside a body stays a body
            assert (400, "malformed") == tcp.error(tcp.exchange(sock, head % len(hidden) + hidden))
            assert tcp.exchange(sock, tcp.ALIVE).startswith(b"HTTP/1.1 200 ")
    assert 0 == tcp.rows(sqlite)


def test_pipelined_requests_are_answered_in_their_order(limited: tcp.OpenLimited, sqlite: Database) -> None:
    hook = (
        b"POST /hooks/shop HTTP/1.1\r\n"
        + tcp.HOST
        + b"Content-Length: %d\r\n\r\n" % len(tcp.PACKET)
        + tcp.PACKET.encode()
    )
    with limited() as address, address.connect() as sock:
        sock.sendall((hook + tcp.ALIVE + b"GET /nowhere HTTP/1.1\r\n" + tcp.HOST + b"\r\n") * 20 + b"rubbish\r\n\r\n")
        answers = b""
        while chunk := sock.recv(65536):
            answers += chunk
    statuses = [int(answer[:3]) for answer in answers.split(b"HTTP/1.1 ")[1:]]
    assert [200, 200, 404] * 20 + [400] == statuses
    assert 20 == tcp.rows(sqlite)


def test_a_large_body_among_pipelined_requests_is_read_in_order(limited: tcp.OpenLimited, sqlite: Database) -> None:
    packet = tcp.PACKET[:-1] + ',"note":"' + "n" * 30_000 + '"}'
    hook = b"POST /hooks/shop HTTP/1.1\r\n" + tcp.HOST + b"Content-Length: %d\r\n\r\n" % len(packet) + packet.encode()
    with limited() as address, address.connect() as sock:
        sock.sendall((tcp.ALIVE * 200 + hook) * 3 + tcp.ALIVE + b"rubbish\r\n\r\n")
        answers = b""
        while chunk := sock.recv(65536):
            answers += chunk
    assert [200] * 604 + [400] == [int(answer[:3]) for answer in answers.split(b"HTTP/1.1 ")[1:]]
    assert 3 == tcp.rows(sqlite)


def test_requests_before_a_broken_body_are_answered(limited: tcp.OpenLimited) -> None:
    with limited() as address, address.connect() as sock:
        sock.sendall(tcp.ALIVE * 3 + b"POST /livez HTTP/1.1\r\n" + tcp.HOST + tcp.CHUNKED + b"zz\r\n")
        answers = b""
        while chunk := sock.recv(65536):
            answers += chunk
    assert 3 == answers.count(b"HTTP/1.1 200 ")
    assert 3 == answers.count(b"HTTP/1.1 ")


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_an_upgrade_is_declined_and_a_request_inside_its_body_stays_a_body(
    limited: tcp.OpenLimited, sqlite: Database, method: bytes
) -> None:
    hidden = b"GET /livez HTTP/1.1\r\n" + tcp.HOST + b"\r\n"
    head = method + b" /hooks/shop HTTP/1.1\r\n" + tcp.HOST + UPGRADE + b"Content-Length: %d\r\n\r\n"
    with limited() as address:
        for pause in (0.0, 0.1):
            with address.connect() as sock:
                sock.sendall(head % len(hidden))
                time.sleep(pause)
                sock.sendall(hidden + tcp.ALIVE.replace(b"/livez", b"/nowhere"))
                answers = b""
                while answers.count(b'"}') < 2:
                    answers += sock.recv(65536)
                assert [400, 404] == [int(answer[:3]) for answer in answers.split(b"HTTP/1.1 ")[1:]]
        with address.connect() as sock:  # the request with the declined upgrade is served over HTTP/1.1
            posted = b"POST" + (head % len(tcp.PACKET))[len(method) :] + tcp.PACKET.encode()
            assert tcp.exchange(sock, posted).startswith(b"HTTP/1.1 200 ")
            assert tcp.exchange(sock, tcp.ALIVE[:-2] + UPGRADE + b"\r\n").startswith(b"HTTP/1.1 200 ")
            assert tcp.exchange(sock, tcp.ALIVE).startswith(b"HTTP/1.1 200 ")
    assert 1 == tcp.rows(sqlite)


def test_a_trailer_is_not_a_header() -> None:
    async def show(request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse(sorted(request.headers))

    with (
        served(Starlette(routes=[Route("/", show, methods=["POST"])]), **server.OPTIONS) as url,
        tcp.Address(("127.0.0.1", int(url.rpartition(":")[2]))).connect() as sock,
    ):
        head = b"POST / HTTP/1.1\r\n" + tcp.HOST + tcp.CHUNKED
        answer = tcp.exchange(sock, head + b"1\r\na\r\n0\r\nX-Forwarded-For: 88.198.50.253\r\n\r\n")
    assert ["host", "transfer-encoding"] == json.loads(answer.partition(b"\r\n\r\n")[2])
