"""What the receiver is compared with, on the same server: `python -m tests.benchmarks.webhooks_servers NAME PORT`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import uvicorn
import uvloop
from celery import Celery
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from receiver.http import server
from tests import services

if TYPE_CHECKING:
    from starlette.requests import Request

PATH = "/hooks/{connection}"

celery = Celery(broker=services.REDIS, set_as_current=False)


@celery.task(name="handle", ignore_result=True)  # type: ignore[untyped-decorator]
def handle(packet: object) -> None:
    """What would do the work."""


async def _parse(request: Request) -> JSONResponse:
    json.loads(request.query_params["packet"])
    return JSONResponse({"ok": True})


async def _delay(request: Request) -> JSONResponse:
    handle.delay(json.loads(request.query_params["packet"]))
    return JSONResponse({"ok": True})


def _delay_in_thread(request: Request) -> JSONResponse:
    handle.delay(json.loads(request.query_params["packet"]))
    return JSONResponse({"ok": True})


APPS = {
    "bare": Starlette(routes=[Route(PATH, _parse)]),
    "delay": Starlette(routes=[Route(PATH, _delay)]),
    "delay-in-thread": Starlette(routes=[Route(PATH, _delay_in_thread)]),
}


class _Nothing(asyncio.Protocol):
    """Answers every request that arrives in one piece, without parsing it: the load generator's own ceiling."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as it is called
        self._transport = transport

    def data_received(self, _: bytes) -> None:
        self._transport.write(b'HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{"ok":true}')


async def _nothing(port: int) -> None:
    listening = await asyncio.get_running_loop().create_server(_Nothing, "127.0.0.1", port, backlog=1024)
    await listening.serve_forever()


def main(name: str, port: int) -> None:
    if name == "nothing":
        uvloop.run(_nothing(port))
    else:
        uvicorn.run(APPS[name], port=port, log_config=None, **server.OPTIONS)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
