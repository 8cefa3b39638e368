"""Clients of the sandbox served over HTTP, and of apps with fixed replies."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from models import exact
from tests.serving import served
from workers.connectors.contract import standalone
from workers.connectors.dilovod import sandbox as dilovod_sandbox
from workers.connectors.dilovod.client import Client
from workers.connectors.dilovod.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

RESOURCES = (
    "catalogs.goods",
    "catalogs.persons",
    "catalogs.units",
    "documents.saleOrder",
    "balanceRegisters.goods",
    "informationRegisters.goodsPrices",
)


def made_options(**given: Any) -> Options:
    return Options.model_validate(
        {"name": "shop", "system": "dilovod", "api_key": "sandbox-key", "resources": RESOURCES} | given
    )


def answering(body: str | bytes, status: int = 200) -> Starlette:
    """An app that answers every request with this body."""

    async def answer(_: Any) -> Response:
        return Response(body, status, media_type="application/json")

    return Starlette(routes=[Route("/", answer, methods=["POST"])])


def recording(app: Starlette) -> tuple[Starlette, list[Any]]:
    """(an app that passes requests on to `app`, the list of (content type, packet) that it received)."""
    packets: list[Any] = []

    async def answer(request: Request) -> Response:
        body = await request.body()
        kind = request.headers["Content-Type"]
        text = dict(parse_qsl(body.decode()))["packet"] if "form" in kind else body
        packets.append((kind, exact.loads(text)))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://vendor") as vendor:
            found = await vendor.post("/", content=body, headers={"Content-Type": kind})
        return Response(found.content, found.status_code, media_type="application/json")

    return Starlette(routes=[Route("/", answer, methods=["POST"])]), packets


@contextmanager
def opened(app: Starlette, **given: Any) -> Iterator[Client]:
    """A client of the app, which is served inside the block."""
    with served(app) as url:
        client = Client(made_options(url=url, **given), standalone())
        try:
            yield client
        finally:
            client.close()


@pytest.fixture
def app() -> Starlette:
    return dilovod_sandbox.create(seed=7)


@pytest.fixture
def sandbox(app: Starlette) -> dilovod_sandbox.Sandbox:
    found: dilovod_sandbox.Sandbox = app.state.sandbox
    return found


@pytest.fixture
def client(app: Starlette) -> Iterator[Client]:
    with opened(app) as made:
        yield made
