from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from starlette.requests import Request

from receiver import packets
from receiver.refusals import Refusal

if TYPE_CHECKING:
    from starlette.types import Message


def test_a_body_that_drips_is_given_up() -> None:
    async def drip() -> Message:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def run() -> str:
        scope = {"type": "http", "method": "POST", "query_string": b"", "headers": []}
        return await packets.text(Request(scope, drip), seconds=0.02)

    with pytest.raises(Refusal) as refusal:
        asyncio.run(run())
    assert (408, "too_slow") == (refusal.value.status_code, refusal.value.code)


def test_numbers_of_a_packet_stay_exact() -> None:
    assert "1.10" == str(packets.decode('{"price": 1.10}')["price"])
