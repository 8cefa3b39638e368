"""Webhooks as fast as they are answered: `python -m tests.benchmarks.webhooks_load PORT CONNECTIONS TOTAL WARMUP`.

Prints the seconds that TOTAL took. Each connection sends its next request when it has its answer, all of which must be
200; the requests are made beforehand, and WARMUP more of them are sent before the clock runs.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import quote

import uvloop

if TYPE_CHECKING:
    from collections.abc import Iterator

_LENGTH = re.compile(rb"content-length: ([0-9]+)", re.IGNORECASE)


def request(number: int) -> bytes:
    """Dilovod's own, for one of its goods."""
    packet = {"action": "objectChanged", "params": {"objectName": "catalogs.goods", "id": f"11003{number:011}"}}
    query = quote(json.dumps(packet, separators=(",", ":")))
    head = f"GET /hooks/shop?packet={query} HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: vendor\r\nAccept: */*\r\n\r\n"
    return head.encode()


class _Sender(asyncio.Protocol):
    """One connection. `done` is resolved when no request is left and the last is answered."""

    def __init__(self) -> None:
        self._answer = b""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as it is called
        self._transport = transport

    def begin(self, requests: Iterator[bytes]) -> asyncio.Future[None]:
        self._requests = requests
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._next()
        return self.done

    def data_received(self, data: bytes) -> None:
        answer = self._answer + data
        head, end, body = answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            self._answer = answer
        elif not answer.startswith(b"HTTP/1.1 200 "):
            self.done.set_exception(AssertionError(answer))
        else:
            self._answer = b""
            self._next()

    def connection_lost(self, _: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(AssertionError("the server hung up"))

    def _next(self) -> None:
        following = next(self._requests, None)
        if following is None:
            self.done.set_result(None)
        else:
            self._transport.write(following)


async def load(port: int, connections: int, total: int, warmup: int) -> float:
    """Seconds for `total`."""
    loop = asyncio.get_running_loop()
    made = [request(number) for number in range(total + warmup)]
    senders = [(await loop.create_connection(_Sender, "127.0.0.1", port))[1] for _ in range(connections)]
    async with asyncio.timeout(120):
        await asyncio.gather(
            *(each.begin(iter(made[number:warmup:connections])) for number, each in enumerate(senders))
        )
        rest = iter(made[warmup:])
        begun = time.perf_counter()
        await asyncio.gather(*(each.begin(rest) for each in senders))
        return time.perf_counter() - begun


if __name__ == "__main__":
    sys.stdout.write(f"{uvloop.run(load(*map(int, sys.argv[1:])))}\n")
