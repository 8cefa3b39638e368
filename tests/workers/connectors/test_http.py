"""The connectors' HTTP client against servers that drip, stall, break off, send garbage and echo secrets."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from models.settings.network import DIRECT
from workers.connectors.contract import ClientRuntime
from workers.connectors.http import Http, reachable
from workers.errors import SetAside, TimedOutError, TooLargeError, TryLater, VendorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

KEY = "key-that-must-not-leak"
SHORT = timedelta(seconds=0.3)
"""For tests in which the deadline passes. All others use LONG, so that a busy machine does not fail them."""

LONG = timedelta(seconds=20)

Script = Sequence[bytes | float]
"""What a server sends on a connection: bytes, pauses in seconds, and -1: from here on drip byte by byte."""


class NoSessions:
    """The contract's `Sessions`, storing nothing."""

    def get(self) -> bytes | None:
        return None

    def put(self, session: bytes, until: datetime) -> None:
        """Ignored."""

    def drop(self) -> None:
        """Ignored."""

    def login_lock(self) -> AbstractContextManager[None]:
        return nullcontext()


def _play(client: socket.socket, script: Script, finished: threading.Event) -> None:
    dripping = False
    with client, suppress(OSError):  # the client may have closed the connection
        client.settimeout(5)
        client.recv(65536)
        for part in script:
            if isinstance(part, float):
                dripping = part < 0
                finished.wait(max(part, 0))
                continue
            for start in range(len(part)) if dripping else ():
                client.sendall(part[start : start + 1])
                if finished.wait(0.03):
                    return
            client.sendall(b"" if dripping else part)


@contextmanager
def scripted_server(*scripts: Script) -> Iterator[str]:
    """A server that plays one script per connection, whatever the request, and then closes it."""
    finished = threading.Event()

    def serve() -> None:
        for script in scripts:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            _play(client, script, finished)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            finished.set()
            listener.close()
            thread.join(5)


@contextmanager
def http_client(
    url: str,
    *,
    alive: Callable[[], None] = lambda: None,
    before_request: Callable[[], None] = lambda: None,
    **options: Any,
) -> Iterator[Http]:
    headers = {"X-Key": KEY} | options.pop("headers", {})
    limits = {"largest": options.pop("largest")} if "largest" in options else {}
    runtime = ClientRuntime(heartbeat=alive, sessions=NoSessions(), before_request=before_request, **limits)
    http = Http(runtime, base_url=url, headers=headers, **{"timeout": LONG, "route": DIRECT, **options})
    try:
        yield http
    finally:
        http.close()


def reply(body: bytes, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    fields = {"Content-Length": str(len(body) if length is None else length), "Connection": "close", **headers}
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def error_of(*script: bytes | float, **options: Any) -> VendorError:
    """The error of a request for `/things?secret=query` at a server with this script."""
    with scripted_server(list(script)) as url, http_client(url, **options) as http:
        with pytest.raises(VendorError) as raised:
            http.read("GET", "/things", params={"secret": "in-the-query"})
        assert KEY not in str(raised.value)
        assert "in-the-query" not in str(raised.value)
        return raised.value


def test_a_complete_reply() -> None:
    with (
        scripted_server([reply(b'{"a": 1.10}', Date="Sun, 01 Mar 2026 12:00:00 GMT")]) as url,
        http_client(url) as http,
    ):
        result = http.read("GET", "/things")
    assert (200, b'{"a": 1.10}', datetime(2026, 3, 1, 12, tzinfo=UTC)) == (result.status, result.body, result.date)
    assert "1.1" == str(result.json()["a"])


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"


@pytest.mark.parametrize(
    "script",
    [
        [5.0],
        [-1.0, b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 50],
        [HEAD, 5.0],
        [b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", -1.0, b" " * 900],
        [b"HTTP/1.1 200 OK\r\n\r\n[1", 0.2, b",2", 5.0, b"]"],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", -1.0, b"1\r\n \r\n" * 200],
    ],
    ids=["silence", "dripping head", "silent body", "dripping body", "body without length", "chunks"],
)
def test_the_deadline_covers_headers_and_body(script: Script) -> None:
    assert isinstance(error_of(*script, timeout=SHORT), TimedOutError)


def test_a_body_that_stops_just_before_the_deadline_gets_no_second_timeout() -> None:
    """The lease ends shortly after the deadline, so a request must not last longer."""
    with (
        scripted_server([HEAD + b"[1", 0.25, b",2", 5.0]) as url,
        http_client(url, timeout=SHORT) as http,
        pytest.raises(TimedOutError, match=r"no answer within|not complete within"),
    ):
        http.read("GET", "/things")


def test_a_body_without_length_that_the_deadline_cut_is_not_complete() -> None:
    error = error_of(b"HTTP/1.1 200 OK\r\n\r\n[1,2]", 5.0, timeout=SHORT)
    assert isinstance(error, TimedOutError)


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Away", "599 Odd", "429 Too Many"])
def test_server_errors_and_too_many_requests_are_tried_later(status: str) -> None:
    error = error_of(reply(b"<html><title>  Sorry,\n we are   closed</title><body>Jane</body>", status))
    assert type(error) is TryLater
    assert error.closes_gate
    assert f"HTTP {status[:3]} Sorry, we are closed" == str(error)


@pytest.mark.parametrize(
    "script",
    [
        [b"HTTP/1.1 503 Away\r\nRetry-After: 9\r\n\r\n", -1.0, b"a" * 500],
        [b"HTTP/1.1 503 Away\r\nRetry-After: 9\r\nContent-Length: 99\r\n\r\nhalf"],
        [b"HTTP/1.1 503 Away\r\nRetry-After: 9\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"],
        [b"HTTP/1.1 503 Away\r\nRetry-After: 9\r\nContent-Length: 9000000\r\n\r\n" + b"x" * 9_000_000],
    ],
    ids=["dripping", "half", "not gzip", "huge"],
)
def test_the_body_of_a_server_error_is_limited(script: Script) -> None:
    error = error_of(*script, timeout=timedelta(seconds=2))
    assert isinstance(error, TryLater)
    assert timedelta(seconds=9) == error.after
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        (" 12 ", 12),
        ("99999999999999999999", 86_400),
        ("9" * 5000, 86_400),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("", None),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 86_400),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sun, 99 Nov 99999999999999999999 08:49:37 GMT", None),
        ("Sun, 06 Nov 2094 08:49:37 +99999999999", None),
    ],
)
def test_retry_after_may_have_both_forms_and_is_at_most_a_day(value: str, seconds: int | None) -> None:
    error = error_of(reply(b"", "429 Too Many", Retry_After=value))
    assert isinstance(error, TryLater)
    assert (None if seconds is None else timedelta(seconds=seconds)) == error.after


def test_retry_after_as_a_date_is_the_time_until_then() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    error = error_of(reply(b"", "503 Away", Retry_After=moment))
    assert isinstance(error, TryLater)
    assert error.after is not None
    assert timedelta(seconds=30) < error.after <= timedelta(seconds=100)


@pytest.mark.parametrize(
    "date",
    [
        "",
        "yesterday",
        "Sun, 01 Mar 20260000000000 12:00:00 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 1900 00:00:00 GMT",
    ],
)
def test_a_malformed_or_absurd_date_is_none(date: str) -> None:
    with scripted_server([reply(b"[]", Date=date)]) as url, http_client(url) as http:
        assert http.read("GET", "/things").date is None


@pytest.mark.parametrize(
    "script",
    [
        [reply(b"[1, 2", length=100)],
        [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n[1,2,\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-"],
        [b""],
        [b"SSH-2.0-OpenSSH_9.6\r\n"],
        [b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd"],
    ],
    ids=["half a body", "half a chunk", "half a head", "nothing", "no HTTP", "no gzip"],
)
def test_a_cut_or_malformed_answer_is_tried_later(script: Script) -> None:
    assert type(error_of(*script)) is TryLater


def test_a_refused_connection_is_tried_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with http_client(f"http://127.0.0.1:{port}") as http, pytest.raises(TryLater) as raised:
        http.read("GET", "/things")
    assert raised.value.closes_gate


class TwoRequests(httpx.Auth):
    """A login before the request."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        yield httpx.Request("POST", request.url.join("/login"), extensions=request.extensions)
        yield request


def test_each_request_is_announced_before_it_is_sent_a_login_too() -> None:
    announced: list[int] = []
    scripts = [[reply(b"{}", Connection="close")], [reply(b"{}", Connection="close")]]
    with (
        scripted_server(*scripts) as url,
        http_client(url, auth=TwoRequests(), before_request=lambda: announced.append(1)) as http,
    ):
        http.read("GET", "/things")
    assert 2 == len(announced)


def test_the_wait_before_a_request_and_the_login_do_not_count_against_its_deadline() -> None:
    timeout = timedelta(seconds=2)
    slow: Script = [1.2, reply(b"{}", Connection="close")]
    with (
        scripted_server(slow, slow) as url,
        http_client(url, auth=TwoRequests(), timeout=timeout, before_request=lambda: time.sleep(1.2)) as http,
    ):
        assert 200 == http.read("GET", "/things").status


def test_a_request_whose_announcement_raises_is_not_sent() -> None:
    class LostError(Exception):
        pass

    def lost() -> None:
        raise LostError

    with (
        scripted_server([reply(b"{}")]) as url,
        http_client(url, before_request=lost) as http,
        pytest.raises(LostError),
    ):
        http.read("GET", "/things")


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed_with_our_key(status: str) -> None:
    error = error_of(reply(b"", status, Location=f"http://elsewhere.example/?key={KEY}"))
    assert isinstance(error, TryLater)
    assert (False, True) == (error.closes_gate, error.refused), "other resources go on, and nothing was taken"
    assert "set `url` to the address that it redirects to" in str(error)


@pytest.mark.parametrize(
    ("status", "refused"),
    [("301 Moved", False), ("302 Found", False), ("303 See Other", False), ("307 Temporary", True)],
)
def test_a_write_that_is_redirected_within_the_host_may_have_been_done(status: str, *, refused: bool) -> None:
    error = error_of(reply(b"", status, Location="/things/12"))
    assert isinstance(error, TryLater)
    assert (False, refused) == (error.closes_gate, error.refused)


def test_nothing_is_sent_once_the_time_is_over_as_after_a_stopped_process() -> None:
    """`before_request` starts the clock; the connection comes long after it, and no byte follows."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with http_client(url, timeout=timedelta(seconds=0.05)) as http:
            client = http._client
            client.event_hooks["request"].append(lambda _: time.sleep(0.2))
            with pytest.raises(TryLater, match="not sent within") as raised:
                http.read("POST", "/things", json={})
        assert raised.value.refused
        server.settimeout(1)
        connection, _ = server.accept()
        with connection:
            assert b"" == connection.recv(100)


@pytest.mark.parametrize("status", [200, 204, 304, 400, 401, 403, 404, 418])
def test_every_other_status_is_returned_to_the_connector(status: int) -> None:
    with (
        scripted_server([f"HTTP/1.1 {status} Text\r\nContent-Length: 0\r\n\r\n".encode()]) as url,
        http_client(url) as http,
    ):
        assert status == http.read("GET", "/things").status


@pytest.mark.parametrize("body", [b"<html>proxy</html>", b"", b"[1, 2", b"\xff\xfe", b"nan", b"[" * 100_000])
def test_a_body_that_is_not_json_is_tried_later_without_closing_the_gate(body: bytes) -> None:
    with scripted_server([reply(body)]) as url, http_client(url) as http:
        result = http.read("GET", "/things")
    with pytest.raises(TryLater) as raised:
        result.json()
    assert not raised.value.closes_gate
    assert len(str(raised.value)) < 300


def test_a_body_that_is_too_large_raises_too_large() -> None:
    size = 65 * 2**20
    chunks: Script = [reply(b"", length=size), *[b" " * 2**20] * 65]
    error = error_of(*chunks)
    assert isinstance(error, TooLargeError)
    assert isinstance(error, SetAside)
    assert "larger than 64 MiB" in str(error)


@pytest.mark.parametrize("size", [1000, 1001])
def test_the_runtime_sets_the_largest_body(size: int) -> None:
    sent = [reply(b" " * size)]
    with scripted_server(sent, sent) as url, http_client(url, largest=1000) as http:
        with nullcontext() if size <= 1000 else pytest.raises(TooLargeError):
            assert size == len(http.read("GET", "/things").body)
        with nullcontext() if size <= 1000 else pytest.raises(TooLargeError), http.stream("GET", "/things") as streamed:
            assert size == len(streamed.read(-1))


def test_a_header_that_cannot_be_sent_is_not_quoted() -> None:
    with scripted_server([]) as url, http_client(url, headers={"X-Key": f"{KEY}\nX: y"}) as http:
        with pytest.raises(SetAside) as raised:
            http.read("GET", "/things")
        assert KEY not in str(raised.value)


# Streams.


def test_a_long_stream_is_limited_by_its_progress_and_not_by_its_length() -> None:
    body = b"x" * 2000
    script: list[bytes | float] = [reply(b"", length=8 * len(body))]
    for _ in range(8):
        script += [0.1, body]
    renewed = []
    with (
        scripted_server(script) as url,
        http_client(url, alive=lambda: renewed.append(1), timeout=SHORT * 2) as http,
        http.stream("GET", "/things") as streamed,
    ):
        result = b"".join(iter(lambda: streamed.read(700), b""))
    assert 8 * body == result
    assert renewed


@pytest.mark.parametrize(
    "script",
    [
        [reply(b"[1,", length=100), 5.0],
        [reply(b"[1,", length=900), -1.0, b" " * 800],
    ],
    ids=["silent", "dripping"],
)
def test_a_stream_that_stalls_is_ended(script: Script) -> None:
    with (
        scripted_server(script) as url,
        http_client(url, timeout=SHORT) as http,
        pytest.raises(TimedOutError),
        http.stream("GET", "/things") as streamed,
    ):
        streamed.read(-1)


def test_the_headers_of_a_stream_have_a_deadline() -> None:
    with (
        scripted_server([-1.0, b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 50]) as url,
        http_client(url, timeout=SHORT) as http,
        pytest.raises(TimedOutError),
        http.stream("GET", "/things"),
    ):
        pass


def test_a_stream_that_breaks_off_is_tried_later() -> None:
    with (
        scripted_server([reply(b"[1,2", length=100)]) as url,
        http_client(url) as http,
        pytest.raises(TryLater),
        http.stream("GET", "/things") as streamed,
    ):
        streamed.read(-1)


def test_a_stream_is_read_like_a_file() -> None:
    with (
        scripted_server([reply(b"abcdef")]) as url,
        http_client(url) as http,
        http.stream("GET", "/things") as streamed,
    ):
        assert (b"", b"ab", b"cdef", b"") == (
            streamed.read(0),
            streamed.read(2),
            streamed.read(-1),
            streamed.read(5),
        )


def test_only_a_2xx_answer_is_reachable() -> None:
    with scripted_server([reply(b"ok")]) as url:
        assert reachable(url)
    assert not reachable(url)
    with scripted_server([reply(b"no", "500 Oops")]) as url:
        assert not reachable(url)
