"""No secret, ours or of a vendor's users, is in any table, log, error or repr."""

from __future__ import annotations

import logging
import re
from random import Random
from typing import TYPE_CHECKING

import pytest
import sqlalchemy as sa
import structlog
from starlette.responses import Response

from tests.mirroring import mirrored, sync_once
from tests.slow_params import slow_except
from tests.workers.connectors import sandbox_harness
from tests.workers.connectors.sandbox_harness import SYSTEMS, SandboxHarness, secrets_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from models.db.database import Database
    from tests.mirroring import Mirror

_SECRET_FIELD = re.compile(r'"[^"]*(?:password|salt|token|secret)[^"]*"\s*:\s*"([^"]{6,})"', re.IGNORECASE)
"""Secrets in a vendor's answers: sessions, and passwords of its users."""

_SESSION_HEADERS = ("authorization", "cookie")
"""Lower-case names."""

_SHORTEST = 6
"""Shorter words are in other texts by chance."""

_TIMES = 9
"""How often a request is repeated in one answer, so that a text cut at any length cuts one of them."""

_ECHOES = {"400": 400, "401": 401, "403": 403, "409": 409, "429": 429, "500": 500, "html": 200}


class Tap:
    """A proxy before a sandbox that records every secret that passes.

    `echo`: if set, every request is answered with this status and its own text, as some vendors do.
    `repeated`: how often it did.
    """

    def __init__(self) -> None:
        self.secrets: set[str] = set()
        self.echo: int | None = None
        self.repeated = 0

    def before(self, app: ASGIApp) -> ASGIApp:
        async def tapped(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            headers = {name.decode().lower(): value.decode() for name, value in scope["headers"]}
            self._learn_from(headers)
            if self.echo is None:
                await app(scope, receive, self._recording(send))
                return
            self.repeated += 1
            asked = sandbox_harness.describe(scope, await _body(receive))
            await _repeating(asked, self.echo)(scope, receive, send)

        return tapped

    def _learn_from(self, headers: dict[str, str]) -> None:
        for name in _SESSION_HEADERS:
            words = re.split(r"[ ;=]+", headers.get(name, ""))
            self.secrets |= {word for word in words if len(word) > 2 * _SHORTEST}

    def _recording(self, send: Send) -> Send:
        body = bytearray()

        async def record(message: Message) -> None:
            body.extend(message.get("body", b""))
            if not message.get("more_body"):
                self.secrets |= set(_SECRET_FIELD.findall(body.decode(errors="replace")))
            await send(message)

        return record


async def _body(receive: Receive) -> bytes:
    body, more = bytearray(), True
    while more:
        message = await receive()
        body.extend(message.get("body", b""))
        more = bool(message.get("more_body"))
    return bytes(body)


def _repeating(asked: str, status: int) -> Response:
    repeated = f"{asked} " * _TIMES
    if status == _ECHOES["html"]:
        return Response(f"<html>{repeated}</html>", status, media_type="text/html")
    return Response(repeated, status, media_type="text/plain")


def _shows(text: str, secrets: set[str]) -> bool:
    """Whether the text has a secret, or the first half of a long one: it may have been cut before it was masked."""
    return any(secret[: max(2 * _SHORTEST, len(secret) // 2)] in text for secret in secrets)


def _cells(database: Database) -> Iterator[tuple[str, str]]:
    """Place and text of every value of every table."""
    with database.read() as tx:
        for name in sa.inspect(tx).get_table_names():
            for row in tx.execute(sa.text(f'SELECT * FROM "{name}"')).mappings():
                for column, value in row.items():
                    text = value.decode("latin-1") if isinstance(value, bytes) else str(value)
                    yield f"{name}.{column}", text


def _found(secrets: set[str], database: Database, logged: list[str]) -> list[str]:
    """The places that show a secret."""
    places = [place for place, text in _cells(database) if _shows(text, secrets)]
    return sorted({*places, *(f"log: {line}" for line in logged if _shows(line, secrets))})


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """Every log line so far, ours and the libraries'."""
    caplog.set_level(logging.INFO)
    with structlog.testing.capture_logs() as ours:
        yield lambda: [*(str(line) for line in ours), *(record.getMessage() for record in caplog.records)]


def _day(mirror: Mirror, system: str) -> None:
    mirror.work()
    for _ in mirror.sandboxes[system].scenario():
        pass
    for _ in range(5):
        mirror.sandboxes[system].edit(Random(5))
    mirror.catch_up()


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_mirrored_day_leaves_no_secret_in_any_table_or_log(
    sqlite: Database, tmp_path: Path, logged: Callable[[], list[str]], system: str
) -> None:
    tap = Tap()
    with mirrored(sqlite, tmp_path, **{system: {"seed": 3, "wrapper": tap.before}}) as mirror:
        _day(mirror, system)
        secrets = tap.secrets | secrets_of(mirror.context(system).options)
        rows = [place for place, _ in _cells(sqlite) if place.endswith("._raw")]
        assert rows, "something was mirrored"
        assert [] == _found(secrets, sqlite, logged())


def test_a_tap_records_the_secrets_that_pass(sqlite: Database, tmp_path: Path) -> None:
    tap = Tap()
    with mirrored(sqlite, tmp_path, easyflor={"seed": 3, "wrapper": tap.before}) as mirror:
        mirror.work()
        issued = mirror.sandboxes["easyflor"].issued
    assert issued
    assert issued <= tap.secrets
    assert len(tap.secrets) > len(issued), "passwords of the vendor's own users pass, too"


def test_a_secret_in_a_table_or_in_a_log_is_found(sqlite: Database) -> None:
    with sqlite.begin() as tx:
        tx.execute(sa.text("CREATE TABLE mine (words TEXT, bytes BLOB)"))
        tx.execute(sa.text("INSERT INTO mine VALUES ('the key very-secret', X'766572792d736563726574')"))
    assert ["log: so very-secret", "mine.bytes", "mine.words"] == _found({"very-secret"}, sqlite, ["so very-secret"])


@pytest.mark.parametrize("echo", slow_except(["400", "401", "500", "html"], quick="401"))
@pytest.mark.parametrize("system", SYSTEMS)
def test_a_vendors_repetition_of_a_request_is_not_stored_or_logged(
    sqlite: Database, tmp_path: Path, logged: Callable[[], list[str]], system: str, echo: str
) -> None:
    tap = Tap()
    with mirrored(sqlite, tmp_path, **{system: {"seed": 3, "wrapper": tap.before}}) as mirror:
        mirror.work()
        tap.echo = _ECHOES[echo]
        mirror.sandboxes[system].edit(Random(5))
        sync_once(mirror, system)
        assert tap.repeated, "there was a request"
        secrets = tap.secrets | secrets_of(mirror.context(system).options)
        assert [] == _found(secrets, sqlite, logged())


@pytest.fixture(scope="module")
def served() -> Iterator[Callable[[str], SandboxHarness]]:
    with sandbox_harness.serve_all() as of:
        yield of


@pytest.mark.parametrize("echo", _ECHOES)
@pytest.mark.parametrize("system", SYSTEMS)
def test_no_error_and_no_repr_shows_a_secret(served: Callable[[str], SandboxHarness], system: str, echo: str) -> None:
    harness = served(system)
    for question in (each for resource in harness.resources for each in harness.questions(resource)):
        outcome = harness.put(question, spoil=lambda _: _repeating(harness.proxy.last_request, _ECHOES[echo]))
        secrets = harness.secrets()
        assert secrets
        texts = [str(outcome.error), repr(outcome.error), repr(outcome.end), repr(outcome.found)]
        assert [] == [each for each in texts if _shows(each, secrets)]


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_client_and_no_settings_show_a_secret(served: Callable[[str], SandboxHarness], system: str) -> None:
    harness = served(system)
    client = harness.known()
    client.check()
    assert (harness.session is None) == (harness.secrets() == secrets_of(harness.options)), (
        "a session's token is a secret"
    )
    texts = [repr(client), repr(harness.options), str(harness.options), repr(harness.options.model_dump())]
    assert [] == [each for each in texts if _shows(each, harness.secrets())]
