"""A whole installation at a vendor that repeats its requests: no secret is in the folder, the answers or the output."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import quote

import httpx
import pytest
from starlette.responses import Response

from models.db.database import Database
from tests.processes import FILES, installed, until
from tests.slow_params import slow_except
from tests.test_secrets import Tap, _body
from tests.workers.connectors import sandbox_harness
from tests.workers.connectors.sandbox_harness import SYSTEMS, secrets_of
from workers import configuration

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

    from tests.processes import Installation

TOKEN = "the-receivers-own-token/+&=%"
HOOK = "the-webhooks-own-secret.~"
ROUTES = ("/readyz", "/metrics", "/changes?after=0", "/livez", "/openapi.json")
VERBS = (("status", "--json"), ("parked", "list", "--json"), ("parked", "list"), ("status",), ("check",))


def written(asked: str) -> Iterator[tuple[int, str, dict[str, str]]]:
    """The ways in which a vendor repeats a request: status, body, headers."""
    for status in (400, 401, 403, 500):
        yield status, asked * 9, {}
        yield status, asked[20:], {}
        yield status, quote(asked, safe=""), {}
        yield status, base64.b64encode(asked.encode()).decode(), {}
        yield status, json.dumps({"error": asked, "message": asked}), {"content-type": "application/json"}
        yield status, asked[: len(asked) // 2], {"x-echo": quote(asked), "set-cookie": f"echo={quote(asked, safe='')}"}
    yield 302, asked, {"location": f"https://127.0.0.1:9/{quote(asked, safe='')}"}
    yield 429, asked, {"retry-after": "1"}


class Echo(Tap):
    """Passes requests on at first, then answers each by repeating it, each time in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.repeating = False

    def before(self, app: ASGIApp) -> ASGIApp:
        recording = super().before(app)

        async def echoed(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or not self.repeating:
                await recording(scope, receive, send)
                return
            self._learn_from({name.decode().lower(): value.decode() for name, value in scope["headers"]})
            asked = sandbox_harness.describe(scope, await _body(receive))
            ways = list(written(asked))
            status, body, headers = ways[self.repeated % len(ways)]
            self.repeated += 1
            await Response(body, status, headers)(scope, receive, send)

        return echoed


def seen(secrets: set[str], content: str) -> bool:
    """Whether the content has one of them, or the larger half of one, plain or encoded."""
    return any(
        half in content
        for secret in secrets
        for form in (secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1])
        for half in (form[: max(12, len(form) // 2 + 1)], form[-max(12, len(form) // 2 + 1) :])
    )


def in_folder(secrets: set[str], installation: Installation) -> list[str]:
    """The files below the settings file, which itself may hold them, in which one is seen: databases and logs too."""
    files = (each for each in installation.file.parent.rglob("*") if each.is_file() and each != installation.file)
    return [each.name for each in files if seen(secrets, each.read_bytes().decode("latin-1"))]


def outputs(installation: Installation) -> dict[str, str]:
    """Route or verb -> what it answers."""
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    answers = {route: httpx.get(f"{installation.address}{route}", headers=bearer, timeout=30).text for route in ROUTES}
    answers |= {
        f"{route} without the token": httpx.get(f"{installation.address}{route}", timeout=30).text for route in ROUTES
    }
    for verb in VERBS:
        command = [sys.executable, "-m", "workers.cli", *verb, "--config", str(installation.file)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=os.environ)
        answers[" ".join(verb)] = done.stdout + done.stderr
    return answers


def _with_our_own_secrets(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    text = text.replace("[receiver]\n", f"[receiver]\ntoken = {json.dumps(TOKEN)}\n")
    text = text.replace("[connections.dilovod]\n", f'[connections.dilovod]\nwebhook_secret = "{HOOK}"\n')
    file.write_text(text, encoding="utf-8")


def _hook(address: str, secret: str) -> int:
    packet = {"action": "objectChanged", "params": {"objectName": "catalogs.goods", "id": "1100300000000001"}}
    return httpx.post(f"{address}/hooks/dilovod/{secret}", json=packet, timeout=30).status_code


@pytest.mark.timeout(400)
@pytest.mark.parametrize("system", slow_except([each for each in SYSTEMS if each != "interpreter"], quick="dilovod"))
def test_no_secret_leaves_an_installation_whatever_its_vendor_repeats(tmp_path: Path, system: str) -> None:
    echo = Echo()
    with (
        closing(Database(f"sqlite:///{tmp_path / 'mirror.db'}")) as database,
        installed(database, tmp_path, broker=FILES, systems={system: {"seed": 3}}, wrappers={system: echo.before}) as (
            installation,
            _,
        ),
    ):
        _with_our_own_secrets(installation.file)
        installation.start_all()
        if system == "dilovod":
            assert (200, 403) == (_hook(installation.address, HOOK), _hook(installation.address, f"{HOOK}x"))
        until(lambda: echo.secrets or system != "easyflor", seconds=120, what=installation.logs)
        echo.repeating = True
        until(lambda: echo.repeated >= 6, seconds=200, what=installation.logs)
        options = configuration.load(installation.file).connections[system]
        secrets = {each for each in echo.secrets | secrets_of(options) | {TOKEN, HOOK} if len(each) > 5}
        answers = outputs(installation)
        assert [] == [where for where, text in answers.items() if seen(secrets, text)]
        assert [] == in_folder(secrets, installation)


def test_a_secret_in_a_file_is_found() -> None:
    assert seen({"a-long-enough-secret"}, "it was a-long-enough-se")
    assert seen({"a/long/enough?secret"}, f"it was {quote('a/long/enough?secret', safe='')[3:]}")
    assert not seen({"a-long-enough-secret"}, "it was a-long")
