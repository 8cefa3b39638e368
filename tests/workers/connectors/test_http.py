"""How connectors speak HTTP, against servers that drip, stall, lie, break off and gossip."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest

from workers.connectors.contract import Wire
from workers.connectors.http import Http, reachable, words
from workers.errors import Fate, SetAside, TimedOut, TooLarge, TryLater

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

KEY = "key-nobody-may-read"
SHORT = timedelta(seconds=0.3)
"""Where a deadline is to be met; everywhere else nothing may depend on how busy this machine is."""

LONG = timedelta(seconds=20)

Script = Sequence[bytes | float]
"""What a server sends on a connection: bytes, and pauses in seconds; -1 drips the next bytes one by one for ever."""


class NoSessions:
    """The contract's sessions, for a vendor without any."""

    def get(self) -> bytes | None:
        return None

    def put(self, session: bytes, until: datetime) -> None:
        """Nothing is kept."""

    def drop(self) -> None:
        """Nothing was kept."""

    def renewing(self) -> AbstractContextManager[None]:
        return nullcontext()


def _play(client: socket.socket, script: Script, over: threading.Event) -> None:
    dripping = False
    with client, suppress(OSError):  # the other side may have had enough
        client.settimeout(5)
        client.recv(65536)
        for part in script:
            if isinstance(part, float):
                dripping = part < 0
                over.wait(max(part, 0))
                continue
            for start in range(len(part)) if dripping else ():
                client.sendall(part[start : start + 1])
                if over.wait(0.03):
                    return
            client.sendall(b"" if dripping else part)


@contextmanager
def speaking(*scripts: Script) -> Iterator[str]:
    """A server that plays one script a connection, whatever it is asked, and then hangs up."""
    over = threading.Event()

    def serve() -> None:
        for script in scripts:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            _play(client, script, over)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            listener.close()
            thread.join(5)


@contextmanager
def asking(url: str, *, alive: Callable[[], None] = lambda: None, **more: Any) -> Iterator[Http]:
    headers = {"X-Key": KEY} | more.pop("headers", {})
    held = {"largest": more.pop("largest")} if "largest" in more else {}
    wire = Wire(alive=alive, sessions=NoSessions(), **held)
    http = Http(wire, base_url=url, headers=headers, **{"timeout": LONG, **more})
    try:
        yield http
    finally:
        http.close()


def reply(body: bytes, status: str = "200 OK", length: int | None = None, **headers: str) -> bytes:
    told = {"Content-Length": str(len(body) if length is None else length), **headers}
    lines = [f"HTTP/1.1 {status}", *(f"{name.replace('_', '-')}: {value}" for name, value in told.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def fate_of(*script: bytes | float, **more: Any) -> Fate:
    """How a request for `/things?secret=query` ends with this server."""
    with speaking(list(script)) as url, asking(url, **more) as http:
        with pytest.raises(Fate) as raised:
            http.read("GET", "/things", params={"secret": "in-the-query"})
        assert KEY not in str(raised.value)
        assert "in-the-query" not in str(raised.value)
        return raised.value


def test_a_reply_is_read_whole() -> None:
    with speaking([reply(b'{"a": 1.10}', Date="Sun, 01 Mar 2026 12:00:00 GMT")]) as url, asking(url) as http:
        got = http.read("GET", "/things")
    assert (200, b'{"a": 1.10}', datetime(2026, 3, 1, 12, tzinfo=UTC)) == (got.status, got.body, got.date)
    assert "1.10" == str(got.json()["a"])


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
def test_the_deadline_is_the_wall_clocks_over_headers_and_body(script: Script) -> None:
    assert isinstance(fate_of(*script, timeout=SHORT), TimedOut)


def test_a_body_that_falls_silent_just_before_the_deadline_does_not_get_another_timeout() -> None:
    """The lease counts on it."""
    with (
        speaking([HEAD + b"[1", 0.25, b",2", 5.0]) as url,
        asking(url, timeout=SHORT) as http,
        pytest.raises(TimedOut, match=r"no answer within|not complete within"),
    ):
        http.read("GET", "/things")


def test_a_body_that_ends_with_the_connection_is_not_taken_for_whole_when_we_hung_up() -> None:
    error = fate_of(b"HTTP/1.1 200 OK\r\n\r\n[1,2]", 5.0, timeout=SHORT)
    assert isinstance(error, TimedOut)


@pytest.mark.parametrize("status", ["500 Oops", "502 Bad Gateway", "503 Away", "599 Odd", "429 Too Many"])
def test_server_errors_and_too_many_requests_are_tried_later(status: str) -> None:
    error = fate_of(reply(b"<html><body>  Sorry,\n we are   closed</body>", status))
    assert type(error) is TryLater
    assert error.shuts_gate
    assert f"HTTP {status[:3]} <html><body> Sorry, we are closed</body>" == str(error)


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
def test_the_body_of_a_server_error_is_bounded_too(script: Script) -> None:
    error = fate_of(*script, timeout=timedelta(seconds=2))
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
def test_retry_after_is_read_in_both_forms_and_never_believed_beyond_a_day(value: str, seconds: int | None) -> None:
    error = fate_of(reply(b"", "429 Too Many", Retry_After=value))
    assert isinstance(error, TryLater)
    assert (None if seconds is None else timedelta(seconds=seconds)) == error.after


def test_retry_after_as_a_moment_is_the_time_until_then() -> None:
    moment = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    error = fate_of(reply(b"", "503 Away", Retry_After=moment))
    assert isinstance(error, TryLater)
    assert error.after is not None
    assert timedelta(seconds=30) < error.after <= timedelta(seconds=100)


@pytest.mark.parametrize("date", ["", "yesterday", "Sun, 01 Mar 20260000000000 12:00:00 GMT"])
def test_a_date_that_is_none_is_none(date: str) -> None:
    with speaking([reply(b"[]", Date=date)]) as url, asking(url) as http:
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
def test_half_an_answer_is_tried_later(script: Script) -> None:
    assert type(fate_of(*script)) is TryLater


def test_nobody_there_is_tried_later() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with asking(f"http://127.0.0.1:{port}") as http, pytest.raises(TryLater) as raised:
        http.read("GET", "/things")
    assert raised.value.shuts_gate


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"])
def test_a_redirect_is_not_followed_with_our_key(status: str) -> None:
    error = fate_of(reply(b"", status, Location=f"http://elsewhere.example/?key={KEY}"))
    assert isinstance(error, SetAside)


@pytest.mark.parametrize("status", [200, 204, 400, 401, 403, 404, 418])
def test_every_other_status_is_the_connectors_to_judge(status: int) -> None:
    with speaking([f"HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n".encode()]) as url, asking(url) as http:
        assert status == http.read("GET", "/things").status


@pytest.mark.parametrize("body", [b"<html>proxy</html>", b"", b"[1, 2", b"\xff\xfe", b"NaN", b"[" * 100_000])
def test_what_is_not_json_is_tried_later_without_shutting_the_gate(body: bytes) -> None:
    with speaking([reply(body)]) as url, asking(url) as http:
        got = http.read("GET", "/things")
    with pytest.raises(TryLater) as raised:
        got.json()
    assert not raised.value.shuts_gate
    assert len(str(raised.value)) < 300


def test_an_answer_too_large_to_hold_is_set_aside_as_one_that_may_be_smaller() -> None:
    size = 65 * 2**20
    chunks: Script = [reply(b"", length=size), *[b" " * 2**20] * 65]
    error = fate_of(*chunks)
    assert isinstance(error, TooLarge)
    assert isinstance(error, SetAside)
    assert "larger than 64 MiB" in str(error)


@pytest.mark.parametrize("size", [1000, 1001])
def test_how_much_is_held_is_the_wires_to_say(size: int) -> None:
    sent = [reply(b" " * size)]
    with speaking(sent, sent) as url, asking(url, largest=1000) as http:
        with nullcontext() if size <= 1000 else pytest.raises(TooLarge):
            assert size == len(http.read("GET", "/things").body)
        with nullcontext() if size <= 1000 else pytest.raises(TooLarge), http.stream("GET", "/things") as streamed:
            assert size == len(streamed.read(-1))


def test_a_header_that_cannot_be_sent_is_not_repeated() -> None:
    with speaking([]) as url, asking(url, headers={"X-Key": f"{KEY}\nX: y"}) as http:
        with pytest.raises(SetAside) as raised:
            http.read("GET", "/things")
        assert KEY not in str(raised.value)


# Streams.


def test_a_long_stream_is_limited_by_stalling_and_not_by_length() -> None:
    body = b"x" * 2000
    script: list[bytes | float] = [reply(b"", length=8 * len(body))]
    for _ in range(8):
        script += [0.1, body]
    renewed = []
    with (
        speaking(script) as url,
        asking(url, alive=lambda: renewed.append(1), timeout=SHORT * 2) as http,
        http.stream("GET", "/things") as streamed,
    ):
        got = b"".join(iter(lambda: streamed.read(700), b""))
    assert 8 * body == got
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
        speaking(script) as url,
        asking(url, timeout=SHORT) as http,
        pytest.raises(TimedOut),
        http.stream("GET", "/things") as streamed,
    ):
        streamed.read(-1)


def test_a_streams_head_has_the_deadline_of_every_request() -> None:
    with (
        speaking([-1.0, b"HTTP/1.1 200 OK\r\n" + b"X-Slow: yes\r\n" * 50]) as url,
        asking(url, timeout=SHORT) as http,
        pytest.raises(TimedOut),
        http.stream("GET", "/things"),
    ):
        pass


def test_a_stream_that_breaks_off_is_tried_later() -> None:
    with (
        speaking([reply(b"[1,2", length=100)]) as url,
        asking(url) as http,
        pytest.raises(TryLater),
        http.stream("GET", "/things") as streamed,
    ):
        streamed.read(-1)


def test_a_stream_is_read_like_a_file() -> None:
    with (
        speaking([reply(b"abcdef")]) as url,
        asking(url) as http,
        http.stream("GET", "/things") as streamed,
    ):
        assert (b"", b"ab", b"cdef", b"") == (
            streamed.read(0),
            streamed.read(2),
            streamed.read(-1),
            streamed.read(5),
        )


def test_somebody_who_answers_is_reachable_and_nobody_is_not() -> None:
    with speaking([reply(b"ok")]) as url:
        assert reachable(url)
    assert not reachable(url)
    with speaking([reply(b"no", "500 Oops")]) as url:
        assert not reachable(url)


def test_a_strangers_words_fit_one_line() -> None:
    assert "a b" == words(b" a\n\tb\n")
    assert 200 == len(words(b"x" * 5000))
