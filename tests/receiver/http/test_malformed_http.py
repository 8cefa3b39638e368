"""Requests that are no HTTP, or that two readers could read differently, over real sockets."""

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
from tests.receiver.http import wires
from tests.serving import served

if TYPE_CHECKING:
    from starlette.requests import Request

    from models.db.database import Database


@pytest.mark.parametrize(
    ("expected", "raw"),
    [
        ((414, "too_large"), b"GET /" + b"a" * 3_000_000),
        ((414, "too_large"), b"GET /hooks/shop?packet=" + b"a" * 300_000 + b" HTTP/1.1\r\n" + wires.HOST + b"\r\n"),
        ((431, "too_large"), wires.ALIVE[:-2] + b"X: " + b"a" * 3_000_000 + b"\r\n\r\n"),
        ((431, "too_large"), wires.ALIVE[:-2] + b"X: a\r\n" * 500_000 + b"\r\n"),
        ((431, "too_large"), wires.ALIVE[:-2] + b"".join(b"X-%d: a\r\n" % number for number in range(50_000))),
        ((400, "malformed"), b"G" * 100_000),
        ((400, "malformed"), b"\r\n" * 50 + b"\x16\x03\x01" + b"\x00" * 500),
        ((400, "malformed"), b"GET /livez\r\n\r\n"),
        ((400, "malformed"), b"CONNECT localhost:80 HTTP/1.1\r\n" + wires.HOST + b"\r\n"),
        ((400, "malformed"), b"GET /livez#part HTTP/1.1\r\n" + wires.HOST + b"\r\n"),
        ((400, "malformed"), wires.ALIVE[:-2] + wires.HOST + b"\r\n"),
        ((400, "malformed"), wires.ALIVE[:-2] + b"X : a\r\n\r\n"),
        ((400, "malformed"), wires.ALIVE[:-2] + b"X: a\r\n folded\r\n\r\n"),
        ((400, "malformed"), wires.ALIVE[:-2] + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
        ((400, "malformed"), wires.ALIVE[:-2] + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ((400, "malformed"), wires.ALIVE[:-2] + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ((400, "malformed"), wires.ALIVE[:-2] + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ((400, "malformed"), b"GET /livez HTTP/1.1\r\n\r\n"),
        ((400, "malformed"), wires.ALIVE[:-2] + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ((400, "malformed"), wires.ALIVE[:-2] + b"Content-Length: -1\r\n\r\n"),
        ((400, "malformed"), wires.ALIVE[:-2] + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n"),
        ((400, "malformed"), wires.ALIVE[:-2] + b"Transfer-Encoding: gzip\r\n\r\n"),
        ((413, "too_large"), wires.HOOK + b"Content-Length: 70000\r\n\r\n"),
        ((413, "too_large"), wires.HOOK + b"Content-Length: 9999999999999999999\r\n\r\n"),
        ((400, "malformed"), wires.HOOK + b"Content-Length: 99999999999999999999\r\n\r\n"),  # of no size that there is
        ((413, "too_large"), wires.HOOK + wires.CHUNKED + (b"4000\r\n" + b"a" * 0x4000 + b"\r\n") * 5),
        # One byte a chunk, each with an extension of a kilobyte.
        ((400, "malformed"), wires.HOOK + wires.CHUNKED + (b"1;" + b"n" * 1000 + b"\r\na\r\n") * 500 + b"0\r\n\r\n"),
    ],
)
def test_what_is_too_large_or_no_http_is_refused_in_json_while_it_still_arrives(
    limited: wires.Limited, sqlite: Database, capfd: pytest.CaptureFixture[str], expected: tuple[int, str], raw: bytes
) -> None:
    with limited() as address:
        assert expected == address.error(raw)
        assert address.alive()
    assert 0 == wires.rows(sqlite)
    output = capfd.readouterr()
    for trouble in ("Traceback", "ERROR", "WARNING"):
        assert trouble not in output.err


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
def test_a_body_that_is_no_body_ends_the_connection_and_leaves_no_trace(
    limited: wires.Limited, sqlite: Database, capfd: pytest.CaptureFixture[str], target: bytes, rest: bytes
) -> None:
    with limited() as address:
        for pause in (0.0, 0.1):  # with the head, and after what the head alone is answered
            with address.wire() as wire:
                wire.sendall(target + b" HTTP/1.1\r\n" + wires.HOST + wires.CHUNKED)
                time.sleep(pause)
                with suppress(ConnectionResetError, BrokenPipeError):
                    wire.sendall(rest)
                assert wires.closed(wire)
        assert address.alive()
    assert 0 == wires.rows(sqlite)
    assert "Traceback" not in capfd.readouterr().err


def test_a_wrong_content_length_is_taken_as_it_is(limited: wires.Limited, sqlite: Database) -> None:
    head = b"POST /hooks/shop HTTP/1.1\r\n" + wires.HOST + b"Content-Length: %d\r\n\r\n"
    hidden = b"GET /hooks/shop?packet=1 HTTP/1.1\r\n\r\n"
    with limited() as address:
        with address.wire() as wire:  # shorter than the body: the packet is cut, and what is left is no request
            assert (400, "malformed") == wires.error(wires.exchange(wire, head % 10 + wires.PACKET[:10].encode()))
            assert (400, "malformed") == wires.error(wires.exchange(wire, wires.PACKET[10:].encode() + b"\r\n\r\n"))
        with address.wire() as wire:  # a request inside a body stays a body
            assert (400, "malformed") == wires.error(wires.exchange(wire, head % len(hidden) + hidden))
            assert wires.exchange(wire, wires.ALIVE).startswith(b"HTTP/1.1 200 ")
    assert 0 == wires.rows(sqlite)


def test_pipelined_requests_are_answered_in_their_order(limited: wires.Limited, sqlite: Database) -> None:
    hook = (
        b"POST /hooks/shop HTTP/1.1\r\n"
        + wires.HOST
        + b"Content-Length: %d\r\n\r\n" % len(wires.PACKET)
        + wires.PACKET.encode()
    )
    with limited() as address, address.wire() as wire:
        wire.sendall(
            (hook + wires.ALIVE + b"GET /nowhere HTTP/1.1\r\n" + wires.HOST + b"\r\n") * 20 + b"rubbish\r\n\r\n"
        )
        answers = b""
        while chunk := wire.recv(65536):
            answers += chunk
    statuses = [int(answer[:3]) for answer in answers.split(b"HTTP/1.1 ")[1:]]
    assert [200, 200, 404] * 20 + [400] == statuses
    assert 20 == wires.rows(sqlite)


def test_a_large_body_among_pipelined_requests_is_read_in_its_turn(limited: wires.Limited, sqlite: Database) -> None:
    packet = wires.PACKET[:-1] + ',"note":"' + "n" * 30_000 + '"}'
    hook = b"POST /hooks/shop HTTP/1.1\r\n" + wires.HOST + b"Content-Length: %d\r\n\r\n" % len(packet) + packet.encode()
    with limited() as address, address.wire() as wire:
        wire.sendall((wires.ALIVE * 200 + hook) * 3 + wires.ALIVE + b"rubbish\r\n\r\n")
        answers = b""
        while chunk := wire.recv(65536):
            answers += chunk
    assert [200] * 604 + [400] == [int(answer[:3]) for answer in answers.split(b"HTTP/1.1 ")[1:]]
    assert 3 == wires.rows(sqlite)


def test_requests_before_a_broken_body_are_answered(limited: wires.Limited) -> None:
    with limited() as address, address.wire() as wire:
        wire.sendall(wires.ALIVE * 3 + b"POST /livez HTTP/1.1\r\n" + wires.HOST + wires.CHUNKED + b"zz\r\n")
        answers = b""
        while chunk := wire.recv(65536):
            answers += chunk
    assert 3 == answers.count(b"HTTP/1.1 200 ")
    assert 3 == answers.count(b"HTTP/1.1 ")


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_an_upgrade_is_declined_and_a_request_inside_its_body_stays_a_body(
    limited: wires.Limited, sqlite: Database, method: bytes
) -> None:
    hidden = b"GET /livez HTTP/1.1\r\n" + wires.HOST + b"\r\n"
    head = method + b" /hooks/shop HTTP/1.1\r\n" + wires.HOST + UPGRADE + b"Content-Length: %d\r\n\r\n"
    with limited() as address:
        for pause in (0.0, 0.1):
            with address.wire() as wire:
                wire.sendall(head % len(hidden))
                time.sleep(pause)
                wire.sendall(hidden + wires.ALIVE.replace(b"/livez", b"/nowhere"))
                answers = b""
                while answers.count(b'"}') < 2:
                    answers += wire.recv(65536)
                assert [400, 404] == [int(answer[:3]) for answer in answers.split(b"HTTP/1.1 ")[1:]]
        with address.wire() as wire:  # what takes the offer of HTTP/2 back is served as ever
            posted = b"POST" + (head % len(wires.PACKET))[len(method) :] + wires.PACKET.encode()
            assert wires.exchange(wire, posted).startswith(b"HTTP/1.1 200 ")
            assert wires.exchange(wire, wires.ALIVE[:-2] + UPGRADE + b"\r\n").startswith(b"HTTP/1.1 200 ")
            assert wires.exchange(wire, wires.ALIVE).startswith(b"HTTP/1.1 200 ")
    assert 1 == wires.rows(sqlite)


def test_a_trailer_is_not_a_header() -> None:
    async def show(request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse(sorted(request.headers))

    with (
        served(Starlette(routes=[Route("/", show, methods=["POST"])]), **server.OPTIONS) as url,
        wires.Address(("127.0.0.1", int(url.rpartition(":")[2]))).wire() as wire,
    ):
        head = b"POST / HTTP/1.1\r\n" + wires.HOST + wires.CHUNKED
        answer = wires.exchange(wire, head + b"1\r\na\r\n0\r\nX-Forwarded-For: 88.198.50.253\r\n\r\n")
    assert ["host", "transfer-encoding"] == json.loads(answer.partition(b"\r\n\r\n")[2])
