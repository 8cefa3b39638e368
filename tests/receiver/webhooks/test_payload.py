from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from receiver.http.errors import ApiError
from receiver.webhooks import payload

if TYPE_CHECKING:
    from starlette.types import Message


def test_a_slow_body_is_408() -> None:
    async def receive_slowly() -> Message:
        await asyncio.sleep(0.001)
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def run() -> str:
        scope = {"type": "http", "method": "POST", "query_string": b"", "headers": []}
        return await payload.read(Request(scope, receive_slowly), seconds=0.02)

    with pytest.raises(ApiError) as refused:
        asyncio.run(run())
    assert (408, "too_slow") == (refused.value.status_code, refused.value.code)


PIECES = [
    "%41",
    "%",
    "%%",
    "%zz",
    "%2",
    "=",
    "==41",
    "+",
    "a",
    "_",
    "%D0%B0",
    "%D0",
    "%3D",
    "%0A",
    "&",
    "&packet=",
    "~",
]


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.characters(max_codepoint=0x450)), max_size=8).map("".join))
def test_a_single_packet_is_decoded_as_it_is_among_other_fields(encoded: str) -> None:
    def read(query: str) -> list[str] | None:
        try:
            return payload._packets(query.encode())
        except ApiError:
            return None

    assert read(f"other=field&packet={encoded}") == read(f"packet={encoded}")


def test_an_escaped_nul_is_refused_and_its_escaped_backslash_is_not() -> None:
    assert {"a": "\\u0000"} == payload.decode(r'{"a": "\\u0000"}')
    for packet in (r'{"a": "\u0000"}', r'{"\u0000": 1}', r'{"a": {"b": "\\\u0000"}}'):
        with pytest.raises(ApiError):
            payload.decode(packet)


def test_numbers_of_a_packet_stay_exact() -> None:
    assert "1.10" == str(payload.decode('{"price": 1.10}')["price"])


@pytest.mark.parametrize("kind", ["application/json", "application/x-www-form-urlencoded", ""])
def test_a_byte_order_mark_before_a_packet_is_no_part_of_it(kind: str) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b'\xef\xbb\xbf{"a": 1}'}

    scope = {"type": "http", "method": "POST", "query_string": b"", "headers": [(b"content-type", kind.encode())]}
    assert '{"a": 1}' == asyncio.run(payload.read(Request(scope, receive)))
