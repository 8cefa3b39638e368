"""Dilovod's webhooks as tests send them, and the rows that they leave."""

from __future__ import annotations

import json
import logging
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import sqlalchemy as sa

from models.db import tables

if TYPE_CHECKING:
    import httpx
    import pytest

    from models.db.database import Database

GOODS = "1100300000000001"
SALE_ORDER = "1109100000000001"
VENDOR = "88.198.50.253"


def packet(name: str = "catalogs.goods", key: Any = GOODS, action: str = "objectChanged") -> str:
    return json.dumps({"action": action, "params": {"objectName": name, "id": key}}, separators=(",", ":"))


def query(*packets: str) -> str:
    return urlencode([("packet", packet) for packet in packets], quote_via=quote)


def rows(database: Database) -> list[tuple[str, str, str | None, str | None, str]]:
    table = tables.webhooks
    with database.read() as tx:
        found = tx.execute(sa.select(table).order_by(table.c.id))
        return [(row.connection, row.state, row.resource, row.key, row.packet) for row in found]


def new(packet: str, name: str = "catalogs.goods", key: str = GOODS) -> tuple[str, str, str, str, str]:
    return ("shop", "new", name, key, packet)


def refused(expected: tuple[int, str], answer: httpx.Response) -> None:
    assert expected == (answer.status_code, answer.json()["error"])
    assert {"error", "message"} == set(answer.json())
    assert answer.json()["message"]


def connect(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=30)


def nothing_logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    output = capfd.readouterr()
    for unwanted in ("Traceback", "ERROR", "WARNING", "packet", GOODS):
        assert unwanted not in output.out + output.err
    assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING and record.name != "httpx"]
