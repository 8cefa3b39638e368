from __future__ import annotations

import http.client
import json
import logging
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import pytest
import sqlalchemy as sa

from models import notices, tables
from models.values import Mention
from tests.processes import until
from tests.receiver.bells import Broken, Quiet, Stuck

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from models.database import Database
    from tests.receiver.conftest import Open

GOODS = "1100300000000001"
SALE_ORDER = "1109100000000001"
VENDOR = "88.198.50.253"


def _packet(name: str = "catalogs.goods", key: Any = GOODS, action: str = "objectChanged") -> str:
    return json.dumps({"action": action, "params": {"objectName": name, "id": key}}, separators=(",", ":"))


def _query(*packets: str) -> str:
    return urlencode([("packet", packet) for packet in packets], quote_via=quote)


def _rows(database: Database) -> list[tuple[str, str, str | None, str | None, str]]:
    table = tables.notices
    with database.read() as connection:
        found = connection.execute(sa.select(table).order_by(table.c.id))
        return [(row.connection, row.state, row.resource, row.key, row.packet) for row in found]


def _new(packet: str, name: str = "catalogs.goods", key: str = GOODS) -> tuple[str, str, str, str, str]:
    return ("shop", "new", name, key, packet)


def _refused(expected: tuple[int, str], answer: httpx.Response) -> None:
    assert expected == (answer.status_code, answer.json()["error"])
    assert {"error", "message"} == set(answer.json())
    assert answer.json()["message"]


def test_the_vendors_own_get_is_answered_once_it_is_stored(database: Database, opened: Open) -> None:
    packet = _packet()
    with opened(database) as client:
        answer = client.get(f"/hooks/shop?{_query(packet)}")
        assert (200, {"ok": True}) == (answer.status_code, answer.json())
        assert [_new(packet)] == _rows(database)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (urlencode({"packet": _packet()}), "application/x-www-form-urlencoded"),
        (urlencode({"packet": _packet(), "other": "field"}), "application/x-www-form-urlencoded; charset=utf-8"),
        (_packet(), "application/json"),
        (_packet(), "application/json; charset=utf-8"),
        (_packet(), "text/plain"),
        (_packet(), None),
        (_packet(), "application/x-www-form-urlencoded"),  # PHP's curl with a JSON text and no type
        (
            f'--b\r\nContent-Disposition: form-data; name="packet"\r\n\r\n{_packet()}\r\n--b--\r\n',
            "multipart/form-data; boundary=b",
        ),
    ],
)
def test_a_packet_may_be_posted(sqlite: Database, opened: Open, content: str, kind: str | None) -> None:
    with opened(sqlite) as client:
        answer = client.post("/hooks/shop", content=content, headers={"Content-Type": kind} if kind else {})
    assert 200 == answer.status_code
    assert [_new(_packet())] == _rows(sqlite)


def test_a_packet_may_be_posted_in_the_query(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        assert 200 == client.post(f"/hooks/shop?{_query(_packet())}").status_code
    assert [_new(_packet())] == _rows(sqlite)


def test_a_posted_body_may_come_in_chunks(sqlite: Database, opened: Open) -> None:
    def chunks() -> Iterator[bytes]:
        for character in _packet():
            yield character.encode()

    with opened(sqlite) as client:
        assert 200 == client.post("/hooks/shop", content=chunks()).status_code
    assert [_new(_packet())] == _rows(sqlite)


def test_an_id_may_be_a_number(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        assert 200 == client.get(f"/hooks/shop?{_query(_packet(key=int(GOODS)))}").status_code
    assert [_new(_packet(key=int(GOODS)))] == _rows(sqlite)


@pytest.mark.parametrize("packet", [_packet(action="objectPraised"), _packet("catalogs.persons", "1100100000000001")])
def test_what_is_none_of_our_business_is_kept_as_ignored(sqlite: Database, opened: Open, packet: str) -> None:
    bell = Quiet()
    with opened(sqlite, bell=bell) as client:
        assert 200 == client.get(f"/hooks/shop?{_query(packet)}").status_code
    assert [("shop", "ignored", None, None, packet)] == _rows(sqlite)
    assert [] == bell.rung


def test_the_bell_rings_for_the_connection_after_its_notice_is_stored(sqlite: Database, opened: Open) -> None:
    bell = Quiet()
    with opened(sqlite, bell=bell) as client:
        client.get(f"/hooks/shop?{_query(_packet())}")
    assert ["shop"] == bell.rung


def test_a_bell_that_hangs_or_breaks_neither_delays_nor_fails_the_answer(sqlite: Database, opened: Open) -> None:
    stuck = Stuck()
    for bell in (stuck, Broken()):
        with opened(sqlite, bell=bell) as client:
            assert [200] * 3 == [client.get(f"/hooks/shop?{_query(_packet())}").status_code for _ in range(3)]
    stuck.let_go.set()
    assert 6 == len(_rows(sqlite))


def test_requests_that_arrive_together_are_all_stored_once(database: Database, opened: Open) -> None:
    packets = [_packet(key=f"11003{number:011}") for number in range(60)]
    with opened(database) as client, ThreadPoolExecutor(20) as senders:
        answers = list(senders.map(lambda packet: client.get(f"/hooks/shop?{_query(packet)}").status_code, packets))
    assert [200] * 60 == answers
    assert sorted(packets) == sorted(row[4] for row in _rows(database))
    with database.begin() as connection:
        assert 60 == notices.fold(connection, connection_name="shop", limit=1000)
        rows = connection.execute(sa.select(tables.inbox.c.resource, tables.inbox.c.key))
        assert 60 == len({Mention(*row) for row in rows})


def test_requests_that_arrive_during_a_commit_share_the_next_one(sqlite: Database, opened: Open) -> None:
    request = f"GET /hooks/shop?{_query(_packet())} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    with opened(sqlite) as client, ExitStack() as wires:
        with sqlite.begin():  # the one writer that SQLite allows: the first commit has to wait
            waiting = [wires.enter_context(_wire(client)) for _ in range(20)]
            for wire in waiting:
                wire.sendall(request)
                # What was sent before this is read before this is answered.
                assert 200 == client.get("/livez").status_code
        answers = [wire.recv(65536) for wire in waiting]
        page = client.get("/metrics").text
    assert all(answer.startswith(b"HTTP/1.1 200 ") for answer in answers)
    assert 20 == len(_rows(sqlite))
    assert "erpmirror_notices_batch_count 2.0" in page
    assert "erpmirror_notices_batch_sum 20.0" in page


MALFORMED = (400, "malformed")

BAD_QUERIES = {
    "no packet": ("", MALFORMED),
    "another field": ("pocket=1", MALFORMED),
    "an empty packet": ("packet=", MALFORMED),
    "a blank packet": ("packet=%20", MALFORMED),
    "a repeated packet": (_query(_packet(), _packet()), MALFORMED),
    "no JSON": (_query("objectChanged"), MALFORMED),
    "half a JSON": (_query(_packet()[:-5]), MALFORMED),
    "two JSONs": (_query(_packet() * 2), MALFORMED),
    "a scalar": (_query("1"), MALFORMED),
    "null": (_query("null"), MALFORMED),
    "a list": (_query(f"[{_packet()}]"), MALFORMED),
    "NaN": (_query('{"action": NaN}'), MALFORMED),
    "a number without end": (_query("1" * 10_000), MALFORMED),
    "a nesting bomb": (_query("[" * 5000), MALFORMED),
    "a nesting bomb of objects": (_query('{"a":' * 1000), MALFORMED),
    "a repeated name": (_query(_packet()[:-1] + ',"action":"other"}'), MALFORMED),
    "no action": (_query('{"params":{}}'), MALFORMED),
    "no params": (_query('{"action":"objectChanged"}'), MALFORMED),
    "params that are a list": (_query('{"action":"objectChanged","params":[]}'), MALFORMED),
    "an id that is a word": (_query(_packet(key="first")), MALFORMED),
    "an id that is short": (_query(_packet(key="11003")), MALFORMED),
    "an id that is an object": (_query(_packet(key={"id": GOODS})), MALFORMED),
    "an id that is true": (_query(_packet(key=True)), MALFORMED),
    "an id with a path": (_query(_packet(key="../../11003000000")), MALFORMED),
    "an id in other digits": (_query(_packet(key="١١٠٠٣٠٠٠٠٠٠٠٠٠٠١")), MALFORMED),
    "an id that contradicts the name": (_query(_packet("documents.saleOrder", GOODS)), MALFORMED),
    "a name that contradicts the id": (_query(_packet("catalogs.goods", SALE_ORDER)), MALFORMED),
    "a NUL byte": (_query(_packet() + "\x00"), MALFORMED),
    "an escaped NUL": (_query(_packet(key="110030000000000\x00")), MALFORMED),
    "an escaped NUL in an unknown action": (_query(_packet(action="a\x00b")), MALFORMED),
    "bytes that are no UTF-8": ("packet=%FF%FE", MALFORMED),
    "a surrogate in UTF-8": ("packet=%ED%A0%80", MALFORMED),
    "very many fields": ("&".join(["a=1"] * 2000), MALFORMED),
    "20 KB of query": ("packet=" + "1" * 20_000, (414, "too_large")),
    "1 MB of query": ("packet=" + "1" * 2**20, (414, "too_large")),
}


def test_a_bad_query_is_refused_in_words_and_leaves_nothing(
    sqlite: Database, opened: Open, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    bell = Quiet()
    with opened(sqlite, bell=bell) as client:
        for method in ("GET", "POST"):
            answers = {name: _ask(client, method, query) for name, (query, _) in BAD_QUERIES.items()}
            assert {name: expected for name, (_, expected) in BAD_QUERIES.items()} == answers
    assert [] == _rows(sqlite)
    assert [] == bell.rung
    _nothing_logged(capfd, caplog)


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
    "a form with two packets": (_query(_packet(), _packet()), "application/x-www-form-urlencoded", MALFORMED),
    "a form that is no UTF-8": (b"packet=\xff", "application/x-www-form-urlencoded", MALFORMED),
    "a form said to be JSON": (_query(_packet()), "application/json", MALFORMED),
    "no JSON": ("<packet/>", "application/json", MALFORMED),
    "JSON in another encoding": (_packet("каталог").encode("utf-16"), "application/json", MALFORMED),
    "compressed JSON": (b"\x1f\x8b\x08\x00", "application/json", MALFORMED),
    "a NUL byte": (_packet() + "\x00", "application/json", MALFORMED),
    "a multipart form without a boundary": ("--b--", "multipart/form-data", MALFORMED),
    "a multipart form that is none": (_packet(), "multipart/form-data; boundary=b", MALFORMED),
    "a file": (
        f'--b\r\nContent-Disposition: form-data; name="packet"; filename="p"\r\n\r\n{_packet()}\r\n--b--\r\n',
        "multipart/form-data; boundary=b",
        MALFORMED,
    ),
    "100 KB of body": ('"' + "1" * 100_000 + '"', "application/json", (413, "too_large")),
}


def test_a_bad_body_is_refused_in_words_and_leaves_nothing(
    sqlite: Database, opened: Open, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    answers = {}
    with opened(sqlite) as client:
        for name, (content, kind, _) in BAD_BODIES.items():
            answer = client.post("/hooks/shop", content=content, headers={"Content-Type": kind} if kind else {})
            assert {"error", "message"} == set(answer.json())
            answers[name] = (answer.status_code, answer.json()["error"])
    assert {name: expected for name, (_, _, expected) in BAD_BODIES.items()} == answers
    assert [] == _rows(sqlite)
    _nothing_logged(capfd, caplog)


def test_a_packet_in_the_query_and_another_in_the_body_are_two(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        _refused(MALFORMED, client.post(f"/hooks/shop?{_query(_packet())}", content=_packet()))
    assert [] == _rows(sqlite)


def test_a_sender_who_sends_more_than_is_read_gets_the_answer_all_the_same(sqlite: Database, opened: Open) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b"1" * 100_000

    with opened(sqlite) as client:
        for content in (b"1" * 2_000_000, chunks()):
            answer = client.post("/hooks/shop", content=content)
            assert (413, "too_large") == (answer.status_code, answer.json()["error"])
    assert [] == _rows(sqlite)


def test_a_body_without_a_stated_length_is_not_read_further_than_the_limit(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        with _wire(client) as wire:
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
    assert [] == _rows(sqlite)


def test_a_stated_length_over_the_limit_is_refused_before_the_body_comes(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client, _wire(client) as wire:
        wire.sendall(b"POST /hooks/shop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n")
        assert wire.recv(65536).startswith(b"HTTP/1.1 413 ")
    assert [] == _rows(sqlite)


def test_a_sender_that_goes_away_half_way_leaves_nothing(
    sqlite: Database, opened: Open, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with opened(sqlite) as client:
        with _wire(client) as wire:
            wire.sendall(b"POST /hooks/shop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{")
        assert 200 == client.get("/livez").status_code
    assert [] == _rows(sqlite)
    _nothing_logged(capfd, caplog)


def test_an_unknown_connection_is_404(sqlite: Database, opened: Open) -> None:
    unknown = (404, "unknown_connection")
    with opened(sqlite) as client:
        for path in ("/hooks/nobody", "/hooks/nobody/secret", "/hooks/shop%00", "/hooks/%FF", "/hooks/shop%2Fx"):
            answer = client.get(f"{path}?{_query(_packet())}")
            assert answer.status_code in {403, 404}
        _refused(unknown, client.get(f"/hooks/nobody?{_query(_packet())}"))
        _refused(unknown, client.post("/hooks/nobody", content=_packet()))
        assert 404 == client.get("/hooks/").status_code
    assert [] == _rows(sqlite)


def test_a_connection_that_takes_no_webhooks_is_as_unknown_as_any(sqlite: Database, opened: Open) -> None:
    with opened(sqlite) as client:
        nobody, books = client.get("/hooks/nobody"), client.get("/hooks/books")
    assert (nobody.status_code, nobody.json()) == (books.status_code, books.json())


@pytest.mark.parametrize("method", ["HEAD", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_other_methods_are_405(sqlite: Database, opened: Open, method: str) -> None:
    with opened(sqlite) as client:
        answer = client.request(method, f"/hooks/shop?{_query(_packet())}")
    assert 405 == answer.status_code
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))
    assert method == "HEAD" or "method_not_allowed" == answer.json()["error"]
    assert [] == _rows(sqlite)


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
        answer = client.get(f"{path}?{_query(_packet())}")
    if not allowed:
        _refused((403, "secret"), answer)
    assert (200 if allowed else 403) == answer.status_code
    assert allowed == bool(_rows(sqlite))
    output = capfd.readouterr()
    assert "s3cret" not in output.out + output.err + answer.text


@pytest.mark.parametrize(
    ("allowed", "proxies", "lines"),
    [
        (False, "", []),
        (False, "", [VENDOR]),
        (True, "127.0.0.1", [VENDOR]),
        (True, "127.0.0.1", [f"6.6.6.6, {VENDOR}"]),
        (True, "127.0.0.1", ["6.6.6.6", f"{VENDOR}:4711"]),
        (False, "127.0.0.1", [f"{VENDOR}, 6.6.6.6"]),
        (False, "127.0.0.1", [VENDOR, "6.6.6.6"]),
        (False, "127.0.0.1", [f"{VENDOR},"]),
        (False, "127.0.0.1", []),
        (False, "10.0.0.0/8", [VENDOR]),
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
    headers += [("X-Real-IP", VENDOR), ("Forwarded", f"for={VENDOR}"), ("X-Forwarded-Host", VENDOR)]
    with opened(sqlite, receiver=receiver, shop=f'webhook_sources = ["{VENDOR}"]') as client:
        answer = client.get(f"/hooks/shop?{_query(_packet())}", headers=headers)
    if not allowed:
        _refused((403, "sender"), answer)
    assert (200 if allowed else 403) == answer.status_code
    assert allowed == bool(_rows(sqlite))


def test_a_stranger_learns_nothing_about_secret_or_packet(sqlite: Database, opened: Open) -> None:
    shop = f'webhook_sources = ["{VENDOR}"]\nwebhook_secret = "s3cret"'
    with opened(sqlite, shop=shop) as client:
        paths = ("/hooks/shop", "/hooks/shop/s3cret", "/hooks/shop/wrong", "/hooks/shop?packet=1")
        answers = {(answer.status_code, answer.text) for answer in map(client.get, paths)}
    assert 1 == len(answers)


def test_what_cannot_be_stored_waits_in_the_spool_and_is_rung_for_once_it_is(
    database: Database, opened: Open, capfd: pytest.CaptureFixture[str]
) -> None:
    bell = Quiet()
    with opened(database, bell=bell) as client:
        with database.begin() as connection:
            connection.execute(sa.text("ALTER TABLE notices RENAME TO elsewhere"))
        assert 200 == client.get(f"/hooks/shop?{_query(_packet())}").status_code
        assert [] == bell.rung
        with database.begin() as connection:
            connection.execute(sa.text("ALTER TABLE elsewhere RENAME TO notices"))
        until(lambda: bell.rung, seconds=60, what=lambda: client.get("/readyz").text)
    assert [_new(_packet())] == _rows(database)
    assert ["shop"] == bell.rung
    output = capfd.readouterr()
    assert GOODS not in output.out + output.err


def test_the_prefix_of_a_proxy_may_be_cut_or_left(sqlite: Database, opened: Open) -> None:
    with opened(sqlite, receiver='root_path = "/erp/mirror"') as client:
        for prefix in ("", "/erp/mirror"):
            assert 200 == client.get(f"{prefix}/hooks/shop?{_query(_packet())}").status_code
            assert 200 == client.get(f"{prefix}/livez").status_code
    assert 2 == len(_rows(sqlite))


def _wire(client: httpx.Client) -> socket.socket:
    return socket.create_connection((client.base_url.host, client.base_url.port or 0), timeout=30)


def _nothing_logged(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    output = capfd.readouterr()
    for trouble in ("Traceback", "ERROR", "WARNING", "packet", GOODS):
        assert trouble not in output.out + output.err
    assert [] == [record for record in caplog.records if record.levelno >= logging.WARNING and record.name != "httpx"]
