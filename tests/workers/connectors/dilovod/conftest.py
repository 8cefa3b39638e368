"""The client as the spine opens it, against the sandbox as it is served."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.serving import served
from workers.connectors.contract import Wire
from workers.connectors.dilovod import sandbox as stand_in
from workers.connectors.dilovod.client import Client
from workers.connectors.dilovod.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from starlette.applications import Starlette

RESOURCES = (
    "catalogs.goods",
    "catalogs.persons",
    "catalogs.units",
    "documents.saleOrder",
    "balanceRegisters.goods",
    "informationRegisters.goodsPrices",
)


class Sessions:
    """The contract's sessions, in memory. Dilovod has none."""

    def __init__(self) -> None:
        self.session: bytes | None = None

    def get(self) -> bytes | None:
        return self.session

    def put(self, session: bytes, until: datetime) -> None:  # noqa: ARG002
        self.session = session

    def drop(self) -> None:
        self.session = None


def made_options(**given: Any) -> Options:
    return Options.model_validate(
        {"name": "shop", "system": "dilovod", "api_key": "sandbox-key", "resources": RESOURCES} | given
    )


@contextmanager
def opened(app: Starlette, **given: Any) -> Iterator[Client]:
    """A client of the app, served for the moment."""
    with served(app) as url:
        client = Client(made_options(url=url, **given), Wire(alive=lambda: None, sessions=Sessions()))
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
