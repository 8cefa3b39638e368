"""A client that keeps its connection sees no request lost: the server says how long it waits, and when it ends."""

from __future__ import annotations

import re
import signal
import socket
import time
from typing import TYPE_CHECKING

from receiver.http import server
from tests.processes import Installation, free_port, until
from tests.receiver.http import tcp
from workers import configuration

if TYPE_CHECKING:
    from pathlib import Path


def announced(answer: bytes) -> list[bytes]:
    """The seconds that a response promises to wait for the next request."""
    return re.findall(rb"(?im)^keep-alive: timeout=(\d+)\r$", answer.partition(b"\r\n\r\n")[0])


def closes(answer: bytes) -> bool:
    """Whether a response says that it is the connection's last."""
    return b"connection: close" in answer.partition(b"\r\n\r\n")[0].lower().splitlines()


def test_a_response_announces_less_than_the_server_waits(limited: tcp.OpenLimited) -> None:
    with limited() as address, address.connect() as sock:
        [seconds] = announced(tcp.exchange(sock, tcp.ALIVE))
    assert server.OPTIONS["timeout_keep_alive"] > int(seconds)


def test_a_response_that_ends_its_connection_announces_nothing(limited: tcp.OpenLimited) -> None:
    with limited() as address, address.connect() as sock:
        answer = tcp.exchange(sock, tcp.ALIVE.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert ([], True) == (announced(answer), closes(answer))


def test_a_connection_between_two_requests_outlives_the_limit_for_idle_ones(limited: tcp.OpenLimited) -> None:
    with limited() as address, address.connect() as sock:
        for _ in range(2):
            assert tcp.exchange(sock, tcp.ALIVE).startswith(b"HTTP/1.1 200 ")
            time.sleep(4 * tcp.ShortLimits.idle_seconds)
        assert tcp.exchange(sock, tcp.ALIVE).startswith(b"HTTP/1.1 200 ")


def test_a_connection_without_a_next_request_is_closed(limited: tcp.OpenLimited) -> None:
    with limited(timeout_keep_alive=1) as address, address.connect() as sock:
        sock.sendall(tcp.ALIVE)
        assert tcp.closed(sock)


def test_a_request_on_a_kept_connection_is_answered_while_the_receiver_stops(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / configuration.FILE).write_text(f"[receiver]\nport = {port}\n", encoding="utf-8")
    receiver = Installation(tmp_path / configuration.FILE, port)
    try:
        assert 0 == receiver.start("migrate").wait(60)
        process = receiver.start("receiver")
        until(receiver.answers, seconds=60, what=receiver.logs)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as kept:
            assert not closes(tcp.exchange(kept, tcp.ALIVE))
            process.send_signal(signal.SIGTERM)
            while not closes(answer := tcp.exchange(kept, tcp.ALIVE)):
                assert answer.startswith(b"HTTP/1.1 200 "), receiver.logs()
                time.sleep(0.002)
            assert tcp.closed(kept)
        process.wait(60)
    finally:
        receiver.stop()
