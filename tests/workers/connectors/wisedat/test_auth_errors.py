"""Failing logins at Wisedat, and secrets: no error, repr or stored session contains one."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, Response

from models import exact
from tests.workers.connectors.wisedat.conftest import SharedSessions, error_of, intercepted
from workers.connectors.wisedat import auth
from workers.errors import SetAside, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from tests.workers.connectors.wisedat.conftest import Server

LOGIN_PATH = "/authentication/login"


@pytest.mark.parametrize(
    ("path", "answer", "expected"),
    [
        ("/status", Response("<html>", 503), TryLater),
        ("/status", Response("slow", 429, {"Retry-After": "7"}), TryLater),
        ("/status", Response("<html>IIS</html>"), TryLater),
        ("/status", Response("No Authorization property on the request header", 400), SetAside),
        ("/status", Response("nothing here", 404), TryLater),
        ("/status", Response("", 302, {"Location": "https://elsewhere.example/"}), TryLater),
        (LOGIN_PATH, Response("<html>", 503), TryLater),
        (LOGIN_PATH, Response('{"auth_token": "half'), TryLater),
        (LOGIN_PATH, Response("No Authorization property on the request header", 400), SetAside),
        (LOGIN_PATH, Response("forbidden", 403), SetAside),
        (LOGIN_PATH, JSONResponse({}), TryLater),
        (LOGIN_PATH, JSONResponse({"auth_token": ""}), TryLater),
        (LOGIN_PATH, JSONResponse({"auth_token": "with\nnewline"}), TryLater),
        (LOGIN_PATH, JSONResponse(["token"]), TryLater),
    ],
)
def test_every_unexpected_answer_to_the_login_raises_a_vendor_error(
    path: str, answer: Response, expected: type[VendorError]
) -> None:
    with intercepted(lambda asked: answer if asked.url.path == path else None) as (_, client):
        error = error_of(client)
    assert isinstance(error, expected), error
    assert not isinstance(error, SetAside) or error.whole_resource or "redirected" in str(error)


def test_a_busy_login_reports_how_long_to_wait() -> None:
    busy = Response("slow", 429, {"Retry-After": "7"})
    with intercepted(lambda asked: busy if asked.url.path == LOGIN_PATH else None) as (_, client):
        error = error_of(client)
    assert isinstance(error, TryLater)
    assert timedelta(seconds=7) == error.after


def failing_logins(first: int, second: int) -> Callable[[Request], Response | None]:
    statuses = [first, second]

    def intercept(asked: Request) -> Response | None:
        return Response("Bad Data.", statuses.pop(0)) if asked.url.path == LOGIN_PATH and statuses else None

    return intercept


def test_if_a_padding_causes_a_server_error_the_other_is_tried() -> None:
    with intercepted(failing_logins(500, 500)) as (server, client):
        assert isinstance(error_of(client), TryLater)
        assert client.read("taxes")
        assert 1 == server.sandbox.logins


@pytest.mark.parametrize("statuses", [(500, 401), (401, 500)])
def test_a_wrong_login_is_reported_although_the_other_padding_causes_a_server_error(statuses: tuple[int, int]) -> None:
    with intercepted(failing_logins(*statuses)) as (_, client):
        error = error_of(client)
    assert isinstance(error, SetAside)
    assert "HTTP 401" in str(error)


def test_if_a_stored_padding_causes_a_server_error_the_other_is_not_tried() -> None:
    is_failing, refused = False, []

    def intercept(asked: Request) -> Response | None:
        if not is_failing or asked.url.path != LOGIN_PATH:
            return None
        refused.append(asked.url.path)
        return Response("down", 500)

    with intercepted(intercept) as (server, client):
        client.read("taxes")
        is_failing = True
        server.sandbox.rotate()
        assert isinstance(error_of(client), TryLater)
        assert [LOGIN_PATH] == refused
        is_failing = False
        assert client.read("taxes")


def test_no_secret_is_in_any_error_or_repr(server: Server) -> None:
    shared = SharedSessions()
    login = server.options(password="errada-mas-secreta").login()
    with server.opened(shared.runtime) as client:
        client.read("taxes")
    token = exact.loads(shared.session or b"")["token"]

    def echo(asked: Request) -> Response | None:
        statuses = {"/status": None, "/units": 500}
        status = statuses.get(asked.url.path, 400)
        sent.append(asked.headers["Authorization"].partition(" ")[2])
        return (
            Response(f"Invalid token: {asked.headers['Authorization']} of {' '.join(login)}", status)
            if status
            else None
        )

    sent: list[str] = []
    with intercepted(echo) as (other, _):
        with other.opened(shared.runtime, password=login[2]) as client:
            for name in ("units", "taxes"):
                with pytest.raises(VendorError) as raised:
                    client.read(name)
                assert "Bearer *** of ***" in str(raised.value)
        with other.opened(password=login[2]) as client:
            error = error_of(client)
            assert "WDAPI *** of ***" in str(error)
            shown = str(error) + repr(client) + repr(vars(client)) + repr(auth._Session("pkcs1", token))
    assert [token, token] == sent[:2]
    assert [] == [secret for secret in (*login, *sent) if secret in shown]


def test_a_sent_token_is_in_no_error_although_a_newer_one_exists(server: Server) -> None:
    shared = SharedSessions()
    sent: list[str] = []

    def echo(asked: Request) -> Response | None:
        sent.append(asked.headers["Authorization"].removeprefix("Bearer "))
        shared.drop()  # another client is about to log in
        return Response(f"Invalid token: {asked.headers['Authorization']} is of no use", 400)

    with server.opened(shared.runtime) as client:
        client.read("taxes")
    with intercepted(echo) as (other, _), other.opened(shared.runtime) as client:
        error = error_of(client)
    assert "Bearer *** is of no use" in str(error)
    assert sent[0] not in str(error)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_sent_login_is_in_no_error_whatever_the_padding(status: int) -> None:
    sent: list[str] = []

    def echo(asked: Request) -> Response | None:
        if asked.url.path != LOGIN_PATH:
            return None
        sent.append(asked.headers["Authorization"].removeprefix("WDAPI "))
        return Response(sent[-1], status)

    with intercepted(echo) as (_, client):
        error = error_of(client)
    assert sent
    assert [] == [each for each in sent if each[:20] in str(error)]


@pytest.mark.parametrize("status", [400, 500])
def test_no_fragment_of_a_secret_remains_where_an_excerpt_is_cut(server: Server, status: int) -> None:
    shared = SharedSessions()
    password = server.options().login()[2]
    with server.opened(shared.runtime) as client:
        client.read("taxes")
    pages: list[str] = []
    with intercepted(lambda _: Response(pages[-1], status)) as (other, _):
        for length in range(150, 200):
            pages.append(f"{'x' * length}{password}")
            with other.opened(shared.runtime) as client:
                assert "sandb" not in str(error_of(client))


def test_the_stored_session_contains_no_login(server: Server) -> None:
    shared = SharedSessions()
    with server.opened(shared.runtime) as client:
        client.read("taxes")
    stored = (shared.session or b"").decode()
    assert [] == [secret for secret in server.options().login() if secret in stored]


def test_a_session_in_an_unknown_format_costs_one_login(server: Server) -> None:
    for session in (b"token", b"[]", b'{"token": "x"}', b'{"padding": "pkcs1", "token": "x", "until": 7}'):
        with server.opened(SharedSessions(session).runtime) as client:
            assert client.read("taxes")
