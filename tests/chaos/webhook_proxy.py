"""Between the vendor and the receivers: forwards, drops, doubles or holds each webhook, and records the answers."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from enum import Enum, auto
from itertools import cycle
from typing import TYPE_CHECKING

import httpx
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

    from starlette.requests import Request


class Handling(Enum):
    """What the proxy does with a webhook."""

    FORWARD = auto()
    DROP = auto()
    DOUBLE = auto()
    HOLD = auto()


class WebhookProxy:
    """An app that the vendor sends its webhooks to; it forwards each one to the next receiver in turn.

    `sent`: packets by how often they were forwarded; `accepted`: by how often the answer was 200. `handling`: what
    happens to webhooks from now on; `affected`: how many were dropped, doubled or held. `held`: those that wait for
    `release`. `answers`: the receivers' status codes by how often they came.
    """

    def __init__(self) -> None:
        self.handling = Handling.FORWARD
        self.affected = 0
        self.held: list[str] = []
        self.sent: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        self.app = Starlette(routes=[Route("/", self.receive)])
        self._lock = threading.Lock()
        self._receivers = cycle([""])

    def forward_to(self, receivers: Sequence[str]) -> None:
        """Forward webhooks to these hooks from now on."""
        self._receivers = cycle(receivers)

    async def receive(self, request: Request) -> Response:
        """Answer as the receiver does, 503 without one. A dropped or held webhook is answered 200 and not forwarded."""
        packet = request.query_params["packet"]
        with self._lock:
            handling = self.handling
            self.affected += handling is not Handling.FORWARD
            if handling is Handling.HOLD:
                self.held.append(packet)
        if handling in {Handling.DROP, Handling.HOLD}:
            return Response()
        if handling is Handling.DOUBLE:
            await self._send(packet)
        return Response(status_code=await self._send(packet))

    def release(self, random: Random | None = None) -> int:
        """Send the held webhooks, in random order if `random` is given; returns how many there were."""
        with self._lock:
            held, self.held = self.held, []
        if random is not None:
            random.shuffle(held)
        asyncio.run(self._send_all(held))
        return len(held)

    async def _send_all(self, packets: Sequence[str]) -> None:
        for packet in packets:
            await self._send(packet)

    async def _send(self, packet: str) -> int:
        status = await self._forward(packet)
        with self._lock:
            self.answers[status] += 1
            if status == httpx.codes.OK:
                self.accepted[packet] += 1
        return status

    async def _forward(self, packet: str) -> int:
        with self._lock:
            self.sent[packet] += 1
            receiver = next(self._receivers)
        async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
            try:
                return (await client.get(receiver, params={"packet": packet})).status_code
            except httpx.TransportError:
                return httpx.codes.SERVICE_UNAVAILABLE
