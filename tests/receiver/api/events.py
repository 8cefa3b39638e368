"""A reader of Server-Sent Events that takes the bytes apart as the HTML specification says."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    import httpx


@dataclass(frozen=True)
class Event:
    """A dispatched event, or with an empty type an id or a comment that is none."""

    kind: str
    data: Any
    last_id: str


@dataclass
class Reader:
    """An event stream on a socket of its own. `last_id` is what a browser would send as Last-Event-ID."""

    sock: socket.socket
    last_id: str = ""
    retry: int | None = None
    status: int = 0
    head: bytes = b""
    _bytes: bytes = b""
    _text: bytes = b""
    _is_over: bool = False
    _blocks: list[bytes] = field(default_factory=list)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self.sock.close()

    def blocks(self) -> Iterator[Event]:
        """Every block up to the end of the stream; comments have the type ""."""
        while True:
            while b"\n\n" in self._text:
                block, self._text = self._text.split(b"\n\n", 1)
                event = self._parsed(block.decode())
                if event is not None:
                    yield event
            if not self._read_chunk():
                return

    def events(self) -> Iterator[Event]:
        """The events that a browser dispatches."""
        return (event for event in self.blocks() if event.kind)

    def _parsed(self, block: str) -> Event | None:
        kind, data, is_told = "", [], False
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "id":
                self.last_id, is_told = value, True
            elif name == "event":
                kind = value
            elif name == "data":
                data.append(value)
            elif name == "retry":
                self.retry = int(value)
            else:
                assert line == ":", line
                is_told = True
        if not data:
            return Event("", None, self.last_id) if is_told else None
        return Event(kind, json.loads("\n".join(data)), self.last_id)

    def _read_chunk(self) -> bool:
        while not self._is_over:
            size, found, rest = self._bytes.partition(b"\r\n")
            if found and len(rest) >= int(size, 16) + 2:
                length = int(size, 16)
                self._bytes = rest[length + 2 :]
                self._text += rest[:length]
                self._is_over = length == 0
                return not self._is_over
            received = self.sock.recv(65536)
            if not received:
                raise ConnectionResetError
            self._bytes += received
        return False


def opened(client: httpx.Client, query: str = "", *, last_id: str | None = None, headers: str = "") -> Reader:
    """Ask for the stream and read the response's head."""
    url = client.base_url
    sock = socket.create_connection((url.host, url.port or 80), timeout=60)
    resumed = "" if last_id is None else f"Last-Event-ID: {last_id}\r\n"
    request = f"GET /changes{query} HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n{resumed}{headers}\r\n"
    sock.sendall(request.encode())
    received = b""
    while b"\r\n\r\n" not in received:
        piece = sock.recv(65536)
        if not piece:
            raise ConnectionResetError
        received += piece
    head, _, rest = received.partition(b"\r\n\r\n")
    reader = Reader(sock, status=int(head.split()[1]), head=head, _bytes=rest)
    reader.last_id = last_id or ""
    return reader
