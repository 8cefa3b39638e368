"""A receiver over real HTTP, as `erpmirror receiver` runs it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import httpx
import pytest

from receiver import app
from receiver.http import server
from tests.receiver.http.tcp import Address, ShortLimits
from tests.receiver.wakers import RecordingWaker
from tests.serving import served
from workers import configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    import sqlalchemy as sa

    from models.db.database import Database
    from models.settings.load import Settings
    from receiver.notifier import Waker
    from tests.receiver.http.tcp import OpenLimited


class Open(Protocol):
    """Opens a receiver and gives a client of it. `options` go to `create_app`."""

    def __call__(
        self, database: Database, *, receiver: str = "", shop: str = "", waker: Waker | None = None, **options: Any
    ) -> AbstractContextManager[httpx.Client]: ...


@pytest.fixture
def configure(tmp_path: Path) -> Callable[[sa.URL, str, str], Settings]:
    """Settings with a Dilovod connection "shop" and a Directo connection "books", which takes no webhooks."""

    def load(url: sa.URL, receiver: str = "", shop: str = "") -> Settings:
        file = tmp_path / "erpmirror.toml"
        file.write_text(
            f"""
            [database]
            url = "{url.render_as_string(hide_password=False)}"
            [receiver]
            {receiver}
            [connections.shop]
            system = "dilovod"
            api_key = "KEY-OF-SHOP"
            resources = ["catalogs.goods", "documents.saleOrder"]
            {shop or 'webhook_sources = ["127.0.0.1"]'}
            [connections.books]
            system = "directo"
            api_key = "KEY-OF-BOOKS"
            resources = ["items"]
            """
        )
        return configuration.load(file)

    return load


@pytest.fixture
def opened(configure: Callable[[sa.URL, str, str], Settings]) -> Open:
    """Serve a receiver: `with opened(database) as client`."""

    @contextmanager
    def serve(
        database: Database, *, receiver: str = "", shop: str = "", waker: Waker | None = None, **options: Any
    ) -> Iterator[httpx.Client]:
        made = app.create_app(configure(database.url, receiver, shop), waker=waker or RecordingWaker(), **options)
        with (
            served(made, **server.OPTIONS, log_level="info") as url,
            httpx.Client(base_url=url, timeout=30, trust_env=False) as client,
        ):
            yield client

    return serve


@pytest.fixture
def limited(sqlite: Database, configure: Callable[..., Settings]) -> OpenLimited:
    """Serve a receiver with short limits: `with limited() as address`."""

    @contextmanager
    def serve(**options: Any) -> Iterator[Address]:
        made = app.create_app(configure(sqlite.url), waker=RecordingWaker())
        with served(made, **server.OPTIONS | {"http": ShortLimits, "log_level": "info"} | options) as url:
            yield Address(("127.0.0.1", int(url.rpartition(":")[2])))

    return serve
