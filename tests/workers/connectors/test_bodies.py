"""Compressed bodies: decompressed in bounded steps, whatever their layers and whoever reads them."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.slow_params import slow_except
from tests.workers.connectors.test_http import http_client, reply, scripted_server
from workers.connectors.http import read_login
from workers.errors import TooLargeError, TryLater

if TYPE_CHECKING:
    from collections.abc import Generator

    from workers.connectors.http import Http

BODY = b'[{"code":"1","name":"' + b"x" * 300_000 + b'"}]'
MOST_MEMORY = 48
"""MiB by which reading a bomb may raise the peak memory of a process; it would inflate to 256 MiB, layer by layer."""

_RAW_DEFLATE = zlib.compressobj(wbits=-zlib.MAX_WBITS)


def _bomb(layers: int) -> bytes:
    """At most a few kilobytes that inflate to 256 MiB of zeros."""
    packed = zlib.compressobj(9, wbits=zlib.MAX_WBITS + 16)
    body = b"".join([packed.compress(bytes(2**22)) for _ in range(2**6)] + [packed.flush()])
    for _ in range(layers - 1):
        body = gzip.compress(body)
    return body


BOMBS = {layers: _bomb(layers) for layers in (1, 2)}


@pytest.mark.parametrize(
    ("body", "coding"),
    [
        (gzip.compress(BODY), "gzip"),
        (gzip.compress(BODY), "X-GZIP"),
        (zlib.compress(BODY), "deflate"),
        (_RAW_DEFLATE.compress(BODY) + _RAW_DEFLATE.flush(), "deflate"),
        (gzip.compress(BODY[:1000]) + gzip.compress(BODY[1000:]), "gzip"),
        (gzip.compress(BODY) + bytes(512), "gzip"),
        (BODY, "identity"),
        (BODY, "UTF-8"),
        (BODY, "none"),
        (BODY, ""),
    ],
    ids=[
        "gzip",
        "its old name",
        "deflate",
        "deflate without a header",
        "two members",
        "padded",
        "identity",
        "a character set",
        "the word none",
        "no header",
    ],
)
def test_a_compressed_answer_is_decompressed(body: bytes, coding: str) -> None:
    sent = [reply(body, Content_Encoding=coding)]
    with scripted_server(sent, sent) as url, http_client(url) as http:
        assert BODY == http.read("GET", "/things").body
        with http.stream("GET", "/things") as streamed:
            assert BODY == b"".join(iter(lambda: streamed.read(1000), b""))


@pytest.mark.parametrize("coding", ["gzip, gzip", "gzip,deflate", "br", "zstd", "compress", "gzip, identity, gzip"])
def test_a_coding_that_nobody_asked_for_is_refused(coding: str) -> None:
    sent = [reply(gzip.compress(gzip.compress(BODY)), Content_Encoding=coding)]
    with scripted_server(sent, sent) as url, http_client(url) as http:
        for ask in (_read, _stream):
            with pytest.raises(TryLater, match=r"not asked for \(gzip, deflate\)") as raised:
                ask(http)
            assert not raised.value.closes_gate


@pytest.mark.parametrize(
    "body", [gzip.compress(BODY)[:-9], gzip.compress(BODY)[:100] + b"?" * 500], ids=["cut", "broken"]
)
def test_a_compressed_answer_that_is_cut_or_broken_is_tried_later(body: bytes) -> None:
    sent = [reply(body, Content_Encoding="gzip")]
    with scripted_server(sent, sent) as url, http_client(url) as http:
        for ask in (_read, _stream):
            with pytest.raises(TryLater, match="compressed answer"):
                ask(http)


def test_an_error_keeps_its_wait_whatever_its_body_is() -> None:
    body = reply(_bomb(2), "503 Away", Content_Encoding="gzip, gzip", Retry_After="9")
    with scripted_server([body]) as url, http_client(url) as http, pytest.raises(TryLater, match="HTTP 503") as raised:
        http.read("GET", "/things")
    assert raised.value.after is not None


def _read(http: Http) -> None:
    http.read("GET", "/things")


def _stream(http: Http) -> None:
    with http.stream("GET", "/things") as streamed:
        streamed.read(-1)


CHILD = """
import resource, sys
from datetime import timedelta
from models.settings.network import DIRECT
from workers.connectors import contract, streaming
from workers.connectors.http import Http, Peeked
from workers.errors import VendorError

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

http = Http(contract.standalone(), base_url=sys.argv[1], timeout=timedelta(seconds=120), route=DIRECT)
before = peak()
try:
    if sys.argv[2] == "read":
        http.read("GET", "/things")
    elif sys.argv[2] == "whole":
        with http.stream("GET", "/things") as streamed:
            streamed.read(-1)
    else:
        with http.stream("GET", "/things") as streamed:
            list(streaming.items(Peeked(streamed)))
except (VendorError, ValueError) as error:
    print(type(error).__name__, int(peak() - before))
"""


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("status", slow_except(["200 OK", "403 No", "500 Oops"], quick="200 OK"))
@pytest.mark.parametrize("how", ["read", "whole", "items"])
def test_a_bomb_takes_little_memory(how: str, status: str, layers: int) -> None:
    sent = reply(BOMBS[layers], status, Content_Encoding=", ".join(["gzip"] * layers))
    with scripted_server([sent]) as url:
        done = subprocess.run([sys.executable, "-c", CHILD, url, how], capture_output=True, text=True, check=True)
    kind, megabytes = done.stdout.split()
    assert int(megabytes) < MOST_MEMORY + 64 * (kind == TooLargeError.__name__)


BOMBS = {layers: _bomb(layers) for layers in (1, 2)}


WORDS = "Kõrge €"


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        (WORDS.encode("cp1252"), "application/json; charset=windows-1252"),
        (WORDS.encode("iso8859_15"), 'application/json; charset="ISO-8859-15"'),
        (WORDS.encode("utf-16"), "application/json"),
        (WORDS.encode("utf-16-le"), "application/json; charset=utf-16le"),
        (WORDS.encode("utf-8-sig"), "application/json"),
        ("\ufeff\r\n\ufeff\ufeff".encode() + WORDS.encode(), "application/json"),
        (WORDS.encode(), "application/json; charset=no-such-set"),
        (WORDS.encode(), "application/json; charset=iso-8859-1"),
    ],
    ids=[
        "cp1252",
        "latin9",
        "utf-16 with a mark",
        "utf-16",
        "utf-8 with a mark",
        "several marks",
        "unknown name",
        "a server's default",
    ],
)
def test_a_whole_reply_is_read_in_the_character_set_that_it_declares_or_shows(body: bytes, declared: str) -> None:
    with scripted_server([reply(body, Content_Type=declared)]) as url, http_client(url) as http:
        assert WORDS.encode() == http.read("GET", "/things").body
    with scripted_server([reply(body, Content_Type=declared)]) as url:
        response = httpx.get(url, trust_env=False)
        assert WORDS.encode() == read_login(response)


class _Login(httpx.Auth):
    """Logs in before each request, as the connectors' do."""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        response = yield httpx.Request("POST", request.url, extensions=request.extensions)
        read_login(response)
        yield request

    requires_response_body = True


@pytest.mark.parametrize("coding", ["", "gzip"])
def test_the_reply_to_a_login_is_read_as_far_as_a_limit(coding: str) -> None:
    large = bytes(2**21)
    sent = reply(gzip.compress(large), Content_Encoding="gzip") if coding else reply(large)
    with scripted_server([sent]) as url, http_client(url, auth=_Login()) as http, pytest.raises(TooLargeError):
        http.read("GET", "/things")
