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


class Habit(Enum):
    """What becomes of a webhook."""

    SEND = auto()
    LOSE = auto()
    DOUBLE = auto()
    HOLD = auto()


class Postbox:
    """`receivers`: the addresses of their hooks; each webhook goes to the next one.

    `sent`: packets by how often they were sent; `accepted`: by how often the answer was 200. `habit`: what becomes of
    webhooks from now on; `affected`: how many were lost, doubled or held. `held`: those that wait for `release`.
    """

    def __init__(self) -> None:
        self.habit = Habit.SEND
        self.affected = 0
        self.held: list[str] = []
        self.sent: Counter[str] = Counter()
        self.accepted: Counter[str] = Counter()
        self.answers: Counter[int] = Counter()
        self.app = Starlette(routes=[Route("/", self.post)])
        self._lock = threading.Lock()
        self._receivers = cycle([""])

    def lead_to(self, receivers: Sequence[str]) -> None:
        """Where webhooks go from now on."""
        self._receivers = cycle(receivers)

    async def post(self, request: Request) -> Response:
        """Answer as the receiver does, 503 without one. A lost or held webhook is answered 200 and not forwarded."""
        packet = request.query_params["packet"]
        with self._lock:
            habit = self.habit
            self.affected += habit is not Habit.SEND
            if habit is Habit.HOLD:
                self.held.append(packet)
        if habit in {Habit.LOSE, Habit.HOLD}:
            return Response()
        if habit is Habit.DOUBLE:
            await self._send(packet)
        return Response(status_code=await self._send(packet))

    def release(self, random: Random | None = None) -> int:
        """Send what was held, in the order of chance if given one; how many these were."""
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
        status = await self._carry(packet)
        with self._lock:
            self.answers[status] += 1
            if status == httpx.codes.OK:
                self.accepted[packet] += 1
        return status

    async def _carry(self, packet: str) -> int:
        with self._lock:
            self.sent[packet] += 1
            receiver = next(self._receivers)
        async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
            try:
                return (await client.get(receiver, params={"packet": packet})).status_code
            except httpx.TransportError:
                return httpx.codes.SERVICE_UNAVAILABLE
