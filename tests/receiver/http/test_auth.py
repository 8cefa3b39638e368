from __future__ import annotations

import hmac
import re
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from starlette.routing import Mount, Route

from receiver import app
from tests.receiver.wakers import RecordingWaker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import httpx
    from starlette.routing import BaseRoute

    from models.db.database import Database
    from models.settings.load import Settings
    from tests.receiver.conftest import Open

TOKEN = 'token = "t0ken-of-the-mirror"'
RIGHT = ("Authorization", "Bearer t0ken-of-the-mirror")
FORWARDED = ("X-Forwarded-For", "127.0.0.1")
OPEN = {"/livez", "/hooks/{connection}", "/hooks/{connection}/{secret}"}
"""The routes that need no token. A new one has to be added here."""

OWN = {"/commands/{connection}", "/commands/{connection}/{id}"}
"""Those that need a token of their own: see `test_commands`."""

NAMES = {"connection": "shop", "secret": "s", "resource": "catalogs.goods", "kind": "deliverynote", "sha256": "0" * 64}
NOWHERE = [("GET", "/"), ("GET", "/no/such/page"), ("POST", "/polls/unknown"), ("DELETE", "/changes"), ("PUT", "/docs")]


def _routes(routes: Iterable[BaseRoute], below: str = "") -> Iterator[tuple[str, str]]:
    for route in routes:
        if isinstance(route, Mount):
            yield from _routes(route.routes, below + route.path)
        elif isinstance(route, Route):
            path = re.sub(r":\w+}", "}", below + route.path)
            yield from ((method, path) for method in route.methods or ())


@pytest.fixture
def guarded(sqlite: Database, configure: Callable[..., Settings]) -> list[tuple[str, str]]:
    """Every method and path that needs the token, and some that do not exist."""
    found = set(_routes(app.create_app(configure(sqlite.url), waker=RecordingWaker()).routes))
    assert {path for _, path in found} >= OPEN | OWN
    return sorted((method, path.format(**NAMES)) for method, path in found if path not in OPEN | OWN) + NOWHERE


def _allowed(answer: httpx.Response, refusal: tuple[int, str]) -> bool:
    """Whether the request was allowed; if not, assert that the error is the expected one. HEAD has no body."""
    if answer.status_code != refusal[0]:
        return True
    assert not answer.content or refusal[1] == answer.json()["error"]
    return False


@pytest.mark.parametrize(
    ("allowed", "headers"),
    [
        (True, [RIGHT]),
        (True, [("authorization", "bearer  t0ken-of-the-mirror")]),
        (True, [RIGHT, ("X-Forwarded-For", "6.6.6.6"), ("Host", "mirror.example")]),
        (False, []),
        (False, [("Host", "localhost")]),
        (False, [("Authorization", "Bearer wrong")]),
        (False, [("Authorization", "Bearer T0ken-of-the-mirror")]),
        (False, [("Authorization", "Bearer")]),
        (False, [("Authorization", "Bearer *")]),
        (False, [("Authorization", "Bearer null")]),
        (False, [("Authorization", "t0ken-of-the-mirror")]),
        (False, [("Authorization", "Basic t0ken-of-the-mirror")]),
        (False, [("Authorization", "Basic OnQwa2VuLW9mLXRoZS1taXJyb3I=")]),
        (False, [("Authorization", "Bearer Bearer t0ken-of-the-mirror")]),
        (False, [("Authorization", "Bearer t0ken-of-the-mirror, Bearer x")]),
        (False, [("Authorization", b"Bearer \xd1\x8f")]),
        (False, [("Authorization", b"Bearer t0ken-of-the-mirror\xff")]),
        (False, [RIGHT, ("Authorization", "Bearer wrong")]),
        (False, [RIGHT, RIGHT]),
        (False, [("X-Authorization", "Bearer t0ken-of-the-mirror")]),
        (False, [("Cookie", "token=t0ken-of-the-mirror")]),
        (False, [FORWARDED]),
    ],
)
def test_a_configured_token_is_required_of_every_caller_on_every_route(
    sqlite: Database,
    opened: Open,
    guarded: list[tuple[str, str]],
    allowed: bool,  # noqa: FBT001 - a column of a truth table
    headers: list[tuple[str, str | bytes]],
) -> None:
    with opened(sqlite, receiver=TOKEN) as client:
        for method, path in guarded:
            answer = client.request(method, path, headers=headers)  # type: ignore[arg-type]
            assert allowed == _allowed(answer, (401, "token")), (method, path)
            assert allowed or answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("allowed", "headers"),
    [
        (True, {}),
        (True, {"Host": "localhost:8000"}),
        (True, {"Authorization": "Bearer whatever"}),
        (False, {"Host": "mirror.example"}),
        (False, {"Host": "127.0.0.1.mirror.example"}),
        (False, {"X-Forwarded-For": "127.0.0.1"}),
        (False, {"X-Forwarded-Proto": "https"}),
        (False, {"Forwarded": "for=127.0.0.1"}),
        (False, {"X-Real-IP": "127.0.0.1"}),
        (False, {"Via": "1.1 proxy"}),
    ],
)
def test_without_a_token_only_direct_loopback_callers_are_allowed(
    sqlite: Database,
    opened: Open,
    guarded: list[tuple[str, str]],
    allowed: bool,  # noqa: FBT001 - a column of a truth table
    headers: dict[str, str],
) -> None:
    with opened(sqlite) as client:
        for method, path in guarded:
            answer = client.request(method, path, headers=headers)
            assert allowed == _allowed(answer, (403, "sender")), (method, path)


def test_without_a_token_a_trusted_proxy_is_refused_even_if_it_adds_no_header(
    sqlite: Database, opened: Open, guarded: list[tuple[str, str]]
) -> None:
    with opened(sqlite, receiver='trusted_proxies = ["127.0.0.0/8"]') as client:
        for method, path in guarded:
            assert not _allowed(client.request(method, path), (403, "sender")), (method, path)


def test_a_token_that_is_nearly_right_is_answered_like_any_wrong_one(sqlite: Database, opened: Open) -> None:
    token = "t0ken-of-the-mirror"
    wrong = {token[:cut] + between + token[cut + 1 :] for cut in range(len(token)) for between in ("", "?")}
    wrong |= {part for cut in range(1, len(token)) for part in (token[:cut], token[cut:], token + token[:cut])}
    with opened(sqlite, receiver=TOKEN) as client:
        answers = [client.get("/changes", headers={"Authorization": f"Bearer {each}"}) for each in wrong]
    assert {(401, answers[0].text)} == {(answer.status_code, answer.text) for answer in answers}


def test_secrets_are_compared_only_in_constant_time() -> None:
    # A test cannot measure whether the time reveals anything, but the source shows that there is no other comparison.
    expected = {"http/auth.py": 1, "webhooks/routes.py": 1}
    assert expected == _occurrences(f"{hmac.__name__}.compare_digest(")
    assert {"http/auth.py": 2, "webhooks/routes.py": 1} == _occurrences(".get_secret_value()")
    assert 3 == _occurrences("_has_token(")["http/auth.py"], "both secrets there are compared by the one that has it"


def _occurrences(text: str) -> dict[str, int]:
    """In which files of the receiver the text occurs, and how often."""
    package = Path(app.__file__).parent
    counted = {file.relative_to(package).as_posix(): file.read_text().count(text) for file in package.rglob("*.py")}
    return {path: count for path, count in counted.items() if count}


def test_liveness_and_webhooks_need_no_token(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, receiver=TOKEN) as client:
        answer = client.get("/livez", headers={"X-Forwarded-For": "6.6.6.6", "Host": "mirror.example"})
        assert (200, {"ok": True}) == (answer.status_code, answer.json())
        assert "malformed" == client.get("/hooks/shop").json()["error"]


def test_no_spelling_of_a_path_avoids_the_token(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, receiver=f'{TOKEN}\nroot_path = "/erp"') as client:
        for path in (
            "/changes",
            "/erp/changes",
            "//changes",
            "/CHANGES",
            "/livez/../changes",
            "/hooks/../changes",
            "/hooks/%2e%2e/changes",
            "/hooks/..%2fchanges",
            "/livez%2f..%2fchanges",
            "/livez;/changes",
            "/livez/",
            "/hooks",
        ):
            assert client.get(path).status_code in {401, 404}, path
        assert 200 == client.get("/erp/livez").status_code
        assert 200 == client.get("/erp/changes", headers=[RIGHT]).status_code


def test_a_path_has_one_spelling_and_no_redirects(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, receiver=TOKEN) as client:
        for method, path in (("GET", "/changes/"), ("POST", "/polls/shop/"), ("GET", "/metrics/")):
            answer = client.request(method, path, headers=[RIGHT, ("Host", "evil.example")])
            assert (404, "not_found") == (answer.status_code, answer.json()["error"])


def test_without_a_token_an_http_1_0_caller_is_refused_as_a_possible_proxy(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        sock = HTTPConnection(client.base_url.host, client.base_url.port, timeout=30)
        vars(sock).update(_http_vsn=10, _http_vsn_str="HTTP/1.0")
        with closing(sock):
            sock.request("GET", "/changes", headers={"Host": "127.0.0.1:8000", "Connection": "close"})
            assert 403 == sock.getresponse().status


@pytest.mark.parametrize(
    ("status", "code", "method", "path"),
    [
        (404, "not_found", "GET", "/no/such/page"),
        (405, "method_not_allowed", "POST", "/changes"),
        (405, "method_not_allowed", "GET", "/polls/shop"),
        (405, "method_not_allowed", "DELETE", "/metrics"),
    ],
)
def test_starlettes_own_errors_are_json_too(
    sqlite: Database, opened: Open, status: int, code: str, method: str, path: str
) -> None:
    with opened(sqlite) as client:
        answer = client.request(method, path)
    assert (status, code) == (answer.status_code, answer.json()["error"])
    assert answer.json()["message"]
