"""Commands over HTTP: an accepted one is stored, a refused one leaves nothing; their token opens nothing else."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import sqlalchemy as sa

from models.db import outgoing_tables, tables
from receiver import app
from receiver.http import server
from tests.processes import until
from tests.receiver.wakers import RecordingWaker
from tests.serving import served
from tests.workers.ingest import command_harness
from workers import configuration

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from models.db.database import Database
    from tests.workers.ingest.command_harness import CommandHarness

    Open = Callable[..., AbstractContextManager["Api"]]

TOKEN = "t0ken-of-six"
UPDATE = {"action": "update", "resource": "goods", "arguments": {"id": "1", "name": "Hook"}}


class Api:
    """A receiver of the connection `six`, and a caller that has its token."""

    def __init__(self, six: CommandHarness, client: httpx.Client, waker: RecordingWaker) -> None:
        self.six = six
        self.client = client
        self.waker = waker

    def post(self, request: Any = None, *, key: str | None = "k", **headers: str) -> httpx.Response:
        content = request if isinstance(request, bytes) else json.dumps(request or UPDATE).encode()
        given = {"Idempotency-Key": key} if key is not None else {}
        return self.client.post("/commands/six", content=content, headers={**given, **headers})

    def refused(self, status: int, code: str, request: Any = None, **options: Any) -> dict[str, Any]:
        answer = self.post(request, **options)
        assert (status, code) == (answer.status_code, answer.json()["error"])
        assert [] == self.six.all()
        assert [] == self.six.vendor.writes
        found: dict[str, Any] = answer.json()
        return found


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Serve a receiver and the vendor: `with opened(database) as api`."""

    @contextmanager
    def serve(database: Database, *, receiver: str = "", **options: Any) -> Iterator[Api]:
        with command_harness.connected(database, tmp_path, **{"commands_token": TOKEN, **options}) as six:
            file = six.settings.file
            head = f'[database]\nurl = "{database.url.render_as_string(hide_password=False)}"\n[receiver]\n{receiver}\n'
            file.write_text(head + file.read_text("utf-8"), encoding="utf-8")
            waker = RecordingWaker()
            made = app.create_app(configuration.load(file), waker=waker)
            headers = {"Authorization": f"Bearer {TOKEN}"}
            with (
                served(made, **server.OPTIONS) as url,
                httpx.Client(base_url=url, timeout=30, trust_env=False, headers=headers) as client,
            ):
                yield Api(six, client, waker)

    return serve


@pytest.fixture
def api(opened: Open, database: Database) -> Iterator[Api]:
    with opened(database) as found:
        yield found


def test_a_command_is_stored_before_the_answer_and_its_status_can_be_read(api: Api) -> None:
    answer = api.post()
    number = answer.json()["command"]
    assert (202, {"command": number, "state": "waiting", "new": True}) == (answer.status_code, answer.json())
    until(lambda: api.waker.woken == ["six"], seconds=60, what="a worker is woken")
    api.six.vendor.objects["goods"]["1"] = {"name": "Nail"}
    shown = api.client.get(f"/commands/six/{number}").json()
    assert {"id": "1", "name": "Hook"} == shown["arguments"]
    assert ("waiting", False, None, "1") == (shown["state"], shown["needs_person"], shown["sent_at"], shown["key"])
    api.six.clock.now = datetime.now(UTC) + timedelta(seconds=1)  # the receiver goes by the machine's clock
    api.six.work()
    shown = api.client.get(f"/commands/six/{number}").json()
    assert ("done", 1, {"id": 1}, None) == (shown["state"], shown["attempts"], shown["answer"], shown["reason"])
    assert "Hook" == api.six.live()["1"]["name"]
    assert "127.0.0.1" == api.six.command(number).caller


def test_the_same_key_is_one_command(api: Api) -> None:
    first, again = api.post(), api.post()
    assert (202, 202, False) == (first.status_code, again.status_code, again.json()["new"])
    assert first.json()["command"] == again.json()["command"]
    other = api.post({**UPDATE, "arguments": {"id": "1", "name": "Nail"}})
    assert (422, "key_reused") == (other.status_code, other.json()["error"])
    assert 1 == len(api.six.all())


def test_a_repeated_command_is_answered_as_the_first_time_whatever_is_allowed_now(
    opened: Open, sqlite: Database
) -> None:
    with opened(sqlite) as api:
        first = api.post().json()["command"]
        file = api.six.settings.file
        allowed = 'commands = ["create", "update", "delete"]'
        assert allowed in file.read_text("utf-8")
        file.write_text(file.read_text("utf-8").replace(allowed, 'commands = ["create"]'), "utf-8")
        made = app.create_app(configuration.load(file), waker=RecordingWaker())
        with served(made, **server.OPTIONS) as url:
            api.client.base_url = httpx.URL(url)
            again = api.post()
            assert (202, first, False) == (again.status_code, again.json()["command"], again.json()["new"])
            assert 403 == api.post(key="k2").status_code


def test_the_catalogue_describes_what_is_allowed(opened: Open, sqlite: Database) -> None:
    with opened(sqlite, commands=["update:goods"]) as api:
        actions = api.client.get("/commands/six").json()["actions"]
        assert [("update", "goods")] == [(each["action"], each["resource"]) for each in actions]
        assert ["id"] == actions[0]["schema"]["required"]
        example = {"action": "update", "resource": "goods", "arguments": actions[0]["example"]}
        assert 202 == api.post(example).status_code


@pytest.mark.parametrize(
    ("request_", "status", "code"),
    [
        (b"{", 400, "malformed"),
        (b"", 400, "malformed"),
        (b"\xff\xfe", 400, "malformed"),
        ({"action": "update"}, 400, "malformed"),
        (b"a" * (2**20), 413, "too_large"),
        ({**UPDATE, "action": "no"}, 404, "unknown_action"),
        ({**UPDATE, "resource": "no"}, 404, "unknown_resource"),
        ({**UPDATE, "arguments": {"id": 1}}, 422, "arguments"),
        ({**UPDATE, "arguments": {"id": "1", "name": "\0"}}, 422, "arguments"),
        ({**UPDATE, "arguments": {"id": "1", "name": "\ud800"}}, 422, "arguments"),
        (
            b'{"action": "update", "resource": "goods", "arguments": {"id": "1", "qty": 0.12345678901234567890}}',
            422,
            "arguments",
        ),
        ({**UPDATE, "arguments": {"id": "1", "lines": [{"n": n} for n in range(10_000)]}}, 422, "arguments"),
    ],
    ids=lambda value: str(value)[:60] if not isinstance(value, int) else None,
)
def test_bad_input_is_refused_and_stores_nothing(
    opened: Open, sqlite: Database, request_: Any, status: int, code: str
) -> None:
    with opened(sqlite) as api:
        api.refused(status, code, request_)


def test_every_mistake_is_told_with_its_place(opened: Open, sqlite: Database) -> None:
    with opened(sqlite) as api:
        found = api.refused(422, "arguments", {**UPDATE, "arguments": {"id": "x", "qty": "four", "name": "a" * 61}})
        assert ["id", "name", "qty"] == sorted(each["path"] for each in found["errors"])


@pytest.mark.parametrize("key", [None, "", "a" * 256, "two words"])
def test_without_a_key_of_its_own_nothing_is_accepted(opened: Open, sqlite: Database, key: str | None) -> None:
    with opened(sqlite) as api:
        api.refused(400, "no_idempotency_key" if key is None else "idempotency_key", key=key)


def test_an_action_that_is_not_allowed_is_403(opened: Open, sqlite: Database) -> None:
    with opened(sqlite, commands=["create"]) as api:
        api.refused(403, "not_allowed")


def test_more_than_the_settings_allow_are_429(opened: Open, sqlite: Database) -> None:
    with opened(sqlite, commands_per_minute=1) as api:
        api.post()
        answer = api.post(key="k2")
        assert (429, "60") == (answer.status_code, answer.headers["Retry-After"])
        assert 1 == len(api.six.all())


# The token.


@pytest.mark.parametrize("header", [None, "Bearer wrong", f"Basic {TOKEN}", "Bearer the-receivers-own", "Bearer"])
@pytest.mark.parametrize("path", ["/commands/six", "/commands/six/1", "/commands/nobody"])
def test_without_the_connections_token_nobody_is_let_in(
    opened: Open, sqlite: Database, header: str | None, path: str
) -> None:
    with opened(sqlite, receiver='token = "the-receivers-own"') as api:
        headers = {} if header is None else {"Authorization": header}
        api.client.headers.pop("Authorization")
        methods = ["GET"] if path.endswith("/1") else ["GET", "POST"]
        for answer in (api.client.request(method, path, headers=headers) for method in methods):
            assert (401, "token") == (answer.status_code, answer.json()["error"])
        assert [] == api.six.all()


def test_a_connection_without_a_commands_token_takes_none_not_even_from_this_machine(
    opened: Open, sqlite: Database
) -> None:
    with opened(sqlite) as api:
        file = api.six.settings.file
        file.write_text(file.read_text("utf-8").replace(f'commands_token = "{TOKEN}"\n', ""), "utf-8")
        made = app.create_app(configuration.load(file), waker=RecordingWaker())
        with served(made, **server.OPTIONS) as url, httpx.Client(base_url=url, trust_env=False) as client:
            for headers in ({}, {"Authorization": "Bearer"}, {"Authorization": f"Bearer {TOKEN}"}):
                assert 401 == client.post("/commands/six", headers=headers).status_code


def test_the_commands_token_opens_nothing_else(opened: Open, sqlite: Database) -> None:
    with opened(sqlite, receiver='token = "the-receivers-own"') as api:
        for path in ("/changes", "/readyz", "/metrics", "/openapi.json"):
            assert 401 == api.client.get(path).status_code
        assert 401 == api.client.post("/polls/six").status_code


# The database.


def test_while_the_database_is_away_nothing_is_accepted_and_nothing_goes_to_the_spool(
    opened: Open, sqlite: Database
) -> None:
    with opened(sqlite) as api:
        with sqlite.begin() as tx:
            tx.execute(sa.text("ALTER TABLE erpmirror_commands RENAME TO away"))
        answer = api.post()
        assert (503, "not_durable", "5") == (
            answer.status_code,
            answer.json()["error"],
            answer.headers["Retry-After"],
        )
        with sqlite.begin() as tx:
            tx.execute(sa.text("ALTER TABLE away RENAME TO erpmirror_commands"))
            assert 0 == tx.execute(sa.select(sa.func.count()).select_from(tables.webhooks)).scalar_one()
        assert [] == api.six.all()
        spool = api.six.settings.file.parent / "var" / "spool"
        assert [] == [each for each in spool.glob("*.jsonl") if each.stat().st_size]
        assert 202 == api.post().status_code


def test_another_connections_command_is_not_shown(opened: Open, sqlite: Database) -> None:
    with opened(sqlite) as api:
        number = api.post().json()["command"]
        with sqlite.begin() as tx:
            tx.execute(sa.update(outgoing_tables.commands).values(connection="seven"))
        for path in (number, number + 1, 2**70, "9" * 5000, "x", "-1", "%D9%A1"):
            answer = api.client.get(f"/commands/six/{path}")
            assert (404, "unknown_command") == (answer.status_code, answer.json()["error"])
