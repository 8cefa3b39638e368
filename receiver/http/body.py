"""Reads a request's body within bounds of size and time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from receiver.http.errors import BodyError

if TYPE_CHECKING:
    from starlette.requests import Request


async def read(request: Request, *, largest: int, seconds: float) -> bytes:
    """The whole body. Raises `BodyError` if it has more bytes, or has not arrived by then."""
    # A declared length is checked before the body arrives; counting catches a missing or wrong one.
    if int(request.headers.get("Content-Length", "0")) > largest:
        raise too_large(largest)
    body = bytearray()
    try:
        async with asyncio.timeout(seconds):
            async for chunk in request.stream():
                body += chunk
                if len(body) > largest:
                    raise too_large(largest)
    except TimeoutError:
        raise BodyError(408, "too_slow", "the body did not arrive") from None
    return bytes(body)


def too_large(largest: int) -> BodyError:
    """A 413; the rest of the body is not read."""
    return BodyError(413, "too_large", f"the body is larger than {largest} bytes")
