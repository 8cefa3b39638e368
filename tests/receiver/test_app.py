from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import httpx
import sqlalchemy as sa

from models.db import migration, tables
from models.db.database import Database
from receiver import app
from receiver.http import server
from tests.processes import until
from tests.receiver.wakers import RecordingWaker
from tests.serving import served
from workers import configuration

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from models.settings.load import Settings

PACKET = '{"action":"objectChanged","params":{"objectName":"catalogs.goods","id":"1100300000000001"}}'


def test_the_factory_reads_the_settings_file_and_sends_wakeups_to_the_broker(
    tmp_path: Path,
    sqlite: Database,
    configure: Callable[..., Settings],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = configure(sqlite.url)
    monkeypatch.setenv(configuration.VARIABLE, str(settings.file))
    with served(app.create(), **server.OPTIONS) as url:
        assert 200 == httpx.post(f"{url}/hooks/shop", content=PACKET, trust_env=False).status_code
        assert "ok" == httpx.get(f"{url}/readyz", trust_env=False).json()["broker"]
    (message,) = (tmp_path / "var" / "broker" / "messages").iterdir()
    assert "shop" in json.dumps(_decoded(message.read_text()))


def _decoded(message: str) -> object:
    return json.loads(base64.b64decode(json.loads(message)["body"]))


def _webhooks(database: Database) -> int:
    with database.read() as tx:
        return int(tx.execute(sa.select(sa.func.count()).select_from(tables.webhooks)).scalar_one())


def test_a_receiver_works_as_soon_as_the_tables_are_made(empty_url: sa.URL, configure: Callable[..., Settings]) -> None:
    database = Database(empty_url)
    made = app.create_app(configure(empty_url), waker=RecordingWaker())
    with served(made, **server.OPTIONS) as url, httpx.Client(base_url=url, trust_env=False) as client:
        assert 200 == client.post("/hooks/shop", content=PACKET).status_code  # it waits in the spool
        assert 503 == client.get("/readyz").status_code
        assert 503 == client.get("/changes").status_code
        migration.migrate(database)
        until(lambda: _webhooks(database) == 1, seconds=60, what=lambda: client.get("/readyz").text)
        assert 200 == client.post("/hooks/shop", content=PACKET).status_code
        assert 200 == client.get("/readyz").status_code
        assert 200 == client.get("/changes").status_code
    assert 2 == _webhooks(database)
    database.close()
