"""The vendors of a first load: their sandboxes, filled, in a process of their own that makes each long reply once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from decimal import Decimal
from http import HTTPStatus
from random import Random
from typing import TYPE_CHECKING

import httpx
import uvicorn
from starlette.responses import PlainTextResponse

from tests.benchmarks.source import COUNT, Source
from workers.connectors.dilovod import sandbox as dilovod
from workers.connectors.directo import sandbox as directo
from workers.connectors.easyflor import sandbox as easyflor
from workers.connectors.wisedat import sandbox as wisedat
from workers.demo import listening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.applications import Starlette
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

LATENCY = 0.05
"""Seconds that Dilovod takes for an answer; in truth some 0.3 s."""

_WORDS = ("šokolaad", "kommid", "lily", "vahukomm", "küpsis", "martsipan", "kama", "õnn", "piparkook", "pähkel")


def _directo(objects: int) -> tuple[Starlette, Source]:
    """Items with the fields that the vendor's document shows, some 660 bytes each."""
    app = directo.create(objects=1)
    sandbox: directo.Sandbox = app.state.sandbox
    sandbox.books.tables["items"].clear()
    random = Random(5)  # the same on each run
    for number in range(objects):
        item = sandbox.books.new_item(number)
        item |= {
            "code": f"{number:06}",
            "ts": sandbox.books.stamp(timedelta(minutes=number)),
            "description": " ".join(random.choices(_WORDS, k=6)),
            "unit": random.choice(["tk", "kg"]),
            "country": random.choice(["EE", "LV", "FI"]),
            "supplier": f"{random.randrange(1000):04}",
            "vatcode": random.choice(["22", 22]),
            "cost": Decimal(random.randrange(10_000)) / 100,
            "vatprice": Decimal(random.randrange(20_000)) / 100,
            "weight": Decimal(random.randrange(5000)) / 1000,
            "volume": Decimal(random.randrange(500)) / 10_000,
            "height": random.randrange(50),
            "width": random.randrange(50),
            "package1": random.randrange(1, 12),
            "url": f"https://example.org/items/{number}",
            "tscreated": "2021-03-04 05:06:07",
            "manager": random.choice(["MARI", "JAAN"]),
            "hierarchy": f"{random.randrange(9)},{random.randrange(9)}",
        }
    sandbox.books.tables["stocklevels"].clear()
    settings = sandbox.settings() | {"resources": ["items"]}
    return app, Source(settings, "items", "v1/items", {"X-Directo-Key": sandbox.key}, "code")


def _directo_xml(objects: int) -> tuple[Starlette, Source]:
    app, source = _directo(objects)
    headers = source.headers | {"Accept": "application/xml"}
    return app, Source(source.settings | {"format": "xml"}, source.resource, source.path, headers, source.key)


def _easyflor(objects: int) -> tuple[Starlette, Source]:
    """Debtors with their contacts and the webshop's users, the fields of all of them in one order, as a server does."""
    app = easyflor.create(objects=0)
    sandbox: easyflor.Sandbox = app.state.sandbox
    sandbox.shuffles = False
    for number in range(objects):
        sandbox.books.new_debtor(back=number % 1000)
    token = sandbox._issue()
    sandbox._tokens[token] = sandbox.now() + sandbox.token_life * 24
    settings = sandbox.settings() | {"resources": ["debtor"]}
    return app, Source(settings, "debtor", "api/debtor", {"Authorization": f"Bearer {token}"}, "Id")


def _dilovod(objects: int) -> tuple[Starlette, Source]:
    """Goods, persons and orders, as many of each, with their table parts."""
    app = dilovod.create(objects=objects)
    sandbox: dilovod.Sandbox = app.state.sandbox
    sandbox.latency = LATENCY
    resources = ["catalogs.goods", "catalogs.persons", "documents.saleOrder"]
    return app, Source(sandbox.settings() | {"resources": resources}, "catalogs.goods", "", {}, "id")


def _wisedat(objects: int) -> tuple[Starlette, Source]:
    """Products: short lines in pages of 200, and each whole by its id."""
    app = wisedat.create(objects=objects)
    sandbox: wisedat.Sandbox = app.state.sandbox
    sandbox.largest_page = None
    token = "a-token-for-benchmarks"
    sandbox._tokens[token] = sandbox.now() + timedelta(days=1)
    settings = sandbox.settings() | {"resources": ["products"]}
    return app, Source(settings, "products", "products", {"Authorization": f"Bearer {token}"}, "id")


VENDORS: dict[str, Callable[[int], tuple[Starlette, Source]]] = {
    "dilovod": _dilovod,
    "directo": _directo,
    "directo-xml": _directo_xml,
    "easyflor": _easyflor,
    "wisedat": _wisedat,
}


class _Remembering:
    """Makes the long reply at `path` once, so that no side waits for the sandbox to make it, and counts requests."""

    def __init__(self, app: ASGIApp, path: str) -> None:
        self._app, self._path = app, f"/{path}" if path else None
        self._replies: dict[bytes, list[Message]] = {}
        self._requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif scope["path"] == COUNT:
            await PlainTextResponse(str(self._requests))(scope, receive, send)
        elif scope["path"] != self._path:
            self._requests += 1
            await self._app(scope, receive, send)
        else:
            self._requests += 1
            for message in await self._reply(scope, receive):
                await send(message)

    async def _reply(self, scope: Scope, receive: Receive) -> list[Message]:
        if found := self._replies.get(scope["query_string"]):
            return found
        reply: list[Message] = []

        async def keep(message: Message) -> None:
            reply.append(message)

        await self._app(scope, receive, keep)
        if reply[0]["status"] == HTTPStatus.OK:
            self._replies[scope["query_string"]] = reply
        return reply


@contextmanager
def serving(vendor: str, objects: int) -> Iterator[tuple[str, Source]]:
    """The vendor's address while the block runs, and how to read it."""
    command = [sys.executable, "-m", "tests.benchmarks.vendors", vendor, str(objects)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            said = json.loads(process.stdout.readline())
            url, source = said.pop("url"), Source(**said)
            if source.path:
                httpx.get(f"{url}/{source.path}", headers=source.headers, timeout=600).raise_for_status()
            yield url, source
        finally:
            process.terminate()


def _serve(vendor: str, objects: int) -> None:
    app, source = VENDORS[vendor](objects)
    with listening.bind("127.0.0.1", 0) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        said = {"url": url} | asdict(source)
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()
        config = uvicorn.Config(_Remembering(app, source.path), log_level="warning", access_log=False)
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]))
