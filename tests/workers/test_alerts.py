"""Alerts reach a real listener; what cannot be sent is logged without its address."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import structlog
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from tests.serving import served
from tests.workers.deliveries.harness import CONNECTION, Listening, telling
from workers import alerts, configuration
from workers.cli import check
from workers.queue import app, tasks

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from starlette.requests import Request

    from models.db.database import Database
    from models.settings.load import Settings


class Person:
    """Who is told: a listener that takes what Apprise posts as JSON."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.app = Starlette(routes=[Route("/{path:path}", self._take, methods=["POST"])])

    async def _take(self, request: Request) -> Response:
        self.told.append(json.loads(await request.body()))
        return Response()


def _settings(folder: Path, *addresses: str, more: str = "") -> Settings:
    file = folder / "erpmirror.toml"
    file.write_text(f"{CONNECTION}[alerts]\nto = {json.dumps(addresses)}\n{more}", "utf-8")
    return configuration.load(file)


def test_every_address_is_told(tmp_path: Path) -> None:
    person = Person()
    with served(person.app) as address:
        place = address.replace("http://", "json://")
        alerts.send(_settings(tmp_path, f"{place}/one", f"{place}/two"), title="crm is paused", body="because")
    assert [("erpmirror: crm is paused", "because")] * 2 == [(each["title"], each["message"]) for each in person.told]


def test_what_cannot_be_sent_is_logged_without_its_password(tmp_path: Path) -> None:
    with structlog.testing.capture_logs() as logged:
        alerts.send(_settings(tmp_path, "json://me:s3cret@127.0.0.1:9/"), title="crm is paused", body="because")
    assert [("alert not sent", 1, "json")] == [(each["event"], each["address"], each["kind"]) for each in logged]
    assert "s3cret" not in str(logged)


def test_without_addresses_nothing_is_sent(tmp_path: Path) -> None:
    alerts.send(_settings(tmp_path), title="crm is paused", body="because")


def test_check_names_the_place_of_an_address_that_apprise_does_not_know(tmp_path: Path) -> None:
    known, unknown = _settings(tmp_path, "json://h/"), _settings(tmp_path, "json://h/", "nothing://s3cret")
    assert check._alerts(known).ok
    outcome = check._alerts(unknown)
    assert (False, "Apprise cannot use the addresses number 2 of `to`") == (outcome.ok, outcome.says)


def test_a_subscription_that_pauses_itself_tells_a_person_once(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    person, endpoint = Person(), Listening(reply=lambda _: (410, b"", {}))
    with served(person.app) as address, telling(sqlite, tmp_path, endpoint) as told:
        file = told.settings.file
        to = address.replace("http://", "json://")
        file.write_text(f'{file.read_text("utf-8")}\n[alerts]\nto = ["{to}"]\n', "utf-8")
        settings = configuration.load(file)
        celery = app.create_app(settings, sqlite)
        celery.conf.task_always_eager = True
        told.change("1")
        monkeypatch.chdir(tmp_path)
        for _ in range(2):
            celery.tasks[tasks.DELIVER].apply(args=["crm"]).get()
    assert ["erpmirror: the subscription crm is paused"] == [each["title"] for each in person.told]
    assert "the endpoint answered 410" in person.told[0]["message"]
    assert "erpmirror subscriptions resume crm" in person.told[0]["message"]
