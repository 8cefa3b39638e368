"""Wisedat's login: key, padding, token, shared sessions, and no secret in any message."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, Response

from models import exact
from tests.workers.connectors.wisedat.conftest import SharedSessions, intercepted, serving
from workers.connectors.wisedat import auth
from workers.errors import Fate, SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from tests.workers.connectors.wisedat.conftest import Server
    from workers.connectors.wisedat.client import Client

LOGIN = ["GET /status", "POST /authentication/login"]
TAXES = "GET /taxes"


def error_of(client: Client) -> Fate:
    with pytest.raises(Fate) as raised:
        client.read("taxes")
    return raised.value


def test_one_login_serves_many_requests(server: Server, client: Client) -> None:
    client.read("taxes")
    client.read("units")
    assert [*LOGIN, TAXES, "GET /units"] == server.sandbox.asked


def test_clients_that_share_a_session_log_in_once(server: Server) -> None:
    shared = SharedSessions()
    with server.opened(shared.runtime) as one, server.opened(shared.runtime) as other:
        one.read("taxes")
        other.read("taxes")
    assert [*LOGIN, TAXES, TAXES] == server.sandbox.asked


def test_a_refused_token_is_renewed_and_the_request_repeated(server: Server, client: Client) -> None:
    client.read("taxes")
    server.sandbox.expire()
    server.sandbox.asked.clear()
    assert client.read("taxes")
    assert [TAXES, *LOGIN, TAXES] == server.sandbox.asked


def test_each_login_fetches_the_public_key(server: Server, client: Client) -> None:
    for _ in range(3):
        server.sandbox.rotate()
        assert client.read("taxes")
    assert (3, 0) == (server.sandbox.logins, server.sandbox.refused_logins)


def test_a_session_that_another_client_renewed_is_used(server: Server) -> None:
    shared = SharedSessions()
    with server.opened(shared.runtime) as one, server.opened(shared.runtime) as other:
        one.read("taxes")
        server.sandbox.expire()
        server.sandbox.asked.clear()
        shared.waiting.append(lambda: other.read("units"))
        assert one.read("taxes")
    assert [TAXES, "GET /units", *LOGIN, "GET /units", TAXES] == server.sandbox.asked


def test_a_first_session_that_another_client_opened_is_used(server: Server) -> None:
    shared = SharedSessions()
    with server.opened(shared.runtime) as one, server.opened(shared.runtime) as other:
        shared.waiting.append(lambda: other.read("units"))
        assert one.read("taxes")
    assert [*LOGIN, "GET /units", TAXES] == server.sandbox.asked


def test_a_token_is_not_tried_after_28_minutes(server: Server) -> None:
    shared = SharedSessions()
    with server.opened(shared.runtime) as client:
        before = datetime.now(UTC)
        client.read("taxes")
        until = datetime.fromisoformat(exact.loads(shared.session or b"")["until"])
        assert before + timedelta(minutes=28) <= until <= datetime.now(UTC) + timedelta(minutes=28)
        shared.age()
        server.sandbox.asked.clear()
        client.read("taxes")
    assert [*LOGIN, TAXES] == server.sandbox.asked


def test_a_new_token_that_is_refused_sets_the_resource_aside() -> None:
    def refused(asked: Request) -> Response | None:
        return Response("Invalid token", 401) if asked.url.path == "/taxes" else None

    with intercepted(refused) as (server, client):
        error = error_of(client)
    assert isinstance(error, SetAside)
    assert error.whole_resource
    assert "Invalid token" in str(error)
    assert 2 == server.sandbox.logins


def before(path: str, number: int, action: Callable[[], object]) -> Callable[[Request], None]:
    """An interceptor that calls `action` right before request `number` to this path, and lets the sandbox answer."""
    number_seen = count(1)

    def act(asked: Request) -> None:
        if asked.url.path == path and next(number_seen) == number:
            action()

    return act


def test_a_key_that_changes_before_the_login_is_fetched_again() -> None:
    def rotate() -> None:
        server.sandbox.rotate()

    with intercepted(before("/authentication/login", 1, rotate), rsa_padding="pkcs1") as (server, client):
        assert client.read("taxes")
    assert [*LOGIN, *LOGIN, TAXES] == server.sandbox.asked


def test_a_token_that_expires_right_after_its_login_is_renewed() -> None:
    def expire() -> None:
        server.sandbox.expire()

    with intercepted(before("/taxes", 2, expire)) as (server, client):
        client.read("units")
        server.sandbox.expire()
        assert client.read("taxes")
    assert 3 == server.sandbox.logins


@pytest.mark.parametrize("padding", ["pkcs1", "oaep"])
def test_either_padding_is_found(padding: str) -> None:
    with serving(padding=padding) as server, server.opened() as client:
        assert client.read("taxes")
        assert {"pkcs1": 0, "oaep": 1}[padding] == server.sandbox.refused_logins


def test_the_accepted_padding_is_stored_longer_than_the_token() -> None:
    shared = SharedSessions()
    with serving(padding="oaep") as server:
        with server.opened(shared.runtime) as client:
            client.read("taxes")
        shared.age()
        with server.opened(shared.runtime) as client:
            client.read("taxes")
            server.sandbox.rotate()
            client.read("taxes")
        assert (3, 1) == (server.sandbox.logins, server.sandbox.refused_logins)
    assert shared.until is not None
    assert shared.until > datetime.now(UTC) + timedelta(days=30)


def test_if_the_stored_padding_is_refused_the_other_is_tried() -> None:
    shared = SharedSessions()
    with serving(padding="oaep") as server, server.opened(shared.runtime) as client:
        client.read("taxes")
        server.sandbox.padding = "pkcs1"
        server.sandbox.rotate()
        assert client.read("taxes")
        assert (2, 2) == (server.sandbox.logins, server.sandbox.refused_logins)


@pytest.mark.parametrize("padding", ["pkcs1", "oaep"])
def test_a_configured_padding_is_the_only_one_tried(padding: str) -> None:
    with serving(padding=padding) as server:
        with server.opened(rsa_padding=padding) as client:
            assert client.read("taxes")
        assert 0 == server.sandbox.refused_logins
        with server.opened(rsa_padding="oaep" if padding == "pkcs1" else "pkcs1") as client:
            assert isinstance(error_of(client), SetAside)
        assert 1 == server.sandbox.refused_logins


def test_a_wrong_login_is_tried_with_both_paddings_and_set_aside(server: Server) -> None:
    with server.opened(password="errada-mas-secreta") as client:
        error = error_of(client)
    assert isinstance(error, SetAside)
    assert error.whole_resource
    assert "HTTP 401" in str(error)
    assert "`password`" in str(error)
    assert (0, 2) == (server.sandbox.logins, server.sandbox.refused_logins)


def test_a_failed_login_leaves_no_refused_token_in_the_session(server: Server) -> None:
    shared = SharedSessions()
    with server.opened(shared.runtime) as client:
        client.read("taxes")
        server.sandbox.expire()
        server.sandbox.state = 6
        assert isinstance(error_of(client), SetAside)
        server.sandbox.asked.clear()
        assert isinstance(error_of(client), SetAside)
    assert ["GET /status"] == server.sandbox.asked


@pytest.mark.parametrize(
    ("bits", "limits"),
    [(1024, "117 bytes with pkcs1 or 86 bytes with oaep"), (2048, "245 bytes with pkcs1 or 214 bytes with oaep")],
)
def test_a_login_that_is_too_long_for_the_key_reports_its_length_and_the_limit(bits: int, limits: str) -> None:
    password = "é" * 200
    with serving(key_bits=bits, password=password) as server, server.opened() as client:
        error = error_of(client)
        length = len(";".join(server.options().login()).encode())
    assert isinstance(error, SetAside)
    assert f"{length} bytes long" in str(error)
    assert limits in str(error)
    assert "é" not in str(error)
    assert ["GET /status"] == server.sandbox.asked


def test_a_login_that_fits_only_one_padding_is_tried_with_it(server: Server) -> None:
    with server.opened(password="x" * (117 - len("sandbox-key;espelho;"))) as client:
        error = error_of(client)
    assert "(RSA padding pkcs1)" in str(error)
    assert 1 == server.sandbox.refused_logins


def test_the_longest_login_that_fits_works() -> None:
    password = "x" * (117 - len("sandbox-key;espelho;"))
    with serving(password=password) as server, server.opened() as client:
        assert client.read("taxes")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (2, "check `api_key`"),
        (3, "not activated"),
        (4, "table management"),
        (5, "module Wisedat API Server"),
        (6, "plan is inactive"),
        (9, "no State that Wisedat documents"),
    ],
)
def test_each_state_except_online_names_its_remedy(server: Server, state: int, message: str) -> None:
    server.sandbox.state = state
    with server.opened() as client:
        error = error_of(client)
    assert isinstance(error, SetAside)
    assert error.whole_resource
    assert message in str(error)
    assert ["GET /status"] == server.sandbox.asked


def test_an_offline_server_is_tried_later(server: Server, client: Client) -> None:
    server.sandbox.restart(starting=1)
    assert isinstance(error_of(client), TryLater)
    assert client.read("taxes")


def test_a_wrong_api_key_is_found_by_the_status(server: Server) -> None:
    with server.opened(api_key="outra-chave") as client:
        error = error_of(client)
    assert "State 2" in str(error)
    assert ["GET /status"] == server.sandbox.asked


def test_the_public_key_may_be_a_list(server: Server, client: Client) -> None:
    server.sandbox.key_as_list = True
    assert client.read("taxes")


MODULUS = base64.b64encode(b"\xf1" + bytes(126) + b"\x0b").decode()


@pytest.mark.parametrize("state", [1, "1", 4])
def test_a_key_is_big_endian_base64_and_makes_state_4_irrelevant(state: object) -> None:
    key = auth.public_key({"State": state, "PublicKey": {"Modulus": MODULUS, "Exponent": "AQAB"}})
    assert (65537, 1024) == (key.public_numbers().e, key.key_size)
    assert (117, 86) == (auth.capacity(key, "pkcs1"), auth.capacity(key, "oaep"))


@pytest.mark.parametrize(
    "answer",
    [
        [],
        "1",
        None,
        {},
        {"State": None},
        {"State": True},
        {"State": []},
        {"State": -1},
        {"State": 1},
        {"State": 1, "PublicKey": None},
        {"State": 1, "PublicKey": []},
        {"State": 1, "PublicKey": [MODULUS]},
        {"State": 1, "PublicKey": [MODULUS, "AQAB", "AQAB"]},
        {"State": 1, "PublicKey": "AQAB"},
        {"State": 1, "PublicKey": {"Modulus": MODULUS}},
        {"State": 1, "PublicKey": {"Modulus": 5, "Exponent": "AQAB"}},
        {"State": 1, "PublicKey": {"Modulus": "not base64!", "Exponent": "AQAB"}},
        {"State": 1, "PublicKey": {"Modulus": "", "Exponent": ""}},
        {"State": 1, "PublicKey": {"Modulus": MODULUS, "Exponent": "AA=="}},
        {"State": 1, "PublicKey": {"modulus": MODULUS, "exponent": "AQAB"}},
    ],
)
def test_a_malformed_status_is_set_aside(answer: object) -> None:
    with pytest.raises(SetAside):
        auth.public_key(answer)


EVEN = base64.b64encode(b"\xf1" + bytes(126) + b"\x0a").decode()


def test_a_key_that_cannot_encrypt_sets_the_resource_aside() -> None:
    status = JSONResponse({"State": 1, "PublicKey": {"Modulus": EVEN, "Exponent": "AQAB"}})
    with intercepted(lambda asked: status if asked.url.path == "/status" else None) as (_, client):
        error = error_of(client)
    assert isinstance(error, SetAside)
    assert error.whole_resource


LOGIN_PATH = "/authentication/login"


@pytest.mark.parametrize(
    ("path", "answer", "expected"),
    [
        ("/status", Response("<html>", 503), TryLater),
        ("/status", Response("slow", 429, {"Retry-After": "7"}), TryLater),
        ("/status", Response("<html>IIS</html>"), TryLater),
        ("/status", Response("No Authorization property on the request header", 400), SetAside),
        ("/status", Response("nothing here", 404), SetAside),
        ("/status", Response("", 302, {"Location": "https://elsewhere.example/"}), SetAside),
        (LOGIN_PATH, Response("<html>", 503), TryLater),
        (LOGIN_PATH, Response('{"auth_token": "half'), TryLater),
        (LOGIN_PATH, Response("No Authorization property on the request header", 400), SetAside),
        (LOGIN_PATH, Response("forbidden", 403), SetAside),
        (LOGIN_PATH, JSONResponse({}), SetAside),
        (LOGIN_PATH, JSONResponse({"auth_token": ""}), SetAside),
        (LOGIN_PATH, JSONResponse({"auth_token": "with\nnewline"}), SetAside),
        (LOGIN_PATH, JSONResponse(["token"]), SetAside),
    ],
)
def test_every_unexpected_answer_to_the_login_raises_a_vendor_error(
    path: str, answer: Response, expected: type[Fate]
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
        return Response(f"{asked.headers['Authorization']} of {' '.join(login)}", status) if status else None

    sent: list[str] = []
    with intercepted(echo) as (other, _):
        with other.opened(shared.runtime, password=login[2]) as client:
            for name in ("units", "taxes"):
                with pytest.raises(Fate) as raised:
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
        return Response(f"{asked.headers['Authorization']} is of no use", 400)

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
    for length in range(150, 200):
        page = Response(f"{'x' * length}{password}", status)
        with intercepted(lambda _, page=page: page) as (other, _), other.opened(shared.runtime) as client:  # type: ignore[misc]
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
