from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from models.database import Database
    from tests.receiver.conftest import Open

TOKEN = 'token = "t0ken-of-the-mirror"'
RIGHT = ("Authorization", "Bearer t0ken-of-the-mirror")
BEHIND = ["/changes", "/readyz", "/metrics", "/ticks/shop", "/ticks/nobody", "/no/such/page", "/"]


@pytest.mark.parametrize(
    ("allowed", "headers"),
    [
        (True, [RIGHT]),
        (True, [("authorization", "bearer  t0ken-of-the-mirror")]),
        (True, [RIGHT, ("X-Forwarded-For", "6.6.6.6"), ("Host", "mirror.example")]),
        (False, []),
        (False, [("Authorization", "Bearer wrong")]),
        (False, [("Authorization", "Bearer t0ken-of-the-mirro")]),
        (False, [("Authorization", "Bearer t0ken-of-the-mirrorr")]),
        (False, [("Authorization", "Bearer")]),
        (False, [("Authorization", "t0ken-of-the-mirror")]),
        (False, [("Authorization", "Basic t0ken-of-the-mirror")]),
        (False, [("Authorization", b"Bearer \xd1\x8f")]),
        (False, [RIGHT, ("Authorization", "Bearer wrong")]),
        (False, [("X-Forwarded-For", "127.0.0.1")]),
    ],
)
def test_a_token_once_set_is_needed_by_every_caller(
    sqlite: Database,
    opened: Open,
    allowed: bool,  # noqa: FBT001 - a column of a truth table
    headers: list[tuple[str, str | bytes]],
) -> None:
    with opened(sqlite, receiver=TOKEN) as client:
        for path in BEHIND:
            answer = client.get(path, headers=headers)  # type: ignore[arg-type]
            assert allowed == (answer.status_code != 401)
            if not allowed:
                assert "token" == answer.json()["error"]
                assert "Bearer" == answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(
    ("allowed", "headers"),
    [
        (True, {}),
        (True, {"Host": "localhost:8000"}),
        (True, {"Authorization": "Bearer whatever"}),
        (False, {"Host": "mirror.example"}),
        (False, {"X-Forwarded-For": "127.0.0.1"}),
        (False, {"X-Forwarded-Proto": "https"}),
        (False, {"Forwarded": "for=127.0.0.1"}),
        (False, {"X-Real-IP": "127.0.0.1"}),
        (False, {"Via": "1.1 proxy"}),
    ],
)
def test_without_a_token_only_direct_loopback_callers_are_let_in(
    sqlite: Database,
    opened: Open,
    allowed: bool,  # noqa: FBT001 - a column of a truth table
    headers: dict[str, str],
) -> None:
    with opened(sqlite) as client:
        for path in BEHIND:
            answer = client.get(path, headers=headers)
            assert allowed == (answer.status_code != 403)
            assert allowed or answer.json()["error"] == "sender"


def test_liveness_and_webhooks_need_no_token(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, receiver=TOKEN) as client:
        answer = client.get("/livez", headers={"X-Forwarded-For": "6.6.6.6", "Host": "mirror.example"})
        assert (200, {"ok": True}) == (answer.status_code, answer.json())
        assert "malformed" == client.get("/hooks/shop").json()["error"]


def test_no_spelling_of_a_path_goes_round_the_door(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, receiver=f'{TOKEN}\nroot_path = "/erp"') as client:
        for path in (
            "/changes",
            "/erp/changes",
            "//changes",
            "/CHANGES",
            "/livez/../changes",
            "/hooks/../changes",
            "/livez/",
        ):
            assert client.get(path).status_code in {401, 404}, path
        assert 200 == client.get("/erp/livez").status_code
        assert 200 == client.get("/erp/changes", headers=[RIGHT]).status_code


@pytest.mark.parametrize(
    ("status", "code", "method", "path"),
    [
        (404, "not_found", "GET", "/no/such/page"),
        (405, "method_not_allowed", "POST", "/changes"),
        (405, "method_not_allowed", "GET", "/ticks/shop"),
        (405, "method_not_allowed", "DELETE", "/metrics"),
    ],
)
def test_starlettes_own_refusals_are_json_too(
    sqlite: Database, opened: Open, status: int, code: str, method: str, path: str
) -> None:
    with opened(sqlite) as client:
        answer = client.request(method, path)
    assert (status, code) == (answer.status_code, answer.json()["error"])
    assert answer.json()["message"]
