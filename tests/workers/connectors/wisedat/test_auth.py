from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

import pytest
from starlette.responses import JSONResponse, Response

from models import exact
from tests.workers.connectors.wisedat.conftest import Box, answering, serving
from workers.connectors.wisedat import auth
from workers.errors import Fate, SetAside, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from tests.workers.connectors.wisedat.conftest import Server
    from workers.connectors.wisedat.client import Client

LOGIN = ["GET /status", "POST /authentication/login"]
TAXES = "GET /taxes"


def fate(client: Client) -> Fate:
    with pytest.raises(Fate) as raised:
        client.read("taxes")
    return raised.value


def test_one_login_serves_many_requests(server: Server, client: Client) -> None:
    client.read("taxes")
    client.read("units")
    assert [*LOGIN, TAXES, "GET /units"] == server.sandbox.asked


def test_clients_that_share_a_session_log_in_once(server: Server) -> None:
    box = Box()
    with server.opened(box.wire) as one, server.opened(box.wire) as other:
        one.read("taxes")
        other.read("taxes")
    assert [*LOGIN, TAXES, TAXES] == server.sandbox.asked


def test_a_token_refused_within_its_time_is_renewed_once_and_the_call_repeated(server: Server, client: Client) -> None:
    client.read("taxes")
    server.sandbox.expire()
    server.sandbox.asked.clear()
    assert client.read("taxes")
    assert [TAXES, *LOGIN, TAXES] == server.sandbox.asked


def test_a_new_key_is_asked_for_at_each_login(server: Server, client: Client) -> None:
    for _ in range(3):
        server.sandbox.rotate()
        assert client.read("taxes")
    assert (3, 0) == (server.sandbox.logins, server.sandbox.refused_logins)


def test_a_session_that_somebody_else_has_renewed_meanwhile_is_taken(server: Server) -> None:
    box = Box()
    with server.opened(box.wire) as one, server.opened(box.wire) as other:
        one.read("taxes")
        server.sandbox.expire()
        server.sandbox.asked.clear()
        box.waiting.append(lambda: other.read("units"))
        assert one.read("taxes")
    assert [TAXES, "GET /units", *LOGIN, "GET /units", TAXES] == server.sandbox.asked


def test_a_first_session_that_somebody_else_has_opened_meanwhile_is_taken(server: Server) -> None:
    box = Box()
    with server.opened(box.wire) as one, server.opened(box.wire) as other:
        box.waiting.append(lambda: other.read("units"))
        assert one.read("taxes")
    assert [*LOGIN, "GET /units", TAXES] == server.sandbox.asked


def test_a_token_is_not_tried_after_28_minutes(server: Server) -> None:
    box = Box()
    with server.opened(box.wire) as client:
        before = datetime.now(UTC)
        client.read("taxes")
        until = datetime.fromisoformat(exact.loads(box.session or b"")["until"])
        assert before + timedelta(minutes=28) <= until <= datetime.now(UTC) + timedelta(minutes=28)
        box.age()
        server.sandbox.asked.clear()
        client.read("taxes")
    assert [*LOGIN, TAXES] == server.sandbox.asked


def test_a_token_refused_again_right_after_its_login_is_a_persons_business() -> None:
    def refused(asked: Request) -> Response | None:
        return Response("Invalid token", 401) if asked.url.path == "/taxes" else None

    with answering(refused) as (server, client):
        met = fate(client)
    assert isinstance(met, SetAside)
    assert met.whole_resource
    assert "Invalid token" in str(met)
    assert 2 == server.sandbox.logins


def before(path: str, number: int, blow: Callable[[], object]) -> Callable[[Request], None]:
    """Something happens right before the server sees this request to this address."""
    came = count(1)

    def strike(asked: Request) -> None:
        if asked.url.path == path and next(came) == number:
            blow()

    return strike


def test_a_key_that_changes_between_the_status_and_the_login_is_asked_for_again() -> None:
    def rotate() -> None:
        server.sandbox.rotate()

    with answering(before("/authentication/login", 1, rotate), rsa_padding="pkcs1") as (server, client):
        assert client.read("taxes")
    assert [*LOGIN, *LOGIN, TAXES] == server.sandbox.asked


def test_a_token_that_ends_right_after_its_login_is_renewed_once_more() -> None:
    def expire() -> None:
        server.sandbox.expire()

    with answering(before("/taxes", 2, expire)) as (server, client):
        client.read("units")
        server.sandbox.expire()
        assert client.read("taxes")
    assert 3 == server.sandbox.logins


@pytest.mark.parametrize("padding", ["pkcs1", "oaep"])
def test_either_padding_is_found(padding: str) -> None:
    with serving(padding=padding) as server, server.opened() as client:
        assert client.read("taxes")
        assert {"pkcs1": 0, "oaep": 1}[padding] == server.sandbox.refused_logins


def test_the_padding_that_worked_is_remembered_beyond_the_session() -> None:
    box = Box()
    with serving(padding="oaep") as server:
        with server.opened(box.wire) as client:
            client.read("taxes")
        box.age()
        with server.opened(box.wire) as client:
            client.read("taxes")
            server.sandbox.rotate()
            client.read("taxes")
        assert (3, 1) == (server.sandbox.logins, server.sandbox.refused_logins)
    assert box.until is not None
    assert box.until > datetime.now(UTC) + timedelta(days=30)


def test_a_remembered_padding_that_is_refused_gives_way_to_the_other() -> None:
    box = Box()
    with serving(padding="oaep") as server, server.opened(box.wire) as client:
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
            assert isinstance(fate(client), SetAside)
        assert 1 == server.sandbox.refused_logins


def test_a_wrong_login_is_tried_with_both_paddings_and_set_aside(server: Server) -> None:
    with server.opened(password="errada-mas-secreta") as client:
        met = fate(client)
    assert isinstance(met, SetAside)
    assert met.whole_resource
    assert "HTTP 401" in str(met)
    assert "`password`" in str(met)
    assert (0, 2) == (server.sandbox.logins, server.sandbox.refused_logins)


def test_a_failed_login_leaves_no_refused_token_behind(server: Server) -> None:
    box = Box()
    with server.opened(box.wire) as client:
        client.read("taxes")
        server.sandbox.expire()
        server.sandbox.state = 6
        assert isinstance(fate(client), SetAside)
        server.sandbox.asked.clear()
        assert isinstance(fate(client), SetAside)
    assert ["GET /status"] == server.sandbox.asked


@pytest.mark.parametrize(
    ("bits", "limits"),
    [(1024, "117 bytes with pkcs1 or 86 bytes with oaep"), (2048, "245 bytes with pkcs1 or 214 bytes with oaep")],
)
def test_a_login_that_is_too_long_for_the_key_says_how_long_it_is_and_may_be(bits: int, limits: str) -> None:
    password = "é" * 200
    with serving(key_bits=bits, password=password) as server, server.opened() as client:
        met = fate(client)
        length = len(";".join(server.options().login()).encode())
    assert isinstance(met, SetAside)
    assert f"{length} bytes long" in str(met)
    assert limits in str(met)
    assert "é" not in str(met)
    assert ["GET /status"] == server.sandbox.asked


def test_a_login_that_only_one_padding_takes_is_tried_with_that_one(server: Server) -> None:
    with server.opened(password="x" * (117 - len("sandbox-key;espelho;"))) as client:
        met = fate(client)
    assert "(RSA padding pkcs1)" in str(met)
    assert 1 == server.sandbox.refused_logins


def test_the_longest_login_that_fits_is_taken() -> None:
    password = "x" * (117 - len("sandbox-key;espelho;"))
    with serving(password=password) as server, server.opened() as client:
        assert client.read("taxes")


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (2, "check `api_key`"),
        (3, "not activated"),
        (4, "table management"),
        (5, "module Wisedat API Server"),
        (6, "plan is inactive"),
        (9, "no State that Wisedat documents"),
    ],
)
def test_each_state_but_online_says_what_a_person_must_do(server: Server, state: int, said: str) -> None:
    server.sandbox.state = state
    with server.opened() as client:
        met = fate(client)
    assert isinstance(met, SetAside)
    assert met.whole_resource
    assert said in str(met)
    assert ["GET /status"] == server.sandbox.asked


def test_an_offline_server_is_tried_later(server: Server, client: Client) -> None:
    server.sandbox.restart(starting=1)
    assert isinstance(fate(client), TryLater)
    assert client.read("taxes")


def test_a_wrong_api_key_is_told_by_the_status(server: Server) -> None:
    with server.opened(api_key="outra-chave") as client:
        met = fate(client)
    assert "State 2" in str(met)
    assert ["GET /status"] == server.sandbox.asked


def test_the_public_key_comes_as_a_list_too(server: Server, client: Client) -> None:
    server.sandbox.key_as_list = True
    assert client.read("taxes")


MODULUS = base64.b64encode(b"\xf1" + bytes(126) + b"\x0b").decode()


@pytest.mark.parametrize("state", [1, "1", 4])
def test_a_key_is_big_endian_base64_and_state_4_is_irrelevant_where_it_comes(state: object) -> None:
    key = auth.public_key({"State": state, "PublicKey": {"Modulus": MODULUS, "Exponent": "AQAB"}})
    assert (65537, 1024) == (key.public_numbers().e, key.key_size)
    assert (117, 86) == (auth.room(key, "pkcs1"), auth.room(key, "oaep"))


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
def test_a_status_that_makes_no_sense_is_set_aside(answer: object) -> None:
    with pytest.raises(SetAside):
        auth.public_key(answer)


EVEN = base64.b64encode(b"\xf1" + bytes(126) + b"\x0a").decode()


def test_a_key_that_nothing_can_be_encrypted_with_is_a_persons_business() -> None:
    status = JSONResponse({"State": 1, "PublicKey": {"Modulus": EVEN, "Exponent": "AQAB"}})
    with answering(lambda asked: status if asked.url.path == "/status" else None) as (_, client):
        met = fate(client)
    assert isinstance(met, SetAside)
    assert met.whole_resource


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
def test_whatever_the_login_meets_has_a_fate_and_is_never_taken_for_data(
    path: str, answer: Response, expected: type[Fate]
) -> None:
    with answering(lambda asked: answer if asked.url.path == path else None) as (_, client):
        met = fate(client)
    assert isinstance(met, expected), met
    assert not isinstance(met, SetAside) or met.whole_resource or "redirected" in str(met)


def test_a_busy_login_says_how_long_to_wait() -> None:
    busy = Response("slow", 429, {"Retry-After": "7"})
    with answering(lambda asked: busy if asked.url.path == LOGIN_PATH else None) as (_, client):
        met = fate(client)
    assert isinstance(met, TryLater)
    assert timedelta(seconds=7) == met.after


def broken_over_padding(first: int, second: int) -> Callable[[Request], Response | None]:
    statuses = [first, second]

    def instead(asked: Request) -> Response | None:
        return Response("Bad Data.", statuses.pop(0)) if asked.url.path == LOGIN_PATH and statuses else None

    return instead


def test_a_server_that_breaks_over_a_padding_is_asked_with_the_other() -> None:
    with answering(broken_over_padding(500, 500)) as (server, client):
        assert isinstance(fate(client), TryLater)
        assert client.read("taxes")
        assert 1 == server.sandbox.logins


@pytest.mark.parametrize("statuses", [(500, 401), (401, 500)])
def test_a_wrong_login_is_told_though_the_server_breaks_over_the_other_padding(statuses: tuple[int, int]) -> None:
    with answering(broken_over_padding(*statuses)) as (_, client):
        met = fate(client)
    assert isinstance(met, SetAside)
    assert "HTTP 401" in str(met)


def test_a_server_that_breaks_over_a_known_padding_is_not_asked_with_the_other() -> None:
    is_failing, refused = False, []

    def instead(asked: Request) -> Response | None:
        if not is_failing or asked.url.path != LOGIN_PATH:
            return None
        refused.append(asked.url.path)
        return Response("down", 500)

    with answering(instead) as (server, client):
        client.read("taxes")
        is_failing = True
        server.sandbox.rotate()
        assert isinstance(fate(client), TryLater)
        assert [LOGIN_PATH] == refused
        is_failing = False
        assert client.read("taxes")


def test_no_secret_is_in_any_error_or_repr(server: Server) -> None:
    box = Box()
    login = server.options(password="errada-mas-secreta").login()
    with server.opened(box.wire) as client:
        client.read("taxes")
    token = exact.loads(box.session or b"")["token"]

    def echo(asked: Request) -> Response | None:
        statuses = {"/status": None, "/units": 500}
        status = statuses.get(asked.url.path, 400)
        sent.append(asked.headers["Authorization"].partition(" ")[2])
        return Response(f"{asked.headers['Authorization']} of {' '.join(login)}", status) if status else None

    sent: list[str] = []
    with answering(echo) as (other, _):
        with other.opened(box.wire, password=login[2]) as client:
            for name in ("units", "taxes"):
                with pytest.raises(Fate) as raised:
                    client.read(name)
                assert "Bearer *** of ***" in str(raised.value)
        with other.opened(password=login[2]) as client:
            met = fate(client)
            assert "WDAPI *** of ***" in str(met)
            shown = str(met) + repr(client) + repr(vars(client)) + repr(auth._Session("pkcs1", token))
    assert [token, token] == sent[:2]
    assert [] == [secret for secret in (*login, *sent) if secret in shown]


def test_the_token_that_was_sent_is_in_no_error_though_others_have_a_newer_one(server: Server) -> None:
    box = Box()
    sent: list[str] = []

    def echo(asked: Request) -> Response | None:
        sent.append(asked.headers["Authorization"].removeprefix("Bearer "))
        box.drop()  # somebody else is about to log in
        return Response(f"{asked.headers['Authorization']} is of no use", 400)

    with server.opened(box.wire) as client:
        client.read("taxes")
    with answering(echo) as (other, _), other.opened(box.wire) as client:
        met = fate(client)
    assert "Bearer *** is of no use" in str(met)
    assert sent[0] not in str(met)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_login_that_was_sent_is_in_no_error_whichever_padding_is_told_of(status: int) -> None:
    sent: list[str] = []

    def echo(asked: Request) -> Response | None:
        if asked.url.path != LOGIN_PATH:
            return None
        sent.append(asked.headers["Authorization"].removeprefix("WDAPI "))
        return Response(sent[-1], status)

    with answering(echo) as (_, client):
        met = fate(client)
    assert sent
    assert [] == [each for each in sent if each[:20] in str(met)]


@pytest.mark.parametrize("status", [400, 500])
def test_no_piece_of_a_secret_is_left_where_a_servers_words_are_cut(server: Server, status: int) -> None:
    box = Box()
    password = server.options().login()[2]
    with server.opened(box.wire) as client:
        client.read("taxes")
    for length in range(150, 200):
        page = Response(f"{'x' * length}{password}", status)
        with answering(lambda _, page=page: page) as (other, _), other.opened(box.wire) as client:  # type: ignore[misc]
            assert "sandb" not in str(fate(client))


def test_the_session_box_holds_no_login(server: Server) -> None:
    box = Box()
    with server.opened(box.wire) as client:
        client.read("taxes")
    kept = (box.session or b"").decode()
    assert [] == [secret for secret in server.options().login() if secret in kept]


def test_what_an_earlier_release_left_in_the_box_costs_a_login_and_nothing_else(server: Server) -> None:
    for left in (b"token", b"[]", b'{"token": "x"}', b'{"padding": "pkcs1", "token": "x", "until": 7}'):
        with server.opened(Box(left).wire) as client:
            assert client.read("taxes")
