"""Runs in the container `outside`: nginx, the Interpreter's sandbox, and Dilovod's, which the tests edit and read.

outside.py VENDOR_PORT PROXY_PORT
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route

from models import exact
from workers.connectors.dilovod import sandbox
from workers.connectors.interpreter import sandbox as interpreter_sandbox

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

_HANGS = 15.0
"""Seconds: longer than Docker's ten, after which it kills a container that it stops."""


class Slow:
    """Answers late while `until` lies ahead, on the monotonic clock."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.until = 0.0
        self.asked = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        import asyncio  # noqa: PLC0415 - only here

        if scope["type"] == "http" and time.monotonic() < self.until:
            self.asked += 1
            await asyncio.sleep(_HANGS)
        await self._app(scope, receive, send)


def create(webhook_url: str) -> Starlette:
    """The Interpreter at `/lagerkoll`, the vendor of the webhooks at `/`, and below `/test` what no vendor has.

    `edit` makes one edit, `truth` shows a resource, `hang` makes it slow.
    """
    vendor = sandbox.create(seed=2, webhook_url=webhook_url)
    controls, random, slow = vendor.state.sandbox, Random(2), Slow(vendor)

    def edit(_: Request) -> Response:
        return PlainTextResponse(controls.edit(random))

    def truth(request: Request) -> Response:
        return PlainTextResponse(exact.dumps(controls.truth(request.path_params["resource"])))

    def hang(request: Request) -> Response:
        slow.until, slow.asked = time.monotonic() + float(request.path_params["seconds"]), 0
        return PlainTextResponse("")

    def asked(_: Request) -> Response:
        return PlainTextResponse(str(slow.asked))

    routes = [
        Route("/test/edit", edit),
        Route("/test/truth/{resource}", truth),
        Route("/test/hang/{seconds}", hang),
        Route("/test/asked", asked),
        Mount("/lagerkoll", interpreter_sandbox.create()),
        Mount("/", slow),
    ]
    return Starlette(routes=routes)


def main(vendor_port: int, proxy_port: int) -> None:
    """Serve both until the container stops."""
    subprocess.Popen(["nginx", "-c", str(Path(__file__).with_name("nginx.conf")), "-g", "daemon off;"])  # noqa: S607 - the image's
    app = create(f"http://127.0.0.1:{proxy_port}/hooks/shop")
    uvicorn.run(app, host="0.0.0.0", port=vendor_port, log_level="warning")  # noqa: S104 - the containers' way to it


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
