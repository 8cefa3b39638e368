from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.receiver import webhooks
from tests.receiver.bells import Quiet

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from models.database import Database
    from tests.receiver.conftest import Open

MALFORMED = (400, "malformed")

BAD_QUERIES = {
    "no packet": ("", MALFORMED),
    "another field": ("pocket=1", MALFORMED),
    "an empty packet": ("packet=", MALFORMED),
    "a blank packet": ("packet=%20", MALFORMED),
    "a repeated packet": (webhooks.query(webhooks.packet(), webhooks.packet()), MALFORMED),
    "no JSON": (webhooks.query("objectChanged"), MALFORMED),
    "half a JSON": (webhooks.query(webhooks.packet()[:-5]), MALFORMED),
    "two JSONs": (webhooks.query(webhooks.packet() * 2), MALFORMED),
    "a scalar": (webhooks.query("1"), MALFORMED),
    "null": (webhooks.query("null"), MALFORMED),
    "a list": (webhooks.query(f"[{webhooks.packet()}]"), MALFORMED),
    "NaN": (webhooks.query('{"action": NaN}'), MALFORMED),
    "a number without end": (webhooks.query("1" * 10_000), MALFORMED),
    "a nesting bomb": (webhooks.query("[" * 5000), MALFORMED),
    "a nesting bomb of objects": (webhooks.query('{"a":' * 1000), MALFORMED),
    "a repeated name": (webhooks.query(webhooks.packet()[:-1] + ',"action":"other"}'), MALFORMED),
    "no action": (webhooks.query('{"params":{}}'), MALFORMED),
    "no params": (webhooks.query('{"action":"objectChanged"}'), MALFORMED),
    "params that are a list": (webhooks.query('{"action":"objectChanged","params":[]}'), MALFORMED),
    "an id that is a word": (webhooks.query(webhooks.packet(key="first")), MALFORMED),
    "an id that is short": (webhooks.query(webhooks.packet(key="11003")), MALFORMED),
    "an id that is an object": (webhooks.query(webhooks.packet(key={"id": webhooks.GOODS})), MALFORMED),
    "an id that is true": (webhooks.query(webhooks.packet(key=True)), MALFORMED),
    "an id with a path": (webhooks.query(webhooks.packet(key="../../11003000000")), MALFORMED),
    "an id in other digits": (webhooks.query(webhooks.packet(key="١١٠٠٣٠٠٠٠٠٠٠٠٠٠١")), MALFORMED),
    "an id that contradicts the name": (
        webhooks.query(webhooks.packet("documents.saleOrder", webhooks.GOODS)),
        MALFORMED,
    ),
    "a name that contradicts the id": (
        webhooks.query(webhooks.packet("catalogs.goods", webhooks.SALE_ORDER)),
        MALFORMED,
    ),
    "a NUL byte": (webhooks.query(webhooks.packet() + "\x00"), MALFORMED),
    "an escaped NUL": (webhooks.query(webhooks.packet(key="110030000000000\x00")), MALFORMED),
    "an escaped NUL in an unknown action": (webhooks.query(webhooks.packet(action="a\x00b")), MALFORMED),
    "bytes that are no UTF-8": ("packet=%FF%FE", MALFORMED),
    "a surrogate in UTF-8": ("packet=%ED%A0%80", MALFORMED),
    "very many fields": ("&".join(["a=1"] * 2000), MALFORMED),
    "20 KB of query": ("packet=" + "1" * 20_000, (414, "too_large")),
    "1 MB of query": ("packet=" + "1" * 2**20, (414, "too_large")),
}


def test_a_bad_query_is_refused_in_json_and_leaves_nothing(
    sqlite: Database, opened: Open, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    bell = Quiet()
    with opened(sqlite, bell=bell) as client:
        for method in ("GET", "POST"):
            answers = {name: _ask(client, method, query) for name, (query, _) in BAD_QUERIES.items()}
            assert {name: expected for name, (_, expected) in BAD_QUERIES.items()} == answers
    assert [] == webhooks.rows(sqlite)
    assert [] == bell.rung
    webhooks.nothing_logged(capfd, caplog)


def _ask(client: httpx.Client, method: str, query: str) -> tuple[int, str]:
    """Status and error of a webhook. Not by httpx, which refuses to send a long query."""
    wire = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=30)
    with closing(wire):
        wire.request(method, f"/hooks/shop?{query}")
        answer = wire.getresponse()
        page = json.loads(answer.read())
    assert {"error", "message"} == set(page)
    assert page["message"]
    return answer.status, page["error"]


BAD_BODIES: dict[str, tuple[str | bytes, str | None, tuple[int, str]]] = {
    "no body": ("", None, MALFORMED),
    "an empty form": ("", "application/x-www-form-urlencoded", MALFORMED),
    "a form without a packet": ("a=1", "application/x-www-form-urlencoded", MALFORMED),
    "a form with two packets": (
        webhooks.query(webhooks.packet(), webhooks.packet()),
        "application/x-www-form-urlencoded",
        MALFORMED,
    ),
    "a form that is no UTF-8": (b"packet=\xff", "application/x-www-form-urlencoded", MALFORMED),
    "a form declared as JSON": (webhooks.query(webhooks.packet()), "application/json", MALFORMED),
    "no JSON": ("<packet/>", "application/json", MALFORMED),
    "JSON in another encoding": (webhooks.packet("каталог").encode("utf-16"), "application/json", MALFORMED),
    "compressed JSON": (b"\x1f\x8b\x08\x00", "application/json", MALFORMED),
    "a NUL byte": (webhooks.packet() + "\x00", "application/json", MALFORMED),
    "a multipart form without a boundary": ("--b--", "multipart/form-data", MALFORMED),
    "a multipart form that is none": (webhooks.packet(), "multipart/form-data; boundary=b", MALFORMED),
    "a file": (
        f'--b\r\nContent-Disposition: form-data; name="packet"; filename="p"\r\n\r\n{webhooks.packet()}\r\n--b--\r\n',
        "multipart/form-data; boundary=b",
        MALFORMED,
    ),
    "100 KB of body": ('"' + "1" * 100_000 + '"', "application/json", (413, "too_large")),
}


def test_a_bad_body_is_refused_in_json_and_leaves_nothing(
    sqlite: Database, opened: Open, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    answers = {}
    with opened(sqlite) as client:
        for name, (content, kind, _) in BAD_BODIES.items():
            answer = client.post("/hooks/shop", content=content, headers={"Content-Type": kind} if kind else {})
            assert {"error", "message"} == set(answer.json())
            answers[name] = (answer.status_code, answer.json()["error"])
    assert {name: expected for name, (_, _, expected) in BAD_BODIES.items()} == answers
    assert [] == webhooks.rows(sqlite)
    webhooks.nothing_logged(capfd, caplog)


def test_a_packet_in_the_query_and_another_in_the_body_are_two(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        webhooks.refused(
            MALFORMED, client.post(f"/hooks/shop?{webhooks.query(webhooks.packet())}", content=webhooks.packet())
        )
    assert [] == webhooks.rows(sqlite)


def test_a_sender_that_sends_more_than_is_read_gets_the_response_all_the_same(sqlite: Database, opened: Open) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"1" * 100_000

    with opened(sqlite) as client:
        for content in (b"1" * 2_000_000, chunks()):
            answer = client.post("/hooks/shop", content=content)
            assert (413, "too_large") == (answer.status_code, answer.json()["error"])
    assert [] == webhooks.rows(sqlite)


def test_a_body_without_a_stated_length_is_not_read_further_than_the_limit(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        with webhooks.wire(client) as wire:
            wire.sendall(
                b"POST /hooks/shop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            for _ in range(17):
                wire.sendall(b"1000\r\n" + b"1" * 0x1000 + b"\r\n")
            # The body never ends, and is answered all the same.
            answer = b""
            while chunk := wire.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert {"error", "message"} == set(json.loads(answer.partition(b"\r\n\r\n")[2]))
    assert [] == webhooks.rows(sqlite)


def test_a_stated_length_over_the_limit_is_refused_before_the_body_comes(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client, webhooks.wire(client) as wire:
        wire.sendall(b"POST /hooks/shop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
        assert wire.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert [] == webhooks.rows(sqlite)


def test_a_sender_that_goes_away_half_way_leaves_nothing(
    sqlite: Database, opened: Open, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with opened(sqlite) as client:
        with webhooks.wire(client) as wire:
            wire.sendall(b"POST /hooks/shop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{")
        assert 200 == client.get("/livez").status_code
    assert [] == webhooks.rows(sqlite)
    webhooks.nothing_logged(capfd, caplog)


def test_an_unknown_connection_is_404(sqlite: Database, opened: Open) -> None:
    unknown = (404, "unknown_connection")
    with opened(sqlite) as client:
        for path in ("/hooks/nobody", "/hooks/nobody/secret", "/hooks/shop%00", "/hooks/%FF", "/hooks/shop%2Fx"):
            answer = client.get(f"{path}?{webhooks.query(webhooks.packet())}")
            assert answer.status_code in {403, 404}
        webhooks.refused(unknown, client.get(f"/hooks/nobody?{webhooks.query(webhooks.packet())}"))
        webhooks.refused(unknown, client.post("/hooks/nobody", content=webhooks.packet()))
        assert 404 == client.get("/hooks/").status_code
    assert [] == webhooks.rows(sqlite)


def test_a_connection_that_takes_no_webhooks_is_answered_like_an_unknown_one(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        unknown, books = client.get("/hooks/nobody"), client.get("/hooks/books")
    assert (unknown.status_code, unknown.json()) == (books.status_code, books.json())


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_405(sqlite: Database, opened: Open, method: str) -> None:
    with opened(sqlite) as client:
        answer = client.request(method, f"/hooks/shop?{webhooks.query(webhooks.packet())}")
    assert 405 == answer.status_code
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))
    assert method == "HEAD" or "method_not_allowed" == answer.json()["error"]
    assert [] == webhooks.rows(sqlite)


@pytest.mark.parametrize(
    ("allowed", "configured", "path"),
    [
        (True, "", "/hooks/shop"),
        (True, "", "/hooks/shop/"),
        (False, "", "/hooks/shop/anything"),
        (True, "s3cret", "/hooks/shop/s3cret"),
        (False, "s3cret", "/hooks/shop"),
        (False, "s3cret", "/hooks/shop/"),
        (False, "s3cret", "/hooks/shop/s3cre"),
        (False, "s3cret", "/hooks/shop/s3crets"),
        (False, "s3cret", "/hooks/shop/S3CRET"),
        (False, "s3cret", "/hooks/shop/s3cret/"),
        (False, "s3cret", "/hooks/shop/s3cret/s3cret"),
        (False, "s3cret", "/hooks/shop/s3cret%00"),
        (False, "s3cret", "/hooks/shop/%D1%81"),
    ],
)
def test_the_address_ends_in_the_secret_and_in_nothing_else(
    sqlite: Database,
    opened: Open,
    capfd: pytest.CaptureFixture[str],
    allowed: bool,  # noqa: FBT001 - a column of a truth table
    configured: str,
    path: str,
) -> None:
    secret = f'webhook_secret = "{configured}"' if configured else ""
    with opened(sqlite, shop=f'webhook_sources = ["127.0.0.1"]\n{secret}') as client:
        answer = client.get(f"{path}?{webhooks.query(webhooks.packet())}")
    if not allowed:
        webhooks.refused((403, "secret"), answer)
    assert (200 if allowed else 403) == answer.status_code
    assert allowed == bool(webhooks.rows(sqlite))
    output = capfd.readouterr()
    assert "s3cret" not in output.out + output.err + answer.text


@pytest.mark.parametrize(
    ("allowed", "proxies", "lines"),
    [
        (False, "", []),
        (False, "", [webhooks.VENDOR]),
        (True, "127.0.0.1", [webhooks.VENDOR]),
        (True, "127.0.0.1", [f"6.6.6.6, {webhooks.VENDOR}"]),
        (True, "127.0.0.1", ["6.6.6.6", f"{webhooks.VENDOR}:4711"]),
        (False, "127.0.0.1", [f"{webhooks.VENDOR}, 6.6.6.6"]),
        (False, "127.0.0.1", [webhooks.VENDOR, "6.6.6.6"]),
        (False, "127.0.0.1", [f"{webhooks.VENDOR},"]),
        (False, "127.0.0.1", []),
        (False, "10.0.0.0/8", [webhooks.VENDOR]),
    ],
)
def test_only_a_trusted_proxy_may_say_that_the_vendor_called(
    sqlite: Database,
    opened: Open,
    allowed: bool,  # noqa: FBT001 - a column of a truth table
    proxies: str,
    lines: list[str],
) -> None:
    receiver = f'trusted_proxies = ["{proxies}"]' if proxies else ""
    headers = [("X-Forwarded-For", line) for line in lines]
    headers += [
        ("X-Real-IP", webhooks.VENDOR),
        ("Forwarded", f"for={webhooks.VENDOR}"),
        ("X-Forwarded-Host", webhooks.VENDOR),
    ]
    with opened(sqlite, receiver=receiver, shop=f'webhook_sources = ["{webhooks.VENDOR}"]') as client:
        answer = client.get(f"/hooks/shop?{webhooks.query(webhooks.packet())}", headers=headers)
    if not allowed:
        webhooks.refused((403, "sender"), answer)
    assert (200 if allowed else 403) == answer.status_code
    assert allowed == bool(webhooks.rows(sqlite))


def test_a_stranger_learns_nothing_about_secret_or_packet(sqlite: Database, opened: Open) -> None:
    shop = f'webhook_sources = ["{webhooks.VENDOR}"]\nwebhook_secret = "s3cret"'
    with opened(sqlite, shop=shop) as client:
        paths = ("/hooks/shop", "/hooks/shop/s3cret", "/hooks/shop/wrong", "/hooks/shop?packet=1")
        answers = {(answer.status_code, answer.text) for answer in map(client.get, paths)}
    assert 1 == len(answers)
