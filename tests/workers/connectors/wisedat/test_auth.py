"""Wisedat's login: key, padding, token, shared sessions, and no secret in any message."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, Response

from models import exact
from tests.workers.connectors.wisedat.conftest import SharedSessions, error_of, intercepted, serving
from workers.connectors.wisedat import auth
from workers.errors import SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from tests.workers.connectors.wisedat.conftest import Server
    from workers.connectors.wisedat.client import Client

LOGIN = ["GET /status", "POST /authentication/login"]
TAXES = "GET /taxes"


def test_one_login_serves_many_requests(server: Server, client: Client) -> None:
    client.read("taxes")
    client.read("units")
    assert [*LOGIN, TAXES, "GET /units"] == server.sandbox.requests


def test_clients_that_share_a_session_log_in_once(server: Server) -> None:
    shared = SharedSessions()
    with server.opened(shared.runtime) as one, server.opened(shared.runtime) as other:
        one.read("taxes")
        other.read("taxes")
    assert [*LOGIN, TAXES, TAXES] == server.sandbox.requests


def test_a_refused_token_is_renewed_and_the_request_repeated(server: Server, client: Client) -> None:
    client.read("taxes")
    server.sandbox.expire()
    server.sandbox.requests.clear()
    assert client.read("taxes")
    assert [TAXES, *LOGIN, TAXES] == server.sandbox.requests


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
        server.sandbox.requests.clear()
        shared.waiting.append(lambda: other.read("units"))
        assert one.read("taxes")
    assert [TAXES, "GET /units", *LOGIN, "GET /units", TAXES] == server.sandbox.requests


def test_a_first_session_that_another_client_opened_is_used(server: Server) -> None:
    shared = SharedSessions()
    with server.opened(shared.runtime) as one, server.opened(shared.runtime) as other:
        shared.waiting.append(lambda: other.read("units"))
        assert one.read("taxes")
    assert [*LOGIN, "GET /units", TAXES] == server.sandbox.requests


def test_a_token_is_not_tried_after_28_minutes(server: Server) -> None:
    shared = SharedSessions()
    with server.opened(shared.runtime) as client:
        before = datetime.now(UTC)
        client.read("taxes")
        until = datetime.fromisoformat(exact.loads(shared.session or b"")["until"])
        assert before + timedelta(minutes=28) <= until <= datetime.now(UTC) + timedelta(minutes=28)
        shared.age()
        server.sandbox.requests.clear()
        client.read("taxes")
    assert [*LOGIN, TAXES] == server.sandbox.requests


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
    assert [*LOGIN, *LOGIN, TAXES] == server.sandbox.requests


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
        server.sandbox.requests.clear()
        assert isinstance(error_of(client), SetAside)
    assert ["GET /status"] == server.sandbox.requests


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
    assert ["GET /status"] == server.sandbox.requests


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
    ],
)
def test_each_state_except_online_names_its_remedy(server: Server, state: int, message: str) -> None:
    server.sandbox.state = state
    with server.opened() as client:
        error = error_of(client)
    assert isinstance(error, SetAside)
    assert error.whole_resource
    assert message in str(error)
    assert ["GET /status"] == server.sandbox.requests


def test_a_state_that_wisedat_does_not_document_refuses_nothing(server: Server) -> None:
    server.sandbox.state = 9
    with server.opened() as client:
        error = error_of(client)
    assert isinstance(error, TryLater)
    assert "no State that Wisedat documents" in str(error)


def test_an_offline_server_is_tried_later(server: Server, client: Client) -> None:
    server.sandbox.restart(starting=1)
    assert isinstance(error_of(client), TryLater)
    assert client.read("taxes")


def test_a_wrong_api_key_is_found_by_the_status(server: Server) -> None:
    with server.opened(api_key="outra-chave") as client:
        error = error_of(client)
    assert "State 2" in str(error)
    assert ["GET /status"] == server.sandbox.requests


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
    ],
)
def test_a_malformed_status_is_tried_later(answer: object) -> None:
    with pytest.raises(TryLater):
        auth.public_key(answer)


@pytest.mark.parametrize(
    "answer",
    [
        {"State": 1, "PublicKey": {"Modulus": MODULUS, "Exponent": "AQAB"}},
        {"state": 1, "publicKey": {"modulus": MODULUS, "exponent": "AQAB"}},
        {"STATE": "1", "PUBLICKEY": [MODULUS, "AQAB"]},
    ],
)
def test_a_status_is_read_whatever_the_case_of_its_names(answer: object) -> None:
    assert 65537 == auth.public_key(answer).public_numbers().e


EVEN = base64.b64encode(b"\xf1" + bytes(126) + b"\x0a").decode()


def test_a_key_that_cannot_encrypt_sets_the_resource_aside() -> None:
    status = JSONResponse({"State": 1, "PublicKey": {"Modulus": EVEN, "Exponent": "AQAB"}})
    with intercepted(lambda asked: status if asked.url.path == "/status" else None) as (_, client):
        error = error_of(client)
    assert isinstance(error, SetAside)
    assert error.whole_resource
