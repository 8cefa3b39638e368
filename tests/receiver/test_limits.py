"""Slow, huge and lying requests over real sockets. The receiver's waits are cut short, ours are safety nets."""

from __future__ import annotations

import json
import socket
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from models import tables
from receiver import app, forms, packets, server
from receiver.refusals import HANDLERS
from tests.receiver.bells import Quiet
from tests.serving import served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from starlette.requests import Request

    from models.database import Database
    from models.settings import Settings

    Limited = Callable[..., AbstractContextManager["Address"]]

PACKET = '{"action":"objectChanged","params":{"objectName":"catalogs.goods","id":"1100300000000001"}}'
HOST = b"Host: localhost\r\n"
ALIVE = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
HOOK = b"POST /hooks/shop HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class Hasty(server.Guarded):
    seconds = 0.4
    most = 20


class Address(tuple[str, int]):
    """Where a receiver listens."""

    __slots__ = ()

    def wire(self) -> socket.socket:
        return socket.create_connection(self, timeout=60)

    def alive(self) -> bool:
        with self.wire() as wire:
            return _asked(wire, ALIVE).startswith(b"HTTP/1.1 200 ")

    def told(self, raw: bytes) -> tuple[int, str]:
        """Status and error of the first answer to these bytes."""
        with self.wire() as wire:
            return _told(_asked(wire, raw))


@pytest.fixture
def limited(sqlite: Database, configure: Callable[..., Settings]) -> Limited:
    """Serve a receiver: `with limited() as address`."""

    @contextmanager
    def serve(**options: Any) -> Iterator[Address]:
        made = app.create_app(configure(sqlite.url), bell=Quiet())
        with served(made, **server.OPTIONS | {"http": Hasty, "log_level": "info"} | options) as url:
            yield Address(("127.0.0.1", int(url.rpartition(":")[2])))

    return serve


def _asked(wire: socket.socket, raw: bytes) -> bytes:
    """The next answer, whole, as far as it comes."""
    wire.sendall(raw)
    answer = b""
    while chunk := wire.recv(65536):
        answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"content-length: %d\r\n" % len(body) in head + b"\r\n":
            break
    return answer


def _told(answer: bytes) -> tuple[int, str]:
    page = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert {"error", "message"} == set(page)
    return int(answer.split(b" ", 2)[1]), page["error"]


def _ended(wire: socket.socket) -> bool:
    """Wait until the other end closes. The socket's own timeout, which raises, is the safety net."""
    with suppress(ConnectionResetError):
        while wire.recv(65536):
            pass
    return True


def _pushed(wire: socket.socket, piece: bytes, *, pause: float) -> bool:
    """Send the piece again and again until the other end has had enough."""
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            wire.sendall(piece)
            time.sleep(pause)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def _rows(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(tables.notices)).scalar_one()


# Slow


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /livez HTTP/1.1\r\nHost: loc", ALIVE, ALIVE + b"GET /li"])
def test_a_connection_that_nobody_uses_is_ended(limited: Limited, sent: bytes) -> None:
    with limited(timeout_keep_alive=60) as address, address.wire() as wire:
        wire.sendall(sent)
        assert _ended(wire)


@pytest.mark.parametrize(
    ("opening", "drop"),
    [
        (b"", b"G"),
        (b"GET /livez HTTP/1.1\r\n", b"X-Slow: 1\r\n"),
        (ALIVE + b"GET /livez HTTP/1.1\r\n", b"X-Slow: 1\r\n"),
        # Answered already; the body goes on.
        (b"POST /livez HTTP/1.1\r\n" + HOST + CHUNKED, b"1\r\na\r\n"),
        (b"GET /hooks/shop HTTP/1.1\r\n" + HOST + b"Content-Length: 10000000\r\n\r\n", b"a"),
    ],
)
def test_a_head_or_an_unwanted_body_that_drips_is_cut_off(limited: Limited, opening: bytes, drop: bytes) -> None:
    with limited() as address, address.wire() as wire:
        wire.sendall(opening)
        assert _pushed(wire, drop, pause=0.05)
        assert address.alive()


def test_an_unwanted_body_without_end_is_cut_off_at_full_speed_as_well(limited: Limited) -> None:
    with limited() as address, address.wire() as wire:
        wire.sendall(b"POST /livez HTTP/1.1\r\n" + HOST + CHUNKED)
        assert _pushed(wire, b"8000\r\n" + b"a" * 0x8000 + b"\r\n", pause=0.01)


def test_answers_that_nobody_reads_are_not_kept(limited: Limited) -> None:
    with limited() as address, socket.socket() as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.settimeout(60)
        wire.connect(address)
        assert _pushed(wire, b"GET /openapi.json HTTP/1.1\r\n" + HOST + b"\r\n", pause=0)
        assert address.alive()


def test_a_connection_that_is_used_stays(limited: Limited) -> None:
    assert server.OPTIONS["http"] is Hasty.__base__
    with limited() as address, address.wire() as wire:
        until = time.monotonic() + 5 * Hasty.seconds
        while time.monotonic() < until:
            assert _asked(wire, ALIVE).startswith(b"HTTP/1.1 200 ")
            time.sleep(Hasty.seconds / 10)


def test_a_request_that_is_worked_on_is_waited_for(limited: Limited, sqlite: Database) -> None:
    with limited() as address, address.wire() as wire:
        with sqlite.begin():  # the one writer that SQLite allows
            wire.sendall(b"POST /ticks/shop HTTP/1.1\r\n" + HOST + b"\r\n")
            time.sleep(4 * Hasty.seconds)
        assert wire.recv(65536).startswith(b"HTTP/1.1 202 ")


@pytest.mark.parametrize("kind", ["packet", "form"])
def test_a_body_that_drips_is_408(kind: str) -> None:
    async def packet(request: Request) -> JSONResponse:
        return JSONResponse(await packets.text(request, seconds=0.2))

    async def form(request: Request) -> JSONResponse:
        return JSONResponse(len(await forms.parts(request, largest=10**9, seconds=0.2)))

    routes = [Route("/packet", packet, methods=["POST"]), Route("/form", form, methods=["POST"])]
    with served(Starlette(routes=routes, exception_handlers=HANDLERS), **server.OPTIONS) as url:
        address = Address(("127.0.0.1", int(url.rpartition(":")[2])))
        with address.wire() as wire:
            head = f"POST /{kind} HTTP/1.1\r\nContent-Type: multipart/form-data; boundary=b\r\n".encode()
            wire.sendall(head + HOST + CHUNKED + b"5\r\n--b\r\n\r\n")
            dripping = threading.Thread(target=_pushed, args=[wire, b"1\r\na\r\n"], kwargs={"pause": 0.05})
            dripping.start()
            answer = b""
            while chunk := wire.recv(65536):
                answer += chunk
            dripping.join()
    assert (408, "too_slow") == _told(answer)


def test_a_webhook_whose_body_stops_half_way_leaves_nothing(limited: Limited, sqlite: Database) -> None:
    with limited() as address, address.wire() as wire:
        wire.sendall(b"POST /hooks/shop HTTP/1.1\r\n" + HOST + b"Content-Length: 500\r\n\r\n" + PACKET.encode())
        # It is waited for as long as a webhook may take, and others meanwhile are served.
        assert (408, "too_slow") == _told(_asked(wire, b""))
        assert address.alive()
    assert 0 == _rows(sqlite)


# Many


def test_who_opens_many_connections_and_sends_nothing_throws_himself_out(limited: Limited) -> None:
    with limited(http=_patient()) as address, ExitStack() as wires:
        idle = [wires.enter_context(address.wire()) for _ in range(3 * Hasty.most)]
        for wire in idle[::2]:
            wire.sendall(b"GET /livez HTTP/1.1\r\n")
        for _ in range(10):
            assert address.alive()
        # The oldest are gone, whether they began a request or not; the newest are still there.
        assert all(_ended(wire) for wire in idle[: 2 * Hasty.most])
        idle[-1].sendall(ALIVE)
        assert idle[-1].recv(65536).startswith(b"HTTP/1.1 200 ")


def test_who_is_being_served_is_not_thrown_out_for_one_who_sends_nothing(limited: Limited, sqlite: Database) -> None:
    with limited(http=_patient()) as address, ExitStack() as wires:
        with sqlite.begin():  # the one writer that SQLite allows: the tick has to wait
            served_one = wires.enter_context(address.wire())
            served_one.sendall(b"POST /ticks/shop HTTP/1.1\r\n" + HOST + b"\r\n")
            assert address.alive()
            for _ in range(3 * Hasty.most):
                wires.enter_context(address.wire())
            assert address.alive()
        assert served_one.recv(65536).startswith(b"HTTP/1.1 202 ")


def _patient() -> type[server.Guarded]:
    """Few connections, and no limit of time that would throw anybody out before the others do."""
    return type("Patient", (Hasty,), {"seconds": 120.0})


# Huge


@pytest.mark.parametrize(
    ("expected", "raw"),
    [
        ((414, "too_large"), b"GET /" + b"a" * 3_000_000),
        ((414, "too_large"), b"GET /hooks/shop?packet=" + b"a" * 300_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
        ((431, "too_large"), ALIVE[:-2] + b"X: " + b"a" * 3_000_000 + b"\r\n\r\n"),
        ((431, "too_large"), ALIVE[:-2] + b"X: a\r\n" * 500_000 + b"\r\n"),
        ((431, "too_large"), ALIVE[:-2] + b"".join(b"X-%d: a\r\n" % number for number in range(50_000))),
        ((400, "malformed"), b"G" * 100_000),
        ((400, "malformed"), b"\r\n" * 50 + b"\x16\x03\x01" + b"\x00" * 500),
        ((400, "malformed"), b"GET /livez\r\n\r\n"),
        ((400, "malformed"), b"CONNECT localhost:80 HTTP/1.1\r\n" + HOST + b"\r\n"),
        ((400, "malformed"), b"GET /livez#part HTTP/1.1\r\n" + HOST + b"\r\n"),
        ((400, "malformed"), ALIVE[:-2] + HOST + b"\r\n"),
        ((400, "malformed"), ALIVE[:-2] + b"X : a\r\n\r\n"),
        ((400, "malformed"), ALIVE[:-2] + b"X: a\r\n folded\r\n\r\n"),
        ((400, "malformed"), ALIVE[:-2] + b"Transfer-Encoding: gzip, chunked\r\n\r\n"),
        ((400, "malformed"), ALIVE[:-2] + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ((400, "malformed"), ALIVE[:-2] + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        ((400, "malformed"), ALIVE[:-2] + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        ((400, "malformed"), b"GET /livez HTTP/1.1\r\n\r\n"),
        ((400, "malformed"), ALIVE[:-2] + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n"),
        ((400, "malformed"), ALIVE[:-2] + b"Content-Length: -1\r\n\r\n"),
        ((400, "malformed"), ALIVE[:-2] + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n"),
        ((400, "malformed"), ALIVE[:-2] + b"Transfer-Encoding: gzip\r\n\r\n"),
        ((413, "too_large"), HOOK + b"Content-Length: 70000\r\n\r\n"),
        ((413, "too_large"), HOOK + b"Content-Length: 9999999999999999999\r\n\r\n"),
        ((400, "malformed"), HOOK + b"Content-Length: 99999999999999999999\r\n\r\n"),  # of no size that there is
        ((413, "too_large"), HOOK + CHUNKED + (b"4000\r\n" + b"a" * 0x4000 + b"\r\n") * 5),
        # One byte a chunk, each with a note of a kilobyte.
        ((400, "malformed"), HOOK + CHUNKED + (b"1;" + b"n" * 1000 + b"\r\na\r\n") * 500 + b"0\r\n\r\n"),
    ],
)
def test_what_is_too_large_or_no_http_is_refused_in_words_while_it_still_comes(
    limited: Limited, sqlite: Database, capfd: pytest.CaptureFixture[str], expected: tuple[int, str], raw: bytes
) -> None:
    with limited() as address:
        assert expected == address.told(raw)
        assert address.alive()
    assert 0 == _rows(sqlite)
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
    "target", [b"POST /livez", b"POST /hooks/shop", b"GET /hooks/shop?packet=1", b"POST /ticks/shop"]
)
def test_a_body_that_is_no_body_ends_the_connection_and_leaves_no_trace(
    limited: Limited, sqlite: Database, capfd: pytest.CaptureFixture[str], target: bytes, rest: bytes
) -> None:
    with limited() as address:
        for pause in (0.0, 0.1):  # with the head, and after what the head alone is answered
            with address.wire() as wire:
                wire.sendall(target + b" HTTP/1.1\r\n" + HOST + CHUNKED)
                time.sleep(pause)
                with suppress(ConnectionResetError, BrokenPipeError):
                    wire.sendall(rest)
                assert _ended(wire)
        assert address.alive()
    assert 0 == _rows(sqlite)
    assert "Traceback" not in capfd.readouterr().err


def test_a_length_that_lies_is_taken_at_its_word(limited: Limited, sqlite: Database) -> None:
    head = b"POST /hooks/shop HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n"
    hidden = b"GET /hooks/shop?packet=1 HTTP/1.1\r\n\r\n"
    with limited() as address:
        with address.wire() as wire:  # shorter than the body: the packet is cut, and what is left is no request
            assert (400, "malformed") == _told(_asked(wire, head % 10 + PACKET[:10].encode()))
            assert (400, "malformed") == _told(_asked(wire, PACKET[10:].encode() + b"\r\n\r\n"))
        with address.wire() as wire:  # a request inside a body stays a body
            assert (400, "malformed") == _told(_asked(wire, head % len(hidden) + hidden))
            assert _asked(wire, ALIVE).startswith(b"HTTP/1.1 200 ")
    assert 0 == _rows(sqlite)


def test_requests_in_one_breath_are_answered_in_their_order(limited: Limited, sqlite: Database) -> None:
    hook = b"POST /hooks/shop HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(PACKET) + PACKET.encode()
    with limited() as address, address.wire() as wire:
        wire.sendall((hook + ALIVE + b"GET /nowhere HTTP/1.1\r\n" + HOST + b"\r\n") * 20 + b"rubbish\r\n\r\n")
        answers = b""
        while chunk := wire.recv(65536):
            answers += chunk
    statuses = [int(answer[:3]) for answer in answers.split(b"HTTP/1.1 ")[1:]]
    assert [200, 200, 404] * 20 + [400] == statuses
    assert 20 == _rows(sqlite)


def test_a_large_body_among_requests_in_one_breath_is_read_in_its_turn(limited: Limited, sqlite: Database) -> None:
    packet = PACKET[:-1] + ',"note":"' + "n" * 30_000 + '"}'
    hook = b"POST /hooks/shop HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(packet) + packet.encode()
    with limited() as address, address.wire() as wire:
        wire.sendall((ALIVE * 200 + hook) * 3 + ALIVE + b"rubbish\r\n\r\n")
        answers = b""
        while chunk := wire.recv(65536):
            answers += chunk
    assert [200] * 604 + [400] == [int(answer[:3]) for answer in answers.split(b"HTTP/1.1 ")[1:]]
    assert 3 == _rows(sqlite)


def test_what_came_before_a_broken_body_is_answered(limited: Limited) -> None:
    with limited() as address, address.wire() as wire:
        wire.sendall(ALIVE * 3 + b"POST /livez HTTP/1.1\r\n" + HOST + CHUNKED + b"zz\r\n")
        answers = b""
        while chunk := wire.recv(65536):
            answers += chunk
    assert 3 == answers.count(b"HTTP/1.1 200 ")
    assert 3 == answers.count(b"HTTP/1.1 ")


UPGRADE = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"


@pytest.mark.parametrize("method", [b"GET", b"POST"])
def test_an_upgrade_is_declined_and_a_request_inside_its_body_stays_a_body(
    limited: Limited, sqlite: Database, method: bytes
) -> None:
    hidden = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
    head = method + b" /hooks/shop HTTP/1.1\r\n" + HOST + UPGRADE + b"Content-Length: %d\r\n\r\n"
    with limited() as address:
        for pause in (0.0, 0.1):
            with address.wire() as wire:
                wire.sendall(head % len(hidden))
                time.sleep(pause)
                wire.sendall(hidden + ALIVE.replace(b"/livez", b"/nowhere"))
                answers = b""
                while answers.count(b'"}') < 2:
                    answers += wire.recv(65536)
                assert [400, 404] == [int(answer[:3]) for answer in answers.split(b"HTTP/1.1 ")[1:]]
        with address.wire() as wire:  # what takes the offer of HTTP/2 back is served as ever
            posted = b"POST" + (head % len(PACKET))[len(method) :] + PACKET.encode()
            assert _asked(wire, posted).startswith(b"HTTP/1.1 200 ")
            assert _asked(wire, ALIVE[:-2] + UPGRADE + b"\r\n").startswith(b"HTTP/1.1 200 ")
            assert _asked(wire, ALIVE).startswith(b"HTTP/1.1 200 ")
    assert 1 == _rows(sqlite)


def test_what_follows_a_body_is_no_header() -> None:
    async def show(request: Request) -> JSONResponse:
        await request.body()
        return JSONResponse(sorted(request.headers))

    with (
        served(Starlette(routes=[Route("/", show, methods=["POST"])]), **server.OPTIONS) as url,
        Address(("127.0.0.1", int(url.rpartition(":")[2]))).wire() as wire,
    ):
        head = b"POST / HTTP/1.1\r\n" + HOST + CHUNKED
        answer = _asked(wire, head + b"1\r\na\r\n0\r\nX-Forwarded-For: 88.198.50.253\r\n\r\n")
    assert ["host", "transfer-encoding"] == json.loads(answer.partition(b"\r\n\r\n")[2])


# Bombs


def _multipart(body: bytes) -> dict[str, Any]:
    return {"headers": {"Content-Type": "multipart/form-data; boundary=b0"}, "content": body}


def _nested(depth: int) -> bytes:
    inner = b"".join(b"Content-Type:multipart/a;boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(1, depth))
    return b"--b0\r\n" + inner


BOMBS = {
    "a form in a form in a form": _multipart(_nested(1200)),
    "the same with many lines": _multipart(_nested(400) + b"\n" * 40_000),
    "a letter in a letter": _multipart(b"--b0\r\n" + b"Content-Type:message/rfc822\r\n\r\n" * 1900),
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


def test_a_bomb_is_malformed(limited: Limited, sqlite: Database, capfd: pytest.CaptureFixture[str]) -> None:
    with limited() as address, httpx.Client(base_url="http://{}:{}".format(*address), trust_env=False) as client:
        answers = {name: client.post("/hooks/shop", timeout=30, **bomb) for name, bomb in BOMBS.items()}
    found = {name: (answer.status_code, answer.json()["error"]) for name, answer in answers.items()}
    assert dict.fromkeys(BOMBS, (400, "malformed")) == found
    assert 0 == _rows(sqlite)
    output = capfd.readouterr()
    for trouble in ("Traceback", "ERROR", "WARNING", "boundary"):
        assert trouble not in output.out + output.err
