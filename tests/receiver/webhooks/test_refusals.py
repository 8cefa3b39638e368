from __future__ import annotations

import http.client
import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from tests.receiver import samples
from tests.receiver.wakers import RecordingWaker

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from models.db.database import Database
    from tests.receiver.conftest import Open

MALFORMED = (400, "malformed")

BAD_QUERIES = {
    "no packet": ("", MALFORMED),
    "another field": ("pocket=1", MALFORMED),
    "an empty packet": ("packet=", MALFORMED),
    "a blank packet": ("packet=%20", MALFORMED),
    "a repeated packet": (samples.query(samples.packet(), samples.packet()), MALFORMED),
    "no JSON": (samples.query("objectChanged"), MALFORMED),
    "half a JSON": (samples.query(samples.packet()[:-5]), MALFORMED),
    "two JSONs": (samples.query(samples.packet() * 2), MALFORMED),
    "a scalar": (samples.query("1"), MALFORMED),
    "null": (samples.query("null"), MALFORMED),
    "a list": (samples.query(f"[{samples.packet()}]"), MALFORMED),
    "a number without end": (samples.query("1" * 10_000), MALFORMED),
    "a nesting bomb": (samples.query("[" * 5000), MALFORMED),
    "a nesting bomb of objects": (samples.query('{"a":' * 1000), MALFORMED),
    "a repeated name": (samples.query(samples.packet()[:-1] + ',"action":"other"}'), MALFORMED),
    "no action": (samples.query('{"params":{}}'), MALFORMED),
    "no params": (samples.query('{"action":"objectChanged"}'), MALFORMED),
    "params that are a list": (samples.query('{"action":"objectChanged","params":[]}'), MALFORMED),
    "an id that is a word": (samples.query(samples.packet(key="first")), MALFORMED),
    "an id that is short": (samples.query(samples.packet(key="11003")), MALFORMED),
    "an id that is an object": (samples.query(samples.packet(key={"id": samples.GOODS})), MALFORMED),
    "an id that is true": (samples.query(samples.packet(key=True)), MALFORMED),
    "an id with a path": (samples.query(samples.packet(key="../../11003000000")), MALFORMED),
    "an id in other digits": (samples.query(samples.packet(key="١١٠٠٣٠٠٠٠٠٠٠٠٠٠١")), MALFORMED),
    "an id that contradicts the name": (
        samples.query(samples.packet("documents.saleOrder", samples.GOODS)),
        MALFORMED,
    ),
    "a name that contradicts the id": (
        samples.query(samples.packet("catalogs.goods", samples.SALE_ORDER)),
        MALFORMED,
    ),
    "a NUL byte": (samples.query(samples.packet() + "\x00"), MALFORMED),
    "an escaped NUL": (samples.query(samples.packet(key="110030000000000\x00")), MALFORMED),
    "an escaped NUL in an unknown action": (samples.query(samples.packet(action="a\x00b")), MALFORMED),
    "bytes that are no UTF-8": ("packet=%FF%FE", MALFORMED),
    "a surrogate in UTF-8": ("packet=%ED%A0%80", MALFORMED),
    "very many fields": ("&".join(["a=1"] * 2000), MALFORMED),
    "20 KB of query": ("packet=" + "1" * 20_000, (414, "too_large")),
    "1 MB of query": ("packet=" + "1" * 2**20, (414, "too_large")),
}


def test_a_bad_query_is_refused_in_json_and_stores_nothing(
    sqlite: Database, opened: Open, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    waker = RecordingWaker()
    with opened(sqlite, waker=waker) as client:
        for method in ("GET", "POST"):
            answers = {name: _ask(client, method, query) for name, (query, _) in BAD_QUERIES.items()}
            assert {name: expected for name, (_, expected) in BAD_QUERIES.items()} == answers
    assert [] == samples.rows(sqlite)
    assert [] == waker.woken
    samples.nothing_logged(capfd, caplog)


def _ask(client: httpx.Client, method: str, query: str) -> tuple[int, str]:
    """Status and error of a webhook. Not by httpx, which refuses to send a long query."""
    sock = http.client.HTTPConnection(client.base_url.host, client.base_url.port, timeout=30)
    with closing(sock):
        sock.request(method, f"/hooks/shop?{query}")
        answer = sock.getresponse()
        page = json.loads(answer.read())
    assert {"error", "message"} == set(page)
    assert page["message"]
    return answer.status, page["error"]


BAD_BODIES: dict[str, tuple[str | bytes, str | None, tuple[int, str]]] = {
    "no body": ("", None, MALFORMED),
    "an empty form": ("", "application/x-www-form-urlencoded", MALFORMED),
    "a form without a packet": ("a=1", "application/x-www-form-urlencoded", MALFORMED),
    "a form with two packets": (
        samples.query(samples.packet(), samples.packet()),
        "application/x-www-form-urlencoded",
        MALFORMED,
    ),
    "a form that is no UTF-8": (b"packet=\xff", "application/x-www-form-urlencoded", MALFORMED),
    "a form declared as JSON": (samples.query(samples.packet()), "application/json", MALFORMED),
    "no JSON": ("<packet/>", "application/json", MALFORMED),
    "JSON in another encoding": (samples.packet("каталог").encode("utf-16"), "application/json", MALFORMED),
    "compressed JSON": (b"\x1f\x8b\x08\x00", "application/json", MALFORMED),
    "a NUL byte": (samples.packet() + "\x00", "application/json", MALFORMED),
    "a multipart form without a boundary": ("--b--", "multipart/form-data", MALFORMED),
    "a multipart form that is none": (samples.packet(), "multipart/form-data; boundary=b", MALFORMED),
    "a file": (
        f'--b\r\nContent-Disposition: form-data; name="packet"; filename="p"\r\n\r\n{samples.packet()}\r\n--b--\r\n',
        "multipart/form-data; boundary=b",
        MALFORMED,
    ),
    "100 KB of body": ('"' + "1" * 100_000 + '"', "application/json", (413, "too_large")),
}


def test_a_bad_body_is_refused_in_json_and_stores_nothing(
    sqlite: Database, opened: Open, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    answers = {}
    with opened(sqlite) as client:
        for name, (content, kind, _) in BAD_BODIES.items():
            answer = client.post("/hooks/shop", content=content, headers={"Content-Type": kind} if kind else {})
            assert {"error", "message"} == set(answer.json())
            answers[name] = (answer.status_code, answer.json()["error"])
    assert {name: expected for name, (_, _, expected) in BAD_BODIES.items()} == answers
    assert [] == samples.rows(sqlite)
    samples.nothing_logged(capfd, caplog)


def test_a_packet_in_the_query_and_another_in_the_body_are_refused(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        samples.refused(
            MALFORMED, client.post(f"/hooks/shop?{samples.query(samples.packet())}", content=samples.packet())
        )
    assert [] == samples.rows(sqlite)


def test_a_sender_that_sends_more_than_is_read_still_gets_the_response(sqlite: Database, opened: Open) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"1" * 100_000

    with opened(sqlite) as client:
        for content in (b"1" * 2_000_000, chunks()):
            answer = client.post("/hooks/shop", content=content)
            assert (413, "too_large") == (answer.status_code, answer.json()["error"])
    assert [] == samples.rows(sqlite)


def test_a_body_without_a_stated_length_is_not_read_further_than_the_limit(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        with samples.connect(client) as sock:
            sock.sendall(
                b"POST /hooks/shop HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Transfer-Encoding: chunked\r\n\r\n"
            )
            for _ in range(17):
                sock.sendall(b"1000\r\n" + b"1" * 0x1000 + b"\r\n")
            # The response comes although the body never ends.
            answer = b""
            while chunk := sock.recv(65536):
                answer += chunk
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert {"error", "message"} == set(json.loads(answer.partition(b"\r\n\r\n")[2]))
    assert [] == samples.rows(sqlite)


def test_a_stated_length_over_the_limit_is_refused_before_the_body_comes(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client, samples.connect(client) as sock:
        sock.sendall(b"POST /hooks/shop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
        assert sock.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert [] == samples.rows(sqlite)


def test_a_sender_that_disconnects_half_way_stores_nothing(
    sqlite: Database, opened: Open, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with opened(sqlite) as client:
        with samples.connect(client) as sock:
            sock.sendall(b"POST /hooks/shop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{")
        assert 200 == client.get("/livez").status_code
    assert [] == samples.rows(sqlite)
    samples.nothing_logged(capfd, caplog)


def test_an_unknown_connection_is_404(sqlite: Database, opened: Open) -> None:
    unknown = (404, "unknown_connection")
    with opened(sqlite) as client:
        for path in ("/hooks/unknown", "/hooks/unknown/secret", "/hooks/shop%00", "/hooks/%FF", "/hooks/shop%2Fx"):
            answer = client.get(f"{path}?{samples.query(samples.packet())}")
            assert answer.status_code in {403, 404}
        samples.refused(unknown, client.get(f"/hooks/unknown?{samples.query(samples.packet())}"))
        samples.refused(unknown, client.post("/hooks/unknown", content=samples.packet()))
        assert 404 == client.get("/hooks/").status_code
    assert [] == samples.rows(sqlite)


def test_a_connection_that_accepts_no_webhooks_is_answered_like_an_unknown_one(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        unknown, books = client.get("/hooks/unknown"), client.get("/hooks/books")
    assert (unknown.status_code, unknown.json()) == (books.status_code, books.json())


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_405(sqlite: Database, opened: Open, method: str) -> None:
    with opened(sqlite) as client:
        answer = client.request(method, f"/hooks/shop?{samples.query(samples.packet())}")
    assert 405 == answer.status_code
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))
    assert method == "HEAD" or "method_not_allowed" == answer.json()["error"]
    assert [] == samples.rows(sqlite)


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
        answer = client.get(f"{path}?{samples.query(samples.packet())}")
    if not allowed:
        samples.refused((403, "secret"), answer)
    assert (200 if allowed else 403) == answer.status_code
    assert allowed == bool(samples.rows(sqlite))
    output = capfd.readouterr()
    assert "s3cret" not in output.out + output.err + answer.text


@pytest.mark.parametrize(
    ("allowed", "proxies", "lines"),
    [
        (False, "", []),
        (False, "", [samples.VENDOR]),
        (True, "127.0.0.1", [samples.VENDOR]),
        (True, "127.0.0.1", [f"6.6.6.6, {samples.VENDOR}"]),
        (True, "127.0.0.1", ["6.6.6.6", f"{samples.VENDOR}:4711"]),
        (False, "127.0.0.1", [f"{samples.VENDOR}, 6.6.6.6"]),
        (False, "127.0.0.1", [samples.VENDOR, "6.6.6.6"]),
        (False, "127.0.0.1", [f"{samples.VENDOR},"]),
        (False, "127.0.0.1", []),
        (False, "10.0.0.0/8", [samples.VENDOR]),
    ],
)
def test_only_a_trusted_proxys_header_names_the_sender(
    sqlite: Database,
    opened: Open,
    allowed: bool,  # noqa: FBT001 - a column of a truth table
    proxies: str,
    lines: list[str],
) -> None:
    receiver = f'trusted_proxies = ["{proxies}"]' if proxies else ""
    headers = [("X-Forwarded-For", line) for line in lines]
    headers += [
        ("X-Real-IP", samples.VENDOR),
        ("Forwarded", f"for={samples.VENDOR}"),
        ("X-Forwarded-Host", samples.VENDOR),
    ]
    with opened(sqlite, receiver=receiver, shop=f'webhook_sources = ["{samples.VENDOR}"]') as client:
        answer = client.get(f"/hooks/shop?{samples.query(samples.packet())}", headers=headers)
    if not allowed:
        samples.refused((403, "sender"), answer)
    assert (200 if allowed else 403) == answer.status_code
    assert allowed == bool(samples.rows(sqlite))


def test_a_stranger_learns_nothing_about_secret_or_packet(sqlite: Database, opened: Open) -> None:
    shop = f'webhook_sources = ["{samples.VENDOR}"]\nwebhook_secret = "s3cret"'
    with opened(sqlite, shop=shop) as client:
        paths = ("/hooks/shop", "/hooks/shop/s3cret", "/hooks/shop/wrong", "/hooks/shop?packet=1")
        answers = {(answer.status_code, answer.text) for answer in map(client.get, paths)}
    assert 1 == len(answers)
