"""A receiver on a real socket, for requests that no HTTP client sends."""

from __future__ import annotations

import json
import socket
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import sqlalchemy as sa

from models.db import tables
from receiver.http import server

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from models.db.database import Database

    OpenLimited = Callable[..., AbstractContextManager["Address"]]

PACKET = '{"action":"objectChanged","params":{"objectName":"catalogs.goods","id":"1100300000000001"}}'
HOST = b"Host: localhost\r\n"
ALIVE = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"
HOOK = b"POST /hooks/shop HTTP/1.1\r\n" + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


class ShortLimits(server.LimitedProtocol):
    """The receiver's protocol with limits that a test reaches."""

    idle_seconds = 0.4
    max_connections = 20


class Address(tuple[str, int]):
    """Where a receiver listens."""

    __slots__ = ()

    def connect(self) -> socket.socket:
        return socket.create_connection(self, timeout=60)

    def alive(self) -> bool:
        with self.connect() as sock:
            return exchange(sock, ALIVE).startswith(b"HTTP/1.1 200 ")

    def error(self, raw: bytes) -> tuple[int, str]:
        """Status and error code of the first response to these bytes."""
        with self.connect() as sock:
            return error(exchange(sock, raw))


def exchange(sock: socket.socket, raw: bytes) -> bytes:
    """Send the bytes and return the next response, up to its end or the connection's."""
    sock.sendall(raw)
    answer = b""
    while chunk := sock.recv(65536):
        answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        if b"content-length: %d\r\n" % len(body) in head + b"\r\n":
            break
    return answer


def error(answer: bytes) -> tuple[int, str]:
    """Status and error code of a response."""
    page = json.loads(answer.partition(b"\r\n\r\n")[2])
    assert {"error", "message"} == set(page)
    return int(answer.split(b" ", 2)[1]), page["error"]


def closed(sock: socket.socket) -> bool:
    """Wait until the other end closes; otherwise the socket's timeout raises."""
    with suppress(ConnectionResetError):
        while sock.recv(65536):
            pass
    return True


def flood(sock: socket.socket, piece: bytes, *, pause: float) -> bool:
    """Send the piece again and again; whether the other end closed."""
    deadline = time.monotonic() + 60
    try:
        while time.monotonic() < deadline:
            sock.sendall(piece)
            time.sleep(pause)
    except (ConnectionResetError, BrokenPipeError):
        return True
    return False


def rows(database: Database) -> int:
    """How many webhooks are stored."""
    with database.read() as tx:
        return tx.execute(sa.select(sa.func.count()).select_from(tables.webhooks)).scalar_one()
