"""The client as the spine opens it, against the sandbox as it is served."""

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
from workers.connectors.contract import alone
from workers.connectors.dilovod import sandbox as stand_in
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


def saying(body: str | bytes, status: int = 200) -> Starlette:
    """A vendor that has one answer for everything."""

    async def answer(_: Any) -> Response:
        return Response(body, status, media_type="application/json")

    return Starlette(routes=[Route("/", answer, methods=["POST"])])


def overheard(app: Starlette) -> tuple[Starlette, list[Any]]:
    """The app behind a door that notes each packet: its content type and what it says."""
    heard: list[Any] = []

    async def answer(request: Request) -> Response:
        body = await request.body()
        kind = request.headers["Content-Type"]
        text = dict(parse_qsl(body.decode()))["packet"] if "form" in kind else body
        heard.append((kind, exact.loads(text)))
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://vendor") as vendor:
            found = await vendor.post("/", content=body, headers={"Content-Type": kind})
        return Response(found.content, found.status_code, media_type="application/json")

    return Starlette(routes=[Route("/", answer, methods=["POST"])]), heard


@contextmanager
def opened(app: Starlette, **given: Any) -> Iterator[Client]:
    """A client of the app, served for the moment."""
    with served(app) as url:
        client = Client(made_options(url=url, **given), alone())
        try:
            yield client
        finally:
            client.close()


@pytest.fixture
def app() -> Starlette:
    return stand_in.create(seed=7)


@pytest.fixture
def sandbox(app: Starlette) -> stand_in.Sandbox:
    found: stand_in.Sandbox = app.state.sandbox
    return found


@pytest.fixture
def client(app: Starlette) -> Iterator[Client]:
    with opened(app) as made:
        yield made
