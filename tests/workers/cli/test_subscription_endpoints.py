"""`subscriptions test` and `check` against real endpoints."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from models.db import migration
from models.db.database import Database
from tests.serving import served
from tests.workers.cli.runner import ok, refused, run
from tests.workers.deliveries import harness
from tests.workers.deliveries.harness import Listening

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def listening(folder: Path, endpoint: Listening, **options: Any) -> Iterator[None]:
    """A subscription `crm` in `erpmirror.toml` of the working directory, whose endpoint is served for the block."""
    database = Database(f"sqlite:///{folder / 'mirror.db'}")
    migration.migrate(database)
    database.close()
    with served(endpoint.app) as address:
        harness.settings(folder, f"{address}/hooks?key=k3y", database, **options)
        yield


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_test_message_is_signed_and_its_answer_is_shown(tmp_path: Path) -> None:
    endpoint = Listening(reply=lambda _: (200, b"thanks \x1b[2J", {}))
    with listening(tmp_path, endpoint):
        said = ok("subscriptions", "test", "crm").stdout
    [posted] = endpoint.posted
    assert ("erpmirror.test", {"subscription": "crm"}) == (posted.body["type"], posted.data)
    assert f"crm took {posted.id}: status 200" in said
    assert "answer: thanks \\x1b[2J" in said


def test_a_test_that_fails_says_what_the_endpoint_said(tmp_path: Path) -> None:
    with listening(tmp_path, Listening(reply=lambda _: (503, b"closed", {}))):
        said = refused("subscriptions", "test", "crm")
    assert "crm did not take it: status 503: closed" in said


def test_a_test_of_an_unknown_subscription_names_the_known_one(tmp_path: Path) -> None:
    with listening(tmp_path, Listening()):
        assert 'did you mean "crm"' in refused("subscriptions", "test", "crn")


def test_check_connects_and_posts_nothing(tmp_path: Path) -> None:
    endpoint = Listening()
    with listening(tmp_path, endpoint):
        rows = json.loads(run("check", "--json").stdout)
    [row] = [row for row in rows if row["what"] == "subscription crm"]
    assert row["ok"]
    assert "127.0.0.1 can be connected to" in row["says"]
    assert [] == endpoint.posted


def test_check_says_why_an_endpoint_cannot_be_connected_to(tmp_path: Path) -> None:
    with listening(tmp_path, Listening()):
        pass  # it is away from here on
    rows = json.loads(run("check", "--json").stdout)
    [row] = [row for row in rows if row["what"] == "subscription crm"]
    assert not row["ok"]
    assert "no connection to 127.0.0.1" in row["says"]
    assert "k3y" not in json.dumps(row)
